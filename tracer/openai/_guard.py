"""The guard at the seam: nothing of ours raises into the user's call."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

__all__ = ["guarded", "report"]

P = ParamSpec("P")
R = TypeVar("R")
logger = logging.getLogger("tracer")

LOG_INTERVAL = 60.0
_logged_at: dict[str, float] = {}


def guarded(method: Callable[P, R]) -> Callable[P, R | None]:
    """Log what a hook raises, and return None instead; the user's call goes on as if we were not there."""
    what = method.__qualname__

    @functools.wraps(method)
    def guard(*args: P.args, **kwargs: P.kwargs) -> R | None:
        try:
            return method(*args, **kwargs)
        except Exception:
            report(what)
            return None

    return guard


def report(what: str) -> None:
    """Log the exception being handled; once a minute for each hook, as a fault here comes with each call."""
    now = time.monotonic()
    if now - _logged_at.get(what, -LOG_INTERVAL) >= LOG_INTERVAL:
        _logged_at[what] = now
        logger.exception("%s failed; the call goes on without it (told at most once a minute)", what)
