"""The spool: batches that the store can't take for now wait in files beside the database, and come into it once.

A process adds to its spool while the database is locked or the disk refuses, and more is recorded than the queue should
hold; when it ends before that is over; and if it must never open the database, as it was forked while SQLite was in use
(see `tracer.store.sqlite._gate`). It writes what waits, oldest first, before it writes anything newer. What it leaves
is taken over by the next process that uses the database (`tracer.pipeline.adoption`).

The files are ``<database>-spool/<ns since 1970>-<pid>-<random>.batches``, so the oldest comes first. A process locks
each of its files (flock) as long as it lives. A file is a sequence of frames: length and CRC-32 of the body, number of
records in it (four bytes each, little-endian), then the body: a msgpack `Batch`, compressed with zlib. A frame that a
killed process did not finish ends the file.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import struct
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from tracer._exceptions import TransientStoreError
from tracer.process import forks
from tracer.process.native_threads import new_lock
from tracer.store.batch import Batch
from tracer.store.uri import spool_directory

try:
    import fcntl
except ImportError:  # Windows, where a file would need other locks
    fcntl = None  # type: ignore[assignment]

__all__ = ["Shed", "Spool", "Waiting", "find_spool_files", "owned_spool_file", "read_spool_file"]

SEGMENTS = 32  # files for a full spool: each costs a descriptor, and the oldest one is what gives way
MIN_SEGMENT, MAX_SEGMENT = 64 * 1024, 16 * 1024 * 1024  # bytes
COMPRESSION = 1  # the quickest level; it halves bodies of JSON at least
_HEAD = struct.Struct("<III")
_FLAGS = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
_decoder = msgspec.msgpack.Decoder(Batch)
_descriptors: set[int] = set()
"""The files of all spools of this process; each descriptor has the lock of its file."""
_using_descriptors = new_lock()  # held while one is opened or closed, and during a fork


class Waiting(NamedTuple):
    """A batch of the spool, with the number of records that it was made of."""

    batch: Batch
    records: int


class Shed(NamedTuple):
    """How many records gave way to newer ones: of this process, and of processes that have ended."""

    own: int = 0
    others: int = 0


class _Segment:
    """One file of this process."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor
        self.size = 0
        self.read_to = 0  # bytes
        self.batches_read = 0
        self.records: deque[int] = deque()  # of each batch that waits

    def append(self, frame: bytes, records: int) -> None:
        """Add a frame, or nothing. Raises OSError."""
        try:
            view = memoryview(frame)
            while view:
                view = view[os.write(self.descriptor, view) :]
        except OSError:
            os.lseek(self.descriptor, self.size, os.SEEK_SET)
            os.ftruncate(self.descriptor, self.size)  # half a frame would hide those that come after it
            raise
        self.size += len(frame)
        self.records.append(records)

    def first(self) -> Waiting:
        """Return the oldest batch that waits. It tells, when it is stored, how far the file is read."""
        length, _, records = _HEAD.unpack(os.pread(self.descriptor, _HEAD.size, self.read_to))
        batch = _decoded(os.pread(self.descriptor, length, self.read_to + _HEAD.size))
        return Waiting(_numbered(batch, self.path.name, self.batches_read + 1), records)

    def pop(self) -> None:
        """The oldest batch is done with."""
        (length,) = struct.unpack("<I", os.pread(self.descriptor, 4, self.read_to))
        self.read_to += _HEAD.size + length
        self.batches_read += 1
        self.records.popleft()

    def close(self) -> None:
        with _using_descriptors:
            _descriptors.discard(self.descriptor)
            os.close(self.descriptor)


