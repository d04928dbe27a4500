"""Migrate a file of an old version again and again, in processes that die at each step, and check what they leave.

    python -m tests.store.sqlite.dying_migrations VERSION DIRECTORY [EVERY]

With EVERY, only every so many steps. One process forks all the others, because a new interpreter for each would take
minutes. It has no thread and keeps no connection open. It fails at the first fault, else prints how many processes died
at a statement, how many in a write, and how many while they indexed the texts anew.
"""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import signal
import sqlite3
import sys
import traceback
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tests.store.rows import simple, trace_id
from tests.store.sqlite.old_files import make_old_file, rows_of, words_of
from tracer.pipeline.worker import import_modules
from tracer.process.native_threads import sleep
from tracer.store import open_store
from tracer.store.sqlite import _thread as thread_module
from tracer.store.sqlite import store as store_module
from tracer.store.sqlite._schema import SCHEMA_VERSION, migrate
from tracer.store.sqlite._text import index_text
from tracer.store.sqlite.store import SqliteStore

FRAME = 4_120  # bytes: a page in the write-ahead log, with its header


def main(version: int, directory: Path, every: int) -> None:
    """Run as a command; see the module's docstring."""
    import_modules()  # here, and not in each child
    migrations = Migrations(version, directory)
    steps = range(version % min(every, 8), 10_000, every)  # other versions, other steps
    at_a_statement = migrations.die_at(steps, kill_before_statement)
    in_a_write = migrations.die_at(steps, die_in_write)
    migrations.race()
    migrations.kill_one_while_another_waits()
    migrations.write()
    while_indexing = migrations.die_while_indexing(steps)
    print(at_a_statement, in_a_write, while_indexing)  # noqa: T201  it is a command


