"""Generators under ``@trace``: each step runs inside the span, each item is noted, and the end ends the span."""

from __future__ import annotations

import functools
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from types import MethodType
from typing import Any

from tracer.capture.records import Codec, Ending, Payload
from tracer.spans._call_plan import Plan
from tracer.spans.context import current_span, leave, open_current
from tracer.spans.guard import report
from tracer.spans.live_span import LiveSpan
from tracer.spans.opening import CURRENT

__all__ = ["wrap_async_generator", "wrap_generator"]

ITEM_EVENT = "tracer.item"
_LEFT_OUT = Payload(Codec.VALUE, b"", 1)


class TracedGenerator(functools.partial[Any]):
    """A traced generator function: notes who called it, and hands that to the generator function which does the work.

    A generator function runs nothing of itself when it is called, so it can't know its caller: its first step may come
    when the span around the call has ended, as with a response that is streamed after the endpoint has returned. A
    plain function would know, but would no longer be a generator function for `inspect` (and for Starlette, pytest,
    `contextlib`). `inspect` looks through partials, so this is one; it binds, pickles and is copied as functions are.
    """

    __qualname__: str
    __wrapped__: Callable[..., Any]

    @classmethod
    def of(cls, func: Callable[..., Any], runs: Callable[..., Any]) -> TracedGenerator:
        """Make one that looks like `func`.

        Args:
            func: The user's function.
            runs: A generator function of the caller's span, the arguments and the keyword arguments.
        """
        made = cls(runs)
        functools.update_wrapper(made, runs)
        made.__wrapped__ = func
        return made

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self.func(open_current(), args, kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __reduce__(self) -> str:
        return self.__qualname__


class _Steps:
    """One run of a generator, and its span, which begins with the first step, notes each item, and ends once.

    The driver is the wrapper's loop. It calls `enter`, `step` and `leave`, hands the item to the reader, and calls
    `send` or `throw`, depending on how the reader came back. Sync and async drivers differ only in their ``await``.

    Args:
        plan: What is known of the function.
        parent: The span that was current when the function was called. It is the parent even if it has ended by now. If
            there was none, it is the one that is current at the first step.
        resume: The generator's ``send`` or ``asend``.
        throw: Its ``throw`` or ``athrow``.
        stop: The exception that the generator raises at its end.

    Attributes:
        step: Runs the generator's next step; returns an item, or an awaitable of an item.
    """

    def __init__(
        self,
        plan: Plan,
        parent: LiveSpan | None,
        *,
        resume: Callable[[Any], Any],
        throw: Callable[..., Any],
        stop: type[BaseException],
    ) -> None:
        self._plan = plan
        self._span = plan.open(CURRENT if parent is None else parent)
        self._before: LiveSpan | None = None
        self._resume = resume
        self._throw = throw
        self._stop = stop
        self._items: list[Any] = []
        self._count = 0
        self._room = 0  # bytes that may still be kept of the items
        self._closing = False  # the reader closed or dropped the generator
        self.step: Callable[[], Any] = functools.partial(resume, None)

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Begin the span."""
        if self._span is not None:
            self._room = self._span.settings.max_payload_bytes // 2  # an item is stored as an event, and in the outputs
            self._plan.begin(self._span, args, kwargs)
            if self._span.is_recording:
                self._span.pipeline.unfinished.add(self)

    def enter(self) -> None:
        """Make the span current for one step."""
        if self._span is not None:
            self._before = current_span.get()
            current_span.set(self._span)

    def leave(self) -> None:
        """Make the span current again that was current before the step."""
        if self._span is not None:
            leave(self._span, self._before)
            self._before = None

    def send(self, value: object) -> None:
        """The reader wants the next item, and has sent `value`."""
        self.step = functools.partial(self._resume, value)

    def throw(self, error: BaseException) -> None:
        """The reader has thrown `error` in. The next step runs the function's own handlers, and brings the result."""
        self._closing = isinstance(error, GeneratorExit)
        self.step = functools.partial(self._throw, error)

    def yielded(self, item: object) -> None:
        """Note one item."""
        span = self._span
        if span is None:
            return
        try:
            # The items together are one value, the span's outputs. Without room, an item is not even looked at.
            value = span.snapshot(item, self._room) if self._room > 0 else _LEFT_OUT
            span.note(ITEM_EVENT, {"index": self._count}, value=value)
            self._room -= len(value.data) if value is not None else 0
        except Exception:
            report(f"tracing an item of {self._plan.name}")
        self._count += 1
        if self._plan.reducer is not None:
            self._items.append(item)

    def end(self) -> None:
        """End the span by what the step raised: as completed, abandoned (closed by its reader), cancelled or failed.

        Uses the exception that is being handled. A second call does nothing.
        """
        # Breaks a reference cycle: `step` may hold an exception that was thrown in, its traceback holds the driver's
        # frame, and that frame holds this object.
        self.step = self._over
        self.leave()
        span = self._span
        if span is None:
            return
        span.pipeline.unfinished.discard(self)
        if span.has_ended:
            return
        try:
            raised = sys.exc_info()[1]
            error = None if isinstance(raised, self._stop) else raised
            outputs = self._outputs(span)
            if self._closing and (error is None or isinstance(error, GeneratorExit)):
                span.finish(Ending.CLOSED, outputs=outputs)
            else:
                span.finish_with(error, outputs)
        except Exception:
            report(f"tracing the end of {self._plan.name}")

    def abandon(self) -> None:
        """The process ends, and with it the span. A thread may still be in the middle of a step."""
        span = self._span
        if span is None or span.has_ended:
            return
        try:
            span.finish(Ending.COLLECTED, outputs=self._outputs(span))
        except Exception:
            report(f"tracing the end of {self._plan.name}")

    def _outputs(self, span: LiveSpan) -> Payload | None:
        """Return the span's outputs. If there are none of its own, the worker uses the items, which it knows."""
        own = self._plan.reducer is not None or not self._count
        return self._plan.reduced(span, self._items) if own else None

    @staticmethod
    def _over() -> Any: ...


def wrap_generator(func: Callable[..., Generator[Any, Any, Any]], plan: Plan) -> Callable[..., Any]:
    @functools.wraps(func)
    def traced(parent: LiveSpan | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Generator[Any, Any, Any]:
        run = func(*args, **kwargs)
        steps = _Steps(plan, parent, resume=run.send, throw=run.throw, stop=StopIteration)
        try:
            try:
                steps.begin(args, kwargs)
                while True:
                    steps.enter()
                    fresh = [steps.step()]  # emptied when the item is handed over, so that we do not keep it alive
                    steps.leave()
                    steps.yielded(fresh[0])
                    try:
                        steps.send((yield fresh.pop()))
                    except BaseException as error:
                        steps.throw(error)
            finally:
                try:
                    steps.end()
                finally:
                    steps.end()
        except StopIteration as stop:
            return stop.value

    return TracedGenerator.of(func, traced)


def wrap_async_generator(func: Callable[..., AsyncGenerator[Any, Any]], plan: Plan) -> Callable[..., Any]:
    @functools.wraps(func)
    async def traced(
        parent: LiveSpan | None, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> AsyncGenerator[Any, Any]:
        run = func(*args, **kwargs)
        steps = _Steps(plan, parent, resume=run.asend, throw=run.athrow, stop=StopAsyncIteration)
        try:
            try:
                steps.begin(args, kwargs)
                while True:
                    steps.enter()
                    fresh = [await steps.step()]
                    steps.leave()
                    steps.yielded(fresh[0])
                    try:
                        steps.send((yield fresh.pop()))
                    except BaseException as error:
                        steps.throw(error)
            finally:
                try:
                    steps.end()
                finally:
                    steps.end()
        except StopAsyncIteration:
            return

    return TracedGenerator.of(func, traced)
