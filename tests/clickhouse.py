"""ClickHouse's engine in this process (chdb), for tests: a temporary directory, a database for each test."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["ChdbEngine", "running_engine"]


class ChdbEngine:
    """The engine over one directory. It runs until `close`, whoever else opens and closes clients of it."""

    def __init__(self, directory: Path) -> None:
        import clickhouse_connect

        self.directory = directory
        self._client: Any = clickhouse_connect.get_client(dsn=f"chdb://{directory}")

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """Give the name of a database that is not there yet; drop it at the end."""
        name = f"t{uuid.uuid4().hex[:12]}"
        yield name
        self.execute(f"DROP DATABASE IF EXISTS {name} SYNC")

    def execute(self, sql: str) -> list[Any]:
        """Run a statement and return its rows."""
        return list(self._client.query(sql).result_rows)

    def uri(self, database: str) -> str:
        """Return the tracking URI of a database."""
        return f"chdb://{self.directory}?database={database}"

    def close(self) -> None:
        """Stop the engine."""
        self._client.close()


@contextlib.contextmanager
def running_engine() -> Iterator[ChdbEngine]:
    """Run the engine in this block. Its files are deleted at the end."""
    directory = Path(tempfile.mkdtemp(prefix="tracer-chdb-"))
    engine = ChdbEngine(directory)
    try:
        yield engine
    finally:
        engine.close()
        shutil.rmtree(directory, ignore_errors=True)
