"""A service that records, while its database fails and its process is killed: all of it decided by one seed.

The seed decides what is recorded and when, when the database is slow, locked, full, broken or can't be opened, at which
of its steps the process forks or dies, and how often it starts again. Everything runs in one thread, over a clock that
jumps to the next moment at which something happens. So a seed that fails once fails always. FoundationDB tests in this
way (Will Wilson, "Testing Distributed Systems with Deterministic Simulation", Strange Loop 2014), and so does
TigerBeetle.

Real are the pipeline, its queue, crash ring, spool, batch writer, worker and assembler, what takes over after a kill,
the gate with its fork hooks, what opens the database again, and the SQL that writes. Not real are the threads, the
connections (`SimulatedThread`) and the clock. A fork's child is the next life: it begins when its parent has died.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import random
import selectors
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch
from weakref import WeakSet

import msgspec

from tests.simulation.database import SimulatedDatabase
from tracer._config import Settings
from tracer._exceptions import StoreError, TransientStoreError
from tracer.capture.records import Ending, Rank, SpanChunk, SpanEnded, SpanNoted, SpanStarted, SpanUpdated
from tracer.pipeline import _ring_file, adoption
from tracer.pipeline import worker as worker_module
from tracer.pipeline._ring_file import FRAME, FRAME_BYTES, HEADER, SHARED_MEMORY, find_rings, give_back
from tracer.pipeline._time_slices import Slices
from tracer.pipeline.clock import RandomIds, SystemClock
from tracer.pipeline.pipeline import Pipeline
from tracer.pipeline.ring import Ring
from tracer.pipeline.spool import find_spool_files
from tracer.process import forks
from tracer.process.native_threads import new_lock
from tracer.store.batch import Batch
from tracer.store.sqlite import _gate
from tracer.store.sqlite._connection import transaction
from tracer.store.sqlite._schema import migrate
from tracer.store.sqlite.store import SqliteStore

__all__ = ["simulate"]

LIVES = 4  # at most; the last one has a sound database
SPANS = (5, 5, 10, 10, 20, 20, 40, 150)  # recorded in one life


class VirtualClock:
    """Time that passes only when everybody waits."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class _JumpingSelector(selectors.SelectSelector):
    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if not found and timeout is None:
            raise AssertionError("everybody waits for somebody else")
        if not found and timeout:
            self._clock.now += timeout
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that never waits."""

    def __init__(self, clock: VirtualClock) -> None:
        self._virtual = clock
        super().__init__(_JumpingSelector(clock))

    def time(self) -> float:
        return self._virtual.now


class Life:
    """One process of the service, from its start until it is killed."""

    def __init__(self, world: World, trouble: float) -> None:
        self.world = world
        settings = Settings(
            queue_max_records=world.chance.choice([20, 100, 1_000]),
            batch_max_records=world.chance.choice([5, 50, 500]),
            crash_ring_bytes=world.chance.choice([0, 64 * 1024, 256 * 1024]) if trouble else 64 * 1024,
            spool_max_bytes=world.chance.choice([0, 4_000, 20_000, 1_000_000]) if trouble else 1_000_000,
        )
        self.pipeline = Pipeline(f"sqlite:///{world.path}", settings, SystemClock(), RandomIds())
        self.worker = self.pipeline._worker
        self.worker.is_running = True  # so that no thread is started
        store = self.worker.store
        assert isinstance(store, SqliteStore)
        self.database = SimulatedDatabase(world, trouble)
        store._database = self.database
        self.store_write, store.write = store.write, self._write  # type: ignore[method-assign]
        self.trouble = trouble
        self.open: list[int] = []
        self.recorded: list[int] = []

    async def run(self, spans: int) -> None:
        """Record spans until they are made, or the process dies."""
        task = asyncio.ensure_future(self.worker._main())
        for _ in range(spans):
            if self.database.is_dead or task.done():
                break
            with self._busy_ring() if self.world.chance.random() < 0.05 else contextlib.nullcontext():
                self._record()
            if self.world.chance.random() < 0.01:  # the ring comes to its end, and there is another one later
                size = self.world.chance.choice([0, 64 * 1024])
                self.pipeline.configure(msgspec.structs.replace(self.pipeline.settings, crash_ring_bytes=size))
            if self.trouble and self.world.chance.random() < 0.03:
                self._fork()
            if self.world.chance.random() < 0.3:
                await asyncio.sleep(self.world.chance.choice([0.0, 0.001, 0.2, 3.0]))
        if self.world.chance.random() < 0.5:
            await asyncio.sleep(self.world.chance.choice([0.05, 2.0, 30.0]))
        await self._kill(task)

    async def finish(self) -> None:
        """Take over what earlier lives left, write what waits, and end."""
        task = asyncio.ensure_future(self.worker._main())
        await asyncio.sleep(1)
        await self.worker.adoption.adopt()
        await self.worker.settle_accepted()
        await self._kill(task)

    @contextlib.contextmanager
    def _busy_ring(self) -> Iterator[None]:
        """What is recorded meanwhile finds the ring's lock taken, as if another thread were writing just then."""
        ring = self.worker.crash_ring._ring
        if ring is None:
            yield
            return
        with ring._lock:
            ring._inside = True
            yield
            ring._write_contended()  # as whoever was writing does
            ring._inside = False

    def _record(self) -> None:
        world, chance = self.world, self.world.chance
        if not self.open or chance.random() < 0.6:
            number = world.next_number()
            start = SpanStarted(
                f"{number:032x}",
                f"{number:016x}",
                None,
                f"span {number}",
                "CHAT_MODEL",
                number,
                "Default",
                "chat" if number % 3 == 0 else None,
            )
            if self.pipeline.push(start, Rank.START):
                self.open.append(number)
                world.made.add(number)
            if chance.random() < 0.5 or not self.open:
                return
        number = chance.choice(self.open)
        span_id = f"{number:016x}"
        if chance.random() < 0.3:
            self.pipeline.push(
                SpanNoted(span_id, "note", number, {"text": chance.randbytes(chance.choice([5, 300, 3_000])).hex()}),
                Rank.DETAIL,
            )
        if chance.random() < 0.2:
            self.pipeline.push(SpanUpdated(span_id, attributes={"key": number}), Rank.DETAIL)
        if number % 3 == 0 and chance.random() < 0.4:
            self.pipeline.push(SpanChunk(span_id, number, b"data: {}\n\n"), Rank.CHUNK)
        if chance.random() < 0.7:
            self.open.remove(number)
            self.pipeline.push(SpanEnded(span_id, number + 1, Ending.RETURNED, lost={"tests": 1}), Rank.END)
            self.recorded.append(number)

    def _fork(self) -> None:
        """Go through the hooks of a fork, the child's as well: what it inherits and knows holds for the next life."""
        gate, knows = self.database.gate, _gate.forked_in_use()
        with patch.multiple(_gate, _gates=WeakSet([gate]), _held=[], _registry=new_lock(), _inherited_in_use=knows):
            _gate._hold_all()
            inherited = self.database.open_connections + self.world.inherited
            with patch.object(forks, "make_immortal"):
                _gate._leave_to_parent()
            self.world.child = inherited, _gate.forked_in_use()
        gate.release()

    async def _write(self, batch: Batch) -> None:
        """Write a batch. If that fails, it must be tried again, but for what fails each time."""
        try:
            await self.store_write(batch)
        except StoreError as error:
            if not isinstance(error, TransientStoreError) and "UNIQUE" not in str(error):
                self.world.broken.append(f"a fault that passes loses a batch: {error.__cause__ or error}")
            raise

    async def _kill(self, task: asyncio.Future[None]) -> None:
        self.database.is_dead = True
        task.cancel()
        with contextlib.suppress(BaseException):
            await task
        self._account()
        self.world.recorded.update(self.recorded)
        ring = self.worker.crash_ring
        for one in [*ring._ending, *([] if ring._ring is None else [ring._ring])]:  # the system closes all files
            one._is_over = True
            if self.world.chance.random() < 0.2:
                self._tear(one)
            os.close(one._descriptor)
            give_back(one.path)
        self.worker.writer.spool.let_go()

    def _tear(self, ring: Ring) -> None:
        """The process died as it wrote the next record: of that, the ring has the frame and a part."""
        at = ring._at
        if at + 200 < HEADER + ring._allocated:
            FRAME.pack_into(ring._memory, at, 100, self.world.chance.randrange(2**32), ring.sequence + 1)
            ring._memory[at + FRAME_BYTES : at + FRAME_BYTES + 40] = self.world.chance.randbytes(40)

    def _account(self) -> None:
        stats = self.pipeline.stats()
        dropped = stats.dropped
        kept = stats.queued + stats.written + stats.spooled
        assert stats.accepted == kept + dropped["lost"] + dropped["spool"], stats
        world = self.world
        world.lost += dropped["lost"] + dropped["spool"] + dropped["others"]
        world.unringed += stats.unringed if stats.crash_ring is not None else stats.queued
        if stats.crash_ring is None or self.pipeline.queue.lacks_ring:
            world.unringed += stats.queued


