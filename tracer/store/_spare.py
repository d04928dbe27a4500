"""Spare files: where a process keeps the batches that it can't write, until another one takes them over.

Such a process was forked while SQLite was in use, so it must not open the database (see `tracer.store._gate`); or it
ends while others keep the database locked. It appends its batches to ``<database>-spare/<pid>-<start>.batches``, and
keeps that file locked (flock) as long as it lives. A process that opens or closes the database, or has nothing else to
do, takes over the files whose owners are gone.

A file is a sequence of frames: length and CRC-32 of the body, four bytes each, little-endian, then the body, a msgpack
`Batch`. A frame that a killed process did not finish ends the file.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import sqlite3
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tracer._exceptions import TransientStoreError
from tracer.process import forks
from tracer.process.native_threads import new_lock
from tracer.store._connection import transaction
from tracer.store._write import write_batch
from tracer.store.base import Batch
from tracer.store.process import current_process

try:
    import fcntl
except ImportError:  # Windows, which has no fork either
    fcntl = None  # type: ignore[assignment]

__all__ = ["adopt", "append", "let_go", "spare_file"]

logger = logging.getLogger("tracer")

_HEAD = struct.Struct("<II")
_FLAGS = os.O_CREAT | os.O_APPEND | os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
_open: dict[Path, int] = {}
"""The descriptors that this process appends to, by path; each has the lock of its file."""
_opening = new_lock()  # held while `_open` is used


def spare_file(database: Path) -> Path:
    """Return where this process keeps what belongs into a database that it must not open."""
    process = current_process()
    return _directory(database) / f"{process.pid}-{process.started}.batches"


def append(database: Path, batch: Batch) -> None:
    """Add a batch to this process's spare file.

    Raises:
        TransientStoreError: The file system refuses it, for example because the disk is full.
    """
    path = spare_file(database)
    body = msgspec.msgpack.encode(batch)
    frame = _HEAD.pack(len(body), zlib.crc32(body)) + body
    with _opening:
        try:
            descriptor = _descriptor(path)
            end = os.fstat(descriptor).st_size
            try:
                _write_all(descriptor, frame)
            except OSError:
                os.ftruncate(descriptor, end)  # half a frame would hide those that come after it
                raise
        except OSError as error:
            raise TransientStoreError(f"{path}: {error}") from error


def let_go(database: Path) -> None:
    """Leave this process's spare file to whoever opens the database next, even if that is this process."""
    with _opening:
        descriptor = _open.pop(spare_file(database), None)
        if descriptor is not None:
            os.close(descriptor)


def adopt(connection: sqlite3.Connection, database: Path) -> int:
    """Write the batches that ended processes left in spare files, each batch once, and delete the files.

    Returns:
        How many batches were taken over.
    """
    adopted = 0
    for path in _files(database):
        with _owned(path) as descriptor:
            if descriptor is None:
                continue
            try:
                adopted += _write(connection, path.name, _batches(descriptor))
            except msgspec.MsgspecError as error:  # written by another version of tracer
                kept = path.replace(path.with_suffix(".unreadable"))
                logger.error("what a forked process recorded can't be read, and is kept in %s: %s", kept, error)
            else:
                path.unlink(missing_ok=True)
                connection.execute("DELETE FROM taken_over WHERE source = ?", (path.name,))
    return adopted


def _write(connection: sqlite3.Connection, source: str, batches: Iterator[Batch]) -> int:
    """Write each batch in its own transaction, so that others can write too; go on where a killed process stopped."""
    sql = "SELECT batches FROM taken_over WHERE source = ?"
    (before,) = connection.execute(sql, (source,)).fetchone() or (0,)
    count = before
    for count, batch in enumerate(itertools.islice(batches, before, None), before + 1):
        with transaction(connection):
            write_batch(connection, batch)
            connection.execute("INSERT OR REPLACE INTO taken_over VALUES (?, ?)", (source, count))
    return int(count - before)


def _batches(descriptor: int) -> Iterator[Batch]:
    decoder = msgspec.msgpack.Decoder(Batch)
    with os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(0)
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            length, checksum = _HEAD.unpack(head)
            body = file.read(length)
            if len(body) < length or zlib.crc32(body) != checksum:
                return
            yield decoder.decode(body)


@contextlib.contextmanager
def _owned(path: Path) -> Iterator[int | None]:
    """Yield the file's descriptor if its owner is gone and nobody else is taking it over, else None."""
    try:
        descriptor = os.open(path, _FLAGS & ~os.O_CREAT)
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


def _files(database: Path) -> list[Path]:
    if fcntl is None:
        return []
    try:
        return sorted(Path(entry) for entry in os.scandir(_directory(database)) if entry.name.endswith(".batches"))
    except OSError:
        return []


def _directory(database: Path) -> Path:
    return Path(f"{database}-spare")


def _descriptor(path: Path) -> int:
    if path not in _open:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        while True:
            descriptor = os.open(path, _FLAGS, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:
                break
            os.close(descriptor)  # another process has just taken it over, and deleted it
        _open[path] = descriptor
    return _open[path]


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _hold() -> None:
    _opening.acquire()


def _release() -> None:
    _opening.release()


def _forget_parents() -> None:
    """In a child: close the parent's descriptors, as the locks that belong to them must not outlive the parent."""
    global _opening
    for descriptor in _open.values():
        os.close(descriptor)
    _open.clear()
    _opening = new_lock()


forks.register(_hold, _release, _forget_parents)
