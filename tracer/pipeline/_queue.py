"""RecordQueue: bounded by count and by bytes, never blocks, never raises, counts what it refuses.

Producers take no lock. A lock would let one thread of the user's wait for another, and would deadlock when the
garbage collector ends a dropped stream in the middle of a push. A push needs only `deque.append` and
`itertools.count`, and each is one C call (CPython's faq, "What kinds of global value mutation are thread-safe?").
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable

import msgspec

from tracer.capture.records import Encoded, Rank
from tracer.pipeline.ring import Ring, Ringed

__all__ = ["QueueStatistics", "RecordQueue", "Tally"]

BATCH_MAX_BYTES = 8 * 1024 * 1024  # of records in one transaction, unless the settings allow fewer of them

SHED_AT = {Rank.CHUNK: 0.8, Rank.DETAIL: 0.9, Rank.START: 1.0}
HIGH_WATER = 0.5
UNBOUNDED = 2**63


class Tally:
    """A counter that any thread may raise without a lock."""

    __slots__ = ("_count",)

    def __init__(self) -> None:
        self._count = itertools.count()

    def add(self) -> None:
        """Raise by one."""
        next(self._count)

    @property
    def value(self) -> int:
        # Only its repr shows the count without raising it; `__reduce__` is gone in Python 3.14.
        return int(repr(self._count)[6:-1])


class QueueStatistics(msgspec.Struct, frozen=True):
    """The state of the queue. Always ``accepted == drained + depth``."""

    depth: int
    bytes: int
    accepted: int
    drained: int
    refused: dict[str, int]


class _Alarm:
    """One request of the consumer to be woken, when the queue holds a given number of records or bytes.

    `RecordQueue.push` rings it if `at_records` records are before the new one, or if all of them are `at_bytes` bytes.
    It rings once, or a few times if producers race; that is harmless. Each sleep of the consumer has its own alarm, so
    a late producer can only silence the alarm of a sleep that is over. ``_rung`` is set after the ring, so that the
    next producer rings again if a KeyboardInterrupt comes between the two.
    """

    __slots__ = ("_ring", "_rung", "at_bytes", "at_records")

    def __init__(self, ring: Callable[[], None], at_records: int, at_bytes: int) -> None:
        self._ring = ring
        self._rung = False
        self.at_records = at_records
        self.at_bytes = at_bytes

    def ring(self) -> None:
        if not self._rung:
            self._ring()
            self._rung = True


class RecordQueue:
    """Encoded records on their way to the worker: many producers, one consumer.

    As the queue fills, it refuses more: chunks from 80 % full, details and bodies from 90 %, new spans when full. The
    end of a span that was accepted is never refused. So the queue can exceed its bounds by one record for each open
    span, and by one for each thread that pushes at the very same moment.
    """

    def __init__(self, max_records: int, max_bytes: int) -> None:
        self._records: deque[Ringed | Encoded] = deque()
        self._ring: Ring | None = None
        self.lacks_ring = True  # the next record should be preceded by `CrashRing.open`
        self._unringed = Tally()
        self._ringed: dict[Ring, int] = {}
        self.missed: list[Encoded] = []
        self._bytes = 0
        self._drained = 0
        self._refused = {rank: Tally() for rank in SHED_AT}
        self._alarm = _Alarm(lambda: None, UNBOUNDED, UNBOUNDED)
        self.set_limits(max_records, max_bytes)

    def set_ring(self, ring: Ring | None) -> None:
        """Have what is pushed from now on written into a crash ring as well; None stops that."""
        self._ring = ring

    @property
    def wants_skeletons(self) -> bool:
        """`push` should be given a skeleton for the ring (`tracer.pipeline.skeletons`)."""
        ring = self._ring
        return ring is not None and not ring.keeps_texts

    def take_ringed(self) -> dict[Ring, int]:
        """Return how far each ring was drained since the last call. Consumer only."""
        ringed, self._ringed = self._ringed, {}
        return ringed

    @property
    def unringed(self) -> int:
        """How many records the ring did not take, while there was one."""
        ring = self._ring
        return self._unringed.value + (0 if ring is None else ring.left_out)

    def set_limits(self, max_records: int, max_bytes: int) -> None:
        """Change the bounds; what is queued stays."""
        self._max_records = [int(max_records * share) for share in SHED_AT.values()] + [UNBOUNDED]
        self._max_bytes = [int(max_bytes * share) for share in SHED_AT.values()] + [UNBOUNDED]
        self._least_records, self._least_bytes = self._max_records[Rank.CHUNK], self._max_bytes[Rank.CHUNK]
        self._high_records = int(max_records * HIGH_WATER)
        self._high_bytes = int(max_bytes * HIGH_WATER)

    def has_room(self, rank: Rank, size: int = 0) -> bool:
        """Tell whether a record of this rank and size would be accepted now; counts nothing."""
        return len(self._records) < self._max_records[rank] and self._bytes + size <= self._max_bytes[rank]

    @property
    def is_pressed(self) -> bool:
        """It is half full: the next records may not find room."""
        return len(self._records) >= self._high_records or self._bytes >= self._high_bytes

    def push(self, record: Encoded, rank: Rank, skeleton: bytes | None = None) -> bool:
        """Append a record, or refuse and count it. Safe in any thread, in a finalizer and in a signal handler."""
        depth = len(self._records)
        size = self._bytes + len(record)
        # Below the lowest bounds every rank is accepted, so nearly all records need only this one check.
        if (depth >= self._least_records or size > self._least_bytes) and not self.has_room(rank, len(record)):
            self._refused[rank].add()
            return False
        # Not atomic in theory. If an update is lost here, `drain` corrects it when the queue is next empty.
        self._bytes = size
        ring = self._ring
        if ring is None:
            self._records.append(record)
        elif not ring.append(record, self._records, skeleton):
            self._unringed.add()
            self._records.append(record)
        alarm = self._alarm  # not before the record is there: see `call_when`
        if depth >= alarm.at_records or size >= alarm.at_bytes:
            alarm.ring()
        return True

    def refuse(self, rank: Rank) -> None:
        """Count a record that was not even made because there was no room."""
        self._refused[rank].add()

    def drain(self, max_records: int, max_bytes: int = BATCH_MAX_BYTES) -> list[Encoded]:
        """Take the oldest records, within both limits; only the last record may exceed `max_bytes`. Consumer only.

        A few more are taken if some of them found a ring's lock taken, and are in the ring behind records that would be
        left: how far the ring is stored is one number, so the process must not be killed between the two.
        """
        taken: list[Encoded] = []
        size = 0
        late: dict[Ring, int] = {}
        record: Encoded
        current = self._ring
        reached = current.reached_when_empty() if current is not None and self._records else 0
        while (len(taken) < max_records and size < max_bytes) or (late and self._is_split(late)):
            try:
                item = self._records.popleft()
            except IndexError:
                self._bytes = size
                if current is not None and reached:
                    late[current] = max(reached, late.get(current, 0))
                for ring, sequence in late.items():
                    self._ringed[ring] = max(sequence, self._ringed.get(ring, 0))
                break
            self._drained += 1  # one by one, so that a thread that counts meanwhile does not miss a whole batch
            if isinstance(item, tuple):
                ring, place, record = item
                if isinstance(place, int):
                    self._ringed[ring] = place
                elif sequence := ring.place(place):
                    late[ring] = max(sequence, late.get(ring, 0))
            else:
                record = item
                if self._ring is not None:
                    self.missed.append(record)
            taken.append(record)
            size += len(record)
        self._bytes -= size
        return taken

    def _is_split(self, late: dict[Ring, int]) -> bool:
        return any(sequence > self._ringed.get(ring, 0) for ring, sequence in late.items())

    def call_when(self, wake: Callable[[], None], *, at_once: bool) -> None:
        """Have the producer of the next record, or of the one that fills half the queue, call `wake`.

        A wake-up costs that producer a system call, so the consumer asks for the next record only when it is about
        to sleep for long. Records that came before this call do not call `wake`, so look at the queue after this call.
        """
        self._alarm = _Alarm(wake, 0, 0) if at_once else _Alarm(wake, self._high_records, self._high_bytes)

    def __len__(self) -> int:
        return len(self._records)

    @property
    def accepted(self) -> int:
        """How many records were ever accepted."""
        return sum(self._drained_and_depth())

    @property
    def drained(self) -> int:
        """How many records the consumer has taken."""
        return self._drained

    def _drained_and_depth(self) -> tuple[int, int]:
        """Read both counts; read again if the consumer took a record in between."""
        while True:
            drained, depth = self._drained, len(self._records)
            if drained == self._drained:
                return drained, depth

    def statistics(self) -> QueueStatistics:
        """Return the counts. Safe in any thread. While the consumer works, `accepted` may be one record too low."""
        drained, depth = self._drained_and_depth()
        refused = {rank.name.lower(): tally.value for rank, tally in self._refused.items()}
        return QueueStatistics(depth, max(0, self._bytes), drained + depth, drained, refused)
