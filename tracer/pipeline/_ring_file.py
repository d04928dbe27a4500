"""The file behind a crash ring: where it lies, how it is laid out and made. `_left_rings` reads those that are left.

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
from pathlib import Path

import msgspec

from tracer.process import forks
from tracer.process.native_threads import new_lock
from tracer.store.batch import ProcessRow
from tracer.store.uri import spool_directory

try:
    import fcntl
except ImportError:  # Windows, where a ring would need other locks
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "FLAGS",
    "FRAME",
    "FRAME_BYTES",
    "HEAD",
    "HEADER",
    "LENGTH_AND_CRC",
    "MAGIC",
    "OWNER_AT",
    "PROGRESS",
    "SLOTS",
    "SPREAD",
    "STEP_BYTES",
    "STORED",
    "VERSION",
    "WRAP",
    "RingOwner",
    "allocate",
    "checksum",
    "create_ring_file",
    "describe_place",
    "directories",
    "directory_identity",
    "find_rings",
    "give_back",
    "next_position",
    "own_directories",
    "take",
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
MAGIC = b"trcring\0"
HEAD = struct.Struct("<8sIQ")
PROGRESS = struct.Struct("<QQQ")
SLOTS = (64, 128)
OWNER_AT = 256
LENGTH_AND_CRC = struct.Struct("<II")
FLAGS = os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)  # Windows has neither
_WRITES_IN_PLACE = {"ext2", "ext3", "ext4", "xfs", "tmpfs"}

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


# --- places -----------------------------------------------------------------------------------------------------------


def directories(database: Path) -> list[Path]:
    """Return where rings of this database may lie, the best place first."""
    if fcntl is None or not hasattr(os, "posix_fallocate"):  # Windows, macOS
        return []
    beside = spool_directory(database)
    return [SHARED_MEMORY / f"tracer-{os.geteuid()}", beside] if SHARED_MEMORY.is_dir() else [beside]


def own_directories(database: Path) -> list[Path]:
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
    for directory in own_directories(database):
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
        take(path)
        try:
            _make_private(directory)
            return (path, *_create(path, _size_for(directory, size), described))
        except OSError as error:
            give_back(path)
            failures.append(str(error))
    raise OSError("; ".join(failures) or "rings need file locks and allocation, which this system lacks")


def take(path: Path) -> bool:
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
    descriptor = os.open(unfinished, FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
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
    LENGTH_AND_CRC.pack_into(memory, OWNER_AT, len(encoded), zlib.crc32(encoded))
    start = OWNER_AT + LENGTH_AND_CRC.size
    memory[start : start + len(encoded)] = encoded
    write_progress(memory, 1, 0, 0)
    HEAD.pack_into(memory, 0, MAGIC, VERSION, size)
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


# --- progress and frames ----------------------------------------------------------------------------------------------


def write_progress(memory: mmap.mmap, number: int, tail: int, committed: int) -> None:
    """Note how far the owner came, beside the note before: a kill in the middle leaves that one."""
    slot = SLOTS[number % 2]
    packed = PROGRESS.pack(number, tail, committed)
    memory[slot : slot + PROGRESS.size + 4] = packed + struct.pack("<I", zlib.crc32(packed))


def checksum(crc: int, position: int, sequence: int) -> int:
    """Return what a frame has as its CRC, for the CRC-32 of its record."""
    return crc ^ ((position * SPREAD ^ sequence) & 0xFFFFFFFF)


def next_position(position: int, length: int) -> int:
    """Return where the frame after one with a record of `length` bytes begins."""
    return position + ((FRAME_BYTES + length + 7) & ~7)
