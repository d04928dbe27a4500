"""What ends is sent by OTLP beside the store: in order, at least once, whatever the receiver does meanwhile."""

from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tracer
from tests.scripted_store import eventually
from tracer.pipeline import _exporter
from tracer.pipeline.pipeline import Stats
from tracer.testing import isolated

pytest.importorskip("opentelemetry.proto")
from tests.otlp.receiver import Receiver, Reply, http_receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with http_receiver() as receiver:
        yield receiver


def record(*names: str) -> None:
    for name in names:
        with tracer.start_span(name):
            pass


def sent(count: int) -> Stats:
    """Wait until so many spans were sent."""
    eventually(lambda: tracer.stats().exports["sent"] >= count, 30)
    return tracer.stats()


def left(path: Path) -> int:
    with sqlite3.connect(path) as connection:
        count: int = connection.execute("SELECT count(*) FROM outbox").fetchone()[0]
    connection.close()
    return count


def expected(log: list[logging.LogRecord], words: str) -> None:
    """Take the messages out of the log that are expected; there must be one."""
    found = [record for record in log if words in record.getMessage()]
    assert found, [record.getMessage() for record in log]
    for each in found:
        log.remove(each)


def test_what_ends_is_sent_and_stored(receiver: Receiver) -> None:
    tracer.configure(otlp_endpoint=receiver.url, otlp_headers={"x-key": "secret"}, otlp_keys=("mlflow",))
    with tracer.start_span("outer", span_type="CHAIN") as outer:
        outer.set_inputs({"a": 1})
        record("inner")
    stats = sent(2)
    assert receiver.names == ["inner", "outer"]
    inner, last = receiver.taken
    assert (inner.parent_id, last.attributes["mlflow.spanInputs"]) == (last.span_id, '{"a":1}')
    assert receiver.headers[0]["x-key"] == "secret"
    assert stats.exports == {"sent": 2, "refused": 0, "deleted": 0, "retries": 0}
    assert [span.name for span in tracer.sync.get_trace(outer.trace_id).data.spans] == ["outer", "inner"]


def test_nothing_is_sent_or_noted_without_an_endpoint(receiver: Receiver, tmp_path: Path) -> None:
    record("a")
    tracer.sync.flush()
    assert (receiver.requests, left(tmp_path / "tracer.db")) == ([], 0)


