"""What goes wrong in the worker: logged, but not too often, and kept for `tracer.stats`."""

from __future__ import annotations

import logging

from tracer._exceptions import StoreError
from tracer.pipeline.throttle import Throttle

__all__ = ["ErrorLog"]

logger = logging.getLogger("tracer")


class ErrorLog:
    """Logs errors, each kind at most once a minute: a full disk must not fill the log as well.

    Attributes:
        last: The last error in words; None if there was none.
    """

    def __init__(self) -> None:
        self.last: str | None = None
        self._throttle = Throttle()

    def report(self, what: str, error: BaseException, count: int | None = None) -> None:
        """Log and keep an error. `what` names its kind; `count` says how many records or spans it cost."""
        self.last = f"{type(error).__name__}: {error}"
        if self._throttle.allows(what):
            text = what if count is None else f"{count} {what}"
            # What is wrong with a store (a full disk) is in its message; the way to it through our code helps nobody.
            shown = None if isinstance(error, StoreError) else error
            logger.error("%s: %s (told at most once a minute; see tracer.stats())", text, error, exc_info=shown)