class World:
    """What outlives a process: the database, the files, and what the test knows."""

    def __init__(self, seed: int, directory: Path) -> None:
        self.chance = random.Random(seed)
        self.path = directory / "t.db"
        self.connection = _empty_database()
        self.made: set[int] = set()
        self.recorded: set[int] = set()
        self.lost = self.unringed = 0
        self.inherited = 0  # connections that were open as this life was forked
        self.broken: list[str] = []  # laws, seen where an exception would be caught
        self.child = 0, False  # what the next life inherits, and what it knows of that
        self._numbers = iter(range(1, 10**9))

    def next_number(self) -> int:
        return next(self._numbers)

    async def live(self) -> None:
        trouble = self.chance.choice([0.0, 0.05, 0.3])
        for _ in range(self.chance.randint(1, LIVES - 1)):
            (self.inherited, knows), self.child = self.child, (0, False)
            with patch.object(_gate, "_inherited_in_use", knows):
                await Life(self, trouble).run(self.chance.choice(SPANS))
        self.inherited = 0
        await Life(self, 0.0).finish()

    def judge(self) -> None:
        """Check the laws."""
        assert not self.broken, self.broken[0]
        rows = self.connection.execute("SELECT name, end_time_ns, status_code FROM spans").fetchall()
        ended = {int(name.split()[1]) for name, end, _ in rows if end is not None}
        assert len(rows) == len({name for name, _, _ in rows}), "a span is stored twice"
        assert ended <= self.recorded, "a span has an end that nobody recorded"
        missing = self.recorded - ended
        assert len(missing) <= self.lost + self.unringed, f"lost without being counted: {sorted(missing)[:5]}"
        assert all(status == "OK" for _, end, status in rows if end is not None)
        (told,) = self.connection.execute("SELECT sum(json_extract(dropped, '$.tests')) FROM traces").fetchone()
        assert (told or 0) == len(ended), f"{told} ends were counted for {len(ended)} ends"
        (running,) = self.connection.execute(
            "SELECT count(*) FROM live_chunks JOIN spans USING (span_id) WHERE end_time_ns IS NOT NULL"
        ).fetchone()
        assert not running, "chunks of ended spans are left"
        assert not find_spool_files(self.path), "files of the spool are left"
        assert not find_rings(self.path), "rings are left"