def test_a_receiver_that_is_away_loses_nothing(
    receiver: Receiver, tracer_log: list[logging.LogRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracer._http.LONGEST_PAUSE", 0.01)
    receiver.replies = [Reply(503), Reply(502), Reply(503)]
    tracer.configure(otlp_endpoint=receiver.url)
    record("a", "b")
    stats = sent(2)
    record("c")
    sent(3)
    assert receiver.names == ["a", "b", "c"]
    assert stats.exports["retries"] == 3
    assert "answered 503" in str(stats.last_error)
    expected(tracer_log, "spans wait to be sent by OTLP")


def test_a_pause_that_the_receiver_asks_for_is_kept(
    receiver: Receiver, tracer_log: list[logging.LogRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    async def rest(self: Any, pause: float) -> None:
        asked.append(pause)

    monkeypatch.setattr(_exporter.Exporter, "_rest", rest)
    receiver.replies = [Reply(429, retry_after="7")]
    tracer.configure(otlp_endpoint=receiver.url)
    record("a")
    sent(1)
    assert asked == [7]
    expected(tracer_log, "spans wait to be sent by OTLP")


def test_what_is_refused_is_counted_and_not_sent_again(
    receiver: Receiver, tracer_log: list[logging.LogRecord], tmp_path: Path
) -> None:
    receiver.decide = lambda spans: Reply(400, message="no") if spans[0].name == "bad" else Reply(refused=0)
    tracer.configure(otlp_endpoint=receiver.url)
    record("bad")
    eventually(lambda: tracer.stats().exports["refused"] == 1, 30)
    record("good")
    stats = sent(1)
    assert (receiver.names, stats.exports["refused"]) == (["good"], 1)
    assert left(tmp_path / "tracer.db") == 0
    expected(tracer_log, "1 spans were refused by the receiver of OTLP, and are not sent again: ")


def test_a_wrong_token_sends_nothing_until_another_is_set(
    receiver: Receiver, tracer_log: list[logging.LogRecord]
) -> None:
    receiver.replies = [Reply(401)]
    tracer.configure(otlp_endpoint=receiver.url, otlp_headers={"authorization": "Bearer wrong"})
    record("a")
    receiver.wait_for(lambda it: len(it.requests) == 1)
    record("b")
    tracer.sync.flush()
    tracer.configure(otlp_headers={"authorization": "Bearer right"})
    sent(2)
    assert receiver.names == ["a", "b"]
    assert [headers["authorization"] for headers in receiver.headers][:2] == ["Bearer wrong", "Bearer right"]
    expected(tracer_log, "not sent by OTLP until otlp_endpoint or otlp_headers are set anew")


def test_what_was_deleted_before_it_was_sent_is_counted(
    receiver: Receiver, tracer_log: list[logging.LogRecord]
) -> None:
    receiver.replies = [Reply(401)]
    tracer.configure(otlp_endpoint=receiver.url)
    record("a")
    receiver.wait_for(lambda it: len(it.requests) == 1)
    tracer.sync.delete_traces(max_traces=1)
    tracer.configure(otlp_headers={"x": "y"})
    eventually(lambda: tracer.stats().exports["deleted"] == 1, 30)
    expected(tracer_log, "not sent by OTLP until")


def test_what_was_deleted_does_not_pile_up_while_the_receiver_is_away(
    receiver: Receiver, tracer_log: list[logging.LogRecord], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(_exporter, "MOST", 4)
    receiver.decide = lambda _: Reply(401)
    tracer.configure(otlp_endpoint=receiver.url)
    record(*map(str, range(30)))
    receiver.wait_for(lambda it: len(it.requests) == 1)
    tracer.sync.delete_traces(max_traces=25)
    tracer.configure(otlp_headers={"x": "y"})
    receiver.wait_for(lambda it: len(it.requests) == 2)
    assert (tracer.stats().exports["deleted"], left(tmp_path / "tracer.db")) == (25, 5)
    expected(tracer_log, "not sent by OTLP until")


def test_what_is_withheld_is_not_sent(receiver: Receiver) -> None:
    tracer.configure(otlp_endpoint=receiver.url, otlp_keys=("mlflow", "openinference"), capture_content=False)
    with tracer.start_span("work", attributes={"note": "secret words"}) as span:
        span.set_inputs({"q": "secret words"})
        span.set_outputs("secret words")
    sent(1)
    assert "secret words" not in repr(receiver.taken)


def test_a_running_span_is_sent_when_it_ends(receiver: Receiver) -> None:
    tracer.configure(otlp_endpoint=receiver.url)
    with tracer.start_span("long") as span:
        record("short")
        sent(1)
        span.set_attributes({"k": 1})
    sent(2)
    assert receiver.names == ["short", "long"]
    assert receiver.taken[1].attributes["k"] == 1


def test_shutdown_sends_what_is_left(receiver: Receiver) -> None:
    tracer.configure(otlp_endpoint=receiver.url, batch_interval=60)
    record("a")
    assert tracer.sync.shutdown() == 0
    assert receiver.names == ["a"]


def test_a_process_that_ends_sends_what_is_left(receiver: Receiver, tmp_path: Path) -> None:
    source = f"""
import tracer
tracer.set_tracking_uri("sqlite:///{tmp_path}/t.db")
tracer.configure(otlp_endpoint="{receiver.url}")
with tracer.start_span("last"):
    pass
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert receiver.names == ["last"]
    assert left(tmp_path / "t.db") == 0


def test_what_a_killed_process_could_not_send_the_next_one_sends(receiver: Receiver, tmp_path: Path) -> None:
    """Also what it had not written yet: that is in the crash ring."""
    source = f"""
import anyio, os, signal, time, tracer
from tracer.pipeline import _exporter
async def rest(exporter, pause):
    await anyio.sleep_forever()
_exporter.Exporter._rest = rest  # or it may be killed in the middle of a try, and the next process waits a minute
tracer.set_tracking_uri("sqlite:///{tmp_path}/t.db")
tracer.configure(otlp_endpoint="http://127.0.0.1:9", batch_interval=60)
with tracer.start_span("written"):
    pass
tracer.sync.flush()
while not tracer.stats().exports["retries"]:
    time.sleep(0.001)
with tracer.start_span("in the ring"):
    pass
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=False)
    assert killed.returncode == -9, killed.stderr
    with isolated(f"sqlite:///{tmp_path}/t.db"):
        tracer.configure(otlp_endpoint=receiver.url)
        tracer.sync.search_traces()
        sent(2)
    assert sorted(receiver.names) == ["in the ring", "written"]


def test_an_endpoint_that_hangs_does_not_hold_up_the_exit(tmp_path: Path) -> None:
    source = f"""
import socket, tracer
listener = socket.create_server(("127.0.0.1", 0))
tracer.set_tracking_uri("sqlite:///{tmp_path}/t.db")
tracer.configure(otlp_endpoint="http://127.0.0.1:%d" % listener.getsockname()[1])
with tracer.start_span("a"):
    pass
tracer.sync.flush()
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert left(tmp_path / "t.db") == 1


def test_the_environment_sets_it(receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACER_OTLP_ENDPOINT", receiver.url)
    monkeypatch.setenv("TRACER_OTLP_HEADERS", "authorization=Bearer%20x,x-a=b")
    monkeypatch.setenv("TRACER_OTLP_KEYS", "mlflow, openinference")
    monkeypatch.setenv("TRACER_TRACKING_URI", f"sqlite:///{tmp_path}/t.db")
    source = "import tracer\nwith tracer.start_span('a'):\n    pass\nprint(tracer.sync.flush())"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.strip(), done.stderr) == ("True", "")
    assert (receiver.headers[0]["authorization"], receiver.headers[0]["x-a"]) == ("Bearer x", "b")
    assert receiver.taken[0].attributes["openinference.span.kind"] == "CHAIN"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"otlp_endpoint": "localhost"}, "otlp_endpoint must be an address, got 'localhost'"),
        ({"otlp_headers": "a=b"}, "otlp_headers must be a dict of texts by name, got str"),
        ({"otlp_headers": {"a b": "c"}}, "otlp_headers must have names that a header can have, got 'a b'"),
        ({"otlp_headers": {"a": "secret\n"}}, "otlp_headers must have values of printable ASCII"),
        ({"otlp_keys": "langfuse"}, "otlp_keys must be of 'mlflow', 'openinference', got 'langfuse'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_settings_say_what_is_wrong(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(tracer.ConfigurationError, match=words) as raised:
        tracer.configure(**settings)
    assert "secret" not in str(raised.value)


def test_headers_are_not_shown() -> None:
    tracer.configure(otlp_headers={"authorization": "Bearer secret"})
    from tracer._runtime import runtime

    assert "secret" not in repr(runtime.settings)
    assert "'authorization': ***" in repr(runtime.settings)
