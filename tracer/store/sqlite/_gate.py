"""The gate of a database: the one place that knows whether its connections are open, and who uses them.

SQLite keeps the locks of a file in the memory of the process. A child that inherits an open connection believes
that it holds the parent's locks, but the system knows of no such locks: the two processes then overwrite each other
(https://sqlite.org/howtocorrupt.html section 2.6). So before a fork all connections are closed, and nobody is inside
SQLite. If that fails, the child never opens a database file (`forked_in_use`).

A gate is in one of three states:

========  ==============================================  =================================================
open      connections are registered, and may be used     `hold` closes them, `deregister` lets one go
closed    there are none; whoever needs one opens it      `register`
held      a fork is near: nobody gets in, nothing opens   `release` leaves the gate closed
========  ==============================================  =================================================
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
import weakref
from collections.abc import Iterator

from tracer.process import forks
from tracer.process.native_threads import new_lock, sleep

__all__ = ["Gate", "GoneError", "forked_in_use"]

PATIENCE = 3.0  # seconds that a fork waits until a statement that was told to stop has ended
STEP = 0.002  # seconds between two looks, and between two requests to stop


class GoneError(Exception):
    """The connection was closed, or its thread has ended, before the work was done: open another and do it there."""


class Gate:
    """Lets connections' threads into SQLite, and keeps them out around a fork. Every method is safe in any thread.

    Args:
        closes: False for a database in memory, which closing would delete: in a fork it is unused, but open.

    Attributes:
        generation: Counted up whenever a fork has closed the connections.
    """

    def __init__(self, *, closes: bool = True) -> None:
        self.generation = 0
        self._closes = closes
        self._lock = new_lock()  # reentrant: a signal handler may fork in the middle of a fork
        self._held = 0
        self._inside = 0
        self._connections: set[sqlite3.Connection] = set()
        with _registry:
            _gates.add(self)

    @contextlib.contextmanager
    def turn(self, generation: int) -> Iterator[None]:
        """Use SQLite in this block; a fork waits for its end. Raises GoneError if a fork has closed the connections."""
        while not self._enter(generation):
            sleep(STEP)
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1

    def _enter(self, generation: int) -> bool:
        with self._lock:
            if self._held:
                return False
            if generation != self.generation:
                raise GoneError
            self._inside += 1
            return True

    def register(self, connection: sqlite3.Connection) -> None:
        """Take note of a connection that was opened in a `turn`."""
        with self._lock:
            self._connections.add(connection)

    def deregister(self, connection: sqlite3.Connection) -> None:
        """In a `turn`: forget a connection that is closed, or about to be closed."""
        with self._lock:
            self._connections.discard(connection)

    @property
    def is_used(self) -> bool:
        """Somebody is inside SQLite, or (of a file) a connection is open."""
        return self._inside > 0 or (self._closes and bool(self._connections))

    def interferes(self, generation: int) -> bool:
        """Tell whether a fork is going on, or has closed these connections. If so, it may have stopped what failed."""
        with self._lock:
            return self._held > 0 or generation != self.generation

    def hold(self, timeout: float) -> None:
        """Before a fork: stop what runs, close the connections, and let nobody in until `release`.

        Whatever was stopped is done again afterwards. If a statement does not stop in time, the connections
        stay open.
        """
        with self._lock:
            self._held += 1
        give_up_at = time.monotonic() + timeout
        while not self._close_or_interrupt() and time.monotonic() < give_up_at:
            sleep(STEP)

    def _close_or_interrupt(self) -> bool:
        """Close the connections and return True if nobody is inside; otherwise stop what runs and return False."""
        with self._lock:
            if self._inside:
                for connection in self._connections:
                    connection.interrupt()  # again each time: it stops the running statement, not the next one
                return False
            if self._closes:
                for connection in self._connections:
                    with contextlib.suppress(sqlite3.Error):
                        connection.close()
                self._connections.clear()
                self.generation += 1
            return True

    def release(self) -> None:
        """After a fork, in the parent: undo `hold`."""
        with self._lock:
            self._held -= 1


_registry = new_lock()  # held during a fork, so that no new gate appears meanwhile
_gates: weakref.WeakSet[Gate] = weakref.WeakSet()
_held: list[Gate] = []
_inherited_in_use = False


def forked_in_use() -> bool:
    """Tell whether this process (or a process above it) was forked while SQLite was in use: it must open no file.

    Not even another file: one of SQLite's own locks may be held for ever, by a thread that exists only in the parent.
    """
    return _inherited_in_use


def _hold_all() -> None:
    _registry.acquire()
    _held.extend(_gates)
    for gate in _held:
        gate.hold(PATIENCE)


def _release_all() -> None:
    while _held:
        _held.pop().release()
    _registry.release()


def _leave_to_parent() -> None:
    """In the child: what is inherited is never used, closed or freed.

    Closing an inherited connection can hang on a lock that a thread of the parent held at the moment of the fork (43
    of 60 forks under a busy writer, as measured).
    """
    global _inherited_in_use, _registry
    for gate in list(_gates):
        _inherited_in_use = _inherited_in_use or gate.is_used
        forks.make_immortal(gate)
    _gates.clear()
    _held.clear()
    _registry = new_lock()


forks.register(_hold_all, _release_all, _leave_to_parent)
