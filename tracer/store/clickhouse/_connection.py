"""A client of ClickHouse: how it is opened, what is asked and told with it, and what its errors mean."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tracer._exceptions import (
    ConfigurationError,
    MediaNotFoundError,
    MissingDependencyError,
    ReadTimeoutError,
    StoreError,
    TraceNotFoundError,
    TransientStoreError,
)
from tracer.store.clickhouse._sql import bound, storable
from tracer.store.clickhouse._tables import TABLES
from tracer.store.clickhouse.address import Address

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["CONNECT_PATIENCE", "Asked", "Connection", "connect", "is_stop", "translated"]

CONNECT_PATIENCE = 10.0
"""Seconds that connecting may take."""
_ANSWER_PATIENCE = 300.0
_SETTINGS = {
    "async_insert": 0,  # an insert is answered when it is stored
    "wait_end_of_query": 1,  # an error is told as one, not after the first rows
    "max_query_size": 16 * 1024 * 1024,
    "query_plan_max_limit_for_lazy_materialization": 20_000,  # wide columns are read for the rows of a page only
    "select_sequential_consistency": 1,  # of replicated tables: whoever wrote reads it
}
_TRANSIENT_CODES = frozenset(
    {3, 159, 164, 202, 203, 209, 210, 225, 236, 241, 242, 243, 252, 285, 319, 394, 425, 439, 999}
)
"""Network, memory, disk, too many queries or parts, no quorum, Keeper, a query that was stopped."""
_TIMED_OUT = frozenset({159, 394})
_UNKNOWN_DATABASE, _LOGIN = 81, (192, 193, 194, 516)


class Asked:
    """Somebody who waits for an answer, maybe no longer.

    Attributes:
        limit: Seconds that all statements together may take.
        query_id: Of the statement that runs.
        is_stopped: No other statement is to run.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.query_id: str | None = None
        self.is_stopped = False


