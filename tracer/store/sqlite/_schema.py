"""The SQLite schema, and how a file is brought to it: forward migrations; ``user_version`` has the last one's number.

Tables for readers with any SQL tool: ``traces``, ``spans``, ``tags``, ``media``, ``feedback``, ``processes``, ``loss``,
``outbox`` and the view ``span_list`` (spans with their ``trace_id``). JSON is kept as text, so ``json_extract(inputs,
'$.messages')`` works. The rest is for internal use.

Why it has this shape:

- A trace has an integer key. Its spans refer to the key, not to the 32-digit id. Keys grow, so new entries go to the
  end of the spans' index. An index that begins with random ids touches one page per span once it is larger than the
  cache.
- ``text`` is indexed lazily and in large steps, see `_text`: spans up to ``text_index.indexed_to`` are in
  the full-text index, except those in ``text_changes``. The triggers only note changes, since with ``trusted_schema``
  off a trigger may not write to a virtual table. They use NOT IN instead of OR IGNORE, because the conflict clause of
  the upsert that fires them would override their OR IGNORE (https://sqlite.org/lang_createtrigger.html).
- Since version 9 a span is found by its name, ids and error, too: see `_text`. Spans up to
  ``text_index.plain_to`` are still indexed as before: their ``text`` alone, as it is.
"""

from __future__ import annotations

import sqlite3

from tracer import _semconv as sc
from tracer._exceptions import StoreError
from tracer._models import USAGE_KEYS
from tracer.store.sqlite._connection import transaction

__all__ = ["APPLICATION_ID", "FIRST_TOKEN", "INDEXED_TEXT", "SCHEMA_VERSION", "migrate", "newer_schema_message"]

APPLICATION_ID = 0x74726163
"""``trac`` in the file's header: tells our files from other programs' (https://sqlite.org/fileformat.html)."""

_USAGE = ",\n    ".join(f"{key} INTEGER" for key in USAGE_KEYS)

