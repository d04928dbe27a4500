"""A traced replay, and everything that can be checked about it afterwards."""

from __future__ import annotations

import base64
import json
import logging
import logging.handlers
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import msgspec

import tracer
from tests.conformance.corpus import Record
from tests.conformance.more_reader import read_more_answer, read_more_events
from tests.conformance.reader import Answer, read_answer, read_events, server_sent_data
from tests.conformance.replay import Outcome, Replay
from tracer import _semconv as sc
from tracer.interpret.media import restore_media
from tracer.openai._jobs import jobs
from tracer.redact import api_keys
from tracer.testing._isolation import isolated

__all__ = ["Failures", "Run", "answer_of", "expected_answer", "plain_outputs", "run"]

PAGE = 500
ROOM = 200_000  # overload is tested elsewhere: here no chunk may be dropped, however small
SHOWN = 10


class Run(NamedTuple):
    """What a replay left behind.

    Attributes:
        records: Those that were sent.
        outcomes: What the caller got, by record id.
        received: What the server got, by record id.
        traces: By the record id that the server's ``x-request-id`` carries; None where there is none.
        stats: `tracer.stats()`, None if nothing was traced.
        logged: What tracer logged at WARNING or above.
    """

    records: list[Record]
    outcomes: dict[str, Outcome]
    received: dict[str, dict[str, Any]]
    traces: dict[str | None, list[tracer.Trace]]
    stats: Any
    logged: list[str]

    def spans(self) -> Iterator[tuple[Record, tracer.Span]]:
        """Each record with the span of its call."""
        for record in self.records:
            for trace in self.traces.get(record.id, []):
                yield record, trace.data.spans[0]


def run(replay: Replay, records: list[Record], kind: str, folder: Path | None) -> Run:
    """Send records by ``async`` or ``sync`` clients, traced into a database in `folder` or not at all."""
    if folder is None:
        return _send(replay, records, kind)
    log = logging.handlers.BufferingHandler(1_000_000)
    log.setLevel(logging.WARNING)
    logging.getLogger("tracer").addHandler(log)
    try:
        with isolated(f"sqlite:///{folder}/{kind}.db"):
            tracer.configure(queue_max_records=ROOM)
            tracer.autolog()
            jobs.clear()
            try:
                sent = _send(replay, records, kind)
            finally:
                tracer.autolog(disable=True)
            traces = _read_traces()
            stats = tracer.stats()
    finally:
        logging.getLogger("tracer").removeHandler(log)
    return sent._replace(traces=traces, stats=stats, logged=[entry.getMessage() for entry in log.buffer])


def _send(replay: Replay, records: list[Record], kind: str) -> Run:
    outcomes = anyio.run(replay.in_tasks, records) if kind == "async" else replay.in_threads(records)
    received = {record.id: replay.corpus.received(record) for record in records}
    return Run(records, outcomes, received, {}, None, [])


def _read_traces() -> dict[str | None, list[tracer.Trace]]:
    found: dict[str | None, list[tracer.Trace]] = {}
    token = None
    while True:
        page = tracer.sync.search_traces(max_results=PAGE, page_token=token)
        for trace in page:
            request_id = trace.data.spans[0].get_attribute(sc.REQUEST_ID)
            found.setdefault(request_id and request_id.removeprefix("req_"), []).append(_with_media(trace))
        token = page.next_page_token
        if token is None:
            return found


def _with_media(trace: tracer.Trace) -> tracer.Trace:
    """Put images, recordings and files back where a trace holds references to them."""
    data = msgspec.json.encode(trace)
    if b"media://" not in data:
        return trace
    whole = restore_media(data, lambda media_hash: tracer.sync.get_media(media_hash).data)
    return msgspec.json.decode(whole, type=tracer.Trace)


def expected_answer(record: Record, events: int | None = None) -> Answer:
    """What a record says, read from its own bytes; for a stream, what the first events say, up to this number."""
    shape = _shape(record)
    if record.is_event_stream:
        read = read_more_events if shape in _MORE else read_events
        return read(shape, server_sent_data(record.body)[:events])
    if shape in _MORE:
        return read_more_answer(shape, plain_outputs(record))
    return read_answer(shape, json.loads(record.body))


def plain_outputs(record: Record) -> Any:
    """What a plain response must leave: JSON as it is, text as text, anything else as base64, and its size."""
    kind = (record.response_content_type or "").partition(";")[0]
    if kind == "application/json":
        return json.loads(record.body)
    if kind == "text/plain":
        return record.body.decode()
    data = base64.b64encode(record.body).decode()
    return {"content_type": record.response_content_type, "size": len(record.body), "data": data}


def refusal_of(record: Record) -> Any:
    """What the body of a failed call must leave: JSON as it is, anything else as text; keys are hidden."""
    text = api_keys(record.body.decode("utf-8", "replace"))
    try:
        return json.loads(text)
    except ValueError:
        return text or None


def answer_of(record: Record, outputs: Any) -> Answer:
    """What a span's outputs say."""
    if not isinstance(outputs, dict):
        return Answer()
    return (read_more_answer if _shape(record) in _MORE else read_answer)(_shape(record), outputs)


def _shape(record: Record) -> str:
    assert record.operation is not None
    return "responses" if record.operation in ("compact", "retrieve") else record.operation


_MORE = frozenset({"images", "moderations", "runs", "speech", "transcriptions"})


class Failures:
    """Collects what is wrong, record by record, and tells all at the end."""

    def __init__(self) -> None:
        self._found: list[str] = []
        self._records: set[str] = set()
        self._checked: set[str] = set()

    def compare(self, record: Record, **pairs: tuple[Any, Any]) -> None:
        """Note each pair (got, wanted) that is not equal."""
        self._checked.add(record.id)
        for name, (got, wanted) in pairs.items():
            if got != wanted:
                self._records.add(record.id)
                self._found.append(
                    f"{record.id} {record.operation} {record.family} {record.tags}\n"
                    f"  {name}: got    {_short(got)}\n  {' ' * len(name)}  wanted {_short(wanted)}"
                )

    def check(self, run: Run) -> None:
        """Fail if anything was noted, or if a record of `run` was not compared at all."""
        missing = [record.id for record in run.records if record.id not in self._checked]
        shown = "\n".join(self._found[:SHOWN])
        assert not self._found, (
            f"{len(self._records)} of {len(self._checked)} records differ, in {len(self._found)} points:\n{shown}"
        )
        assert not missing, f"{len(missing)} records have no span: {missing[:SHOWN]}"


def _short(value: Any) -> str:
    text = repr(msgspec.to_builtins(value)) if isinstance(value, msgspec.Struct) else repr(value)
    return text if len(text) <= 400 else f"{text[:300]} … {text[-100:]} ({len(text)} characters)"
