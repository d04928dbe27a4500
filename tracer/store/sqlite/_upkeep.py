"""Care for a SQLite file from outside the pipeline: look at it, check it, make it smaller.

For commands, not for services: each function opens a connection of its own in the calling thread, waits for locks, and
may take long. None of them creates a file, and only `vacuum` changes one.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tracer._exceptions import ConfigurationError, StoreError
from tracer._models import USAGE_KEYS, TokenUsage
from tracer.store.sqlite._connection import BUSY_TIMEOUT_MS, checkpoint, transaction, translated
from tracer.store.sqlite._text import merge_text
from tracer.store.sqlite.check import check_uri
from tracer.store.uri import MEMORY_URI, is_clickhouse, is_otlp, is_postgres, is_server, redact_uri, sqlite_path

__all__ = [
    "Health",
    "Totals",
    "Vacuumed",
    "can_write",
    "check",
    "count_traces",
    "file_of",
    "schema_version",
    "totals",
    "vacuum",
]

_MAX_PROBLEMS = 100
_VACUUM_PRAGMAS = (
    "query_only = OFF", "temp_store = FILE", "secure_delete = ON", "synchronous = NORMAL", "wal_autocheckpoint = 0",
)  # fmt: skip
_INDEX_ROWS = 2_000  # spans that a vacuum adds to the full-text index in a step
_STEPS = 100_000  # of SQLite's virtual machine, between two looks for Ctrl-C


class Totals(msgspec.Struct, kw_only=True):
    """Exact sums over all traces, where `Store.overview` gives estimates.

    Attributes:
        states: How many traces are in each state that occurs.
        token_usage: None when no trace reported any.
        cost: US dollars; None when none is known.
    """

    traces: int
    states: dict[str, int]
    token_usage: TokenUsage | None
    cost: float | None


class Health(msgspec.Struct, kw_only=True):
    """What `check` found; at most 100 problems of each kind."""

    schema_version: int
    problems: list[str]


class Vacuumed(msgspec.Struct, kw_only=True):
    """Size of the file with its write-ahead log."""

    bytes_before: int
    bytes_after: int


def file_of(uri: str, *, unseen: bool = False) -> Path:
    """Return the file that a tracking URI names, which may be missing.

    With `unseen` the file is not looked into, because it may be damaged.

    Raises:
        ConfigurationError: The URI can't be used, or names no file.
    """
    if unseen and uri.startswith("sqlite:"):
        return sqlite_path(uri)
    checked = check_uri(uri)
    if checked == MEMORY_URI:
        raise ConfigurationError(
            f"uri {MEMORY_URI} keeps traces in its process alone; name a file: sqlite:///tracer.db"
        )
    if is_server(checked):
        raise ConfigurationError(
            f"uri {redact_uri(checked)} is a tracking server, this needs its database; run it where the server runs, "
            "with sqlite:///tracer.db"
        )
    if is_otlp(checked):
        raise ConfigurationError(f"uri {redact_uri(checked)} only sends spans; name a file: sqlite:///tracer.db")
    if is_clickhouse(checked):
        raise ConfigurationError(
            f"uri {redact_uri(checked)} is a ClickHouse database, this needs a file of SQLite; "
            "use ClickHouse's own tools (OPTIMIZE TABLE, BACKUP)"
        )
    if is_postgres(checked):
        raise ConfigurationError(
            f"uri {redact_uri(checked)} is a PostgreSQL database, this needs a file of SQLite; "
            "use PostgreSQL's own tools (VACUUM, pg_dump)"
        )
    return sqlite_path(checked)


def schema_version(uri: str) -> int:
    """Return the schema version of an existing file; 0 for an empty one. Raises StoreError."""
    with _connected(uri) as connection:
        return _pragma(connection, "user_version")


def can_write(uri: str) -> bool:
    """Tell whether a writer could begin now; changes nothing. Raises StoreError if the file can't be opened."""
    with _connected(uri) as connection:
        connection.execute("PRAGMA query_only = OFF")
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        connection.execute("ROLLBACK")
        return True


