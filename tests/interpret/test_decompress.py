"""Compressed bodies: every coding is undone read by read, and none becomes larger than it may."""

from __future__ import annotations

import gzip
import importlib
import sys
import types
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tracer.interpret import _decompress
from tracer.interpret._decompress import MAX_DECODED_BYTES, decompress

MIB = 1024 * 1024
Compress = Callable[[bytes], bytes]


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


def zstd_frame(data: bytes) -> bytes:
    """A frame of blocks that say "this byte, 128 KiB times" (RFC 8878), so that no package is needed to make it."""
    assert len(set(data)) <= 1
    blocks = [data[start : start + 128 * 1024] for start in range(0, len(data), 128 * 1024)]
    head = b"\x28\xb5\x2f\xfd\x00\x58"  # magic; no checksum; a window of 2 MiB
    last = len(blocks) - 1
    return head + b"".join(
        (len(block) << 3 | 1 << 1 | (number == last)).to_bytes(3, "little") + block[:1]
        for number, block in enumerate(blocks)
    )


def brotli_stream(data: bytes) -> bytes:
    return bytes(importlib.import_module("brotli").compress(data, quality=4))


CODINGS: dict[str, tuple[str, Compress]] = {
    "gzip": ("gzip", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "bare deflate": ("deflate", raw_deflate),
    "br": ("br", brotli_stream),
    "zstd": ("zstd", zstd_frame),
}
MODULES = {"br": ("brotli", "brotlicffi"), "zstd": ("backports.zstd", "zstandard")}


class Old:
    """Has of a decoder what versions without a limit have."""

    def __init__(self, decoder: Any) -> None:
        self.process = decoder.process


@pytest.fixture(
    params=[
        *(pytest.param((name, None), id=name) for name in CODINGS if name not in MODULES),
        *(pytest.param((name, module), id=module) for name, modules in MODULES.items() for module in modules),
        pytest.param(("br", "old brotli"), id="old brotli"),
    ]
)
def coding(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Compress]]:
    """A content-encoding and how it is made; undone by one of the packages that can do that."""
    name, module = request.param
    if module is not None:
        pytest.importorskip("brotli" if name == "br" else module)
        used: Any = pytest.importorskip("brotli" if module == "old brotli" else module)
        if module == "old brotli":
            compress, decompressor = used.compress, used.Decompressor
            used = types.SimpleNamespace(compress=compress, Decompressor=lambda: Old(decompressor()))
        chosen = "compression.zstd" if module == "backports.zstd" else module if name == "zstd" else "brotli"
        for other in ("compression.zstd", "backports.zstd", "zstandard", "brotli", "brotlicffi"):
            monkeypatch.setitem(sys.modules, other, used if other == chosen else None)
        _decompress._first_installed.cache_clear()
    yield CODINGS[name]
    _decompress._first_installed.cache_clear()


def in_reads(body: bytes, size: int) -> list[tuple[int, bytes]]:
    return [(number, body[start : start + size]) for number, start in enumerate(range(0, len(body), size))]


@pytest.mark.parametrize("size", [1, 7, 10_000_000], ids=["by byte", "by 7", "whole"])
def test_a_body_comes_back_however_it_was_cut(coding: tuple[str, Compress], size: int) -> None:
    encoding, compress = coding
    body = b"x" * 300_000
    packed = compress(body)
    reads, note, *_ = decompress(in_reads(packed, size), encoding)
    assert note is None
    assert b"".join(data for _, data in reads) == body
    assert [time_ns for time_ns, _ in reads] == [*range(len(in_reads(packed, size)))]


@pytest.mark.parametrize("coding", [pytest.param(("zstd", name), id=name) for name in MODULES["zstd"]], indirect=True)
def test_zstd_may_be_of_several_frames_and_says_if_its_end_is_missing(coding: tuple[str, Compress]) -> None:
    encoding, compress = coding
    packed = compress(b"x" * 300) + compress(b"y" * 300)
    for size in (1, 7, 10_000_000):
        reads, note, damage, cut = decompress(in_reads(packed, size), encoding)
        assert b"".join(data for _, data in reads) == b"x" * 300 + b"y" * 300
        assert (note, damage, cut) == (None, None, None)
        assert decompress(in_reads(packed[:-3], size), encoding).cut == "Zstandard data is incomplete"
    assert decompress([], encoding).cut is None


def test_a_limit_of_64_mib() -> None:
    assert MAX_DECODED_BYTES == 64 * MIB


@pytest.mark.parametrize("size", [50, 10_000_000], ids=["in many reads", "in one read"])
@pytest.mark.parametrize("over", [0, 1, 5 * MIB], ids=["as much as allowed", "one byte more", "far more"])
def test_a_bomb_stops_at_the_limit(
    coding: tuple[str, Compress], size: int, over: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = MIB
    monkeypatch.setattr(_decompress, "MAX_DECODED_BYTES", limit)
    encoding, compress = coding
    reads, note, *_ = decompress(in_reads(compress(b"x" * (limit + over)), size), encoding)
    assert b"".join(data for _, data in reads) == b"x" * limit
    assert note == (f"decompressed to more than {limit} bytes: the rest is left out" if over else None)


def test_a_bomb_takes_no_more_memory_than_the_limit_allows(
    coding: tuple[str, Compress], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decoder must not make it all before somebody looks at its size."""
    limit = MIB
    monkeypatch.setattr(_decompress, "MAX_DECODED_BYTES", limit)
    encoding, compress = coding
    made: list[int] = []
    steps = _decompress._STEPS[encoding]

    def watched() -> Any:
        step = steps()
        assert step is not None

        def counted(data: bytes, most: int) -> bytes:
            result = step(data, most)
            made.append(len(result))
            return result

        return counted

    monkeypatch.setitem(_decompress._STEPS, encoding, watched)
    decompress([(0, compress(b"x" * (24 * MIB)))], encoding)
    assert sum(made) <= 18 * MIB  # brotli before 1.2 makes a block of 16 MiB at once


def test_a_bomb_within_a_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_decompress, "MAX_DECODED_BYTES", MIB)
    bomb = gzip.compress(gzip.compress(b"x" * (50 * MIB)))
    reads, note, *_ = decompress([(0, bomb)], "gzip, gzip")
    assert sum(len(data) for _, data in reads) == MIB
    assert "the rest is left out" in (note or "")
