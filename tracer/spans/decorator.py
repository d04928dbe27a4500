"""``@trace``: a span around each call of a function, whatever kind of function it is.

A span's inputs are the bound arguments with defaults, without ``self`` or ``cls``. Its outputs are what the function
returned or, for generators, the list of what it yielded.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from typing import Any, ParamSpec, TypeVar, overload

from tracer import _semconv as sc
from tracer._exceptions import ConfigurationError
from tracer._models import SpanType
from tracer.capture.argument_checks import check_mapping, check_text, optional_share, optional_text
from tracer.capture.records import Codec, EncodedAttributes, Ending, Payload
from tracer.capture.text import clean_text
from tracer.spans._argument_binding import Binder
from tracer.spans.context import current_span, leave
from tracer.spans.guard import report
from tracer.spans.live_span import LiveSpan
from tracer.spans.opening import CURRENT, open_span

__all__ = ["trace"]

P = ParamSpec("P")
R = TypeVar("R")
Reducer = Callable[[list[Any]], Any]

ITEM_EVENT = "tracer.item"
_LEFT_OUT = Payload(Codec.VALUE, b"", 1)


@overload
def trace(
    func: Callable[P, R],
    name: str | None = None,
    span_type: str = SpanType.UNKNOWN,
    attributes: Mapping[str, object] | None = None,
    output_reducer: Reducer | None = None,
    sample_rate: float | None = None,
) -> Callable[P, R]: ...
@overload
def trace(
    func: None = None,
    name: str | None = None,
    span_type: str = SpanType.UNKNOWN,
    attributes: Mapping[str, object] | None = None,
    output_reducer: Reducer | None = None,
    sample_rate: float | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def trace(
    func: Any = None,
    name: str | None = None,
    span_type: str = SpanType.UNKNOWN,
    attributes: Mapping[str, object] | None = None,
    output_reducer: Reducer | None = None,
    sample_rate: float | None = None,
) -> Any:
    """Trace every call of a function, as ``@trace`` or ``@trace(name=…, span_type=…)``.

    Works on functions, coroutine functions, generators, async generators, methods, callable objects, and above or
    below ``@classmethod`` and ``@staticmethod``. The wrapped function behaves as before: same signature, same kind,
    same result, same exceptions, same cancellation. A generator's span starts with the generator's first step, is
    current only inside its steps, and ends with the generator. If the generator is closed early, the span is
    ``abandoned``.

    A task or thread may go on after the span around it has ended. Its calls then belong to the nearest span above that
    is still open; if there is none, each call begins a trace of its own. To keep them in one trace, put ``@trace`` on
    the task's own function.

    Args:
        func: The function, when used without parentheses.
        name: The span's name; the function's own by default.
        span_type: One of `SpanType`, or any string.
        attributes: Attributes that each span has from its start.
        output_reducer: For generators: a function that makes the span's outputs from the list of items. All items are
            then kept in memory until the generator ends. Without a reducer the items are the outputs, and none is kept
            in memory.
        sample_rate: Share of the calls that are recorded, 0 to 1, of those that begin a trace; in place of the setting
            `sample_rate`. A call inside a trace follows that trace.

    Raises:
        ConfigurationError: `func` is not a function, `output_reducer` was given for a function that is not a generator,
            or an argument has the wrong type.
    """
    if func is None:
        options = _Options(name, span_type, attributes, output_reducer, sample_rate)
        return functools.partial(_decorate, options=options)
    return _decorate(func, options=_Options(name, span_type, attributes, output_reducer, sample_rate))


class _Options:
    """The arguments of ``@trace``, checked."""

    def __init__(
        self,
        name: str | None,
        span_type: str,
        attributes: Mapping[str, object] | None,
        reducer: Reducer | None,
        sample_rate: float | None,
    ) -> None:
        self.name = optional_text("name", name)
        self.span_type = check_text("span_type", span_type)
        self.attributes = check_mapping("attributes", attributes)
        self.reducer = reducer
        if reducer is not None and not callable(reducer):
            raise ConfigurationError(f"output_reducer must be a function of a list, got {reducer!r}")
        self.sample_rate = optional_share("sample_rate", sample_rate)


def _decorate(func: Any, *, options: _Options) -> Any:
    if isinstance(func, (classmethod, staticmethod)):
        return type(func)(_decorate(func.__func__, options=options))
    if not callable(func) or inspect.isclass(func):
        raise ConfigurationError(
            f"@trace must stand above a function, got {func!r}; a name is given as @trace(name=…), "
            "and a property is traced below its @property"
        )
    plan = _Plan(func, options)
    return plan.wrap(func, plan)


class _Plan:
    """What is the same for every call of one function."""

    def __init__(self, func: Callable[..., Any], options: _Options) -> None:
        code = _code_of(func)
        self.name = options.name or getattr(code, "__name__", None) or type(func).__name__
        if code is not func and inspect.ismethod(code):  # an object with __call__
            self.name = options.name or type(func).__name__
        self.span_type = options.span_type
        function = {sc.CODE_FUNCTION_NAME: _full_name(code)}
        self.attributes = {**function, **options.attributes} if options.attributes else EncodedAttributes(function)
        self.reducer = options.reducer
        self.sample_rate = options.sample_rate
        self.wrap = _wrapper_for(func, code)
        if self.reducer is not None and self.wrap not in (_wrap_generator, _wrap_async_generator):
            raise ConfigurationError(f"output_reducer is for generators; {self.name!r} is none")
        self._binder = Binder(func)

    def open(self) -> LiveSpan | None:
        """Make a span for one call, not yet begun. If that fails, log it and return None."""
        try:
            return open_span(self.name, self.span_type, CURRENT, self.sample_rate)
        except Exception:
            report(f"tracing a call of {self.name}")
            return None

    def begin(self, span: LiveSpan, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Begin the span with the call's arguments. If that fails, log it and record nothing of the span."""
        try:
            span.begin_with(self.attributes, self._binder.bind(args, kwargs) if span.is_recording else None)
        except Exception:
            span.discard()
            report(f"tracing a call of {self.name}")

    def reduced(self, span: LiveSpan, items: list[Any]) -> Payload | None:
        """Return what the reducer makes of a generator's items. If it raises, log that and return the items."""
        outputs: Any = items
        if self.reducer is not None:
            try:
                outputs = self.reducer(items)
            except Exception:
                report(f"output_reducer of {self.name}", "its items are kept instead")
        return span.snapshot(outputs)


