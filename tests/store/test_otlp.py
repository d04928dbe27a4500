"""A receiver of OTLP as the tracking URI: spans are sent when they end, whole, and nothing is kept."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

import tracer
from tracer.store import TraceQuery, open_store
from tracer.store.wire import METHODS
from tracer.testing import FakeOpenAI, isolated

pytest.importorskip("opentelemetry.proto")
from tests.otlp.receiver import Receiver, Reply, http_receiver


@pytest.fixture
def receiver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with http_receiver() as receiver, isolated(f"otlp+{receiver.url}"):
        yield receiver


def expected(log: list[logging.LogRecord], words: str) -> None:
    found = [record for record in log if words in record.getMessage()]
    assert found, [record.getMessage() for record in log]
    for each in found:
        log.remove(each)


def test_a_span_is_sent_whole_when_it_ends_though_it_ran_for_long(receiver: Receiver, server: FakeOpenAI) -> None:
    tracer.set_experiment("shop")
    client = openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0)
    tracer.autolog()
    with tracer.start_span("outer", span_type="AGENT") as outer:
        outer.set_inputs({"q": 1})
        tracer.update_current_trace(session_id="s-1")
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
        assert tracer.sync.flush()
        assert [span.name for span in receiver.taken] == ["chat m"]
        outer.set_attributes({"k": 1})
    assert tracer.sync.flush()
    call, last = receiver.taken
    assert json.loads(call.attributes["gen_ai.input.messages"])[0]["parts"][0]["content"] == "hi"
    assert [span.resource["service.name"] for span in (call, last)] == ["shop", "shop"]
    assert [span.attributes["session.id"] for span in (call, last)] == ["s-1", "s-1"]
    assert (call.parent_id, last.attributes["k"], call.begins_here, last.begins_here) == (last.span_id, 1, False, True)
    assert tracer.stats().exports["sent"] == 2
    client.close()


def test_inputs_of_a_span_that_was_written_while_it_ran_are_sent(receiver: Receiver) -> None:
    tracer.configure(otlp_keys=("mlflow",), otlp_headers={"x-key": "secret"})
    with tracer.start_span("outer") as outer:
        outer.set_inputs({"q": 1})
        assert tracer.sync.flush()
        outer.set_outputs("done")
    assert tracer.sync.flush()
    [sent] = receiver.taken
    assert (sent.attributes["mlflow.spanInputs"], sent.attributes["mlflow.spanOutputs"]) == ('{"q":1}', '"done"')
    assert receiver.headers[-1]["x-key"] == "secret"


def test_while_the_receiver_is_away_records_wait(
    receiver: Receiver, tracer_log: list[logging.LogRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracer._http.LONGEST_PAUSE", 0.01)
    receiver.replies = [Reply(503), Reply(429), Reply(502)]
    for name in ("a", "b"):
        with tracer.start_span(name):
            pass
    assert tracer.sync.flush()
    assert receiver.names == ["a", "b"]
    stats = tracer.stats()
    assert (stats.exports["retries"], stats.dropped["lost"]) == (3, 0)
    expected(tracer_log, "records wait for their store")


def test_what_is_refused_is_counted_and_not_sent_again(receiver: Receiver, tracer_log: list[logging.LogRecord]) -> None:
    receiver.replies = [Reply(400, message="no")]
    with tracer.start_span("bad"):
        pass
    assert tracer.sync.flush()
    assert tracer.stats().exports == {"sent": 0, "refused": 1, "deleted": 0, "retries": 0}
    assert len(receiver.requests) == 1
    expected(tracer_log, "spans were refused by")


def test_a_process_that_ends_while_nobody_answers_leaves_them_to_the_next(
    receiver: Receiver, tmp_path: Path, tracer_log: list[logging.LogRecord]
) -> None:
    receiver.decide = lambda _: Reply(503)
    source = f"""
import tracer
tracer.set_tracking_uri("otlp+{receiver.url}")
tracer.configure(otlp_keys=("mlflow",))
with tracer.start_span("left") as span:
    span.set_inputs({{"q": 1}})
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=False)
    assert "waits in" in done.stderr
    assert receiver.taken == []
    receiver.decide = lambda _: Reply()
    tracer.configure(otlp_keys=("mlflow",))
    with tracer.start_span("next"):
        pass
    assert tracer.sync.flush()
    receiver.wait_for(lambda it: len(it.taken) == 2)
    assert sorted(receiver.names) == ["left", "next"]
    assert next(span for span in receiver.taken if span.name == "left").attributes["mlflow.spanInputs"] == '{"q":1}'


def test_what_a_killed_process_had_not_sent_the_next_one_sends(receiver: Receiver) -> None:
    source = f"""
import os, signal, tracer
tracer.set_tracking_uri("otlp+{receiver.url}")
tracer.configure(batch_interval=60)
with tracer.start_span("killed"):
    pass
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=False)
    assert killed.returncode == -9, killed.stderr
    with tracer.start_span("next"):
        pass
    assert tracer.sync.flush()
    receiver.wait_for(lambda it: len(it.taken) == 2)
    assert sorted(receiver.names) == ["killed", "next"]


def test_reading_says_what_to_do(receiver: Receiver) -> None:
    with pytest.raises(
        tracer.StoreError, match=r"search_traces can't be answered: .* only sends spans.*otlp_endpoint="
    ):
        tracer.sync.search_traces()
    with pytest.raises(tracer.StoreError, match="get_trace can't be answered"):
        tracer.sync.get_trace("0" * 32)


@pytest.mark.anyio
async def test_every_method_of_a_store_is_there(receiver: Receiver) -> None:
    store = open_store(f"otlp+{receiver.url}")
    assert [name for name in METHODS if not hasattr(store, name)] == []
    with pytest.raises(tracer.StoreError, match="facets can't be answered"):
        await store.facets(TraceQuery())


def test_an_endpoint_beside_it_does_nothing_and_says_so(
    receiver: Receiver, tracer_log: list[logging.LogRecord]
) -> None:
    tracer.configure(otlp_endpoint=receiver.url)
    with tracer.start_span("a"):
        pass
    assert tracer.sync.flush()
    assert tracer.sync.shutdown() == 0
    assert receiver.names == ["a"]
    expected(tracer_log, "otlp_endpoint does nothing here")


@pytest.mark.parametrize("uri", ["otlp+http://", "otlp+ftp://host", "otlp+http://key@host", "otlp://host"])
def test_uris_that_are_wrong(uri: str) -> None:
    with pytest.raises(tracer.ConfigurationError, match="tracking_uri"):
        tracer.set_tracking_uri(uri)
