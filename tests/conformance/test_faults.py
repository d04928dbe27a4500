"""The corpus' streams over bad connections: split anywhere, cut off, left early."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import tracer
from tests.conformance.corpus import Corpus, Record
from tests.conformance.reader import Answer, server_sent_data
from tests.conformance.replay import Replay
from tests.conformance.traced import Failures, answer_of, expected_answer, run
from tracer import _semconv as sc

SPOKEN = ("id", "model", "usage", "texts", "refusals", "thoughts", "tool_calls")
FEW_EVENTS = 6
SMALL = 4_000  # bytes of a stream that is sent 7 at a time
PIECES = 100  # … and into how many any other is cut


def streams(share: list[Record], events: int = 1) -> list[Record]:
    """The streams that succeed, with so many events at least."""
    return [
        record
        for record in share
        if record.is_event_stream
        and record.operation != "speech"  # which the SDK reads to its end before anybody sees it
        and "stream_error" not in record.tags
        and len(_events(record)) >= events
    ]


def _events(record: Record) -> list[str]:
    return [data for data in server_sent_data(record.body) if not data.startswith("[DONE]")]


def _pieces(record: Record) -> str:
    size = len(record.body)
    return f";chunk={7 if size < SMALL else size // PIECES | 1}"


def _blocks(record: Record) -> list[bytes]:
    """A stream as the replay server cuts it: at blank lines, comments too."""
    return re.findall(rb"(?s).+?(?:\r\n\r\n|\n\n|\r\r)", record.body)


def _half(record: Record) -> int:
    return len(_blocks(record)) // 2


def _events_in_half(record: Record) -> int:
    return len(server_sent_data(b"".join(_blocks(record)[: _half(record)])))


def test_stream_split_anywhere_is_put_together_the_same(
    corpus: Corpus, share: list[Record], kind: str, tmp_path: Path
) -> None:
    replayed = run(Replay(corpus, _pieces), streams(share), kind, tmp_path)
    assert not any(replayed.stats.dropped.values()), replayed.stats.dropped
    failures = Failures()
    for record, span in replayed.spans():
        failures.compare(record, **_answers(span, record, expected_answer(record)), error=_error(span, ""))
    failures.check(replayed)


def test_stream_cut_off_by_the_server_fails_with_what_had_come(
    corpus: Corpus, share: list[Record], kind: str, tmp_path: Path
) -> None:
    records = streams(share, FEW_EVENTS)
    replayed = run(Replay(corpus, lambda record: f";cut={_half(record)}"), records, kind, tmp_path)
    failures = Failures()
    for record, span in replayed.spans():
        error = replayed.outcomes[record.id].error
        partial = _arrived(record, span)
        failures.compare(
            record,
            finish=(span.get_attribute(sc.FINISH), "failed"),
            status=(span.status.status_code, "ERROR"),
            raised=(error is not None, True),
            events=(len(partial), _events_in_half(record)),
            **_answers(span, record, expected_answer(record, _events_in_half(record))),
            **_prefixes(span, record),
        )
    failures.check(replayed)


def test_stream_left_early_is_abandoned_with_what_had_come(
    corpus: Corpus, share: list[Record], kind: str, tmp_path: Path
) -> None:
    records = streams(share, FEW_EVENTS)
    replayed = run(Replay(corpus, chunks=lambda _: FEW_EVENTS // 2), records, kind, tmp_path)
    failures = Failures()
    for record, span in replayed.spans():
        came = len(_arrived(record, span))
        expected = expected_answer(record, came)
        failures.compare(
            record,
            raised=(replayed.outcomes[record.id].error, None),
            enough=(came >= FEW_EVENTS // 2, True),
            finish=(span.get_attribute(sc.FINISH), expected.finish or "abandoned"),
            status=(span.status.status_code, "OK"),
            **_answers(span, record, expected),
            **_prefixes(span, record),
        )
    failures.check(replayed)
    finishes = [span.get_attribute(sc.FINISH) for _, span in replayed.spans()]
    assert finishes.count("abandoned") > len(finishes) * 0.9, "hardly any stream was left before its end"


def _arrived(record: Record, span: tracer.Span) -> list[Any]:
    return [event for event in span.events if event.name == sc.EVENT_CHUNK and event.attributes["data"] != "[DONE]"]


def _answers(span: tracer.Span, record: Record, expected: Answer) -> dict[str, tuple[Any, Any]]:
    got = answer_of(record, span.outputs)
    return {name: (getattr(got, name), getattr(expected, name)) for name in SPOKEN}


def _error(span: tracer.Span, wanted: str) -> tuple[str, str]:
    return ("" if span.status.status_code == "OK" else span.status.description), wanted


def _prefixes(span: tracer.Span, record: Record) -> dict[str, tuple[Any, Any]]:
    """What had come must be the beginning of what the whole stream says."""
    partial, whole = answer_of(record, span.outputs), expected_answer(record)
    beginnings = {}
    for name in ("texts", "refusals", "thoughts"):
        got, full = getattr(partial, name), getattr(whole, name)
        beginnings[f"{name}_so_far"] = (got, [text[: len(part)] for text, part in zip(full, got, strict=False)])
    return beginnings
