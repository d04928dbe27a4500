"""OtlpStore: spans are sent when they end, by OpenTelemetry's protocol, and kept nowhere: nothing can be read."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NoReturn, cast

import msgspec

from tracer._exceptions import StoreError, TransientStoreError
from tracer._http import Backoff
from tracer.otlp.endpoint import read_endpoint
from tracer.otlp.outgoing import Outgoing
from tracer.otlp.sending import (
    SECONDS,
    Delivered,
    Sender,
    StoppedError,
    TryLaterError,
    deliver,
    import_modules,
    make_sender,
)
from tracer.store.base import Store, StoreOptions
from tracer.store.batch import Batch, Export, ExportCounts, SpanRow, TracePatch
from tracer.store.http.place import place_of
from tracer.store.rows import span_of
from tracer.store.uri import otlp_endpoint
from tracer.store.wire import METHODS

__all__ = ["OtlpStore", "make_otlp_store"]

logger = logging.getLogger("tracer")

REFUSED_PAUSE = 30.0  # seconds between two tries while the receiver takes nothing from this sender
MOST_TRACES = 10_000  # of which is remembered what they are, until their first span ends


class _Facts(msgspec.Struct):
    """What is known of a trace while it runs."""

    experiment: str = "Default"
    session_id: str | None = None
    user_id: str | None = None
    root_span_id: str | None = None


class OtlpStore:
    """Sends a batch's spans as often as it takes, whoever calls `write` again. The other half of a `Store` is refused.

    A batch that is written again after a part of it was taken sends the rest; after a crash, it may send all of it.

    Args:
        uri: ``otlp+http(s)://host[:port]`` or ``otlp+grpc(s)://host[:port]``.
    """

    expired = 0
    files_moved_aside = 0
    may_open = True
    needs_signs_of_life = False
    only_sends = True

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.options = StoreOptions()
        self.export_counts: ExportCounts | None = ExportCounts()
        self._endpoint = read_endpoint(otlp_endpoint(uri), "tracking_uri")
        import_modules(self._endpoint)
        self.beside: Path | None = place_of(self._endpoint.target)
        self._sender: Sender | None = None
        self._headers: object = None
        self._backoff = Backoff()
        self._facts: OrderedDict[str, _Facts] = OrderedDict()
        self._done: set[tuple[str, str]] = set()
        self._sources: dict[str, int] = {}
        self._told_of_exports = False

    async def open(self) -> None:
        """Do nothing: the first request connects."""

    async def aclose(self) -> None:
        """Close the connection. Never raises."""
        sender, self._sender = self._sender, None
        if sender is not None:
            with contextlib.suppress(Exception):
                await sender.aclose()

    async def write(self, batch: Batch) -> None:
        """Send what ended in the batch, and wait until the receiver has answered."""
        self._learn(batch.traces)
        spans = [self._outgoing(row) for row in batch.spans if row.end_time_ns is not None]
        due = [span for span in spans if _key(span) not in self._done]
        sender = await self._connected()
        reasons: list[str] = []

        async def done(delivered: Delivered) -> None:
            self._done.update(map(_key, delivered.spans))
            self._count(sent=len(delivered.spans) - delivered.refused, refused=delivered.refused)
            if delivered.refused:
                reasons.append(delivered.reason or "it does not say why")

        seconds = max(0.05, min(SECONDS, self.options.ends_at - time.monotonic()))
        try:
            await deliver(sender, due, self.options.export_keys, done, seconds=seconds)
        except TryLaterError as error:
            self._count(retries=1)
            pause = max(self._backoff.next_pause(), error.retry_after or 0.0)
            raise TransientStoreError(str(error), retry_after=pause) from error
        except StoppedError as error:
            self._count(retries=1)
            raise TransientStoreError(str(error), retry_after=REFUSED_PAUSE, is_refusal=True) from error
        self._backoff.succeeded()
        self._done.clear()
        self._sources.update(batch.sources)
        if reasons:
            logger.error("spans were refused by %s, and are not sent again: %s", self._endpoint.target, reasons[0])

    async def _connected(self) -> Sender:
        if self._sender is None or self._headers != self.options.export_headers:
            await self.aclose()
            self._headers = self.options.export_headers
            self._sender = make_sender(self._endpoint, self.options.export_headers)
        return self._sender

    def _learn(self, patches: list[TracePatch]) -> None:
        """Remember what batches say of traces: a span that ends does not say it again."""
        for patch in patches:
            facts = self._facts.pop(patch.trace_id, None) or _Facts()
            facts.experiment = patch.experiment or facts.experiment
            facts.session_id = patch.session_id or facts.session_id
            facts.user_id = patch.user_id or facts.user_id
            facts.root_span_id = patch.root_span_id or facts.root_span_id
            self._facts[patch.trace_id] = facts
        while len(self._facts) > MOST_TRACES:
            self._facts.popitem(last=False)

    def _outgoing(self, row: SpanRow) -> Outgoing:
        facts = self._facts.get(row.trace_id) or _Facts()
        return Outgoing(
            span=span_of(row),
            experiment=facts.experiment,
            session_id=facts.session_id,
            user_id=facts.user_id,
            stands_for_trace=row.span_id == facts.root_span_id,
        )

    def _count(self, **changes: int) -> None:
        counts = self.export_counts or ExportCounts()
        self.export_counts = counts.plus(**changes)

    async def sign_of_life(self) -> None:
        """Do nothing: nobody reads."""

    async def tidy(self) -> bool:
        """Do nothing: nothing is kept."""
        return False

    async def expire(self) -> bool:
        """Do nothing: nothing is kept."""
        return False

    async def taken_over(self, source: str) -> int:
        """Return how far a file was taken over by this process: no other is known."""
        return self._sources.get(source, 0)

    async def live_chunks(self, trace_id: str, span_id: str) -> list[tuple[int, bytes]]:
        """Return nothing: nothing is kept of what runs."""
        return []

    async def forget_source(self, source: str) -> None:
        """Forget a file, which is gone."""
        self._sources.pop(source, None)

    async def end_process(self, process_id: str, sources: list[str]) -> None:
        """Forget the files of a process that has ended."""
        for source in sources:
            self._sources.pop(source, None)

    async def take_exports(self, taker: str, most: int) -> list[Export]:
        """Return nothing, and say that there are two receivers and only one is used."""
        if not self._told_of_exports:
            self._told_of_exports = True
            logger.warning("otlp_endpoint does nothing here: the tracking URI %s sends each span already", self.uri)
        return []

    async def end_exports(self, keys: list[int]) -> None:
        """Do nothing."""

    async def return_exports(self, taker: str) -> None:
        """Do nothing."""


def make_otlp_store(uri: str) -> Store:
    """Return the store, with the methods that read: each says why it can't."""
    return cast("Store", OtlpStore(uri))


def _key(outgoing: Outgoing) -> tuple[str, str]:
    return outgoing.span.trace_id, outgoing.span.span_id


def _refusing(name: str) -> Callable[..., Awaitable[Any]]:
    async def refuse(self: OtlpStore, *_arguments: object, **_named: object) -> NoReturn:
        raise StoreError(
            f"{name} can't be answered: the tracking URI {self.uri} only sends spans. To read them here as well, keep "
            f"them: tracer.set_tracking_uri('sqlite:///tracer.db') and "
            f"tracer.configure(otlp_endpoint={otlp_endpoint(self.uri)!r})"
        )

    refuse.__name__ = name
    refuse.__doc__ = "Raise StoreError: nothing is kept."
    return refuse


for _name in METHODS:
    if not hasattr(OtlpStore, _name):
        setattr(OtlpStore, _name, _refusing(_name))
