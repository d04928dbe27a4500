"""Reads the crash rings that dead processes left, and deletes those whose database can't come back.

What is looked at beside a living process must cost little: whose ring it is stands in the header, and no more than that
is read before it is known that the ring is to be taken over. `_ring_file` has the layout.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from tracer.pipeline._ring_file import (
    FLAGS,
    FRAME,
    FRAME_BYTES,
    HEAD,
    HEADER,
    LENGTH_AND_CRC,
    MAGIC,
    OWNER_AT,
    PROGRESS,
    SLOTS,
    VERSION,
    WRAP,
    RingOwner,
    checksum,
    give_back,
    next_position,
    own_directories,
    take,
)

try:
    import fcntl
except ImportError:  # Windows has no rings
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "Content",
    "Frame",
    "Progress",
    "delete_orphans",
    "owned",
    "read_content",
    "read_frames",
    "read_owner",
    "read_progress",
]

PIECE = 256 * 1024  # bytes that are read at once
_ORPHANED_AFTER = 24 * 3600.0  # seconds
_SEEN_ORPHANED = 1.0  # as time of modification: it was seen without its database's directory

Content = memoryview | mmap.mmap
"""Of a ring, from its start; what was never written may be missing at the end."""


class Frame(msgspec.Struct, gc=False):
    """Where a record lies in the content of a ring.

    The sequence is that of the record's first writing; a frame that was carried forward keeps it. A ring may hold ten
    thousands of frames; as the garbage collector does not see them, they cause no collections.
    """

    sequence: int
    begin: int
    end: int


class Progress(NamedTuple):
    """How far the owner came: frames before position `tail` are not needed, those up to `committed` are stored."""

    tail: int
    committed: int


@contextlib.contextmanager
def owned(path: Path) -> Iterator[int | None]:
    """Open a ring whose owner is gone, and which nobody else is taking over: yield its descriptor; None otherwise."""
    if not take(path):
        yield None
        return
    try:
        with _locked(path) as descriptor:
            yield descriptor
    finally:
        give_back(path)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int | None]:
    try:
        descriptor = os.open(path, FLAGS)
    except OSError:
        yield None
        return
    try:
        yield descriptor if _is_free(descriptor) else None
    finally:
        os.close(descriptor)


def _is_free(descriptor: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    found = os.fstat(descriptor)
    # Without links somebody has just taken it over.
    return bool(found.st_nlink) and found.st_uid == os.geteuid() and found.st_size > HEADER


def read_owner(descriptor: int) -> RingOwner | None:
    """Return whose ring it is; None if it is of another version, or garbage. Reads no more than the header."""
    head = os.pread(descriptor, HEADER, 0)
    if len(head) < HEADER:
        return None
    magic, version, size = HEAD.unpack_from(head, 0)
    if magic != MAGIC or version != VERSION or not HEADER <= _written(descriptor) <= HEADER + size:
        return None
    length, crc = LENGTH_AND_CRC.unpack_from(head, OWNER_AT)
    start = OWNER_AT + LENGTH_AND_CRC.size
    encoded = head[start : start + length]
    if zlib.crc32(encoded) != crc:
        return None
    try:
        return msgspec.msgpack.decode(encoded, type=RingOwner)
    except msgspec.MsgspecError:
        return None


def _written(descriptor: int) -> int:
    """Return how many bytes were written: where the part without memory begins."""
    return os.lseek(descriptor, 0, os.SEEK_HOLE)


def read_content(descriptor: int, offer: Callable[[], None] = lambda: None) -> memoryview:
    """Return what was written. Read, not mapped: to look at a page without memory would take some, or be a SIGBUS.

    Args:
        descriptor: Of a ring whose owner is gone.
        offer: Called after each piece, so that other threads can go first.
    """
    content, done = memoryview(mmap.mmap(-1, _written(descriptor))), 0  # a bytearray would be filled with zeros first
    while count := os.preadv(descriptor, [content[done : done + PIECE]], done):
        done += count
        offer()
    return content[:done].toreadonly()


def read_progress(content: Content) -> Progress:
    """Return how far the owner came."""
    best, progress = -1, Progress(0, 0)
    for slot in SLOTS:
        packed = content[slot : slot + PROGRESS.size]
        (crc,) = struct.unpack_from("<I", content, slot + PROGRESS.size)
        number, tail, committed = PROGRESS.unpack(packed)
        if zlib.crc32(packed) == crc and number > best:
            best, progress = number, Progress(tail, committed)
    return progress


def read_frames(content: Content) -> Iterator[Frame]:
    """Yield the frames from the tail on, each once, as they lie there."""
    _, _, size = HEAD.unpack_from(content, 0)
    position = start = read_progress(content).tail
    view, seen = memoryview(content), set()
    while position - start < size:
        offset = position % size
        if size - offset < FRAME_BYTES:
            position += size - offset
            continue
        if HEADER + offset + FRAME_BYTES > len(content):
            break
        length, crc, sequence = FRAME.unpack_from(content, HEADER + offset)
        if not sequence:  # nothing was ever written here
            break
        if length == WRAP:
            if crc != checksum(0, position, sequence):
                break
            position += size - offset
            continue
        begin = HEADER + offset + FRAME_BYTES
        if length > size - offset - FRAME_BYTES:
            break
        if crc != checksum(zlib.crc32(view[begin : begin + length]), position, sequence):
            break
        if sequence not in seen:  # it may have been carried forward before its owner was killed
            seen.add(sequence)
            yield Frame(sequence, begin, begin + length)
        position = next_position(position, length)


def delete_orphans(database: Path) -> None:
    """Delete the rings of dead processes whose database can't come back: its directory was gone a day ago, and is now.

    They take memory as long as the machine runs: a test that was killed leaves one.
    """
    for directory in own_directories(database):
        with contextlib.suppress(OSError):
            for entry in list(os.scandir(directory)):
                if entry.stat().st_ctime > time.time() - _ORPHANED_AFTER:
                    continue
                if entry.name.endswith(".ring"):
                    _delete_if_orphaned(Path(entry.path))
                elif entry.name.endswith(".new"):  # its owner was killed as it made it
                    os.unlink(entry.path)


def _delete_if_orphaned(path: Path) -> None:
    with owned(path) as descriptor:
        owner = None if descriptor is None else read_owner(descriptor)
        if owner is None or os.path.isdir(os.path.dirname(owner.database)):
            return
        if path.stat().st_mtime == _SEEN_ORPHANED:
            path.unlink(missing_ok=True)
        else:
            os.utime(path, (_SEEN_ORPHANED, _SEEN_ORPHANED))  # and its ctime is now