class Connection:
    """What the functions of this package ask and tell ClickHouse with. It is used in a thread, one statement at a time.

    Args:
        client: clickhouse-connect's.
        asked: Who waits; None for work that is never stopped.
    """

    def __init__(self, client: Client, asked: Asked | None = None) -> None:
        self._client = client
        self._asked = asked
        self._until = None if asked is None else time.monotonic() + asked.limit

    def fetch(self, sql: str, parameters: Sequence[Any] = (), *, raw: Sequence[str] = ()) -> list[tuple[Any, ...]]:
        """Return all rows. The columns named in `raw` are bytes."""
        statement, values = bound(sql, parameters)
        formats: dict[str, str | dict[str, str]] = dict.fromkeys(raw, "bytes")
        settings = self._settings()
        try:
            found = self._client.query(statement, parameters=values, settings=settings, column_formats=formats)
        finally:
            if self._asked is not None:
                self._asked.query_id = None
        return [tuple(row) for row in found.result_rows]

    def row(self, sql: str, parameters: Sequence[Any] = (), *, raw: Sequence[str] = ()) -> tuple[Any, ...] | None:
        """Return the first row; None without one."""
        rows = self.fetch(sql, parameters, raw=raw)
        return rows[0] if rows else None

    def value(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """Return the first column of the first row; None without one."""
        row = self.row(sql, parameters)
        return None if row is None else row[0]

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        """Run a statement that returns nothing."""
        statement, values = bound(sql, parameters)
        self._client.command(statement, parameters=values, settings=self._settings())

    def insert(self, table: str, rows: Sequence[dict[str, Any]]) -> None:
        """Insert rows, each with all columns of the table, in one block."""
        if not rows:
            return
        types = TABLES[table]
        columns = [_column(kind, [row[name] for row in rows]) for name, kind in types.items()]
        self._client.insert(
            table, columns, column_names=list(types), column_type_names=list(types.values()), column_oriented=True
        )

    def _settings(self) -> dict[str, Any]:
        if self._asked is None or self._until is None:
            return {}
        if self._asked.is_stopped:
            raise ReadTimeoutError("nobody waits for it any more")
        self._asked.query_id = uuid.uuid4().hex
        left = max(0.05, self._until - time.monotonic())
        return {"max_execution_time": left, "timeout_overflow_mode": "throw", "query_id": self._asked.query_id}


def _directory_client(dsn: str) -> Client:
    import clickhouse_connect
    from clickhouse_connect.driver.exceptions import ClickHouseError

    try:
        os.makedirs(dsn.removeprefix("chdb://"), exist_ok=True)
        return clickhouse_connect.get_client(dsn=dsn)
    except OSError as error:
        raise StoreError(f"{dsn} can't be made ({error})") from error
    except ClickHouseError as error:
        reason = _shortened(str(error))
        raise StoreError(
            f"{dsn} can't be opened: one process uses one directory, and a directory belongs to one process ({reason})"
        ) from error


def _column(kind: str, values: list[Any]) -> list[Any]:
    """Return values as ClickHouse takes them. Keys and elements are storable already, and so are our own numbers."""
    if kind in ("String", "Nullable(String)"):
        return [value if type(value) is not str or value.isascii() else storable(value) for value in values]
    return list(map(storable, values)) if kind == "Nullable(Int64)" else values
    return values


def connect(address: Address, *, patience: float = CONNECT_PATIENCE, creates: bool = True) -> Client:
    """Return a client for the database; it is made if it is not there.

    Raises what clickhouse-connect raises (see `translated`), and MissingDependencyError.
    """
    try:
        import clickhouse_connect
    except ImportError as error:
        raise MissingDependencyError("clickhouse://", package="clickhouse-connect", extra="clickhouse") from error
    if address.host is None:
        try:
            import chdb  # noqa: F401  said here which package is missing
        except ImportError as error:
            raise MissingDependencyError("chdb://", package="chdb", extra="chdb") from error
        client = _directory_client(address.arguments["dsn"])
    else:
        client = clickhouse_connect.get_client(
            **address.arguments,
            connect_timeout=max(1, round(patience)),
            send_receive_timeout=round(_ANSWER_PATIENCE),
            autogenerate_session_id=False,  # a session runs one query at a time
            form_encode_query_params=True,  # long lists of values don't fit into a URL
            query_retries=0,
            client_name="tracer",
        )
    there = client.query(
        "SELECT count() FROM system.databases WHERE name = {name:String}", parameters={"name": address.database}
    )
    if not there.result_rows[0][0]:
        if not creates:
            raise StoreError(f"there is no database {address.database!r}; the first trace makes it")
        client.command("CREATE DATABASE IF NOT EXISTS {name:Identifier}", parameters={"name": address.database})
    client.database = address.database
    for name, value in _SETTINGS.items():
        with contextlib.suppress(Exception):  # a server that does not know it, or does not allow it
            client.set_client_setting(name, value)
    return client


@contextlib.contextmanager
def translated(what: str, *, reads: bool = False) -> Iterator[None]:
    """Raise clickhouse-connect's errors as StoreError, or TransientStoreError where trying again may help."""
    try:
        yield
    except (StoreError, ConfigurationError, MissingDependencyError, TraceNotFoundError, MediaNotFoundError):
        raise
    except OSError as error:
        raise TransientStoreError(f"{what}: the server does not answer ({error})") from error
    except Exception as error:
        from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError, OperationalError

        if not isinstance(error, ClickHouseError):
            raise
        code = _code(error)
        told = f"{what}: {_shortened(str(error))}"
        if code in _TIMED_OUT and reads:
            raise ReadTimeoutError(told) from error
        if code in _LOGIN:
            raise StoreError(
                f"{what}: the server refuses the user or its password ({_shortened(str(error))})"
            ) from error
        if code is None and (isinstance(error, OperationalError) or not isinstance(error, DatabaseError)):
            raise TransientStoreError(f"{what}: the server does not answer ({_shortened(str(error))})") from error
        if code in _TRANSIENT_CODES:
            raise TransientStoreError(told) from error
        raise StoreError(told) from error


def is_stop(error: Exception) -> bool:
    """Tell whether an error means that the statement was stopped, or that the server is away: not that it is wrong."""
    code = _code(error)
    return isinstance(error, (StoreError, OSError)) or code is None or code in _TRANSIENT_CODES


def _code(error: Exception) -> int | None:
    found = getattr(error, "code", None)
    if isinstance(found, int):
        return found
    text = str(error)
    for mark in ("Code: ", "error code "):
        digits = text.partition(mark)[2].partition(".")[0].partition(")")[0].strip()
        if digits.isdigit():
            return int(digits)
    return None


def _shortened(text: str) -> str:
    return text if len(text) <= 500 else f"{text[:500]}…"
