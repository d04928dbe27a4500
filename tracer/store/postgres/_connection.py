"""Connections to a PostgreSQL server: opening, transactions, what errors mean, and forks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

import anyio

from tracer._exceptions import (
    ConfigurationError,
    MissingDependencyError,
    ReadTimeoutError,
    StoreError,
    TransientStoreError,
)
from tracer.process import forks
from tracer.store.base import StoreOptions
from tracer.store.postgres._partitions import make_days
from tracer.store.postgres._schema import migrate
from tracer.store.postgres.address import Address

if TYPE_CHECKING:
    from asyncpg import Connection, Pool

__all__ = ["Connections", "roll_back", "translated"]

READERS = 6
_CONNECT_PATIENCE = 10.0  # seconds
_LOCK_PATIENCE = 30.0
_CLEANUP_PATIENCE = 5.0
_IDLE_IN_TRANSACTION = 120  # seconds until the server ends a transaction whose client says nothing, as it is gone
_LONGEST_READ = 3_600.0
_LOOK_INTERVAL = 3_600.0  # seconds between two looks whether tomorrow has its partition
_LOOK_PATIENCE = 500  # milliseconds that everybody may have to wait for a new partition
_TRANSIENT = ("08", "40", "53", "57P", "58")
"""Classes of SQLSTATE: connection, rollback (deadlocks too), resources (also too many connections), shutdown, disk."""
_TRANSIENT_CODES = frozenset({"55P03", "25006", "25P03", "55006"})  # locks, a standby, idle for too long, in use


class Connections:
    """The connections of one store: one writes batches, a few others read. They are opened when they are needed.

    A child of a fork opens its own: what it inherited it neither uses nor closes, since the server would take a
    goodbye from the child for the parent's.
    """

    def __init__(self, address: Address, options: StoreOptions) -> None:
        self._address = address
        self._options = options
        self._pool: Pool[Any] | None = None
        self._writer: Connection[Any] | None = None
        self._turn = asyncio.Lock()
        self._opening = asyncio.Lock()
        self.case = '"default"'
        """The collation that knows the case of all letters, as SQL."""
        self.is_ready = False
        """The schema was found, or made."""
        self._next_look = 0.0
        _all.add(self)

    async def open(self) -> None:
        """Connect, and migrate the schema."""
        async with self.writing():
            pass

    async def aclose(self) -> None:
        """Close all connections, also those that are busy."""
        pool, self._pool = self._pool, None
        writer, self._writer = self._writer, None
        self.is_ready = False
        for opened in (pool, writer):
            if opened is not None:
                try:
                    with anyio.move_on_after(_CLEANUP_PATIENCE, shield=True) as scope:
                        await opened.close()
                    if scope.cancelled_caught:
                        opened.terminate()
                except Exception:
                    opened.terminate()
        await asyncio.sleep(0)  # what was terminated closes its socket in the loop's next turn

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[Connection[Any]]:
        """Use the connection that writes in this block, alone. If it breaks, the next block opens another."""
        async with self._turn:
            _notice_fork()
            if self._writer is None or self._writer.is_closed():
                self._writer = await self._connect()
            if not self.is_ready:
                await self._prepare(self._writer)
            if time.monotonic() >= self._next_look:
                await self._look_ahead(self._writer)
            yield self._writer

    async def look_ahead(self) -> None:
        """Make the partitions of the next days, if that is due."""
        async with self.writing():
            pass

    async def _look_ahead(self, connection: Connection[Any]) -> None:
        """Make the partitions of the next days, at most once an hour; they are no condition for anything."""
        import asyncpg

        self._next_look = time.monotonic() + _LOOK_INTERVAL
        try:
            await connection.execute(f"BEGIN; SET LOCAL lock_timeout = {_LOOK_PATIENCE}")
            await make_days(connection)
            await connection.execute("COMMIT")
        except asyncpg.PostgresError:  # no right to, a lock, a standby: see `_partitions`
            await roll_back(connection)
        except BaseException:
            await roll_back(connection)
            raise

    @contextlib.asynccontextmanager
    async def changing(self) -> AsyncIterator[Connection[Any]]:
        """Run a transaction beside the batches."""
        async with self._any() as connection, self._transaction(connection, self.change_begin()):
            yield connection

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Connection[Any]]:
        """Read in this block, all of it from one state of the database."""
        limit = int(1_000 * min(self._options.time_limit or _LONGEST_READ, _LONGEST_READ)) + 1_000
        begin = (
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; "
            f"SET LOCAL statement_timeout = {limit}; SET LOCAL jit = off"
        )
        async with self._any() as connection, self._transaction(connection, begin):
            yield connection

    def change_begin(self) -> str:
        """Return the statements that begin a transaction that writes."""
        patience = max(1, int(1_000 * min(_LOCK_PATIENCE, self._seconds_left())))
        begin = (
            f"BEGIN; SET LOCAL lock_timeout = {patience}; SET LOCAL jit = off; "
            f"SET LOCAL idle_in_transaction_session_timeout = {1_000 * _IDLE_IN_TRANSACTION}"
        )
        return f"{begin}; SET LOCAL synchronous_commit = on" if self._options.durable else begin

    @contextlib.asynccontextmanager
    async def _transaction(self, connection: Connection[Any], begin: str) -> AsyncIterator[None]:
        try:
            await connection.execute(begin)
            yield
        except BaseException:
            await roll_back(connection)
            raise
        with anyio.CancelScope(shield=True):
            await connection.execute("COMMIT")

    @contextlib.asynccontextmanager
    async def _any(self) -> AsyncIterator[Connection[Any]]:
        _notice_fork()
        if not self.is_ready:
            await self.open()
        pool = await self._opened_pool()
        connection = await pool.acquire(timeout=self._patience())
        try:
            yield connection
        finally:
            with anyio.CancelScope(shield=True):
                await pool.release(connection, timeout=_CLEANUP_PATIENCE)

    async def _opened_pool(self) -> Pool[Any]:
        async with self._opening:
            if self._pool is None:
                import asyncpg

                self._pool = await asyncpg.create_pool(
                    **self._address.arguments, min_size=0, max_size=READERS, timeout=self._patience(), reset=_keep
                )
            return self._pool

    async def _connect(self) -> Connection[Any]:
        try:
            import asyncpg
        except ImportError as error:
            raise MissingDependencyError("postgresql://", package="asyncpg", extra="postgres") from error
        return await asyncpg.connect(**self._address.arguments, timeout=self._patience())

    async def _prepare(self, connection: Connection[Any]) -> None:
        await migrate(connection)
        if await connection.fetchval("SELECT EXISTS (SELECT 1 FROM pg_collation WHERE collname = 'und-x-icu')"):
            self.case = '"und-x-icu"'
        self.is_ready = True

    def _seconds_left(self) -> float:
        return min(self._options.deadline, self._options.ends_at) - time.monotonic()

    def _patience(self) -> float:
        return max(0.1, min(_CONNECT_PATIENCE, self._seconds_left()))

    def close_in_child(self) -> None:
        """Forget the parent's connections, which are never freed.

        Their descriptors are closed: the server is to notice when the parent has ended, whatever its children do.
        """
        pooled = [] if self._pool is None else [holder._con for holder in self._pool._holders]
        for connection in (self._writer, *pooled):
            transport = getattr(connection, "_transport", None)
            sock = None if transport is None else transport.get_extra_info("socket")
            if sock is not None and sock.fileno() >= 0:
                with contextlib.suppress(OSError):
                    os.close(sock.fileno())
        forks.make_immortal((self._pool, self._writer, self._turn, self._opening))
        self._pool = self._writer = None
        self._turn, self._opening = asyncio.Lock(), asyncio.Lock()


def _notice_fork() -> None:
    if not forks.mark[0]:
        forks.notice()


async def roll_back(connection: Connection[Any]) -> None:
    """End a transaction that failed or was cancelled. If that takes long, the connection is given up."""
    try:
        with anyio.move_on_after(_CLEANUP_PATIENCE, shield=True) as scope:
            await connection.execute("ROLLBACK")
        if scope.cancelled_caught:
            connection.terminate()
    except Exception:
        connection.terminate()


async def _keep(connection: Connection[Any]) -> None:
    """Stand in for asyncpg's reset of a connection that goes back to the pool: all we set is gone with COMMIT."""


