"""The client of one store: work for it runs in threads, since clickhouse-connect's client waits; and forks."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import anyio
import anyio.to_thread

from tracer._exceptions import ReadTimeoutError, StoreError
from tracer.store.base import StoreOptions
from tracer.store.clickhouse._connection import CONNECT_PATIENCE, Asked, Connection, connect, translated
from tracer.store.clickhouse._schema import make_durable, migrate
from tracer.store.clickhouse.address import Address

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["Connections"]

P = ParamSpec("P")
T = TypeVar("T")
_THREADS = 8
_LONGEST_READ = 3_600.0
_STOP_PATIENCE = 2.0  # seconds
_KILL = "KILL QUERY WHERE query_id = {id:String} ASYNC"


class Connections:
    """The client of one store, which several threads may use at once, and the turn of those that change rows."""

    def __init__(self, address: Address, options: StoreOptions, shown: str) -> None:
        self._address = address
        self._options = options
        self._shown = shown
        self._client: Client | None = None
        self._owner = os.getpid()
        self._opening = threading.Lock()
        self._turn = anyio.Lock()
        self._limiter: anyio.CapacityLimiter | None = None
        self._is_durable = False
        self.is_ready = False
        """The schema was found, or made."""

    @property
    def may_open(self) -> bool:
        """False in a child of a process that had the engine in it: its threads are not there any more."""
        return self._address.host is not None or self._client is None or self._owner == os.getpid()

    async def aclose(self) -> None:
        """Close the client."""
        client, self._client, self.is_ready = self._client, None, False
        if client is not None and self._owner == os.getpid():
            await anyio.to_thread.run_sync(client.close)

    async def read(
        self, what: str, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a function that reads, in a thread. If its caller is cancelled, or at the time limit, it is stopped."""
        limit = self._options.time_limit
        asked = Asked(min(limit or _LONGEST_READ, _LONGEST_READ))
        call: Callable[[], T] = functools.partial(self._run, what, asked, function, *args, **kwargs)
        try:
            with anyio.fail_after(limit):
                found = await anyio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._threads())
        except (TimeoutError, ReadTimeoutError):
            raise self._too_long(what, limit) from None
        finally:
            await self._stop(asked)
        return found

    async def change(
        self, what: str, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a function that changes rows, in a thread, one at a time. It is never stopped half-way."""
        call: Callable[[], T] = functools.partial(self._run, what, None, function, *args, **kwargs)
        async with self._turn:
            with anyio.CancelScope(shield=True):
                done = await anyio.to_thread.run_sync(call, limiter=self._threads())
        return done

    def _run(self, what: str, asked: Asked | None, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        with self._translated(what, asked is not None):
            return function(Connection(self._opened(), asked), *args, **kwargs)

    async def _stop(self, asked: Asked) -> None:
        """Stop the query that still runs because nobody waits for it any more."""
        asked.is_stopped = True
        client, query_id = self._client, asked.query_id
        if query_id is not None and client is not None:
            kill = functools.partial(client.command, _KILL, parameters={"id": query_id})
            with contextlib.suppress(Exception), anyio.move_on_after(_STOP_PATIENCE, shield=True):
                await anyio.to_thread.run_sync(kill, abandon_on_cancel=True)

    def _translated(self, what: str, reads: bool) -> contextlib.AbstractContextManager[None]:
        return translated(f"{self._shown}: {what} failed", reads=reads)

    def _opened(self) -> Client:
        with self._opening:
            if self._client is not None and self._owner != os.getpid():
                if self._address.host is None:
                    raise StoreError("chdb:// can't be used in a child of the process that has opened it")
                self._client, self.is_ready = None, False  # the parent's sockets are not ours
            if self._client is None:
                self._client, self._owner = connect(self._address, patience=self._patience()), os.getpid()
            connection = Connection(self._client)
            if not self.is_ready:
                migrate(connection)
                self.is_ready = True
            if self._options.durable and not self._is_durable:
                make_durable(connection)
                self._is_durable = True
            return self._client

    def _patience(self) -> float:
        left = min(self._options.deadline, self._options.ends_at) - time.monotonic()
        return max(1.0, min(CONNECT_PATIENCE, left))

    def _threads(self) -> anyio.CapacityLimiter:
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(_THREADS)
        return self._limiter

    def _too_long(self, what: str, limit: float | None) -> ReadTimeoutError:
        taken = "an hour" if limit is None else f"{limit:g} s"
        return ReadTimeoutError(
            f"{self._shown}: the {what} took longer than {taken} and was stopped; ask for less (a shorter range of "
            "time, fewer conditions) or raise read_timeout"
        )