class Spool:
    """What one worker could not write yet. For its thread only.

    Args:
        database: The file that the batches belong to; None has no place for them.
        max_bytes: Returns how much all spool files of the database may take. 0 allows none.

    Attributes:
        added: How many batches were ever added.
        removed: How many of them were taken out again.
    """

    def __init__(self, database: Path | None, max_bytes: Callable[[], int]) -> None:
        self.added = self.removed = 0
        self._database = database
        self._max_bytes = max_bytes
        self._segments: deque[_Segment] = deque()

    @property
    def is_empty(self) -> bool:
        """Nothing waits here."""
        return not self._segments

    def append(self, batch: Batch, records: int) -> tuple[bool, Shed]:
        """Add a batch at the end; the oldest files give way if there is no room. Waits for nobody.

        Returns:
            Whether it was added, and how many records gave way. It is not added if the spool is switched off, or
            smaller than the batch, or if other living processes use all of it.

        Raises:
            TransientStoreError: The file system refuses it, for example because the disk is full.
        """
        if self._database is None or fcntl is None or not self._max_bytes():
            return False, Shed()
        body = zlib.compress(msgspec.msgpack.encode(batch), COMPRESSION)
        frame = _HEAD.pack(len(body), zlib.crc32(body), records) + body
        try:
            has_room, shed = self._make_room(self._database, len(frame))
            if has_room:
                self._segment(self._database).append(frame, records)
        except OSError as error:
            raise TransientStoreError(f"{spool_directory(self._database)}: {error}") from error
        self.added += has_room
        return has_room, shed

    def first(self) -> Waiting | None:
        """Return the oldest batch; None if nothing waits. Raises OSError if the file can't be read."""
        return self._segments[0].first() if self._segments else None

    def pop(self) -> None:
        """The oldest batch is stored, or lost and counted."""
        segment = self._segments[0]
        segment.pop()
        self.removed += 1
        if not segment.records:
            self._remove(segment)

    def drop_first_file(self) -> int:
        """Give up the oldest file, and return how many records waited in it."""
        return self._drop(self._segments[0])

    def let_go(self) -> None:
        """Leave the files to whoever uses the database next, even if that is this process."""
        for segment in self._segments:
            segment.close()
        self._segments.clear()
        self.removed = self.added

    def _segment(self, database: Path) -> _Segment:
        """Return the file to write to, a new one if need be. Raises OSError."""
        limit = min(max(self._max_bytes() // SEGMENTS, MIN_SEGMENT), MAX_SEGMENT)
        if not self._segments or self._segments[-1].size >= limit:
            directory = spool_directory(database)
            directory.mkdir(mode=0o700, exist_ok=True)
            path = directory / f"{time.time_ns():019d}-{os.getpid()}-{os.urandom(4).hex()}.batches"
            unlocked = path.with_suffix(".new")  # nobody takes it over before it is locked
            with _using_descriptors:
                descriptor = os.open(unlocked, _FLAGS, 0o600)
                _descriptors.add(descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                unlocked.rename(path)
            self._segments.append(_Segment(path, descriptor))
        return self._segments[-1]

    def _make_room(self, database: Path, size: int) -> tuple[bool, Shed]:
        """Delete the oldest files until there is room; return whether there is, and how many records gave way."""
        shed = Shed()
        if size > self._max_bytes():
            return False, shed
        sizes: dict[Path, int] = {}
        for path in find_spool_files(database):
            with contextlib.suppress(FileNotFoundError):  # somebody has just taken it over
                sizes[path] = path.stat().st_size
        total = sum(sizes.values())
        for path, taken in sizes.items():
            if total + size <= self._max_bytes():
                break
            if (given := self._give_way(path)) is not None:
                total -= taken
                shed = Shed(shed.own + given.own, shed.others + given.others)
        return total + size <= self._max_bytes(), shed

    def _give_way(self, path: Path) -> Shed | None:
        """Delete a file of this process, or of one that has ended; None if it is another one's."""
        mine = next((segment for segment in self._segments if segment.path == path), None)
        if mine is not None:
            return Shed(own=self._drop(mine))
        with owned_spool_file(path) as descriptor:
            if descriptor is None:
                return None
            shed = Shed(others=sum(records for records, _ in _frames(descriptor)))
            path.unlink(missing_ok=True)
            return shed

    def _drop(self, segment: _Segment) -> int:
        self.removed += len(segment.records)
        self._remove(segment)
        return sum(segment.records)

    def _remove(self, segment: _Segment) -> None:
        self._segments.remove(segment)
        segment.path.unlink(missing_ok=True)
        segment.close()


def find_spool_files(database: Path) -> list[Path]:
    """Return the files of all processes, the oldest first."""
    if fcntl is None:
        return []
    try:
        entries = os.scandir(spool_directory(database))
        return sorted(Path(entry) for entry in entries if entry.name.endswith(".batches"))
    except OSError:
        return []


@contextlib.contextmanager
def owned_spool_file(path: Path) -> Iterator[int | None]:
    """Yield the file's descriptor if its owner is gone and nobody else is taking it over, else None."""
    try:
        descriptor = os.open(path, _FLAGS & ~(os.O_CREAT | os.O_EXCL))
    except OSError:
        yield None
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_there = os.fstat(descriptor).st_nlink > 0  # otherwise another process has just taken it over
        yield descriptor if is_there else None
    except BlockingIOError:
        yield None
    finally:
        os.close(descriptor)


def read_spool_file(name: str, descriptor: int, done: int) -> Iterator[Waiting]:
    """Yield the batches of a file, but for the first `done` ones. Raises MsgspecError or zlib.error for garbage."""
    for position, (records, body) in enumerate(itertools.islice(_frames(descriptor), done, None), done + 1):
        yield Waiting(_numbered(_decoded(body), name, position), records)


def _frames(descriptor: int) -> Iterator[tuple[int, bytes]]:
    with os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(0)
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            length, checksum, records = _HEAD.unpack(head)
            body = file.read(length)
            if len(body) < length or zlib.crc32(body) != checksum:
                return
            yield records, body


def _decoded(body: bytes) -> Batch:
    return _decoder.decode(zlib.decompress(body))


def _numbered(batch: Batch, name: str, position: int) -> Batch:
    """Have the store know the batch by its place in a file, so that it is written once."""
    batch.sources[name] = position
    batch.once.append(name)
    return batch


def _hold() -> None:
    _using_descriptors.acquire()


def _release() -> None:
    _using_descriptors.release()


def _forget_parents() -> None:
    """In a child: close the parent's descriptors, as the locks that belong to them must not outlive the parent."""
    global _using_descriptors
    for descriptor in _descriptors:
        os.close(descriptor)
    _descriptors.clear()
    _using_descriptors = new_lock()


forks.register(_hold, _release, _forget_parents)