@functools.cache
def _database() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None, cached_statements=1_024)
    migrate(connection)
    return connection


def _empty_database() -> sqlite3.Connection:
    """Return a database as it is when it is new: the same for each seed, as it takes long to prepare statements."""
    connection = _database()
    if connection.in_transaction:
        connection.execute("ROLLBACK")
    tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE '%text%'")
    with transaction(connection):
        connection.execute("UPDATE text_index SET indexed_to = -1")  # so that what is deleted leaves no text to forget
        for (name,) in tables.fetchall():
            connection.execute(f"DELETE FROM {name}")
        connection.execute("DELETE FROM text_changes")
        connection.execute("INSERT INTO span_text (span_text) VALUES ('delete-all')")
        connection.execute("UPDATE text_index SET indexed_to = 0")
    return connection


@contextlib.contextmanager
def _virtual_time() -> Iterator[VirtualLoop]:
    clock = VirtualClock()
    loop = VirtualLoop(clock)
    logger = logging.getLogger("tracer")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # the faults are ours
    try:
        with (
            patch("time.monotonic", clock.monotonic),
            patch.object(_gate, "sleep", clock.sleep),
            patch.object(_gate, "STEP", 0.5),
            patch.object(worker_module, "READ_PATIENCE", float("inf")),
            patch.object(adoption, "BATCH_RECORDS", 8),
            patch.object(Slices, "offer", lambda _: None),  # there is no other thread to let go first
        ):
            yield loop
    finally:
        logger.setLevel(level)
        loop.close()


def simulate(seed: int) -> None:
    """Let one seed's world live. Raises AssertionError with the seed if a law is broken."""
    # A directory for this seed alone, in memory: the rings of all others would be looked at again and again.
    memory = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
    with (
        tempfile.TemporaryDirectory(prefix="tracer-simulation-", dir=memory) as directory,
        patch.object(_ring_file, "SHARED_MEMORY", Path(directory)),
        _virtual_time() as loop,
    ):
        world = World(seed, Path(directory))
        try:
            loop.run_until_complete(world.live())
            world.judge()
        except AssertionError as error:
            raise AssertionError(f"python -m tests.simulation --seed {seed}: {error}") from error
