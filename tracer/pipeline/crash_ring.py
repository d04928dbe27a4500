"""When there is a crash ring, and what the worker does for it: one for each pipeline whose store is a file."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from tracer._config import Settings
from tracer.capture.records import LargeRecord, SpanStarted, decode
from tracer.pipeline._queue import RecordQueue
from tracer.pipeline.ring import MAX_RECORD, Ring, may_hold_credentials
from tracer.pipeline.skeletons import encode_skeleton
from tracer.process.native_threads import new_lock
from tracer.store.process import current_process

__all__ = ["CrashRing", "keeps_texts"]

logger = logging.getLogger("tracer")

TRY_AGAIN_AFTER = 60.0  # seconds after a ring could not be made


def keeps_texts(settings: Settings) -> bool:
    """Tell whether texts may lie in a file as they are: not if hooks or settings would change them first."""
    return settings.capture_content and not settings.redact


class OpenSpans(Protocol):
    """Who knows which spans have started and not ended."""

    @property
    def open_spans(self) -> int:
        """How many they are."""
        ...

    def is_open(self, span_id: str) -> bool:
        """Tell whether this is one of them."""
        ...

    def starts(self) -> list[SpanStarted]:
        """Return how they began."""
        ...


class CrashRing:
    """The rings of a pipeline's queue: one that takes what is pushed, and those that end once all of them is stored.

    `open`, `on_settings` and `withhold_texts` are for any thread, `forget` for a forked child, everything else for the
    worker's thread.
    """

    def __init__(self, queue: RecordQueue, settings: Callable[[], Settings]) -> None:
        self._queue = queue
        self._settings = settings
        self._ring: Ring | None = None
        self._ending: list[Ring] = []
        self._withholds = False
        self._is_left = False
        self._without_starts = False  # the ring came after spans that are open, so it lacks their starts
        self._try_again_at = float("inf")
        self._changing = new_lock()  # held for microseconds, but for `open`, which needs 0.2 ms

    def open(self, database: Path | None) -> None:
        """Begin a ring if the queue `lacks_ring`, unless there must be none. Never waits, never raises.

        The first record must find it, so the thread that comes with that record makes it, in 0.2 ms.
        """
        try:
            if self._changing.acquire(blocking=False):
                self._open(database)
        except Exception as error:
            self._queue.lacks_ring, self._try_again_at = False, time.monotonic() + TRY_AGAIN_AFTER
            logger.info("there is no crash ring, so what waits is lost if the process is killed: %s", error)
        finally:  # Ctrl-C may come at any moment
            while self._changing._is_owned():
                self._changing.release()
        # Whoever changed the settings meanwhile did not wait for us.
        self.on_settings(self._settings())
        if self._withholds:
            self.withhold_texts()

    def _open(self, database: Path | None) -> None:
        settings = self._settings()
        if self._ring is None and database is not None and settings.crash_ring_bytes:
            ring = Ring(database, current_process(), settings.crash_ring_bytes)
            ring.keeps_texts = keeps_texts(settings) and not self._withholds
            self._ring = ring
            self._queue.set_ring(ring)
        self._queue.lacks_ring = False

    def on_settings(self, settings: Settings) -> None:
        """Take note of new settings. If texts are in the ring that must not be there any more, it comes to its end."""
        ring = self._ring
        if ring is not None and (not settings.crash_ring_bytes or (ring.keeps_texts and not keeps_texts(settings))):
            ring.keeps_texts = False  # at once: a push that has found it already must not add a text
            self._finish(ring)

    def withhold_texts(self) -> None:
        """From now on, keep nothing but skeletons: a span has begun whose texts may not be stored."""
        self._withholds = True
        if self._ring is not None:
            self._ring.keeps_texts = False

    def _finish(self, ring: Ring) -> None:
        """Have the ring take nothing more. The next record is given another one."""
        try:
            self._changing.acquire(timeout=1)
            if self._ring is ring:
                self._queue.set_ring(None)
                self._ending.append(ring)
                self._ring = None
                self._without_starts = self._queue.lacks_ring = True
        finally:
            while self._changing._is_owned():
                self._changing.release()

    @property
    def place(self) -> str | None:
        """Where it lies, and how large it is; None if there is none."""
        ring = self._ring
        return None if ring is None else f"{ring.path} ({ring.size // 1024} KiB)"

    @property
    def is_used(self) -> bool:
        """There is a ring, or one that has not come to its end."""
        return self._is_left or self._ring is not None or bool(self._ending)

    def settle(self, reached: dict[Ring, int], spans: OpenSpans) -> None:
        """The records up to these sequences are stored, or lost and counted. Free what nobody needs any more."""
        if self._is_left:
            return
        for ring, sequence in reached.items():
            ring.settle(sequence)
        self._close_ended()
        if time.monotonic() > self._try_again_at:
            self._queue.lacks_ring, self._try_again_at = True, float("inf")
        current = self._ring
        self._keep_starts(current, spans)
        if current is None:
            return
        if not current.is_sound:
            self._finish(current)
            return
        if not spans.open_spans:
            current.rewind()
        current.make_room(spans.is_open)
        current.forget_if_stuck()

    def leave(self) -> None:
        """The process ends, and something was not stored: the rings stay as they are, for the next process."""
        self._is_left = True

    @property
    def is_left(self) -> bool:
        """`leave` was called."""
        return self._is_left

    def look_at(self, record: LargeRecord) -> None:
        """Let the ring keep the rest of a span if the large body with which it begins names no credentials."""
        if self._ring is None or may_hold_credentials(record.body):
            return
        started = decode(record.encoded)
        if isinstance(started, SpanStarted):
            self._ring.allow(started.span_id)

    def _close_ended(self) -> None:
        for ring in list(self._ending):
            if ring.close():
                self._ending.remove(ring)

    def _keep_starts(self, ring: Ring | None, spans: OpenSpans) -> None:
        """Add the starts of open spans that the ring did not take when they came: their ends will need them.

        A start that may hold credentials is added without its body, as are those from before this ring: theirs are
        stored.
        """
        missed, self._queue.missed = self._queue.missed, []
        if ring is None:
            return
        if self._without_starts:
            kept = [ring.keep(encode_skeleton(start)) for start in spans.starts()]
            self._without_starts = not all(kept)
        for raw in missed:
            try:
                record = decode(raw)
            except Exception:
                continue
            if not isinstance(record, SpanStarted) or not spans.is_open(record.span_id):
                continue
            data = raw if isinstance(raw, bytes) else raw.encoded
            if not ring.keeps_texts or len(data) > MAX_RECORD or may_hold_credentials(data):
                data = encode_skeleton(record, hides_names=bool(self._settings().redact))
            if not ring.keep(data):
                self._queue.missed.append(raw)

    def end(self) -> list[str]:
        """The worker ends, or the process. What is not stored stays in the ring, for whoever opens the database next.

        Should records come after all, they get another ring; and what this one still has in the queue is settled by the
        worker that then begins.

        Returns:
            The names of the rings that are gone.
        """
        if self._is_left:
            for ring in [*self._ending, *([] if self._ring is None else [self._ring])]:
                ring.leave()
            self._ending, self._ring = [], None
            self._queue.set_ring(None)
            return []
        if self._ring is not None:
            reached = self._ring.reached_when_empty()
            if not len(self._queue):  # asked afterwards: what came in between is in the queue, or is not `reached`
                self._ring.settle(reached)
            self._finish(self._ring)
        ending = list(self._ending)
        self._close_ended()
        return [ring.name for ring in ending if ring not in self._ending]

    def abandon(self) -> None:
        """Use no ring any more. What is in the file stays there."""
        self._queue.set_ring(None)
        self._ring = None

    def forget(self) -> None:
        """After a fork, in the child: the rings are the parent's."""
        self._queue.set_ring(None)
        for ring in [*self._ending, *([] if self._ring is None else [self._ring])]:
            ring.let_go()
