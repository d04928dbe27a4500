"""The file behind a crash ring: where it lies, how it is laid out, and how a dead process's is read.

A ring is named ``<database>-<pid>-<time>-<random>.ring``, where the database is a hash of its path. It lies in
``/dev/shm`` (memory that outlives the process), in a directory of this user's. Where there is no such memory, or too
little, it lies beside the database, in the directory of the spool; but only on file systems that write in place. (On
the others even an allocated page may find the disk full when it is written again, which would kill the process:
SIGBUS.)

Its owner holds a POSIX record lock on it. Such a lock goes when the process closes *any* descriptor of the file, and
does not keep the process itself out. So this module knows which rings are in use here, and opens none of them again.

Layout, little-endian::

    0      magic, version, size of the ring in bytes
    64     progress, twice: number of the note, tail, committed, CRC-32; the valid note with the higher number counts
    256    length, CRC-32, then the owner: a msgpack `RingOwner`
    4096   frames: length, CRC-32, sequence, then the record, padded to 8 bytes

Positions grow for ever; a frame lies at its position modulo the size. Position and sequence are mixed into the CRC of
the record, so what an earlier lap left at the same place is no frame of this lap. A frame that a killed process did not
finish ends the ring.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import mmap
import os
import re
import stat
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from tracer.process import forks
from tracer.process.native_threads import new_lock
from tracer.store.base import ProcessRow
from tracer.store.uri import spool_directory

try:
    import fcntl
except ImportError:  # Windows, where a ring would need other locks
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "FRAME",
    "FRAME_BYTES",
    "HEADER",
    "SPREAD",
    "STEP_BYTES",
    "STORED",
    "Frame",
    "RingOwner",
    "allocate",
    "checksum",
    "create_ring_file",
    "delete_orphans",
    "describe_place",
    "directories",
    "directory_identity",
    "find_rings",
    "give_back",
    "next_position",
    "owned",
    "read_frames",
    "read_owner",
    "read_progress",
    "write_progress",
]

SHARED_MEMORY = Path("/dev/shm")
MIN_SIZE = 64 * 1024
STEP_BYTES = 256 * 1024  # are allocated at a time, in 0.1 ms
MAX_SHARE = 4  # a ring takes no more than a quarter of the room that is left, but is halved until it fits
RESERVE = 256 * 1024 * 1024  # bytes, or a quarter of the whole, are left for others, however many rings there are
VERSION = 1
HEADER = 4096
FRAME = struct.Struct("<IIQ")
FRAME_BYTES = FRAME.size
SPREAD = 2_654_435_761  # Knuth's multiplier: neighbours get checksums that differ in all bits
WRAP = 0xFFFFFFFF  # as a length: the next frame lies at the start of the ring
STORED = 1 << 63  # in a sequence: what this record says was in the database before it came into the ring
MADV_POPULATE_WRITE = 23  # Linux 5.14, madvise(2); the mmap module has no name for it
_MAGIC = b"trcring\0"
_HEAD = struct.Struct("<8sIQ")
_PROGRESS = struct.Struct("<QQQ")
_SLOTS = (64, 128)
_OWNER_AT = 256
_LENGTH_AND_CRC = struct.Struct("<II")
_FLAGS = os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)  # Windows has neither
_WRITES_IN_PLACE = {"ext2", "ext3", "ext4", "xfs", "tmpfs"}
_ORPHANED_AFTER = 24 * 3600.0  # seconds
_SEEN_ORPHANED = 1.0  # as time of modification: it was seen without its database's directory

Content = bytes | mmap.mmap
"""Of a ring, from its start; what was never written may be missing at the end."""

_in_use: set[str] = set()
"""The rings that this process writes, or is taking over."""
_in_use_lock = new_lock()


def _leave_to_parent() -> None:
    global _in_use_lock
    _in_use_lock = new_lock()
    _in_use.clear()


forks.register(after_in_child=_leave_to_parent)


class RingOwner(msgspec.Struct, frozen=True):
    """Who writes to a ring, and for which database. `directory` tells the database's directory from one elsewhere."""

    process: ProcessRow
    database: str
    directory: tuple[int, int] | None = None


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


# --- places -----------------------------------------------------------------------------------------------------------


def directories(database: Path) -> list[Path]:
    """Return where rings of this database may lie, the best place first."""
    if fcntl is None or not hasattr(os, "posix_fallocate"):  # Windows, macOS
        return []
    beside = spool_directory(database)
    return [SHARED_MEMORY / f"tracer-{os.geteuid()}", beside] if SHARED_MEMORY.is_dir() else [beside]


def _own_directories(database: Path) -> list[Path]:
    """Return those of the `directories` that are there, and are this user's."""
    return [directory for directory in directories(database) if _is_own(directory)]


def _is_own(directory: Path) -> bool:
    try:
        found = directory.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def directory_identity(database: Path) -> tuple[int, int] | None:
    """Return what tells the database's directory from one with the same path elsewhere; None if there is none yet."""
    try:
        found = os.stat(os.path.dirname(os.path.abspath(database)))
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISDIR(found.st_mode) else None


