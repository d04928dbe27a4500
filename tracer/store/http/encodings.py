"""Content encodings of what is sent to a server: zstd where it is there, else zlib at its quickest level."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable
from importlib import import_module
from typing import Any

__all__ = ["BodyTooLargeError", "EncodingError", "compress", "decompress", "encodings"]

_LEVEL = 1


class EncodingError(ValueError):
    """A body is not what its Content-Encoding says, or the encoding is not known here."""


class BodyTooLargeError(ValueError):
    """A body unpacks to more than it may."""


def _zstd() -> Any:
    for module in ("compression.zstd", "backports.zstd"):  # Python 3.14, or the extra `zstd`
        with contextlib.suppress(ImportError):
            return import_module(module)
    return None


zstd = _zstd()
_PACKERS: dict[str, Callable[[bytes], bytes]] = {"deflate": lambda data: zlib.compress(data, _LEVEL)}
if zstd is not None:
    _PACKERS["zstd"] = lambda data: bytes(zstd.compress(data, level=_LEVEL))
_DECODERS: dict[str, Callable[[], Any]] = {
    "deflate": zlib.decompressobj,
    "gzip": lambda: zlib.decompressobj(zlib.MAX_WBITS | 16),
    **({} if zstd is None else {"zstd": zstd.ZstdDecompressor}),
}


def encodings() -> list[str]:
    """Return the encodings that can be undone here, the best first."""
    return [name for name in ("zstd", "deflate", "gzip") if name in _DECODERS]


def compress(data: bytes, accepted: list[str]) -> tuple[bytes, str]:
    """Return the data in the best encoding that both sides know, and the encoding's name."""
    name = "zstd" if "zstd" in _PACKERS and "zstd" in accepted else "deflate"
    return _PACKERS[name](data), name


def decompress(data: bytes, encoding: str, limit: int) -> bytes:
    """Undo an encoding. Never makes much more than `limit` bytes, whatever the data would unpack to.

    Raises:
        EncodingError: The encoding is not known here, or the data is not in it.
        BodyTooLargeError: There is more than `limit` bytes.
    """
    unpacked = data if encoding in ("", "identity") else _decompressed(data, encoding, limit)
    if len(unpacked) > limit:
        raise BodyTooLargeError(f"the body unpacks to more than {limit:,} bytes")
    return unpacked


def _decompressed(data: bytes, encoding: str, limit: int) -> bytes:
    make = _DECODERS.get(encoding)
    if make is None:
        raise EncodingError(f"Content-Encoding must be one of {', '.join(encodings())}, got {encoding[:40]!r}")
    decoder = make()
    try:
        unpacked = bytes(decoder.decompress(data, limit + 1))
    except Exception as error:  # zlib.error, or zstd's
        raise EncodingError(f"the body is not {encoding}: {error}") from None
    if len(unpacked) <= limit and not decoder.eof:
        raise EncodingError(f"the body is not {encoding}: its end is missing")
    return unpacked
