"""Recorded exchanges, damaged: whatever is cut, flipped, moved or replaced in them, they are read in bounded steps and
stored.

``pytest tests/interpret/test_fuzz.py --hypothesis-profile=fuzz`` tries many more damages, other ones each time.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gzip
import json
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tracer
from tests.interpret.wire import OPERATIONS, Chunks, Json, all_records, body, chat_chunk, sse
from tracer import _semconv as sc
from tracer.assembly.assembler import Assembler
from tracer.capture.records import Codec, Ending, HttpFacts, Payload, Record, SpanChunk, SpanEnded, SpanStarted, encode
from tracer.store import current_process
from tracer.store.sqlite._schema import migrate
from tracer.store.sqlite._write import write_batch

THOROUGH = settings.get_profile("fuzz")
BOUNDED = settings(derandomize=True, max_examples=100)  # the same damages in each run
EFFORT = THOROUGH if settings.default is THOROUGH else BOUNDED

LARGEST = 12_000  # bytes of an exchange
PATHS = {
    **OPERATIONS,
    "/v1/moderations": "moderations",
    "/v1/images/generations": "images",
    "/v1/audio/transcriptions": "audio_text",
    "/v1/threads/runs": "runs",
}


class Exchange(NamedTuple):
    """A model call as it went over the wire."""

    operation: str
    request: Any
    response: str
    is_stream: bool
    content_type: str


# --- what is damaged --------------------------------------------------------------------------------------------------

TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
ASKED = {"model": "gpt-5", "messages": [{"role": "user", "content": "Where is it?"}], "tools": [TOOL]}
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7, "prompt_tokens_details": {"cached_tokens": 1}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": '{"order": "A-1"}'}}
ANSWER = {"role": "assistant", "content": "There.", "tool_calls": [CALL], "annotations": []}
ITEM = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": []}
SEARCH = {"type": "web_search_call", "id": "w", "status": "completed", "action": {"type": "search", "query": "it"}}
PART = {"type": "output_text", "text": "There.", "annotations": [{"type": "url_citation", "url": "https://x.test"}]}
ENDED = {
    "id": "resp_1",
    "object": "response",
    "status": "completed",
    "model": "gpt-5",
    "output": [SEARCH, {**ITEM, "content": [PART]}],
    "usage": {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7},
}
PLACE = {"output_index": 1, "content_index": 0, "item_id": "m"}


def streamed(events: list[Json], *, done: bool = True, names: bool = False) -> str:
    return b"".join(data for _, data in sse(events, done=done, names=names)).decode()


OURS = [
    Exchange(
        "chat",
        ASKED,
        json.dumps({"id": "c", "model": "gpt-5", "choices": [{"index": 0, "message": ANSWER}], "usage": USAGE}),
        False,
        "application/json",
    ),
    Exchange(
        "chat",
        {**ASKED, "stream": True},
        streamed(
            [
                chat_chunk({"role": "assistant", "content": ""}),
                chat_chunk({"content": "The"}),
                chat_chunk({"content": "re."}),
                chat_chunk({"tool_calls": [{**CALL, "index": 0}]}),
                chat_chunk({"tool_calls": [{"index": 0, "function": {"arguments": " "}}]}),
                chat_chunk({}, finish="tool_calls"),
                {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [], "usage": USAGE},
            ]
        ),
        True,
        "text/event-stream",
    ),
    Exchange(
        "responses",
        {"model": "gpt-5", "input": "Where is it?", "stream": True},
        streamed(
            [
                {"type": "response.created", "response": {**ENDED, "status": "in_progress", "output": []}},
                {"type": "response.output_item.added", "output_index": 0, "item": {**SEARCH, "status": "in_progress"}},
                {"type": "response.web_search_call.searching", "output_index": 0, "item_id": "w"},
                {"type": "response.output_item.done", "output_index": 0, "item": SEARCH},
                {"type": "response.output_item.added", "output_index": 1, "item": ITEM},
                {"type": "response.content_part.added", **PLACE, "part": {**PART, "text": ""}},
                {"type": "response.output_text.delta", **PLACE, "delta": "There."},
                {"type": "response.output_text.done", **PLACE, "text": "There."},
                {"type": "response.output_item.done", "output_index": 1, "item": {**ITEM, "content": [PART]}},
                {"type": "response.completed", "response": ENDED},
            ],
            done=False,
            names=True,
        ),
        True,
        "text/event-stream",
    ),
]


@functools.cache
def recorded() -> list[Exchange]:
    """The smaller exchanges of the corpus, of all operations."""
    return [
        Exchange(
            PATHS[record["path"]],
            record["request_json"],
            record["response_body"],
            record["stream"],
            record["response_content_type"],
        )
        for record in all_records()
        if record["path"] in PATHS and len(record.get("response_body") or "") in range(1, LARGEST)
    ]


# --- how it is damaged ------------------------------------------------------------------------------------------------

ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, -1, 10**30, 1.5, "", "x", "\ud800", "[DONE]", [], {}, [None], [[]], {"type": None}, {"index": -1}]
)


@st.composite
def damaged_json(draw: st.DrawFn, value: Any) -> Any:
    """Walk to a random place in the value, and put something else there, or take it away, or put it there twice."""
    if not isinstance(value, (dict, list)) or not value or draw(st.integers(0, 6)) == 0:
        return draw(ODD)
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = draw(st.sampled_from(keys))
    copy = value.copy()
    match draw(st.sampled_from(["deeper", "deeper", "deeper", "deeper", "take away", "repeat"])):
        case "deeper":
            copy[key] = draw(damaged_json(value[key]))
        case "take away":
            del copy[key]
        case "repeat" if isinstance(copy, list):
            copy.insert(draw(st.integers(0, len(copy))), copy[key])
        case _:
            copy[draw(st.sampled_from(keys))] = copy[key]
    return copy


@st.composite
def damaged_event(draw: st.DrawFn, line: str) -> str:
    """Damage the JSON in a line of a stream."""
    name, _, data = line.partition(": ")
    try:
        value = json.loads(data)
    except ValueError:
        return draw(st.sampled_from(["", ":", "data", "data:", "event: x", line + line]))
    return f"{name}: {json.dumps(draw(damaged_json(value)))}"


@st.composite
def damaged_text(draw: st.DrawFn, exchange: Exchange) -> str:
    """Damage the JSON of a response, or of some of its events, or move these about."""
    if not exchange.is_stream:
        try:
            return json.dumps(draw(damaged_json(json.loads(exchange.response))))
        except ValueError:
            return exchange.response
    lines = exchange.response.split("\n")
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(["damage", "damage", "take away", "repeat", "move"])):
            case "damage":
                lines[at] = draw(damaged_event(lines[at]))
            case "take away" if len(lines) > 1:
                del lines[at]
            case "repeat":
                lines.insert(draw(st.integers(0, len(lines))), lines[at])
            case _:
                lines.insert(draw(st.integers(0, len(lines) - 1)), lines.pop(at))
    return "\n".join(lines)


@st.composite
def damaged_bytes(draw: st.DrawFn, data: bytes) -> bytes:
    """Cut bytes off or out, change some, or insert some."""
    for _ in range(draw(st.integers(0, 3))):
        begin = draw(st.integers(0, len(data)))
        end = min(len(data), begin + draw(st.integers(0, 40)))
        match draw(st.sampled_from(["cut off", "cut out", "change", "repeat"])):
            case "cut off":
                data = data[:begin]
            case "cut out":
                data = data[:begin] + data[end:]
            case "change":
                data = data[:begin] + draw(st.binary(max_size=4)) + data[begin + 1 :]
            case _:
                data = data[:end] + data[begin:]
    return data


@st.composite
def reads_of(draw: st.DrawFn, data: bytes) -> Chunks:
    """Cut the bytes anywhere into reads, as sockets do."""
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    pairs = zip([0, *cuts], [*cuts, len(data)], strict=True)
    return [(2_000 + number, data[begin:end]) for number, (begin, end) in enumerate(pairs)]


# --- what must hold ---------------------------------------------------------------------------------------------------

PACKAGE = str(Path(tracer.__file__).parent)


class TooManySteps(BaseException):
    """No `Exception`, which the guards of interpretation would catch."""


@contextlib.contextmanager
def steps_limited_to(limit: int) -> Iterator[None]:
    """Raise `TooManySteps` when the block runs more lines of tracer than that."""
    left = limit

    def enter(frame: FrameType, event: str, argument: object) -> Any:
        return step if frame.f_code.co_filename.startswith(PACKAGE) else None

    def step(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise TooManySteps(f"more than {limit:,} lines")
        return step

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        yield
    finally:
        sys.settrace(before)


@functools.cache
def database() -> sqlite3.Connection:
    """An empty database; what is written to it is rolled back."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    atexit.register(connection.close)
    migrate(connection)
    return connection