_V1 = f"""
CREATE TABLE processes (
    process_id TEXT PRIMARY KEY,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    started TEXT NOT NULL,
    ended_ns INTEGER
) WITHOUT ROWID;

CREATE TABLE traces (
    key INTEGER PRIMARY KEY AUTOINCREMENT,  -- never reused: a page token's snapshot is "keys up to this one"
    trace_id TEXT NOT NULL UNIQUE,
    experiment TEXT NOT NULL,
    state TEXT NOT NULL,
    name TEXT GENERATED ALWAYS AS (ifnull(name_override, root_name)) VIRTUAL,
    start_time_ns INTEGER NOT NULL,
    end_time_ns INTEGER,
    duration_ns INTEGER GENERATED ALWAYS AS (end_time_ns - start_time_ns) VIRTUAL,
    session_id TEXT,
    user_id TEXT,
    models TEXT,                            -- JSON array
    {_USAGE},
    cost REAL,
    metadata TEXT,                          -- JSON object
    dropped TEXT,                           -- JSON object, kind: count
    process_id TEXT NOT NULL,
    root_span_id TEXT,
    root_rank INTEGER NOT NULL,             -- 0 no root yet, 1 its parent is in another process, 2 no parent
    root_name TEXT,
    name_override TEXT,
    request_preview TEXT,
    response_preview TEXT
);
CREATE INDEX traces_by_start ON traces (start_time_ns);
CREATE INDEX traces_by_name ON traces (name, start_time_ns);
CREATE INDEX traces_by_experiment ON traces (experiment, start_time_ns);
CREATE INDEX traces_by_state ON traces (state, start_time_ns) WHERE state <> 'OK';
CREATE INDEX traces_running ON traces (process_id) WHERE state = 'IN_PROGRESS';
CREATE INDEX traces_by_session ON traces (session_id, start_time_ns) WHERE session_id IS NOT NULL;
CREATE INDEX traces_by_user ON traces (user_id, start_time_ns) WHERE user_id IS NOT NULL;
CREATE INDEX traces_by_duration ON traces (ifnull(duration_ns, -1));
CREATE INDEX traces_by_tokens ON traces (ifnull(total_tokens, -1));
CREATE INDEX traces_by_cost ON traces (ifnull(cost, -1));

CREATE TABLE tags (
    trace_key INTEGER NOT NULL REFERENCES traces (key) ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (trace_key, key)
) WITHOUT ROWID;
CREATE INDEX tags_by_value ON tags (key, value, trace_key);

CREATE TABLE spans (
    key INTEGER PRIMARY KEY,
    trace_key INTEGER NOT NULL REFERENCES traces (key) ON DELETE CASCADE,
    span_id TEXT NOT NULL,
    parent_id TEXT,
    name TEXT NOT NULL,
    span_type TEXT NOT NULL,
    operation TEXT,
    start_time_ns INTEGER NOT NULL,
    end_time_ns INTEGER,
    status_code TEXT,                       -- NULL while unset
    status_description TEXT,
    finish TEXT,
    model TEXT,
    counted INTEGER NOT NULL,
    {_USAGE},
    cost REAL,
    attributes TEXT,                        -- JSON object
    inputs TEXT,                            -- JSON
    outputs TEXT,                           -- JSON
    events TEXT,                            -- JSON array of [name, time_ns, attributes]
    chunk_encoding TEXT,
    text TEXT,
    chunks BLOB,                            -- zlib(msgpack([[time_ns, bytes], ...]))
    UNIQUE (trace_key, span_id)
);
CREATE INDEX spans_by_model ON spans (model, trace_key) WHERE model IS NOT NULL;
CREATE VIEW span_list AS SELECT traces.trace_id, spans.* FROM spans JOIN traces ON traces.key = spans.trace_key;

CREATE TABLE live_chunks (
    key INTEGER PRIMARY KEY,
    trace_id TEXT NOT NULL,
    span_id TEXT NOT NULL,
    chunks BLOB NOT NULL                    -- msgpack([[time_ns, bytes], ...])
);
CREATE INDEX live_chunks_by_span ON live_chunks (trace_id, span_id);

CREATE VIRTUAL TABLE span_text USING fts5 (
    text, content = 'spans', content_rowid = 'key', tokenize = 'unicode61 remove_diacritics 2'
);
CREATE TABLE text_index (indexed_to INTEGER NOT NULL);
INSERT INTO text_index VALUES (0);
CREATE TABLE text_changes (key INTEGER PRIMARY KEY, indexed_text TEXT);  -- NULL: no text was indexed
CREATE TRIGGER spans_text_changed AFTER UPDATE OF text ON spans
WHEN OLD.text IS NOT NEW.text AND OLD.key <= (SELECT indexed_to FROM text_index) BEGIN
    INSERT INTO text_changes SELECT OLD.key, OLD.text WHERE OLD.key NOT IN (SELECT key FROM text_changes);
END;
CREATE TRIGGER spans_text_deleted AFTER DELETE ON spans WHEN OLD.key <= (SELECT indexed_to FROM text_index) BEGIN
    INSERT INTO text_changes SELECT OLD.key, OLD.text WHERE OLD.key NOT IN (SELECT key FROM text_changes);
END;
"""