class Migrations:
    """Copies of one old file, each migrated by processes that meet with something."""

    def __init__(self, version: int, directory: Path) -> None:
        self.path = directory / "t.db"
        self._original = directory / "original.db"
        make_old_file(self._original, version)
        self._begin_anew()
        assert wait_for(start(self._use)) == 0
        self._expected = rows_of(self.path)
        old = rows_of(self._original)
        assert rows_of(self.path, like=old) == old, "the migration itself loses rows"

    def die_at(self, steps: range, prepare: Callable[[int], None]) -> int:
        """Let a process die at each step, until one comes to its end; return how many died."""
        for died, step in enumerate(steps):
            self._begin_anew()
            ended_by = wait_for(start(self._use, prepare, step))
            self._check()
            if not ended_by:
                return died
        raise AssertionError("no process came to its end")

    def race(self) -> None:
        """Let two processes migrate at once."""
        self._begin_anew()
        go, opener = os.pipe()

        def wait_to_go() -> None:
            os.close(opener)
            os.read(go, 1)  # returns when nobody holds the other end any more

        children = [start(self._use, wait_to_go) for _ in range(2)]
        os.close(opener)
        assert [wait_for(child) for child in children] == [0, 0]
        os.close(go)
        self._check()

    def kill_one_while_another_waits(self) -> None:
        """Kill a process whose migration is complete but for its commit, while another one waits for the lock."""
        self._begin_anew()
        told, tell = os.pipe()

        def stop_before_the_commit(statement: str) -> None:
            if statement == "COMMIT":
                os.write(tell, b"!")
                signal.pause()

        def tell_and_sleep(seconds: float) -> None:
            os.write(tell, b"!")
            sleep(seconds)

        def tell_of_waiting() -> None:
            setattr(thread_module, "sleep", tell_and_sleep)  # noqa: B010  mypy; it sleeps between two tries for the lock

        holder = start(self._use, watch_migration, stop_before_the_commit)
        os.read(told, 1)
        waiter = start(self._use, tell_of_waiting)
        os.read(told, 1)
        os.kill(holder, signal.SIGKILL)
        assert (wait_for(holder), wait_for(waiter)) == (signal.SIGKILL, 0)
        self._check()

    def write(self) -> None:
        """Write a trace to the migrated file."""

        async def write() -> None:
            store = open_store(f"sqlite:///{self.path}")
            await store.write(simple(1_000))
            await store.get_trace(trace_id(1_000))
            await store.aclose()

        assert wait_for(start(lambda: asyncio.run(write()))) == 0

    def die_while_indexing(self, steps: range) -> int:
        """Let a process die at each statement of the indexing that follows a migration; return how many died."""
        self._begin_anew()
        assert wait_for(start(self._index)) == 0
        expected = words_of(self.path)
        for died, step in enumerate(steps):
            self._begin_anew()
            ended_by = wait_for(start(self._index, kill_indexing_before_statement, step))
            self._check(indexed=True)
            assert wait_for(start(self._index)) == 0
            assert words_of(self.path) == expected
            if not ended_by:
                return died
        raise AssertionError("no process came to its end")

    def _index(self, prepare: Callable[..., object] | None = None, *arguments: object) -> None:
        """Open the store, index what is to be indexed, a few spans a step, and close it."""
        if prepare is not None:
            prepare(*arguments)

        async def index() -> None:
            store = open_store(f"sqlite:///{self.path}")
            assert isinstance(store, SqliteStore)
            await store.open()
            while await store.index_text(4):
                pass
            await store.aclose()

        asyncio.run(index())

    def _begin_anew(self) -> None:
        for file in self.path.parent.glob("t.db*"):
            file.unlink()
        shutil.copy(self._original, self.path)  # with its mode

    def _use(self, prepare: Callable[..., object] | None = None, *arguments: object) -> None:
        """Open the store, which migrates the file, and close it."""
        if prepare is not None:
            prepare(*arguments)

        async def use() -> None:
            store = open_store(f"sqlite:///{self.path}")
            await store.open()
            await store.aclose()

        asyncio.run(use())

    def _check(self, *, indexed: bool = False) -> None:
        """Open the file as the next process would: it is whole, of the newest version, and has all rows.

        Args:
            indexed: The full-text index has changed, and its tables are not looked at.
        """
        assert wait_for(start(self._use)) == 0
        with closing(sqlite3.connect(self.path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
            assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        found = rows_of(self.path)
        assert found.keys() == self._expected.keys()
        for table, rows in found.items():
            assert rows == self._expected[table] or (indexed and table.startswith(("text_", "span_text_"))), table
        assert not list(self.path.parent.glob("*.damaged-*"))


def kill_before_statement(number: int) -> None:
    """Have SIGKILL end this process before its migration's statement of this number, counted from 0.

    The statements after the migration are counted as well: they move the log into the file.
    """
    left = iter(range(number))

    def count(statement: str) -> None:
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    watch_migration(count)


def kill_indexing_before_statement(number: int) -> None:
    """Have SIGKILL end this process before the statement of this number on the connection that fills the text index."""
    left = iter(range(number))

    def count(statement: str) -> None:
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    def watched(connection: sqlite3.Connection, limit: int) -> bool:
        connection.set_trace_callback(count)
        return index_text(connection, limit)

    setattr(store_module, "index_text", watched)  # noqa: B010  mypy: the name is imported there


def die_in_write(number: int) -> None:
    """Have the kernel end this process in the middle of the write that makes a file longer than so many pages.

    A migration's statements change no file, its commit does: this tears it at each page.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it
    limit = number * FRAME + 1_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def watch_migration(callback: Callable[[str], None]) -> None:
    """Have `callback` called before each statement on the connection that migrates."""

    def watched(connection: sqlite3.Connection) -> bool:
        connection.set_trace_callback(callback)
        return migrate(connection)

    setattr(store_module, "migrate", watched)  # noqa: B010  mypy: the name is imported there


def start(function: Callable[..., object], *arguments: object) -> int:
    """Start a child that runs a function, and return its pid."""
    pid = os.fork()
    if pid:
        return pid
    try:
        function(*arguments)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def wait_for(pid: int) -> int:
    """Wait for the end of a child. Returns 0, or the number of the signal that ended it."""
    status = os.waitpid(pid, 0)[1]
    assert not os.WIFEXITED(status) or os.WEXITSTATUS(status) == 0, "a child failed"
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1)
