"""Whether the database that a tracking URI names can be used."""

from __future__ import annotations

from tracer.store.clickhouse._connection import Connection, connect, translated
from tracer.store.clickhouse._schema import SCHEMA_VERSION, schema_version
from tracer.store.clickhouse.address import read_address
from tracer.store.uri import redact_uri

__all__ = ["describe_server"]

_PATIENCE = 5.0  # seconds


def describe_server(uri: str) -> str:
    """Connect, change nothing, and say what is there.

    Raises:
        StoreError: The server refuses, or the tables are of a newer tracer.
        TransientStoreError: The server does not answer.
    """
    with translated(f"{redact_uri(uri)}: open failed"):
        client = connect(read_address(uri), patience=_PATIENCE, creates=False)
        try:
            connection = Connection(client)
            server = f"ClickHouse {connection.value('SELECT version()')}"
            version = schema_version(connection)
        finally:
            client.close()
    if not version:
        return f"{server}, without tables yet; the first trace makes them"
    return f"{server}, schema version {version} (this tracer has {SCHEMA_VERSION})"