def record_and_store(records: list[Record]) -> list[tuple[Any, ...]]:
    """Take the way of all records, from the worker to the tables; return the JSON columns."""
    problems: list[str] = []
    assembler = Assembler(current_process(), lambda what, error: problems.append(f"{what}: {error!r}"))
    connection = database()
    connection.execute("BEGIN")
    try:
        assembler.feed(encode(records[0]))
        write_batch(connection, assembler.take_batch())  # while it runs
        for record in records[1:]:
            assembler.feed(encode(record))
        write_batch(connection, assembler.take_batch())
        rows = connection.execute("SELECT inputs, outputs, attributes, events FROM spans").fetchall()
    finally:
        connection.execute("ROLLBACK")
    assert not problems
    return rows


def assert_holds(operation: str, request: bytes, reads: Chunks, *, is_stream: bool, head: HttpFacts) -> None:
    span, wire = "1" * 16, Codec.WIRE
    records: list[Record] = [
        SpanStarted("a" * 32, span, None, "n", "CHAT_MODEL", 1_000, "Default", operation, Payload(wire, request))
    ]
    if is_stream:
        records += [SpanChunk(span, time_ns, data) for time_ns, data in reads]
        outputs = None
    else:
        outputs = Payload(wire, b"".join(data for _, data in reads))
    records.append(SpanEnded(span, 9_000, Ending.EXHAUSTED, outputs, None, head, is_stream))
    size = len(request) + sum(len(data) for _, data in reads)
    with steps_limited_to(20_000 + 20 * size):
        rows = record_and_store(records)
    assert rows
    for columns in rows:
        for column in columns:
            json.loads(column or "null")
        assert "could not be interpreted" not in json.loads(columns[2] or "{}").get(sc.NOTE, "")


