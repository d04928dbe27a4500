"""Whatever fails in our hooks, the caller sees what it would see without them, and the log says so once."""

from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import openai
import pytest

import tracer
from tests.openai.calling import CHAT, HELLO, Caller, finish, only_span, said, traces
from tests.openai.test_endings import described
from tracer.openai import _calls, _stream
from tracer.pipeline.pipeline import Pipeline
from tracer.pipeline.throttle import Throttle
from tracer.spans import guard
from tracer.spans.live_span import LiveSpan
from tracer.testing import FakeOpenAI, reply

PLANTS: dict[str, tuple[Any, str]] = {
    "opening the span": (_calls, "open_span"),
    "beginning the span": (LiveSpan, "begin"),
    "reading the request": (_calls, "_start_attributes"),
    "reading the response": (_calls, "facts_of"),
    "tapping the stream": (_calls, "tap"),
    "keeping a chunk": (_stream, "SpanChunk"),
    "keeping a body": (Pipeline, "wire_payload"),
    "noting a retry": (LiveSpan, "note"),
    "ending the span": (LiveSpan, "finish"),
}


@pytest.fixture(params=list(PLANTS.values()), ids=list(PLANTS))
def planted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """One of our hooks raises."""

    def fail(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("planted")

    owner, name = request.param
    monkeypatch.setattr(owner, name, fail)
    monkeypatch.setattr(guard, "_throttle", Throttle())
    return str(name)


async def everything(caller: Caller) -> list[Any]:
    """Plain, streamed, retried and failed calls; what the caller got of each."""
    got: list[Any] = []
    caller.server.enqueue(
        reply.text("one"),
        reply.text("two"),
        reply.error(500),
        reply.text("three"),
        reply.error(400, "No."),
        reply.text("left alone").held(after_events=2),
    )
    got.append((await caller.chat()).choices[0].message.content)
    chunks = await caller.items(await caller.chat(stream=True))
    got.append("".join(chunk.choices[0].delta.content or "" for chunk in chunks))
    retrying = caller.make_client(max_retries=1)
    got.append((await caller.settle(retrying.chat.completions.create, **CHAT)).choices[0].message.content)
    with pytest.raises(openai.BadRequestError) as caught:
        await caller.chat()
    got.append(described(caught.value))
    async with caller.entered(await caller.chat(stream=True)) as stream:
        got.append([chunk.choices[0].delta.content for chunk in await caller.first(stream, 2)])
    return got


async def test_a_hook_that_raises_changes_nothing_for_the_caller(
    caller: Caller, planted: str, tracer_log: list[logging.LogRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_fault = await everything(caller)
    lines = [record.getMessage() for record in tracer_log]
    assert lines
    assert len(set(lines)) == len(lines), "the same line twice"
    assert all("planted" in (record.exc_text or str(record.exc_info)) for record in tracer_log)
    tracer_log.clear()
    await tracer.flush()
    assert tracer.stats()["dropped"]["lost"] == 0, "records of spans that never began"
    tracer.autolog(disable=True)
    assert await everything(caller) == with_fault
    monkeypatch.undo()


@pytest.mark.parametrize("name", ["facts_of", "tap"])
async def test_a_stream_that_can_not_be_tapped_ends_with_the_call(
    caller: Caller, name: str, tracer_log: list[logging.LogRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise TypeError("planted")

    monkeypatch.setattr(_calls, name, fail)
    monkeypatch.setattr(guard, "_throttle", Throttle())
    await caller.items(await caller.chat(stream=True))
    tracer_log.clear()
    span = await only_span()
    assert span.end_time_ns is not None
    assert finish(span) == "completed"
    assert span.inputs["messages"] == HELLO


async def test_a_request_that_was_not_seen_still_has_a_span(
    caller: Caller, tracer_log: list[logging.LogRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = _calls._start_attributes

    def fail(client: type, operation: str, name: str | None, host: str | None, *rest: Any) -> Any:
        if host is not None:
            raise TypeError("planted")
        return read(client, operation, name, host, *rest)

    monkeypatch.setattr(_calls, "_start_attributes", fail)
    monkeypatch.setattr(guard, "_throttle", Throttle())
    await caller.chat()
    tracer_log.clear()
    assert said(await only_span()) == "You said: Hi"
    assert tracer.stats()["dropped"]["lost"] == 0


async def test_a_call_that_a_full_queue_refused_leaves_no_orphans(caller: Caller) -> None:
    with tracer.start_span("outer"):
        tracer.configure(queue_max_records=1)
        for _ in range(20):
            tracer.get_current_active_span().add_event("fill")  # type: ignore[union-attr]  # it is the one above
        await caller.chat()
        await caller.items(await caller.chat(stream=True))
        tracer.configure(queue_max_records=10_000)
    recorded = await traces()
    stats = tracer.stats()
    assert stats["dropped"]["lost"] == 0
    assert len(recorded) <= 1
    assert stats["accepted"] == stats["written"]


def all_bytes(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.glob("tracer.db*"))


async def test_secrets_in_headers_are_never_stored(caller: Caller, tmp_path: Path) -> None:
    client = caller.make_client(api_key="sk-canary-key", default_headers={"x-default": "canary-default"})
    options: dict[str, Any] = {"extra_headers": {"x-secret": "canary-header"}, "extra_query": {"q": "canary-query"}}
    await caller.settle(client.chat.completions.create, **CHAT, **options)
    await caller.items(await caller.settle(client.chat.completions.create, **CHAT, stream=True, **options))
    caller.server.enqueue(reply.error(401))
    with pytest.raises(openai.AuthenticationError):
        await caller.settle(client.chat.completions.create, **CHAT, **options)
    await tracer.flush()
    assert "canary-header" in caller.server.requests[-1].headers["x-secret"]
    with sqlite3.connect(tmp_path / "tracer.db") as database:
        assert database.execute("select count(*) from spans").fetchone() == (3,)
    database.close()
    stored = all_bytes(tmp_path)
    assert b"You said: Hi" in stored
    assert b"canary" not in stored


ODD_TEXTS = {"lone surrogate": "a\udcff b", "null": "a\x00b", "bidi": "\u202eabc", "long": "x" * 100_000}


@pytest.mark.parametrize("text", ODD_TEXTS.values(), ids=ODD_TEXTS)
async def test_odd_texts_are_sent_or_refused_as_without_tracing(caller: Caller, text: str) -> None:
    async def outcome() -> Any:
        caller.server.enqueue(reply.text("ok"))
        try:
            await caller.chat(messages=[{"role": "user", "content": text}])
        except Exception as error:
            caller.server._script.clear()
            return type(error), str(error)
        return caller.server.requests[-1].body

    traced = await outcome()
    tracer.autolog(disable=True)
    assert await outcome() == traced
    assert (await only_span()).inputs is not None


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_compressed_answers_are_read(caller: Caller, stream: bool) -> None:
    caller.server.enqueue(reply.text("Grüße 🌍").gzipped())
    answer = await caller.chat(stream=stream)
    if stream:
        await caller.items(answer)
    assert said(await only_span()) == "Grüße 🌍"


async def test_a_compressed_body_read_by_hand_is_read(caller: Caller) -> None:
    caller.server.enqueue(reply.text("Grüße 🌍").gzipped())
    async with caller.entered(caller.client.chat.completions.with_streaming_response.create(**CHAT)) as response:
        await caller.settle(response.read)
    assert said(await only_span()) == "Grüße 🌍"


async def test_an_answer_that_is_no_json_is_kept_as_it_came(caller: Caller) -> None:
    caller.server.enqueue(reply.raw(b"<html>busy</html>", "text/html"))
    await caller.settle(caller.client.chat.completions.with_raw_response.create, **CHAT)
    assert "<html>busy</html>" in str((await only_span()).outputs)


TRACED = """
import tracer
tracer.set_tracking_uri("sqlite:///{path}/exit.db")
tracer.autolog()
"""
LEFT_OPEN = """
import openai
client = openai.OpenAI(base_url={url!r}, api_key="k")
stream = client.chat.completions.create(model="m", messages=[{{"role": "user", "content": "Hi"}}], stream=True)
next(stream)
"""


@pytest.mark.parametrize("mode", ["sync"])
def test_a_stream_left_open_at_exit_is_no_noise(mode: str, server: FakeOpenAI, tmp_path: Path) -> None:
    server.enqueue(*[reply.text("one two three").held(after_events=2)] * 2)
    ends = []
    for script in (LEFT_OPEN, TRACED + LEFT_OPEN):
        command = [sys.executable, "-c", script.format(path=tmp_path, url=server.base_url)]
        run = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        ends.append((run.returncode, run.stdout, run.stderr))
    without, traced = ends
    # By itself the SDK is quiet up to 3.12, crashes on 3.13.0 (the datetime module is gone) and complains on 3.14.
    assert without == (0, "", "") or sys.version_info >= (3, 13)
    assert traced[0] == without[0]
    assert traced == without or without[2]
