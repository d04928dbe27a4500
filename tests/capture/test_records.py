"""Records survive the queue, whatever they hold."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tracer.capture.records import (
    Codec,
    Ending,
    Failure,
    HttpFacts,
    Payload,
    Record,
    SpanChunk,
    SpanEnded,
    SpanNoted,
    SpanStarted,
    SpanUpdated,
    TraceUpdated,
    decode,
    encode,
)

texts = st.text(st.characters(codec="utf-8"), max_size=20)
numbers = st.integers(0, 2**63 - 1)
json_like = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
attributes = st.dictionaries(texts, json_like, max_size=3)
strings = st.none() | st.dictionaries(texts, texts, max_size=3)
counts = st.none() | st.dictionaries(texts, st.integers(0, 1000), max_size=3)
payloads = st.builds(Payload, st.sampled_from(Codec), st.binary(max_size=50), numbers)
frames = st.lists(st.tuples(texts, numbers, texts), max_size=3)
failures = st.recursive(
    st.builds(Failure, texts, texts, frames),
    lambda inner: st.builds(Failure, texts, texts, frames, inner, st.booleans(), st.lists(inner, max_size=2)),
    max_leaves=4,
)
http = st.builds(HttpFacts, st.integers(100, 599), st.lists(st.tuples(st.binary(), st.binary()), max_size=3))


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


records: dict[str, st.SearchStrategy[Any]] = {
    "started": st.builds(
        SpanStarted,
        texts,
        texts,
        maybe(texts),
        texts,
        texts,
        numbers,
        maybe(texts),
        maybe(texts),
        maybe(payloads),
        maybe(attributes),
        st.booleans(),
        st.booleans(),
    ),
    "chunk": st.builds(SpanChunk, texts, numbers, st.binary(max_size=100)),
    "noted": st.builds(SpanNoted, texts, texts, numbers, attributes, maybe(failures), maybe(payloads)),
    "updated": st.builds(
        SpanUpdated,
        texts,
        maybe(payloads),
        maybe(payloads),
        maybe(attributes),
        maybe(st.tuples(texts, texts)),
        maybe(texts),
        maybe(texts),
    ),
    "ended": st.builds(
        SpanEnded,
        texts,
        numbers,
        st.sampled_from(Ending),
        maybe(payloads),
        maybe(failures),
        maybe(http),
        st.booleans(),
        maybe(attributes),
        counts,
        st.booleans(),
        strings,
    ),
    "trace": st.builds(TraceUpdated, texts, numbers, strings, strings, *[maybe(texts)] * 6),
}


@pytest.mark.parametrize("kind", records)
@given(data=st.data())
def test_decoding_undoes_encoding(kind: str, data: st.DataObject) -> None:
    record: Record = data.draw(records[kind])
    decoded = decode(encode(record))
    assert decoded == record
    assert type(decoded) is type(record)


@given(st.binary(max_size=60))
@example(b"\x91\xa3\x00\x00\x80")  # no UTF-8 where the kind of record stands
def test_foreign_bytes_are_refused_as_documented(data: bytes) -> None:
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
        decode(data)


def test_records_of_an_older_version_are_understood() -> None:
    older = msgspec.msgpack.encode(["n", "0123456789abcdef", "event", 7])
    assert decode(older) == SpanNoted("0123456789abcdef", "event", 7)


def test_records_of_a_newer_version_are_understood() -> None:
    newer = msgspec.msgpack.encode(["c", "0123456789abcdef", 7, b"data", "a field of the future"])
    assert decode(newer) == SpanChunk("0123456789abcdef", 7, b"data")
