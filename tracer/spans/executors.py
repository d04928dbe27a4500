"""Threads of executors, which know nothing of the span that was current where their work was handed over.

``asyncio.to_thread`` copies the context; ``ThreadPoolExecutor.submit`` and ``loop.run_in_executor`` don't, so each call
in there is a trace of its own. The setting `propagate_to_threads` changes that, by a wrapper around ``submit``, through
which ``run_in_executor`` and ``map`` go as well. Only the current span is carried, not the rest of the user's context.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from tracer.spans.context import current_span, leave, open_current
from tracer.spans.live_span import LiveSpan

__all__ = ["propagate_to_threads"]

P = ParamSpec("P")
T = TypeVar("T")
Submit = Callable[..., Future[Any]]

_lock = threading.Lock()
_patched: tuple[Submit, Submit] | None = None  # (what was there, what we put there)
_wanted = False


def propagate_to_threads(wanted: bool) -> None:
    """Carry the current span into executors from now on, or stop. Work that was handed over already keeps its span.

    If another library has wrapped our wrapper meanwhile, its wrapper stays, and ours below it does nothing.
    """
    global _patched, _wanted
    with _lock:
        _wanted = wanted
        if wanted and _patched is None:
            found: Submit = ThreadPoolExecutor.submit
            _patched = found, _wrap(found)
            ThreadPoolExecutor.submit = _patched[1]  # type: ignore[method-assign]
        elif not wanted and _patched is not None and ThreadPoolExecutor.submit is _patched[1]:
            ThreadPoolExecutor.submit = _patched[0]  # type: ignore[method-assign]
            _patched = None


def _wrap(original: Submit) -> Submit:
    @functools.wraps(original)
    def submit(self: Any, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        span = open_current() if _wanted else None
        if span is None:
            return original(self, fn, *args, **kwargs)
        return original(self, _run_below, span, fn, *args, **kwargs)

    return submit


def _run_below(span: LiveSpan, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    before = current_span.get()
    try:
        current_span.set(span)
        return fn(*args, **kwargs)
    finally:
        leave(span, before)
