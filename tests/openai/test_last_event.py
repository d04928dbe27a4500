"""What is kept of a stream's end when there was no room for its middle."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tracer
from tracer.openai._stream import Reads, _LastEvent

EVENTS = st.lists(st.integers(0, 10**6).map(str), min_size=1, max_size=8)


def last_of(reads: list[bytes], limit: int = 1_000) -> bytes:
    last = _LastEvent(limit)
    for read in reads:
        last.add(read)
    return last.take()


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@given(events=EVENTS, cuts=st.lists(st.integers(1, 200), max_size=150), whole=st.booleans())
def test_the_last_event_is_held_however_the_reads_are_cut(
    newline: str, events: list[str], cuts: list[int], whole: bool
) -> None:
    stream = "".join(f"data: {event}{newline * 2}" for event in events).encode()
    stream = stream if whole else stream.rstrip(b"\r\n")
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    held = last_of([stream[a:b] for a, b in itertools.pairwise(edges)])
    assert held.strip() == f"data: {events[-1]}".encode()
    assert held.startswith(newline.encode() * 2) == (len(events) > 1)


def test_what_has_no_events_is_not_held_beyond_the_limit() -> None:
    assert last_of([b"x" * 600, b"y" * 600]) == b"\n\n" + b"y" * 600


def accepted() -> int:
    return tracer.stats().accepted


def test_reads_that_fill_the_room_to_the_last_byte_are_all_kept() -> None:
    with tracer.start_span("stream") as span:
        reads, before = Reads(span), accepted()
        reads.room = len(b"data: 1\n\n") * 2
        for number in (b"1", b"2"):
            reads.keep(b"data: %b\n\n" % number)
        assert accepted() == before + 2
        reads.keep_last()  # nothing was missed
        assert accepted() == before + 2
        reads.keep(b"x")
        reads.keep_last()
        assert accepted() == before + 3


def test_a_missed_read_is_no_last_event_once_a_later_one_is_kept() -> None:
    with tracer.start_span("stream") as span:
        reads, settings = Reads(span), span.pipeline.settings
        span.pipeline.queue.set_limits(1, 1)
        reads.keep(b"data: missed\n\n")
        span.pipeline.queue.set_limits(settings.queue_max_records, settings.queue_max_bytes)
        reads.keep(b"data: kept\n\n")
        before = accepted()
        reads.keep_last()
        assert accepted() == before
