"""Looks for credentials in the databases that tests wrote: proves that no key or header of the suite's is ever stored.

Every client of `tracer.testing.FakeOpenAI` sends the first of `KEYS`; tests of other credentials use the second.
"""

from __future__ import annotations

import contextlib
import mmap
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

__all__ = ["KEYS", "NEVER_STORED", "find_leaks"]

NEVER_STORED = "never-store-this-0a1b2c3d"
KEYS = (b"sk-fake", NEVER_STORED.encode())

_DATABASE = b"SQLite format 3\0"  # https://sqlite.org/fileformat.html, sections 1.3 and 4.1
_WRITE_AHEAD_LOG = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")
_SUFFIXES = ("-wal", "-shm", "-journal", "-lock", ".ring")


def find_leaks(folder: Path, keys: Iterable[bytes] = KEYS) -> list[str]:
    """Return a line for each file that tracer wrote below a folder, and each key in it; compressed data included."""
    found = []
    for path in sorted(folder.rglob("*")):
        head = _head(path)
        if head.startswith((_DATABASE, *_WRITE_AHEAD_LOG)) or (head and path.name.endswith(_SUFFIXES)):
            found += [f"{path}: {place}" for place in _leaks_in(path, tuple(keys), head)]
    return found


def _head(path: Path) -> bytes:
    if path.is_symlink() or not path.is_file():
        return b""
    try:
        with path.open("rb") as file:
            return file.read(len(_DATABASE))
    except OSError:  # a test has removed the permission to read it
        return b""


def _leaks_in(path: Path, keys: tuple[bytes, ...], head: bytes) -> Iterator[str]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for key in keys:
            if (at := data.find(key)) >= 0:
                yield f"{data[max(0, at - 60) : at + 40]!r}"
    if head.startswith(_DATABASE):
        for place, value in _inflated(path):
            yield from (f"{place}, compressed: {key!r}" for key in keys if key in value)


def _inflated(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield what is stored compressed; nothing if the file is no sound database, or belongs to another program."""
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)) as connection,
    ):
        columns = connection.execute(
            "SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' "
            "AND c.type = 'BLOB'"
        ).fetchall()
        for table, column in columns:
            for (value,) in connection.execute(f'SELECT "{column}" FROM "{table}" WHERE "{column}" IS NOT NULL'):
                with contextlib.suppress(zlib.error, TypeError):
                    yield f"{table}.{column}", zlib.decompress(value)
