"""The database of a simulated service: the real gate and the real opening, over connections that obey fate."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracer.store.sqlite._database import Database
from tracer.store.sqlite._gate import Gate

if TYPE_CHECKING:
    from tests.simulation.simulate import World

__all__ = ["Killed", "SimulatedDatabase"]

FAULTS = ("database is locked", "database or disk is full", "UNIQUE constraint failed")


class Killed(BaseException):
    """The process is dead: nothing that it wanted to do happens any more."""


class SimulatedConnection:
    """A connection as the gate sees it."""

    def __init__(self) -> None:
        self.is_open = True

    def close(self) -> None:
        self.is_open = False

    def interrupt(self) -> None:
        """It does not stop: nobody else runs during a fork."""


class SimulatedThread:
    """Stands for `tracer.store.sqlite._thread.ConnectionThread`: runs functions here and now, if fate allows it."""

    is_alive = True

    def __init__(self, database: SimulatedDatabase) -> None:
        self._database = database
        self._gate = database.gate
        self._generation = self._gate.generation
        self._connection: SimulatedConnection | None = None

    async def open(self) -> None:
        with self._gate.turn(self._generation):
            self._database.fail_to_open_perhaps()
            self._connection = SimulatedConnection()
            self._gate.register(self._connection)  # type: ignore[arg-type]

    @property
    def is_connected(self) -> bool:
        return self._connection is not None and self._generation == self._gate.generation

    def revive(self) -> None: ...

    async def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._database.count_try()
        with self._gate.turn(self._generation):
            if self._connection is None or not self._connection.is_open:
                self._database.world.broken.append("a closed connection is used")
            return await self._database.run(function, *args, **kwargs)

    async def read(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._database.count_try()
        with self._gate.turn(self._generation):
            return self._database.read_now(function, *args, **kwargs)

    def stop(self) -> None: ...

    def call_when_idle(self, callback: Callable[[], object]) -> None:
        callback()

    async def aclose(self) -> None:
        if self._connection is not None:
            self._gate.deregister(self._connection)  # type: ignore[arg-type]
            self._connection.close()
        self._connection = None


class SimulatedDatabase(Database):
    """The real one over simulated connections. It can be opened once; after that, fate decides."""

    is_current = True

    def __init__(self, world: World, trouble: float) -> None:
        super().__init__(world.path, lambda _: None)
        self.is_dead = False
        self.world = world
        self._chance = world.chance
        self._trouble = trouble
        self._fault: tuple[str, float] | None = None
        self._shut_until = 0.0
        self._tries = 0
        self._opened_once = False

    @property
    def gate(self) -> Gate:
        return self._gate

    @property
    def open_connections(self) -> int:
        return len(self._gate._connections)

    async def leave(self) -> None:
        await self.aclose()

    async def rescue(self, error: BaseException) -> bool:
        return False

    async def _open(self) -> None:
        await super()._open()
        self._opened_once = True

    async def _connect_writer(self) -> Any:
        thread = SimulatedThread(self)
        await thread.open()
        return thread

    async def _connect_reader(self, path: Path) -> Any:
        return await self._connect_writer()

    def fail_to_open_perhaps(self) -> None:
        self._live()
        if self.world.inherited:
            self.world.broken.append("a child that inherited open connections uses SQLite")
        now = time.monotonic()
        if self._opened_once and self._chance.random() < self._trouble:
            self._shut_until = now + self._chance.choice([0.0, 1.0, 20.0])
            raise sqlite3.OperationalError("unable to open database file")
        if now < self._shut_until:
            raise sqlite3.OperationalError("unable to open database file")

    def count_try(self) -> None:
        self._tries += 1
        if self._tries > 1_000:
            self.world.broken.append("connections that a fork has closed are used again and again")
            raise Killed

    def read_now(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._live()
        self._tries = 0
        return function(self.world.connection, *args, **kwargs)

    async def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._live()
        self._tries = 0
        if self._chance.random() < self._trouble:
            await asyncio.sleep(self._chance.choice([0.01, 0.3, 5.0]))
        self._live()
        self._fail_perhaps()
        if self._chance.random() < self._trouble / 4:
            self._die()  # in the middle: the transaction never was
        result = function(self.world.connection, *args, **kwargs)
        if self._chance.random() < self._trouble / 4:
            self._die()  # it is committed, but nobody will ever know
        return result

    def _live(self) -> None:
        if self.is_dead:
            raise Killed

    def _die(self) -> None:
        self.is_dead = True
        raise Killed

    def _fail_perhaps(self) -> None:
        now = time.monotonic()
        if self._fault is None and self._chance.random() < self._trouble:
            self._fault = self._chance.choice(FAULTS), now + self._chance.choice([0.0, 1.0, 20.0, 60.0])
        if self._fault is not None:
            text, until = self._fault
            if now >= until:
                self._fault = None
            if text.startswith("UNIQUE"):
                self._fault = None
                raise sqlite3.IntegrityError(text)
            raise sqlite3.OperationalError(text)
