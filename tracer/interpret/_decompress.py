"""Undoing HTTP content encodings read by read, so that each piece keeps the time at which it came."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

from tracer.process import forks

__all__ = ["MAX_DECODED_BYTES", "Decompressed", "decompress"]

MAX_DECODED_BYTES = 64 * 1024 * 1024
"""The most that a compressed body may grow to, also within one read: a few kilobytes can inflate to gigabytes."""

_PIECE = 32  # bytes that decoders without a limit get at once: zstd makes 1 MiB of them at most, brotli some 64 MiB
_PART = 256 * 1024  # bytes that brotli makes at once: brotlicffi allocates as much for each read

_ZLIB_HEADER_BYTES = 2

Step = Callable[[bytes, int], bytes]
"""Decode what comes next. It makes so many bytes at most, or a little more; whoever gets them all must not go on."""


class Decompressed(NamedTuple):
    """Decompressed reads.

    Attributes:
        reads: If something went wrong, only the reads before it. Reads that are not compressed, although the header
            says so, are unchanged.
        note: What went wrong.
        damage: What the decoder said of a read that it could not decode. The SDK's decoder says the same, and raises.
        cut: What the SDK's decoder says, and raises, after the last read, since the end is missing.
    """

    reads: Sequence[tuple[int, bytes]]
    note: str | None = None
    damage: str | None = None
    cut: str | None = None


def decompress(chunks: Sequence[tuple[int, bytes]], encoding: str | None) -> Decompressed:
    """Undo the encodings that the HTTP header names, as httpx does.

    It skips an encoding that it has no decoder for, so the caller gets those bytes as they came.
    """
    codings = [
        coding for part in (encoding or "").lower().split(",") if (coding := part.strip()) not in ("", "identity")
    ]
    if not codings:
        return Decompressed(chunks)
    found = [(coding, _STEPS.get(coding, _unknown)()) for coding in reversed(codings)]
    done = _run(chunks, [step for _, step in found if step is not None], codings)
    if (skipped := [coding for coding, step in found if step is None]) and done.note is None:
        done = done._replace(note=f"content-encoding {', '.join(skipped)}: no decoder is installed")
    return done


def _run(chunks: Sequence[tuple[int, bytes]], steps: list[Step], codings: list[str]) -> Decompressed:
    if not steps:
        return Decompressed(chunks)
    decoded: list[tuple[int, bytes]] = []
    room = MAX_DECODED_BYTES
    for time_ns, data in chunks:
        is_over = False
        try:
            for step in steps:
                data = step(data, room + 1)
                is_over = is_over or len(data) > room
        except Exception as exc:  # zlib.error, brotli.error, zstd's: their packages may not be installed
            note = f"content-encoding {', '.join(codings)}: {exc}"
            damage = str(exc) or type(exc).__name__
            return Decompressed(decoded if room < MAX_DECODED_BYTES else chunks, note, damage)
        decoded.append((time_ns, data[:room]))
        room -= len(data)
        if is_over:
            return Decompressed(decoded, f"decompressed to more than {MAX_DECODED_BYTES} bytes: the rest is left out")
    cuts = [cut for step in steps if isinstance(step, _Frames) and (cut := step.what_is_missing())]
    return Decompressed(decoded, None, None, cuts[0] if cuts else None)


def _inflate(window: int) -> Step:
    decoder = zlib.decompressobj(window)
    return decoder.decompress


def _gzip() -> Step:
    return _inflate(zlib.MAX_WBITS | 16)


def _deflate() -> Step:
    """Read zlib's format, or the bare stream that some servers send under the same name."""
    step: Step | None = None
    start = b""

    def decode(data: bytes, limit: int) -> bytes:
        nonlocal step, start
        if step is None:
            start = data = start + data
            if len(start) < _ZLIB_HEADER_BYTES:
                return b""
            step = _inflate(zlib.MAX_WBITS if _is_zlib_header(start) else -zlib.MAX_WBITS)
        return step(data, limit)

    return decode


def _is_zlib_header(data: bytes) -> bool:
    """Recognise zlib's header (RFC 1950, section 2.2: method 8, and a check sum modulo 31)."""
    return data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0


def _brotli() -> Step | None:
    module = _first_installed("brotli", "brotlicffi")
    if module is None:
        return None
    decoder = module.Decompressor()
    process = decoder.process
    if not hasattr(decoder, "can_accept_more_data"):  # before 1.2
        return _by_pieces(process)

    def step(data: bytes, limit: int) -> bytes:
        made = [process(data, output_buffer_limit=_PART)]
        size = len(made[-1])
        while len(made[-1]) >= _PART and size < limit:  # there may be more
            made.append(process(b"", output_buffer_limit=_PART))
            size += len(made[-1])
        return b"".join(made)

    return step


def _zstd() -> Step | None:
    module = _first_installed("compression.zstd", "backports.zstd")
    if module is not None:
        return _Frames(module.ZstdDecompressor)
    if (module := _first_installed("zstandard")) is not None:  # what httpx used before httpx2
        return _Frames(lambda: _Unlimited(module.ZstdDecompressor().decompressobj()))
    return None


class _Frames:
    """Decodes zstd, one frame after another: some servers make one of each write."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._decoder: Any = None

    def __call__(self, data: bytes, limit: int) -> bytes:
        made, size = [], 0
        while data and size < limit:
            if self._decoder is None or self._decoder.eof:
                self._decoder = self._make()
            made.append(self._decoder.decompress(data, limit - size))
            size += len(made[-1])
            data = self._decoder.unused_data if self._decoder.eof else b""
        return b"".join(made)

    def what_is_missing(self) -> str | None:
        """Return what httpx's decoder says after the last read, if the last frame has no end."""
        return None if self._decoder is None or self._decoder.eof else "Zstandard data is incomplete"


class _Unlimited:
    """Has of a decoder of `zstandard` what one with a limit has."""

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder
        self.unused_data = b""

    @property
    def eof(self) -> bool:
        return bool(self._decoder.eof)

    def decompress(self, data: bytes, limit: int) -> bytes:
        made, size, start = [], 0, 0
        while start < len(data) and size < limit and not self.eof:
            made.append(self._decoder.decompress(data[start : start + _PIECE]))
            size += len(made[-1])
            start += _PIECE
        self.unused_data = self._decoder.unused_data + data[start:] if self.eof else b""
        return b"".join(made)


def _by_pieces(decode: Callable[[bytes], bytes]) -> Step:
    """Give little at a time to a decoder that knows no limit."""

    def step(data: bytes, limit: int) -> bytes:
        made, size = [], 0
        for start in range(0, len(data), _PIECE):
            made.append(decode(data[start : start + _PIECE]))
            size += len(made[-1])
            if size >= limit:
                break
        return b"".join(made)

    return step


@cache
def _first_installed(*names: str) -> Any:
    """Import the first of these modules that is installed, in httpx's order; None if none is."""
    with forks.delayed():  # the module's import lock
        for name in names:
            with suppress(ImportError):
                return import_module(name)
    return None


def _unknown() -> None:
    return None


_STEPS: dict[str, Callable[[], Step | None]] = {
    "gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstd,
}
