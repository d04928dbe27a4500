"""Exporter: sends what ended to a receiver of OpenTelemetry's protocol, beside the worker's other work.

The store remembers what is still to be sent (`Store.take_exports`). So nothing is lost while the receiver is away, nor
if this process ends: the next one goes on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import anyio

from tracer._config import Settings
from tracer._exceptions import StoreError
from tracer._http import Backoff
from tracer.otlp.endpoint import read_endpoint
from tracer.otlp.sending import SECONDS, Delivered, Sender, StoppedError, TryLaterError, deliver, make_sender
from tracer.pipeline._error_log import ErrorLog
from tracer.pipeline._time_slices import Slices
from tracer.pipeline.throttle import Throttle
from tracer.store.base import Store
from tracer.store.batch import Export, ExportCounts
from tracer.store.process import current_process

__all__ = ["Exporter"]

logger = logging.getLogger("tracer")

MOST = 256  # spans that are taken at once
LOOK_EVERY = 60.0  # seconds between two looks at most: other processes may have left something
PRESSED_PAUSE = 9.0  # times as long as a step has taken, while the queue is half full
AT_THE_END = 2.0  # seconds in which a process that ends sends what is left

_Place = tuple[str | None, object, tuple[str, ...]]


class Exporter:
    """Sends in steps, in the order in which spans ended. Belongs to the worker's loop.

    Args:
        store: Knows what is to be sent.
        settings: Returns the current settings.
        is_pressed: The worker can hardly keep up with the records.
        errors: Receives what goes wrong.

    Attributes:
        counts: What was done so far. It may be read in any thread.
    """

    def __init__(
        self, store: Store, settings: Callable[[], Settings], is_pressed: Callable[[], bool], errors: ErrorLog
    ) -> None:
        self.counts = ExportCounts()
        self._store = store
        self._settings = settings
        self._is_pressed = is_pressed
        self._errors = errors
        self._slices = Slices()
        self._refusals = Throttle()
        self._backoff = Backoff()
        self._sender: Sender | None = None
        self._place: _Place | None = None
        self._is_stopped = False
        self._seconds = SECONDS

    def begin(self) -> None:
        """Begin in a new loop, before anything else is called there."""
        self._event = anyio.Event()
        self._turn = anyio.Lock()

    def look(self) -> None:
        """Something was written, or the settings may be others: look soon. Costs nothing without an endpoint."""
        if self._settings().otlp_endpoint is not None or self._sender is not None:
            self._event.set()

    async def run(self) -> None:
        """Send what is due, again and again. Without an endpoint, it sleeps until `look`."""
        while True:
            self._event = anyio.Event()
            began = time.monotonic()
            pause = await self._try_step()
            if pause == 0.0:
                await anyio.sleep((time.monotonic() - began) * PRESSED_PAUSE if self._is_pressed() else 0)
                continue
            if pause is not None:
                await self._rest(pause)
                continue
            with anyio.move_on_after(LOOK_EVERY if self._settings().otlp_endpoint is not None else None):
                await self._event.wait()

    async def _rest(self, pause: float) -> None:
        """Wait until the receiver is to be tried again, or another one is set."""
        with anyio.move_on_after(pause):
            while self._place == self._wanted():
                await self._event.wait()
                self._event = anyio.Event()

    async def finish(self, seconds: float) -> None:
        """Send for a last moment, and close the connection. What is left, the next process sends."""
        with anyio.move_on_after(min(seconds, AT_THE_END)):
            self._seconds = AT_THE_END
            while await self._try_step() == 0.0:
                pass
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection. Never raises."""
        sender, self._sender, self._place = self._sender, None, None
        self._seconds = SECONDS
        if sender is not None:
            with anyio.CancelScope(shield=True), anyio.move_on_after(1):
                try:
                    await sender.aclose()
                except Exception:
                    logger.debug("a connection could not be closed", exc_info=True)

    async def _try_step(self) -> float | None:
        """Do a step. Return the seconds until the next one; None if nothing is due."""
        try:
            async with self._turn:
                return 0.0 if await self._step() else None
        except TryLaterError as error:
            self._count(retries=1)
            self._errors.report("spans wait to be sent by OTLP", StoreError(str(error)))  # its words say it all
            return max(self._backoff.next_pause(), error.retry_after or 0.0, 0.001)
        except StoppedError as error:
            self._is_stopped = True
            reason = StoreError(str(error))
            self._errors.report("spans are not sent by OTLP until otlp_endpoint or otlp_headers are set anew", reason)
            return None
        except Exception as error:
            self._errors.report("spans could not be sent by OTLP yet", error)
            return max(self._backoff.next_pause(), 0.001)

    async def _step(self) -> bool:
        """Send some spans; return whether more may be due."""
        await self._follow_settings()
        if self._sender is None or self._is_stopped:
            return False
        exports = await self._store.take_exports(current_process().process_id, MOST)
        if not exports:
            return False
        try:
            await self._send(self._sender, exports)
        except (TryLaterError, StoppedError):
            await self._store.return_exports(current_process().process_id)
            raise
        self._backoff.succeeded()
        return True

    async def _send(self, sender: Sender, exports: list[Export]) -> None:
        keys = {id(each.outgoing): each.key for each in exports}
        if gone := [each.key for each in exports if each.outgoing is None]:
            await self._store.end_exports(gone)
            self._count(deleted=len(gone))
            return  # look for more of them first: they must not pile up while the receiver is away

        async def done(delivered: Delivered) -> None:
            await self._store.end_exports([keys[id(span)] for span in delivered.spans])
            self._count(sent=len(delivered.spans) - delivered.refused, refused=delivered.refused)
            if delivered.refused and self._refusals.allows("refused"):
                logger.error(
                    "%d spans were refused by the receiver of OTLP, and are not sent again: %s (told at most once a "
                    "minute; see tracer.stats())",
                    delivered.refused, delivered.reason or "it does not say why",
                )  # fmt: skip

        spans = [each.outgoing for each in exports if each.outgoing is not None]
        self._slices.begin()
        wanted = self._settings().otlp_keys
        await deliver(sender, spans, wanted, done, offer=self._slices.offer, seconds=self._seconds)

    async def _follow_settings(self) -> None:
        """Connect to the endpoint that is set now; what stopped the one before is of no account."""
        wanted = self._wanted()
        if wanted == self._place:
            return
        await self.aclose()
        self._place, self._is_stopped = wanted, False
        settings = self._settings()
        if settings.otlp_endpoint is not None:
            self._sender = make_sender(read_endpoint(settings.otlp_endpoint), settings.otlp_headers)

    def _wanted(self) -> _Place:
        settings = self._settings()
        return settings.otlp_endpoint, settings.otlp_headers, settings.otlp_keys

    def _count(self, **changes: int) -> None:
        self.counts = self.counts.plus(**changes)
