"""The ClickHouse schema, and how a database is brought to it: forward migrations, one after the other.

- Rows are never changed. A new version of a row is inserted, and the ``row`` of the old one is noted in ``gone``; all
  reads leave out what is noted there (`tracer.store.clickhouse._sql.live`). What is deleted is noted in the same way.
  So ``FINAL`` is never needed. ReplacingMergeTree throws away what was written twice when it merges parts. ``traces``
  is no such table, as two rows that processes wrote at the same time are joined, not replaced.
- ``born`` is the moment at which a trace was first stored. It never changes, so all rows of a trace lie in one
  partition (a day) and beside one another; ``places`` tells it for each trace. ``trace_key`` is a hash of the trace's
  id: all processes know it without asking.
- ``spans`` has the spans that have ended, ``running`` those that have not.
- ``words`` are a span's words, cut as for the other stores (`tracer.store.words`), with a full-text index.
"""

from __future__ import annotations

from tracer._exceptions import StoreError
from tracer.store.clickhouse._connection import Connection
from tracer.store.clickhouse._tables import TABLES

__all__ = ["SCHEMA_VERSION", "make_durable", "migrate", "schema_version"]

_TIMES = ("born", "version", "written", "start_time_ns", "end_time_ns", "duration_ns")
_LARGE = ("attributes", "inputs", "outputs", "events", "text", "words")
_DAY = "toYYYYMMDD(fromUnixTimestamp64Nano(born, 'UTC'))"
_WORDS_INDEX = "INDEX by_words words TYPE text(tokenizer = splitByString([' ']))"
_ENGINES = {
    "traces": f"MergeTree PARTITION BY {_DAY} ORDER BY (born, trace_key)",
    "spans": f"ReplacingMergeTree(written) PARTITION BY {_DAY} ORDER BY (born, trace_key, span_id) "
    "SETTINGS index_granularity_bytes = '2Mi'",
    "running": f"ReplacingMergeTree(written) PARTITION BY {_DAY} ORDER BY (born, trace_key, span_id)",
    "places": "ReplacingMergeTree ORDER BY (trace_key, born) SETTINGS index_granularity = 256",
    "gone": "ReplacingMergeTree ORDER BY (kind, row)",
    "live_chunks": "ReplacingMergeTree ORDER BY (trace_key, span_id, row)",
    "links": "ReplacingMergeTree ORDER BY (id, kind, trace_key, row)",
    "media": "ReplacingMergeTree ORDER BY hash SETTINGS index_granularity_bytes = '4Mi'",
    "span_media": "ReplacingMergeTree ORDER BY (hash, trace_key, span_id, row)",
    "feedback": "ReplacingMergeTree ORDER BY (trace_key, row)",
    "processes": "ReplacingMergeTree(version) ORDER BY process_id",
    "taken_over": "ReplacingMergeTree(version) ORDER BY source",
    "loss": "ReplacingMergeTree ORDER BY (process_id, reason, time_ns)",
}
_INDEXES = {
    "traces": ["INDEX by_start start_time_ns TYPE minmax GRANULARITY 1"],
    "spans": [_WORDS_INDEX],
    "links": ["INDEX by_trace trace_key TYPE bloom_filter(0.01) GRANULARITY 1"],
    "span_media": ["INDEX by_trace trace_key TYPE bloom_filter(0.01) GRANULARITY 1"],
}


def _create(table: str) -> str:
    columns = [f"{name} {kind}{_codec(name)}" for name, kind in TABLES[table].items()]
    return (
        f"CREATE TABLE IF NOT EXISTS {table} ({', '.join(columns + _INDEXES.get(table, []))}) ENGINE = "
        + (_ENGINES[table])
    )


def _codec(column: str) -> str:
    if column in _TIMES:
        return " CODEC(Delta, ZSTD(1))"
    if column in _LARGE:
        return " CODEC(ZSTD(3))"
    return " CODEC(NONE)" if column in ("chunks", "data") else " CODEC(ZSTD(1))"


_MIGRATIONS: tuple[tuple[str, ...], ...] = (tuple(map(_create, TABLES)),)
SCHEMA_VERSION = len(_MIGRATIONS)
_VERSIONS = "CREATE TABLE IF NOT EXISTS tracer_schema (version Int64) ENGINE = MergeTree ORDER BY version"
_TABLES_THERE = "SELECT name FROM system.tables WHERE database = currentDatabase()"


def migrate(connection: Connection) -> None:
    """Bring the database to `SCHEMA_VERSION`. Two processes may do this at once: each step changes what is not so yet.

    Raises:
        StoreError: A later tracer wrote the schema, or the database holds another program's tables.
    """
    version = schema_version(connection)
    if version == SCHEMA_VERSION:
        return
    connection.execute(_VERSIONS)
    for number, statements in enumerate(_MIGRATIONS[version:], version + 1):
        for statement in statements:
            connection.execute(statement)
        connection.execute("INSERT INTO tracer_schema SELECT ?:Int64", (number,))


def schema_version(connection: Connection) -> int:
    """Return the database's schema version; 0 if there are no tables of ours."""
    there = {name for (name,) in connection.fetch(_TABLES_THERE)}
    if "tracer_schema" not in there:
        if taken := sorted(there & TABLES.keys()):
            raise StoreError(f"the database has a table {taken[0]!r} of another program; use another database")
        return 0
    version = int(connection.value("SELECT max(version) FROM tracer_schema") or 0)
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"the database has schema version {version}, this tracer knows up to {SCHEMA_VERSION}; upgrade "
            "openai-tracer or use another database"
        )
    return version


def make_durable(connection: Connection) -> None:
    """Let each insert into our tables wait for the disk. ClickHouse has this as a setting of tables, so it stays."""
    for table in TABLES:
        connection.execute(f"ALTER TABLE {table} MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1")