def _code_of(func: Any) -> Any:
    """Return the function or method that runs when `func` is called."""
    while isinstance(func, functools.partial):
        func = func.func
    return func if inspect.isroutine(func) or inspect.isclass(func) else func.__call__


def _full_name(code: Any) -> str:
    """Return module and qualified name of a function, as OpenTelemetry's ``code.function.name`` has them."""
    name = getattr(code, "__qualname__", None) or type(code).__qualname__
    module = getattr(code, "__module__", None)
    return clean_text(f"{module}.{name}" if module else str(name))


def _wrapper_for(func: Any, code: Any) -> Callable[[Callable[..., Any], _Plan], Callable[..., Any]]:
    for is_kind, wrap in (
        (inspect.isasyncgenfunction, _wrap_async_generator),
        (inspect.isgeneratorfunction, _wrap_generator),
        (inspect.iscoroutinefunction, _wrap_coroutine),
    ):
        if is_kind(func) or is_kind(code):
            return wrap
    return _wrap_function


def _finish(span: LiveSpan, error: BaseException | None = None, result: object = None) -> None:
    """End the span of a call. An error in here is logged, never raised."""
    try:
        own = error is None and span.outputs is None  # what the function has set by itself stays
        span.finish_with(error, span.snapshot(result) if own else None)
    except Exception:
        report(f"tracing the end of {span.name}")