def find_rings(database: Path) -> list[Path]:
    """Return the rings of this database, of living and of dead processes; those of one process as they were made.

    The end of a span may be in a later ring than its start.
    """
    prefix = f"{_hash_of(database)}-"
    found: list[Path] = []
    for directory in _own_directories(database):
        with contextlib.suppress(OSError):
            names = sorted(entry.name for entry in os.scandir(directory) if entry.name.endswith(".ring"))
            found += [directory / name for name in names if name.startswith(prefix)]
    return found


def create_ring_file(database: Path, owner: ProcessRow, size: int) -> tuple[Path, int, mmap.mmap]:
    """Make this process's ring, locked, with memory for its first `STEP_BYTES` (see `allocate`).

    Args:
        database: What is recorded there will be taken over by this database.
        owner: This process.
        size: Bytes of frames; it becomes less where there is little room.

    Returns:
        The file, its descriptor (the lock goes when it is closed, or any other descriptor of that file) and its memory.

    Raises:
        OSError: There is no room for a ring, or no directory of this user's.
    """
    name = f"{_hash_of(database)}-{owner.pid}-{time.time_ns():016x}-{os.urandom(4).hex()}.ring"
    described = RingOwner(owner, str(database), directory_identity(database))
    failures = []
    for directory in directories(database):
        path = directory / name
        _take(path)
        try:
            _make_private(directory)
            return (path, *_create(path, _size_for(directory, size), described))
        except OSError as error:
            give_back(path)
            failures.append(str(error))
    raise OSError("; ".join(failures) or "rings need file locks and allocation, which this system lacks")


def _take(path: Path) -> bool:
    with _in_use_lock:
        if str(path) in _in_use:
            return False
        _in_use.add(str(path))
        return True


def give_back(path: Path) -> None:
    """This process does not use the ring any more."""
    with _in_use_lock:
        _in_use.discard(str(path))


def _create(path: Path, size: int, owner: RingOwner) -> tuple[int, mmap.mmap]:
    unfinished = path.with_suffix(".new")  # nobody takes it over before it is locked and complete
    descriptor = os.open(unfinished, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, HEADER + size)
        memory = mmap.mmap(descriptor, HEADER + size)  # MAP_POPULATE would hold the GIL for 10 ms
        os.posix_fallocate(descriptor, 0, HEADER)
        allocate(descriptor, memory, 0, min(size, STEP_BYTES))
    except BaseException:
        unfinished.unlink(missing_ok=True)
        os.close(descriptor)
        raise
    encoded = msgspec.msgpack.encode(owner)
    _LENGTH_AND_CRC.pack_into(memory, _OWNER_AT, len(encoded), zlib.crc32(encoded))
    start = _OWNER_AT + _LENGTH_AND_CRC.size
    memory[start : start + len(encoded)] = encoded
    write_progress(memory, 1, 0, 0)
    _HEAD.pack_into(memory, 0, _MAGIC, VERSION, size)
    os.rename(unfinished, path)
    return descriptor, memory


def allocate(descriptor: int, memory: mmap.mmap, start: int, end: int) -> None:
    """Make sure that this part of the ring has memory: a write without would be a SIGBUS.

    Raises:
        OSError: There is none, or too little would be left for others: theirs may be a SIGBUS, too.
    """
    room = os.fstatvfs(descriptor)
    reserve = min(room.f_blocks // MAX_SHARE * room.f_frsize, RESERVE)
    if room.f_bavail * room.f_frsize - (end - start) < reserve:
        raise OSError(errno.ENOSPC, "too little room would be left for others")
    os.posix_fallocate(descriptor, HEADER + start, end - start)
    begin = (HEADER + start) // mmap.PAGESIZE * mmap.PAGESIZE
    with contextlib.suppress(OSError):  # an older kernel, or no Linux: then each page is a page fault
        memory.madvise(MADV_POPULATE_WRITE, begin, HEADER + end - begin)


def _make_private(directory: Path) -> None:
    directory.mkdir(mode=0o700, exist_ok=True)
    if not _is_own(directory):
        raise PermissionError(f"{directory} is not a directory of this user's")
    if directory.stat().st_mode & 0o077:
        directory.chmod(0o700)


def _size_for(directory: Path, size: int) -> int:
    if directory.parent != SHARED_MEMORY and (kind := _file_system(directory)) not in _WRITES_IN_PLACE:
        raise OSError(f"{directory} is on a file system ({kind}) where a crash ring could end the process")
    room = os.statvfs(directory)
    share = room.f_bavail * room.f_frsize // MAX_SHARE
    size &= ~7
    while size > share:
        size = size // 2 & ~7
        if size < MIN_SIZE:
            raise OSError(f"{directory} has no room for a crash ring")
    return size


def _file_system(directory: Path) -> str:
    """Return the type of the file system that a directory is on, as Linux names it; "unknown" elsewhere."""
    real, kind, longest = os.path.realpath(directory), "unknown", 0
    with contextlib.suppress(OSError), open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as mounts:
        for line in mounts:
            _, place, found, *_ = line.split(" ")
            place = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), place)
            if len(place) >= longest and (real == place or real.startswith(place.rstrip("/") + "/")):
                kind, longest = found, len(place)
    return kind


