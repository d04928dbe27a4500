"""The guard between tracer and user code: an error in tracer never reaches a traced call."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from tracer.pipeline.throttle import Throttle

__all__ = ["guarded", "report"]

P = ParamSpec("P")
R = TypeVar("R")
logger = logging.getLogger("tracer")

_throttle = Throttle()


def guarded(method: Callable[P, R]) -> Callable[P, R | None]:
    """Log what one of our methods raises, and return None instead; the user's call goes on as if we were not there."""
    what = method.__qualname__

    @functools.wraps(method)
    def guard(*args: P.args, **kwargs: P.kwargs) -> R | None:
        try:
            return method(*args, **kwargs)
        except Exception:
            report(what)
            return None

    return guard


def report(what: str, consequence: str = "the call goes on without it") -> None:
    """Log the exception being handled, once a minute for each `what`, because an error here comes with every call."""
    if _throttle.allows(what):
        logger.exception("%s failed; %s (told at most once a minute)", what, consequence)
