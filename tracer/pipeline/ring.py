"""The crash ring: a copy of the records that wait, in memory that outlives the process.

The queue lies in this process's memory and goes with it. So a record is also written into a ring, and stays there until
it is stored. Whatever ends the process (``kill -9``, ``os._exit``, a crash), the next process that uses the database
reads the ring, and stores what is missing (`tracer.pipeline.adoption`).

One lock orders the writers. Nobody waits for it: a record that finds it taken is left to whoever has it, or takes it
next. A record that finds the ring full, or for which there is no ring yet, goes into the queue alone, and is counted.

What a span's end needs must stay as long as the span is open. So the ring keeps the records of open spans: when it is
half full, the worker frees the oldest quarter, and writes what there belongs to open spans anew at the front.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec

from tracer.capture.records import Encoded, LargeRecord, SpanChunk, SpanEnded, SpanStarted, TraceUpdated, decode
from tracer.pipeline._contended import Contended
from tracer.pipeline._ring_file import (
    FRAME,
    FRAME_BYTES,
    HEADER,
    SPREAD,
    STEP_BYTES,
    STORED,
    WRAP,
    allocate,
    checksum,
    create_ring_file,
    give_back,
    next_position,
    write_progress,
)
from tracer.pipeline.skeletons import encode_skeleton
from tracer.process.forks import mark
from tracer.process.native_threads import new_lock
from tracer.store.batch import ProcessRow

__all__ = ["Ring", "Ringed", "may_hold_credentials"]

Ringed = tuple["Ring", int | Contended, Encoded]
"""A record in the queue that is in a ring as well, with its sequence there."""

# "headers" and "server_url" stand for MCP servers in requests that were cut before they say "mcp".
_signs = re.compile(rb'"(?:mcp|domain_secrets|api_key|authorization|headers|server_url)"').search
AHEAD_BYTES = 1024 * 1024
MAX_RECORD = 64 * 1024  # to copy more would cost the caller more than the rest of a call
MAX_WITHHELD = 10_000  # spans
ID_AT = slice(4, 20)  # the span's id in a record other than a start: array, tag, text of 16 bytes
LOCK_PATIENCE = 0.1  # seconds that the worker waits for a writer, who needs microseconds
STUCK_AFTER = 1.0  # seconds; a writer needs microseconds
_pack_into = FRAME.pack_into


def may_hold_credentials(data: bytes) -> bool:
    """Tell whether a body names what goes with credentials for third parties. Only the worker finds them exactly."""
    return _signs(data) is not None


class Ring:
    """The ring of this process and one database. `append` is for any thread, everything else for the worker's.

    Raises:
        OSError: There is no room for a ring.

    Attributes:
        path: Its file.
        size: How many bytes of frames it holds.
        sequence: How many records were written to it.
        keeps_texts: False if it must take nothing but skeletons (`tracer.pipeline.skeletons`).
    """

    def __init__(self, database: Path, process: ProcessRow, size: int) -> None:
        self.path, self._descriptor, self._memory = create_ring_file(database, process, size)
        self.size = len(self._memory) - HEADER
        self.sequence = 0
        self.keeps_texts = True
        self._inode = os.fstat(self._descriptor).st_ino
        self._allocated = min(self.size, STEP_BYTES)
        self._lap = -HEADER  # a frame's position less its place in the file
        self._at = HEADER
        self._end = HEADER + self._allocated  # frames fit in until there, without a look at anything else
        self._tail = 0
        self._committed = 0
        self._notes = 1
        self._lock = new_lock()
        self._inside = False  # whoever has the lock is between taking it and giving it back
        self._stuck_since: tuple[int, float] | None = None
        self._worth_it_from = 0
        self._kept = 0
        self._withheld: set[bytes] = set()
        self._contended: deque[Contended] = deque()
        self.left_out = 0
        self._is_over = False

    def append(self, record: Encoded, queue: deque[Any], skeleton: bytes | None = None) -> bool:
        """Write a record and queue it, in one order for both; False if nothing was done.

        Never waits, never raises. Of a large record the ring takes all but its body. If there is a `skeleton`, the ring
        takes that in place of the record, and nothing else if it must keep no texts.
        """
        if skeleton is not None:
            data = skeleton
        elif self.keeps_texts:
            data = record if type(record) is bytes else self._of_large(record)  # type: ignore[arg-type]
        else:
            data = b""
        if may_hold_credentials(data) or (self._withheld and data[ID_AT] in self._withheld):
            data = self._without_content(data)
        if not data or len(data) > MAX_RECORD:
            return False
        crc = crc32(data)  # gives the GIL away if there is much of it, so not with the lock
        lock = self._lock
        # A signal handler, or the garbage collector, may have interrupted this very function in this thread.
        is_nested = self._inside and lock._is_owned()
        try:
            if is_nested or not lock.acquire(False):
                return self._leave_to_holder(record, data, queue)
            self._inside = True
            # A child whose fork ran no hooks would write into its parent's ring.
            if self._is_over or not mark[0]:
                return False
            if self._contended:  # first, so that the records of one thread keep their order
                self._write_contended()
            # Counted before it is written: if Ctrl-C came between, the next record must not get the same sequence.
            self.sequence = sequence = self.sequence + 1
            if not self._write(data, crc, sequence):
                self.sequence -= 1
                return False
            queue.append((self, sequence, record))
            if self._contended:
                self._write_contended()
            return True
        finally:
            # Ctrl-C may come at any moment, also before we knew that we have the lock, so ask the lock. If it comes
            # before the lock is given back, the next record of this thread does that.
            if not is_nested and lock._is_owned():
                self._inside = False
                while lock._is_owned():
                    lock.release()

    def _leave_to_holder(self, record: Encoded, data: bytes, queue: deque[Any]) -> bool:
        """Leave a record that found the lock taken to whoever has it, or takes it next."""
        if self._is_over:
            return False
        contended = Contended(data)
        # First, so that nothing newer is before it in the queue but behind it in the ring.
        queue.append((self, contended, record))
        self._contended.append(contended)
        return True

    @contextlib.contextmanager
    def _locked(self, timeout: float = 0.0) -> Iterator[bool]:
        """Take the lock, for the worker; yield False if others have it."""
        if not (self._lock.acquire(timeout=timeout) if timeout else self._lock.acquire(False)):
            yield False
            return
        self._inside = True
        try:
            yield True
        finally:
            self._inside = False
            self._lock.release()

    def _write_contended(self) -> None:
        """Write what found the lock taken."""
        with contextlib.suppress(IndexError):
            while True:
                self._write_late(self._contended.popleft())

    def _write_late(self, contended: Contended) -> None:
        if contended.sequence is not None:
            return
        self.sequence = sequence = self.sequence + 1
        if self._write(contended.data, crc32(contended.data), sequence):
            contended.sequence = sequence
        else:
            self.sequence -= 1
            self._leave_out(contended)

    def _leave_out(self, contended: Contended) -> None:
        contended.sequence = 0
        self.left_out += 1

    def place(self, contended: Contended) -> int:
        """Return the sequence of such a record, which the worker has just taken from the queue; 0 if it has none."""
        if contended.sequence is None:
            with self._locked(LOCK_PATIENCE if self._stuck_since is None else 0.0) as is_mine:
                if is_mine:
                    self._write_late(contended)  # its thread was about to leave it to us
                else:
                    self._stuck_since = self._stuck_since or (self.sequence, time.monotonic())
                    self._leave_out(contended)
        return contended.sequence or 0

    def reached_when_empty(self) -> int:
        """Return how far the ring is stored once the queue, which the caller now empties, has been stored.

        The last item does not tell this if what found the lock taken was written behind it. If we did not know it,
        such records would be stored twice, should nothing be recorded until the process is killed.
        """
        with self._locked(LOCK_PATIENCE if self._stuck_since is None else 0.0) as is_mine:
            if not is_mine:
                return 0
            self._write_contended()
            return self.sequence

    def _of_large(self, record: LargeRecord) -> bytes:
        """Return what the ring takes of a record whose body lies beside it.

        Nobody has looked for credentials in that body yet, so of a span that begins with it the ring takes skeletons
        until the worker has (`allow`).
        """
        try:
            decoded = decode(record.encoded)
        except Exception:
            return b""
        if isinstance(decoded, SpanStarted):
            self._withhold(decoded.span_id)
        return record.encoded

    def allow(self, span_id: str) -> None:
        """The worker has found no credentials in the large body with which a span began."""
        self._withheld.discard(span_id.encode())

    def _withhold(self, span_id: str) -> None:
        if len(self._withheld) < MAX_WITHHELD:
            self._withheld.add(span_id.encode())
        else:
            self.keeps_texts = False  # fail closed

    def _without_content(self, data: bytes) -> bytes:
        """Return the skeleton of a record of a span whose records may hold credentials.

        A stream's later reads don't name the credentials that they hold, so nothing else of that span is kept.
        """
        try:
            record = decode(data)
        except Exception:
            return b""
        if isinstance(record, SpanChunk):
            return b""
        if isinstance(record, SpanEnded):
            self._withheld.discard(record.span_id.encode())
        elif not isinstance(record, TraceUpdated):
            self._withhold(record.span_id)
        return encode_skeleton(record)

    def _write(self, data: bytes, crc: int, sequence: int) -> bool:
        """Write one frame; False if there is no room. Whoever calls this has the lock."""
        length = len(data)
        begin = self._at + FRAME_BYTES
        after = begin + ((length + 7) & ~7)
        if after > self._end:
            if not self._make_way(after - self._at):
                return False
            begin = self._at + FRAME_BYTES
            after = begin + ((length + 7) & ~7)
        self._memory[begin : begin + length] = data
        at = self._at
        # `checksum`, written out
        _pack_into(self._memory, at, length, crc ^ (((self._lap + at) * SPREAD ^ sequence) & 0xFFFFFFFF), sequence)
        self._at = after
        return True

    def _make_way(self, size: int) -> bool:
        """Have `_at` and `_end` enclose at least this many bytes, in the next lap if need be; False if they can't."""
        rest = HEADER + self.size - self._at
        if size > rest and (rest + size > self._room or not self._next_lap()):
            return False
        if size > self._room or not self._allocate(self._at - HEADER + size):
            return False
        self._end = HEADER + min(self._at - HEADER + self._room, self.size, self._allocated)
        return True

    def _next_lap(self) -> bool:
        """Go to the front of the ring; False if that is not free."""
        rest = HEADER + self.size - self._at
        if rest > self._room:
            return False
        if rest >= FRAME_BYTES:
            if not self._allocate(self._at - HEADER + FRAME_BYTES):
                return False
            _pack_into(self._memory, self._at, WRAP, checksum(0, self._head, self.sequence), self.sequence)
        self._lap += self.size
        self._at = self._end = HEADER
        return True

    def _allocate(self, end: int) -> bool:
        """Have memory up to this offset, and some more, in the first lap; False if there is no room any more."""
        if end <= self._allocated:
            return True
        end = min(end + STEP_BYTES, self.size)
        try:
            if os.fstat(self._descriptor).st_ino != self._inode:  # somebody has closed it, and it is another file now
                return False
            allocate(self._descriptor, self._memory, self._allocated, end)
        except OSError:
            return False
        self._allocated = max(self._allocated, end)
        return True

    @property
    def _head(self) -> int:
        """The position of the next frame."""
        return self._lap + self._at

    @property
    def _room(self) -> int:
        """How many bytes are free."""
        return self._tail + self.size - self._head

    def keep(self, record: bytes) -> bool:
        """Write a stored record that `append` refused, and which an open span will need; False if the lock is taken."""
        if self._is_over:
            return True
        with self._locked(LOCK_PATIENCE) as is_mine:
            if is_mine:
                self._kept += 1
                self._write(record, crc32(record), STORED | self._kept)
            return is_mine

    def settle(self, sequence: int) -> None:
        """Note that the records up to this one are stored, or lost and counted. Prepare memory for the next ones.

        Whoever records does that only if the worker is late: beside a loop that never waits it can be, by seconds.
        """
        if not self._is_over:
            self._allocate(min(self._at - HEADER + AHEAD_BYTES, self.size))
        self._committed = max(self._committed, sequence)
        self._note(self._tail)

    def rewind(self) -> None:
        """No span is open: if all is stored, begin again at the front, so that a quiet process takes little memory."""
        worth_it = self._at - HEADER >= min(AHEAD_BYTES, self.size // 4)
        if self._is_over or not worth_it or not self._is_settled:
            return
        with self._locked() as is_mine:
            if is_mine and self._is_settled and not self._contended and self._next_lap():
                self._free(self._head)

    @property
    def _is_settled(self) -> bool:
        """All that is in it is stored."""
        return self._committed >= self.sequence

    def make_room(self, is_open: Callable[[str], bool]) -> None:
        """Free the oldest quarter if more than half is taken, but for what is not stored, or belongs to open spans."""
        if self._is_over or self._head - self._tail <= self.size // 2 or self._head < self._worth_it_from:
            return
        before = self._head - self._tail
        until = self._tail + self.size // 4
        position = self._tail
        while position < until:
            offset = position % self.size
            if self.size - offset < FRAME_BYTES:
                position += self.size - offset
                continue
            length, _, sequence = FRAME.unpack_from(self._memory, HEADER + offset)
            if length == WRAP:
                position += self.size - offset
                continue
            if self._committed < sequence < STORED:
                break
            begin = HEADER + offset + FRAME_BYTES
            data = self._memory[begin : begin + length]
            if self._belongs_to_open(data, is_open) and not self._carry(data, sequence):
                break
            position = next_position(position, length)
        self._free(position)
        if before - (self._head - self._tail) < self.size // 16:  # nearly all of it belongs to open spans
            self._worth_it_from = self._head + self.size // 8

    @staticmethod
    def _belongs_to_open(data: bytes, is_open: Callable[[str], bool]) -> bool:
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
            span_id = getattr(decode(data), "span_id", None)
            return span_id is not None and is_open(span_id)
        return False

    def _carry(self, data: bytes, sequence: int) -> bool:
        with self._locked(LOCK_PATIENCE) as is_mine:
            return is_mine and self._write(data, crc32(data), sequence)

    def _free(self, position: int) -> None:
        """Let what is before this position be written over."""
        self._note(position)  # first, so that who reads the ring never begins at what was written over
        self._tail = position

    def _note(self, tail: int) -> None:
        self._notes += 1
        write_progress(self._memory, self._notes, tail, self._committed)

    def forget_if_stuck(self) -> None:
        """Count what waits for a thread that does not come back. For the worker, after each batch.

        Ctrl-C at the wrong moment leaves the lock with its thread until that thread records again.
        """
        with self._locked() as is_mine:
            if is_mine:
                self._write_contended()
        if is_mine or not self._contended:
            self._stuck_since = None
        elif self._stuck_since is None or self._stuck_since[0] != self.sequence:
            self._stuck_since = (self.sequence, time.monotonic())
        elif time.monotonic() - self._stuck_since[1] > STUCK_AFTER:
            while self._contended:
                self._leave_out(self._contended.popleft())

    @property
    def is_sound(self) -> bool:
        """Its file is there, and locked. Somebody may have deleted it, or closed all descriptors, as daemons do."""
        try:
            found = os.fstat(self._descriptor)
        except OSError:
            return False
        return found.st_ino == self._inode and found.st_nlink > 0

    @property
    def name(self) -> str:
        """The name by which the database knows it."""
        return self.path.name

    def close(self) -> bool:
        """Take nothing more; delete the file if all that it took is stored.

        Returns:
            False if something is not stored yet, or somebody writes just now: call it again. Should the process end
            before, the next one takes over what is not stored.
        """
        if not self._is_over:
            with self._locked() as is_mine:
                if not is_mine:
                    return False
                self._write_contended()
                self._is_over = True
        if not self._is_settled:
            return False
        with contextlib.suppress(OSError):
            self.path.unlink()
        self._release()
        give_back(self.path)
        return True

    def leave(self) -> None:
        """Take nothing more, and leave the file to whoever uses the database next, even if that is this process."""
        with self._locked(LOCK_PATIENCE) as is_mine:
            self._is_over = True
            if is_mine:
                self._write_contended()
                self._release()
                give_back(self.path)

    def let_go(self) -> None:
        """In a forked child: the ring is its parent's. Close the inherited file."""
        self._is_over = True
        self._lock, self._inside = new_lock(), False  # the inherited lock may be held by a thread of the parent
        self._release()

    def _release(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        try:
            if os.fstat(descriptor).st_ino != self._inode:
                return  # somebody has closed it, and the mmap module's as well: those numbers are other files now
            os.close(descriptor)
        except OSError:
            return
        self._memory.close()
