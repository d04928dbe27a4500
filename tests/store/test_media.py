"""Media in the store: once by hash, gone with the last span that refers to them, and in files of an older version."""

from __future__ import annotations

import hashlib

import pytest

from tests.store.rows import batch, patch, simple, span, span_id, started, trace_id
from tracer import MediaNotFoundError
from tracer.store import Batch, MediaRow
from tracer.store.base import Store

LARGE = bytes(range(256)) * 40_000  # 10 MB


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def medium(number: int, data: bytes, content_type: str = "image/png", *, of_span: int | None = None) -> MediaRow:
    return MediaRow(
        trace_id=trace_id(number),
        span_id=span_id(number if of_span is None else of_span),
        hash=digest(data),
        content_type=content_type,
        data=data,
    )


def with_media(rows: Batch, *media: MediaRow) -> Batch:
    rows.media = list(media)
    return rows


async def count(any_store: Store) -> int:
    return (await any_store.storage()).rows["media"]


async def test_media_are_stored_once_and_given_back_whole(any_store: Store) -> None:
    await any_store.write(with_media(simple(1, 2), medium(1, LARGE), medium(2, LARGE), medium(2, b"x", "audio/wav")))
    await any_store.write(with_media(simple(3), medium(3, LARGE), medium(3, LARGE)))
    found = await any_store.get_media(digest(LARGE))
    assert (found.hash, found.content_type, found.data) == (digest(LARGE), "image/png", LARGE)
    assert (await any_store.get_media(digest(b"x"))).content_type == "audio/wav"
    assert await count(any_store) == 2
    with pytest.raises(MediaNotFoundError):
        await any_store.get_media(digest(b"y"))


async def test_media_go_with_the_last_span_that_refers_to_them(any_store: Store) -> None:
    rows = simple(1, 2)
    rows.spans.append(span(3, trace_id=trace_id(1)))
    media = [medium(1, b"a"), medium(1, b"a", of_span=3), medium(2, b"a"), medium(1, b"b", of_span=3)]
    await any_store.write(with_media(rows, *media))
    await any_store.delete_traces(trace_ids=[trace_id(1)])
    assert (await any_store.get_media(digest(b"a"))).data == b"a"
    with pytest.raises(MediaNotFoundError):
        await any_store.get_media(digest(b"b"))
    await any_store.delete_traces(max_traces=10)
    assert await count(any_store) == 0


async def test_media_of_many_spans_are_written_in_one_batch(any_store: Store) -> None:
    numbers = range(1_500)
    await any_store.write(with_media(simple(*numbers), *(medium(n, b"%d" % n) for n in numbers)))
    assert await count(any_store) == 1_500


async def test_media_of_a_span_that_is_written_twice_are_linked_once(any_store: Store) -> None:
    await any_store.write(with_media(batch([started(1)], [patch(1)]), medium(1, b"a")))
    await any_store.write(with_media(simple(1), medium(1, b"a")))
    assert await count(any_store) == 1