_V2 = """
CREATE TABLE links (
    kind TEXT NOT NULL,                     -- response, previous_response, conversation
    id TEXT NOT NULL,
    trace_key INTEGER NOT NULL REFERENCES traces (key) ON DELETE CASCADE,
    PRIMARY KEY (kind, id, trace_key)
) WITHOUT ROWID;
CREATE INDEX links_by_trace ON links (trace_key, kind, id);
INSERT INTO links SELECT DISTINCT kinds.value, attribute.value, trace_key
FROM spans
JOIN json_each('{"gen_ai.response.id": "response", "tracer.request.previous_response_id": "previous_response",
    "gen_ai.conversation.id": "conversation"}') AS kinds
JOIN json_each(spans.attributes) AS attribute ON attribute.key = kinds.key
WHERE operation = 'responses' AND attribute.type = 'text';
"""
# A medium is deleted with the last span that refers to it, in the same transaction, whichever program deletes that.
_V3 = """
CREATE TABLE media (
    key INTEGER PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE,              -- SHA-256 in hex
    content_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    data BLOB NOT NULL
);
CREATE TABLE span_media (
    span_key INTEGER NOT NULL REFERENCES spans (key) ON DELETE CASCADE,
    media_key INTEGER NOT NULL REFERENCES media (key),
    PRIMARY KEY (span_key, media_key)
) WITHOUT ROWID;
CREATE INDEX span_media_by_media ON span_media (media_key);
CREATE TRIGGER span_media_deleted AFTER DELETE ON span_media
WHEN NOT EXISTS (SELECT 1 FROM span_media WHERE media_key = OLD.media_key) BEGIN
    DELETE FROM media WHERE key = OLD.media_key;
END;
"""
# `value` has no affinity: numbers stay numbers, and 5 is found as 5. True and false are stored as words, with the type
# "boolean".
_V4 = """
CREATE TABLE feedback (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    trace_key INTEGER NOT NULL REFERENCES traces (key) ON DELETE CASCADE,
    span_id TEXT,                           -- NULL: of the trace as a whole
    name TEXT NOT NULL,
    value NOT NULL,
    value_type TEXT NOT NULL,               -- boolean, number, text
    comment TEXT,
    source TEXT NOT NULL,
    created_ns INTEGER NOT NULL
);
CREATE INDEX feedback_by_trace ON feedback (trace_key);
CREATE INDEX feedback_by_name ON feedback (name, value, trace_key);
CREATE INDEX traces_in_sessions ON traces (start_time_ns, key, session_id) WHERE session_id IS NOT NULL;
CREATE INDEX traces_with_losses ON traces (start_time_ns) WHERE dropped IS NOT NULL;
"""
_FIRST_TOKEN = (  # searched as text first, since most spans have none; invalid JSON must not make a batch fail
    f"CASE WHEN instr(attributes, '{sc.TIME_TO_FIRST_TOKEN}') AND json_valid(attributes) "
    f"THEN json_extract(attributes, '$.\"{sc.TIME_TO_FIRST_TOKEN}\"') END"
)
FIRST_TOKEN = f"min((spans.start_time_ns - traces.start_time_ns) / 1e9 + {_FIRST_TOKEN})"
"""Over a trace's spans: seconds from the trace's start until one of its streamed model calls first brought content."""

_V5 = f"""
ALTER TABLE traces ADD COLUMN time_to_first_token REAL;
UPDATE traces SET time_to_first_token = (SELECT {FIRST_TOKEN} FROM spans WHERE trace_key = traces.key)
WHERE key IN (SELECT trace_key FROM spans WHERE model IS NOT NULL AND {_FIRST_TOKEN} IS NOT NULL);
"""

# This index has all columns that a list can be sorted by, and a fifth of the table's size: a sort without an index of
# its own reads it from end to end. It begins with the key, so new entries go to its end. An index for each column would
# touch one page per trace.
_V6 = """
CREATE INDEX traces_numbers ON traces (
    key, start_time_ns, end_time_ns, input_tokens, output_tokens, total_tokens, cache_read_input_tokens, cost,
    time_to_first_token
);
"""

# How many batches of a file beside the database were taken over (of a crash ring: records), written with each batch, so
# that none comes twice.
_V7 = "CREATE TABLE taken_over (source TEXT PRIMARY KEY, batches INTEGER NOT NULL) WITHOUT ROWID;"

# What was lost as a whole. What one trace lacks is in `traces.dropped`.
_V8 = """
CREATE TABLE loss (
    process_id TEXT NOT NULL,
    reason TEXT NOT NULL,                   -- start: spans refused by a full queue; lost: records that were not stored
    count INTEGER NOT NULL,
    first_ns INTEGER NOT NULL,
    last_ns INTEGER NOT NULL,
    PRIMARY KEY (process_id, reason)
) WITHOUT ROWID;
"""