def _raised(span: LiveSpan, before: LiveSpan | None) -> None:
    """Leave and end the span of a call that raised the exception now being handled. A second call does nothing."""
    leave(span, before)
    _finish(span, sys.exc_info()[1])


# A `KeyboardInterrupt` can come in the middle of anything that the wrappers call. So everything is inside their
# ``try``, and the clean-up is called twice: if the first call was interrupted, the second does the rest. This is in a
# ``finally`` that begins with a ``try``, because Python 3.10 also looks for signals on its way into any other handler.


def _wrap_function(func: Callable[..., Any], plan: _Plan) -> Callable[..., Any]:
    @functools.wraps(func)
    def traced(*args: Any, **kwargs: Any) -> Any:
        span, before = plan.open(), current_span.get()
        if span is None:
            return func(*args, **kwargs)
        is_over = False
        try:
            plan.begin(span, args, kwargs)
            current_span.set(span)
            result = func(*args, **kwargs)
            leave(span, before)
            _finish(span, result=result)
            is_over = True
            return result
        finally:
            try:
                if not is_over:
                    _raised(span, before)
            finally:
                if not is_over:
                    _raised(span, before)

    return traced


def _wrap_coroutine(func: Callable[..., Any], plan: _Plan) -> Callable[..., Any]:
    @functools.wraps(func)
    async def traced(*args: Any, **kwargs: Any) -> Any:
        span, before = plan.open(), current_span.get()
        if span is None:
            return await func(*args, **kwargs)
        is_over = False
        try:
            plan.begin(span, args, kwargs)
            current_span.set(span)
            result = await func(*args, **kwargs)
            leave(span, before)
            _finish(span, result=result)
            is_over = True
            return result
        finally:
            try:
                if not is_over:
                    _raised(span, before)
            finally:
                if not is_over:
                    _raised(span, before)

    return traced


class _Steps:
    """One run of a generator, and its span, which begins with the first step, notes each item, and ends once.

    The driver is the wrapper's loop. It calls `enter`, `step` and `leave`, hands the item to the reader, and calls
    `send` or `throw`, depending on how the reader came back. Sync and async drivers differ only in their ``await``.

    Args:
        resume: The generator's ``send`` or ``asend``.
        throw: Its ``throw`` or ``athrow``.
        stop: The exception that the generator raises at its end.

    Attributes:
        step: Runs the generator's next step; returns an item, or an awaitable of an item.
    """

    def __init__(
        self, plan: _Plan, *, resume: Callable[[Any], Any], throw: Callable[..., Any], stop: type[BaseException]
    ) -> None:
        self._plan = plan
        self._span = plan.open()
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
        if span is None or span.has_ended:
            return
        try:
            raised = sys.exc_info()[1]
            error = None if isinstance(raised, self._stop) else raised
            # If the span gets no outputs here, the worker uses the items, which it knows already.
            own = self._plan.reducer is not None or not self._count
            outputs = self._plan.reduced(span, self._items) if own else None
            if self._closing and (error is None or isinstance(error, GeneratorExit)):
                span.finish(Ending.CLOSED, outputs=outputs)
            else:
                span.finish_with(error, outputs)
        except Exception:
            report(f"tracing the end of {self._plan.name}")

    @staticmethod
    def _over() -> Any: ...


def _wrap_generator(func: Callable[..., Generator[Any, Any, Any]], plan: _Plan) -> Callable[..., Any]:
    @functools.wraps(func)
    def traced(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        run = func(*args, **kwargs)
        steps = _Steps(plan, resume=run.send, throw=run.throw, stop=StopIteration)
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

    return traced


def _wrap_async_generator(func: Callable[..., AsyncGenerator[Any, Any]], plan: _Plan) -> Callable[..., Any]:
    @functools.wraps(func)
    async def traced(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        run = func(*args, **kwargs)
        steps = _Steps(plan, resume=run.asend, throw=run.athrow, stop=StopAsyncIteration)
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

    return traced