def _hash_of(database: Path) -> str:
    return hashlib.sha256(os.fsencode(os.path.realpath(database))).hexdigest()[:16]


def describe_place(database: Path, size: int) -> str:
    """Say where a ring of this database would lie, and how large it would be. Raises OSError if there is no room."""
    for directory in directories(database):
        place = directory if directory.is_dir() else directory.parent
        with contextlib.suppress(OSError):
            return f"{directory}: {_size_for(place, size) // 1024} KiB"
    raise OSError("there is no room for a crash ring in shared memory, nor beside the database")


def delete_orphans(database: Path) -> None:
    """Delete the rings of dead processes whose database can't come back: its directory was gone a day ago, and is now.

    They take memory as long as the machine runs: a test that was killed leaves one.
    """
    for directory in _own_directories(database):
        with contextlib.suppress(OSError):
            for entry in list(os.scandir(directory)):
                if entry.stat().st_ctime > time.time() - _ORPHANED_AFTER:
                    continue
                if entry.name.endswith(".ring"):
                    _delete_if_orphaned(Path(entry.path))
                elif entry.name.endswith(".new"):  # its owner was killed as it made it
                    os.unlink(entry.path)


def _delete_if_orphaned(path: Path) -> None:
    with owned(path) as content:
        owner = None if content is None else read_owner(content)
        if owner is None or os.path.isdir(os.path.dirname(owner.database)):
            return
        if path.stat().st_mtime == _SEEN_ORPHANED:
            path.unlink(missing_ok=True)
        else:
            os.utime(path, (_SEEN_ORPHANED, _SEEN_ORPHANED))  # and its ctime is now


# --- reading ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def owned(path: Path) -> Iterator[bytes | None]:
    """Yield the content of a ring whose owner is gone, and which nobody else is taking over; None otherwise."""
    if not _take(path):
        yield None
        return
    try:
        with _locked(path) as content:
            yield content
    finally:
        give_back(path)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[bytes | None]:
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError:
        yield None
        return
    try:
        yield _read(descriptor) if _is_free(descriptor) else None
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


def _read(descriptor: int) -> bytes:
    """Return what was written. Read, not mapped: to look at a page without memory would take some, or be a SIGBUS."""
    end = os.lseek(descriptor, 0, os.SEEK_HOLE)
    return os.pread(descriptor, end, 0)


def read_owner(content: Content) -> RingOwner | None:
    """Return whose ring it is; None if it is of another version, or garbage."""
    if len(content) < HEADER:
        return None
    magic, version, size = _HEAD.unpack_from(content, 0)
    if magic != _MAGIC or version != VERSION or size + HEADER < len(content):
        return None
    length, crc = _LENGTH_AND_CRC.unpack_from(content, _OWNER_AT)
    start = _OWNER_AT + _LENGTH_AND_CRC.size
    encoded = content[start : min(start + length, HEADER)]
    if zlib.crc32(encoded) != crc:
        return None
    try:
        return msgspec.msgpack.decode(encoded, type=RingOwner)
    except msgspec.MsgspecError:
        return None


def read_progress(content: Content) -> Progress:
    """Return how far the owner came."""
    best, progress = -1, Progress(0, 0)
    for slot in _SLOTS:
        packed = content[slot : slot + _PROGRESS.size]
        (crc,) = struct.unpack_from("<I", content, slot + _PROGRESS.size)
        number, tail, committed = _PROGRESS.unpack(packed)
        if zlib.crc32(packed) == crc and number > best:
            best, progress = number, Progress(tail, committed)
    return progress


def write_progress(memory: mmap.mmap, number: int, tail: int, committed: int) -> None:
    """Note how far the owner came, beside the note before: a kill in the middle leaves that one."""
    slot = _SLOTS[number % 2]
    packed = _PROGRESS.pack(number, tail, committed)
    memory[slot : slot + _PROGRESS.size + 4] = packed + struct.pack("<I", zlib.crc32(packed))


def read_frames(content: bytes) -> Iterator[Frame]:
    """Yield the frames from the tail on, each once, as they lie there."""
    _, _, size = _HEAD.unpack_from(content, 0)
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


def checksum(crc: int, position: int, sequence: int) -> int:
    """Return what a frame has as its CRC, for the CRC-32 of its record."""
    return crc ^ ((position * SPREAD ^ sequence) & 0xFFFFFFFF)


def next_position(position: int, length: int) -> int:
    """Return where the frame after one with a record of `length` bytes begins."""
    return position + ((FRAME_BYTES + length + 7) & ~7)