# To be taken out of the index again, words must be noted as they were indexed. JSON functions count as unsafe in a
# trigger, so those that stand in the attributes are picked out later. This text must never change.
INDEXED_TEXT = (
    "ifnull({row}.text || ' ', '') || {row}.name || ' ' || {row}.span_id || ifnull(' ' || {row}.status_description, '')"
)
"""SQL: by what a span is found, beside some of its attributes."""

_NOTE_CHANGE = f"""
INSERT INTO text_changes (key, indexed_text, attributes)
    SELECT OLD.key, CASE WHEN OLD.key <= plain_to THEN OLD.text ELSE {INDEXED_TEXT.format(row="OLD")} END,
        OLD.attributes
    FROM text_index WHERE OLD.key NOT IN (SELECT key FROM text_changes);
"""
_V9 = f"""
ALTER TABLE text_index ADD COLUMN plain_to INTEGER NOT NULL DEFAULT 0;
UPDATE text_index SET plain_to = indexed_to;
ALTER TABLE text_changes ADD COLUMN attributes TEXT;
DROP TRIGGER spans_text_changed;
DROP TRIGGER spans_text_deleted;
CREATE TRIGGER spans_text_changed AFTER UPDATE OF text, name, status_description, attributes ON spans
WHEN OLD.key <= (SELECT indexed_to FROM text_index) AND (
    OLD.text IS NOT NEW.text OR OLD.name IS NOT NEW.name OR OLD.status_description IS NOT NEW.status_description
    OR OLD.attributes IS NOT NEW.attributes
) BEGIN {_NOTE_CHANGE} END;
CREATE TRIGGER spans_text_deleted AFTER DELETE ON spans WHEN OLD.key <= (SELECT indexed_to FROM text_index)
BEGIN {_NOTE_CHANGE} END;
"""

# Spans that ended and are still to be sent (`Store.take_exports`). A row outlives its span, so that what was deleted
# before it was sent can be counted.
_V10 = """
CREATE TABLE outbox (
    key INTEGER PRIMARY KEY AUTOINCREMENT,  -- never reused: a process may end late what it took long ago
    trace_key INTEGER NOT NULL,
    span_id TEXT NOT NULL,
    taken_by TEXT,
    taken_until_ns INTEGER NOT NULL DEFAULT 0
);
"""

_MIGRATIONS = (_V1, _V2, _V3, _V4, _V5, _V6, _V7, _V8, _V9, _V10)
SCHEMA_VERSION = len(_MIGRATIONS)


def migrate(connection: sqlite3.Connection) -> bool:
    """Bring the file to `SCHEMA_VERSION`, all steps in one transaction, so that a kill leaves the old version.

    Several processes may race to create one file: the version is read again under the write lock.

    Returns:
        False if there was nothing to do.

    Raises:
        StoreError: The file is of a newer version or holds another program's tables; it is left untouched.
    """
    if _version(connection) == SCHEMA_VERSION:
        return False
    with transaction(connection):
        version = _version(connection)
        for script in _MIGRATIONS[version:]:
            for statement in _statements(script):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    return True


def newer_schema_message(version: int) -> str:
    """Say what is wrong with a file that a later tracer wrote, and what to do."""
    return (
        f"has schema version {version}, this tracer knows up to {SCHEMA_VERSION}; "
        "upgrade openai-tracer or use another file"
    )


def _version(connection: sqlite3.Connection) -> int:
    """Return the file's schema version; 0 for an empty file."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > SCHEMA_VERSION:
        raise StoreError(f"the database {newer_schema_message(version)}")
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if application != APPLICATION_ID and connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone():
        raise StoreError("the database holds another program's tables; use another file")
    return version


def _statements(script: str) -> list[str]:
    """Split a script into statements. `executescript` would commit the open transaction first."""
    statements, pending = [], ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            statements.append(pending)
            pending = ""
    return statements