def totals(uri: str) -> Totals:
    """Sum up, in one snapshot. Reads each trace once."""
    with _connected(uri) as connection, transaction(connection, "DEFERRED"):
        states = dict(connection.execute("SELECT state, count(*) FROM traces GROUP BY state ORDER BY state").fetchall())
        sums = ", ".join(f"sum({key})" for key in USAGE_KEYS)
        cost, *usage = connection.execute(f"SELECT sum(cost), {sums} FROM traces").fetchone()
    known = {key: value for key, value in zip(USAGE_KEYS, usage, strict=True) if value is not None}
    return Totals(traces=sum(states.values()), states=states, token_usage=known or None, cost=cost)


def count_traces(uri: str, *, experiment: str | None = None, max_timestamp_ms: int | None = None) -> int:
    """Return how many traces `Store.delete_traces` would delete on these conditions."""
    conditions = {"experiment = ?": experiment, "start_time_ns <= ? * 1000000": max_timestamp_ms}
    given = {sql: value for sql, value in conditions.items() if value is not None}
    where = " AND ".join(given) or "TRUE"
    with _connected(uri) as connection:
        return int(connection.execute(f"SELECT count(*) FROM traces WHERE {where}", [*given.values()]).fetchone()[0])


def check(uri: str) -> Health:
    """Look for damaged pages and indexes, and for rows that refer to missing rows. Reads the whole file."""
    health = Health(schema_version=0, problems=[])
    with _connected(uri, unseen=True) as connection:
        try:
            health.schema_version = _pragma(connection, "user_version")
            health.problems += _damage(connection)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:  # so damaged that it can't even be checked
            health.problems.append(str(error))
    return health


def _damage(connection: sqlite3.Connection) -> Iterator[str]:
    for (found,) in connection.execute(f"PRAGMA integrity_check({_MAX_PROBLEMS})"):
        if found != "ok":
            yield found
    dangling = connection.execute("PRAGMA foreign_key_check")
    for table, row, parent, _ in itertools.islice(dangling, _MAX_PROBLEMS):
        yield f"row {row} of {table} refers to a row of {parent} that does not exist"


def vacuum(uri: str) -> Vacuumed:
    """Write the file again without gaps, while no other process writes. Needs twice its size of free disk space.

    The words of deleted spans leave the full-text index.

    Raises:
        StoreError: No room on the disk, or another process keeps the database locked.
    """
    path = file_of(uri)
    before = _size(path)
    if (free := shutil.disk_usage(path.parent).free) < 2 * before:
        raise StoreError(f"vacuum needs {2 * before:,} bytes beside {path}, {free:,} are free; make room first")
    # The copy goes beside the database: it holds prompts, and may be larger than memory or than /var/tmp.
    os.environ["SQLITE_TMPDIR"] = str(path.parent)
    with _connected(uri) as connection:
        for pragma in _VACUUM_PRAGMAS:
            connection.execute(f"PRAGMA {pragma}").fetchone()
        if _pragma(connection, "user_version"):  # otherwise it has no tables yet
            merge_text(connection, _INDEX_ROWS)
        connection.execute("VACUUM")
        checkpoint(connection, path, at_least=1)
    return Vacuumed(bytes_before=before, bytes_after=_size(path))


@contextlib.contextmanager
def _connected(uri: str, *, unseen: bool = False) -> Iterator[sqlite3.Connection]:
    """Open an existing database, only for reading until the caller changes that; Ctrl-C ends a running statement."""
    path = file_of(uri, unseen=unseen)
    with translated(redact_uri(uri), opened=False):
        # mode=rw does not create a database; mode=ro can't recover one after kill -9
        connection = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, isolation_level=None)
        with contextlib.closing(connection):
            connection.set_progress_handler(lambda: None, _STEPS)
            for pragma in (f"busy_timeout = {BUSY_TIMEOUT_MS}", "query_only = ON", "trusted_schema = OFF"):
                connection.execute(f"PRAGMA {pragma}").fetchone()
            try:
                yield connection
            except sqlite3.OperationalError as error:
                if str(error) == "interrupted":
                    raise KeyboardInterrupt from None
                raise


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in (path, Path(f"{path}-wal")) if file.exists())
