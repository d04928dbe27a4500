from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai._streaming import SSEDecoder

from tracer.interpret import stream_events
from tracer.interpret.dispatch import interpret_stream
from tracer.interpret.sse import unreadable_end


def cut(data: bytes, places: list[int]) -> list[tuple[int, bytes]]:
    bounds = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [(end, data[start:end]) for start, end in pairwise(bounds)]


def test_event_carries_the_time_of_the_read_that_completes_it():
    reads = [(1, b"data: a\n\nda"), (2, b"ta: b\n"), (3, b"\n"), (4, b"data: c\n\ndata: d\n\n")]
    assert stream_events(reads) == [(1, None, "a"), (3, None, "b"), (4, None, "c"), (4, None, "d")]


def test_event_name_comments_multi_line_data_and_unknown_fields():
    text = b": hello\n\nevent: delta\nid: 3\nretry: 1\ndata: a\ndata:b\n\ndata\n\nevent: lonely\n\n"
    assert stream_events([(7, text)]) == [(7, "delta", "a\nb"), (7, None, "")]


def test_last_event_without_blank_line_counts():
    assert stream_events([(1, b"data: a\n\ndata: b")]) == [(1, None, "a"), (1, None, "b")]


@pytest.mark.parametrize("newline", [b"\n", b"\r", b"\r\n"], ids=["LF", "CR", "CRLF"])
def test_line_ends_of_any_kind_cut_anywhere(newline):
    data = b"event: x\ndata: one\n\ndata: two\n\n".replace(b"\n", newline)
    for place in range(len(data)):
        events = stream_events([(1, data[:place]), (2, data[place:])])
        assert [(name, text) for _, name, text in events] == [("x", "one"), (None, "two")]


def test_empty_read_between_the_two_halves_of_a_line_end():
    assert stream_events([(1, b"data: a\r"), (2, b""), (3, b"\ndata: b\r\n\r\n")]) == [(3, None, "a\nb")]


def test_byte_order_mark_cut_in_two():
    assert stream_events([(1, b"\xef\xbb"), (2, b"\xbfdata: a\n\n")]) == [(2, None, "a")]


def test_character_cut_in_two_is_whole_and_invalid_utf8_is_replaced():
    data = "data: 東京\n\n".encode()
    assert stream_events([(1, data[:8]), (2, data[8:])]) == [(2, None, "東京")]
    assert stream_events([(1, b"data: \xff\n\n")]) == [(1, None, "\ufffd")]


LINE = st.sampled_from(["data: a", "data:b", "data:  c: d", ": note", "event: x", "id: 1", "é: 東", "", "", "data"])


@given(lines=st.lists(LINE), newline=st.sampled_from(["\n", "\r", "\r\n"]), places=st.lists(st.integers(0, 200)))
def test_events_equal_those_of_the_sdk_however_they_are_cut(lines, newline, places):
    data = "".join(line + newline for line in [*lines, "", ""]).encode()
    reads = cut(data, places)
    # The SDK also reports events without data (an id alone), which it then fails to parse.
    expected = [(sse.event, sse.data) for sse in SSEDecoder().iter_bytes(data for _, data in reads) if has_data(sse)]
    assert [(name, text) for _, name, text in stream_events(reads) if text] == expected


def has_data(sse) -> bool:
    return bool(sse.data)


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "Deflate": lambda data: zlib.compress(data)[2:-4],
    "gzip, deflate": lambda data: zlib.compress(gzip.compress(data)),
    "identity": bytes,
}


@pytest.mark.parametrize("encoding", COMPRESS)
def test_compressed_reads_of_one_byte_each(encoding):
    data = COMPRESS[encoding](b"data: one\n\ndata: two\n\n")
    reads = [(number, data[number : number + 1]) for number in range(len(data))]
    assert [text for _, _, text in stream_events(reads, content_encoding=encoding)] == ["one", "two"]


def test_event_of_a_flushed_gzip_stream_has_its_own_time():
    compressor = zlib.compressobj(wbits=31)
    reads = []
    for time_ns in (10, 20, 30):
        piece = compressor.compress(b"data: %d\n\n" % time_ns) + compressor.flush(zlib.Z_SYNC_FLUSH)
        reads.append((time_ns, piece))
    assert stream_events(reads, content_encoding="gzip") == [(10, None, "10"), (20, None, "20"), (30, None, "30")]


def test_broken_compression_keeps_what_came_before():
    compressor = zlib.compressobj(wbits=31)
    good = compressor.compress(b'data: {"id": "1"}\n\n') + compressor.flush(zlib.Z_SYNC_FLUSH)
    reads = [(1, good), (2, b"\xff\xff garbage")]
    assert stream_events(reads, content_encoding="gzip") == [(1, None, '{"id": "1"}')]
    view = interpret_stream("chat", reads, content_encoding="gzip", content_type="text/event-stream")
    assert view.outputs == b'{"id":"1"}'
    assert view.attributes["tracer.note"].startswith("content-encoding gzip: ")


def test_uncompressed_bytes_under_a_compressed_label_are_read_as_they_are():
    assert stream_events([(1, b"data: a\n\n")], content_encoding="gzip") == [(1, None, "a")]


def test_unknown_encoding_is_noted():
    view = interpret_stream("chat", [(1, b"???")], content_encoding="snappy", content_type="text/event-stream")
    assert view.outputs is None
    assert view.attributes["tracer.note"] == "content-encoding snappy: no decoder is installed"


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
def test_only_the_end_of_a_stream_is_looked_at_for_its_encoding(newline, size):
    whole = "data: 寿司\n\n".encode().replace(b"\n", newline)
    cut = whole.rstrip(b"\r\n")[:-1]

    def end_of(data):
        return unreadable_end([(start, data[start : start + size]) for start in range(0, len(data), size)])

    assert end_of(whole + whole) is end_of(b"") is end_of(whole + b"data: half") is None
    assert end_of(b"\xff" + newline * 2 + whole) is None  # the SDK fails there, before it comes to the end
    assert "unexpected end of data" in end_of(whole + cut)
    assert "unexpected end of data" in end_of(cut)
    assert "invalid start byte" in end_of(whole + b": \xff")