@contextlib.contextmanager
def translated(what: str, *, reads: bool = False) -> Iterator[None]:
    """Raise asyncpg's errors as StoreError, or TransientStoreError where trying again may help."""
    try:
        yield
    except (StoreError, ConfigurationError, MissingDependencyError):
        raise
    except (OSError, EOFError, asyncio.TimeoutError) as error:
        reason = str(error) or type(error).__name__
        raise TransientStoreError(f"{what}: the server does not answer ({reason})") from error
    except Exception as error:
        import asyncpg

        if not isinstance(error, (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)):
            raise
        code = getattr(error, "sqlstate", None) or ""
        told = f"{what}: {error}"
        if code == "57014":  # stopped by a statement_timeout, the server's or ours
            raise (ReadTimeoutError if reads else TransientStoreError)(told) from error
        broken = not isinstance(error, (asyncpg.PostgresError, ValueError))  # the connection, not what was asked
        if broken or code.startswith(_TRANSIENT) or code in _TRANSIENT_CODES:
            raise TransientStoreError(told) from error
        raise StoreError(told) from error


_all: weakref.WeakSet[Connections] = weakref.WeakSet()


def _leave_to_parent() -> None:
    for connections in list(_all):
        connections.close_in_child()


forks.register(after_in_child=_leave_to_parent)