def read_damaged(data: st.DataObject, exchange: Exchange) -> None:
    """Damage an exchange, read it, store it."""
    request = data.draw(st.one_of(st.just(exchange.request), damaged_json(exchange.request)))
    response = data.draw(damaged_bytes(data.draw(damaged_text(exchange)).encode("utf-8", "surrogatepass")))
    headers = [(b"content-type", (exchange.content_type or "").encode())]
    if exchange.is_stream and data.draw(st.booleans()):
        headers.append((b"content-encoding", b"gzip"))
        response = data.draw(damaged_bytes(gzip.compress(response, mtime=0)))
    assert_holds(
        exchange.operation,
        data.draw(damaged_bytes(body(request))),
        data.draw(reads_of(response)),
        is_stream=exchange.is_stream,
        head=HttpFacts(200, headers),
    )


@EFFORT
@given(st.data())
def test_damaged_exchange_of_ours_is_read_and_stored(data: st.DataObject) -> None:
    read_damaged(data, data.draw(st.sampled_from(OURS)))


@EFFORT
@given(st.data())
def test_damaged_exchange_of_the_corpus_is_read_and_stored(data: st.DataObject) -> None:
    read_damaged(data, data.draw(st.sampled_from(recorded())))


@pytest.mark.parametrize("exchange", OURS, ids=lambda exchange: f"{exchange.operation}-{exchange.is_stream}")
def test_answer_cut_anywhere_is_read_and_stored(exchange: Exchange) -> None:
    whole = exchange.response.encode()
    head = HttpFacts(200, [(b"content-type", exchange.content_type.encode())])
    for size in range(0, len(whole), 37):
        reads = [(2_000, whole[:size])]
        assert_holds(exchange.operation, body(exchange.request), reads, is_stream=exchange.is_stream, head=head)


def test_too_many_steps_are_noticed() -> None:
    with pytest.raises(TooManySteps), steps_limited_to(100):
        record_and_store([SpanStarted("a" * 32, "1" * 16, None, "n", "TOOL", 1_000, "Default")])
