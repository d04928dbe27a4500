"""Whether the database that a tracking URI names can be used."""

from __future__ import annotations

from tracer.store.postgres._connection import translated
from tracer.store.postgres._schema import SCHEMA_VERSION, schema_version
from tracer.store.postgres.address import read_address
from tracer.store.uri import redact_uri

__all__ = ["describe_server"]

_PATIENCE = 5.0  # seconds


async def describe_server(uri: str) -> str:
    """Connect, change nothing, and say what is there.

    Raises:
        StoreError: The server refuses, or the tables are of a newer tracer.
        TransientStoreError: The server does not answer.
    """
    import asyncpg

    with translated(f"{redact_uri(uri)}: open failed"):
        connection = await asyncpg.connect(**read_address(uri).arguments, timeout=_PATIENCE)
        try:
            server = f"PostgreSQL {await connection.fetchval('SHOW server_version')}"
            version = await schema_version(connection)
        finally:
            await connection.close(timeout=_PATIENCE)
    if not version:
        return f"{server}, without tables yet; the first trace makes them"
    return f"{server}, schema version {version} (this tracer has {SCHEMA_VERSION})"
