"""``@trace``: a span around each call of a function, whatever kind of function it is.

Inputs are the bound arguments with defaults, without ``self`` or ``cls``; outputs what it returned or, for
generators, the list of what it yielded.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from typing import Any, ParamSpec, TypeVar, cast, overload

from tracer._binding import Binder
from tracer._checks import check_mapping, check_text, optional_text
from tracer._context import Current, current_span
from tracer._exceptions import ConfigurationError
from tracer._models import SpanType
from tracer._records import Ending, Payload
from tracer._spans import LiveSpan, open_span

__all__ = ["trace"]

P = ParamSpec("P")
R = TypeVar("R")
Reducer = Callable[[list[Any]], Any]
logger = logging.getLogger("tracer")

ITEM_EVENT = "tracer.item"


@overload
def trace(
    func: Callable[P, R],
    name: str | None = None,
    span_type: str = SpanType.UNKNOWN,
    attributes: Mapping[str, object] | None = None,
    output_reducer: Reducer | None = None,
) -> Callable[P, R]: ...
@overload
def trace(
    func: None = None,
    name: str | None = None,
    span_type: str = SpanType.UNKNOWN,
    attributes: Mapping[str, object] | None = None,
    output_reducer: Reducer | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def trace(
    func: Any = None,
    name: str | None = None,
    span_type: str = SpanType.UNKNOWN,
    attributes: Mapping[str, object] | None = None,
    output_reducer: Reducer | None = None,
) -> Any:
    """Trace every call of a function, as ``@trace`` or ``@trace(name=…, span_type=…)``.

    Works on functions, coroutine functions, generators, async generators, methods, callable objects, and above or
    below ``@classmethod`` and ``@staticmethod``. The wrapped function is what it was: same signature, same kind,
    same result, same exceptions, same cancellation. A generator's span starts with its first step, is current only
    inside its own steps, and ends with it; closed early it is ``abandoned``.

    Args:
        func: The function, when used without parentheses.
        name: The span's name; the function's own by default.
        span_type: One of `SpanType`, or any string.
        attributes: Set on each span from the start.
        output_reducer: For generators: makes the span's outputs out of the list of items, all of which are held
            until the generator ends. Without it the items are the outputs, and each is let go at once.

    Raises:
        ConfigurationError: `func` is no function, `output_reducer` was given for one that is no generator, or an
            argument has the wrong type.
    """
    if func is None:
        options = _Options(name, span_type, attributes, output_reducer)
        return functools.partial(_decorate, options=options)
    return _decorate(func, options=_Options(name, span_type, attributes, output_reducer))


class _Options:
    """The arguments of ``@trace``, checked."""

    def __init__(
        self, name: str | None, span_type: str, attributes: Mapping[str, object] | None, reducer: Reducer | None
    ) -> None:
        self.name = optional_text("name", name)
        self.span_type = check_text("span_type", span_type)
        self.attributes = check_mapping("attributes", attributes)
        self.reducer = reducer
        if reducer is not None and not callable(reducer):
            raise ConfigurationError(f"output_reducer must be a function of a list, got {reducer!r}")


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
        self.attributes = options.attributes
        self.reducer = options.reducer
        self.wrap = _wrapper_for(func, code)
        if self.reducer is not None and self.wrap not in (_wrap_generator, _wrap_async_generator):
            raise ConfigurationError(f"output_reducer is for generators; {self.name!r} is none")
        self._binder = Binder(func)

    def open(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> LiveSpan | None:
        """Open a span for one call; None, and a log line, if that fails."""
        try:
            span = open_span(self.name, self.span_type)
            span.begin_with(self.attributes, self._binder.bind(args, kwargs) if span.is_recording else None)
        except Exception:
            logger.exception("a call of %s is not traced", self.name)
            return None
        return span

    def reduced(self, span: LiveSpan, items: list[Any]) -> Payload | None:
        """Return what the reducer makes of a generator's items; if it raises, that is logged, and the items kept."""
        outputs: Any = items
        if self.reducer is not None:
            try:
                outputs = self.reducer(items)
            except Exception:
                logger.exception("output_reducer of %s raised; its items are kept instead", self.name)
        return span.snapshot(outputs)


def _code_of(func: Any) -> Any:
    """Return the function or method that runs when `func` is called."""
    while isinstance(func, functools.partial):
        func = func.func
    return func if inspect.isroutine(func) or inspect.isclass(func) else func.__call__


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
    """End the span of a call. What fails in here is logged, never raised."""
    try:
        span.finish_with(error, None if error is not None else span.snapshot(result))
    except Exception:
        logger.exception("the end of %r was not traced", span)


def _wrap_function(func: Callable[..., Any], plan: _Plan) -> Callable[..., Any]:
    @functools.wraps(func)
    def traced(*args: Any, **kwargs: Any) -> Any:
        span = plan.open(args, kwargs)
        if span is None:
            return func(*args, **kwargs)
        with Current(span):
            try:
                result = func(*args, **kwargs)
            except BaseException as error:
                _finish(span, error)
                raise
        _finish(span, result=result)
        return result

    return traced


def _wrap_coroutine(func: Callable[..., Any], plan: _Plan) -> Callable[..., Any]:
    @functools.wraps(func)
    async def traced(*args: Any, **kwargs: Any) -> Any:
        span = plan.open(args, kwargs)
        if span is None:
            return await func(*args, **kwargs)
        with Current(span):
            try:
                result = await func(*args, **kwargs)
            except BaseException as error:
                _finish(span, error)
                raise
        _finish(span, result=result)
        return result

    return traced


class _Steps:
    """The span of one run of a generator: opened by its first step, told of each item, ended once.

    Attributes:
        closing: Its reader wants no more (``close()``, or dropped).
    """

    def __init__(self, plan: _Plan, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._plan = plan
        self._items: list[Any] = []
        self._count = 0
        self._span = plan.open(args, kwargs)
        self.closing = False
        self.current = Current(self._span if self._span is not None else current_span.get())

    def yielded(self, item: object) -> None:
        """Note one item."""
        span = self._span
        if span is None:
            return
        try:
            span.note(ITEM_EVENT, {"index": self._count}, value=span.snapshot(item))
        except Exception:
            logger.exception("an item of %r was not traced", span)
        self._count += 1
        if self._plan.reducer is not None:
            self._items.append(item)

    def end(self, error: BaseException | None = None) -> None:
        """End the span: as completed, abandoned (closed by its reader), cancelled or failed."""
        span = self._span
        if span is None:
            return
        try:
            # Without outputs of its own the span has the items, which the worker knows already.
            own = self._plan.reducer is not None or not self._count
            outputs = self._plan.reduced(span, self._items) if own else None
            if self.closing and (error is None or isinstance(error, GeneratorExit)):
                span.finish(Ending.CLOSED, outputs=outputs)
            else:
                span.finish_with(error, outputs)
        except Exception:
            logger.exception("the end of %r was not traced", span)


def _wrap_generator(func: Callable[..., Generator[Any, Any, Any]], plan: _Plan) -> Callable[..., Any]:
    @functools.wraps(func)
    def traced(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        generator = func(*args, **kwargs)
        steps = _Steps(plan, args, kwargs)
        step: Callable[[], Any] = functools.partial(next, generator)
        while True:
            try:
                with steps.current:
                    fresh = [step()]  # to be emptied as it is handed over: an item is not ours to keep alive
            except StopIteration as stop:
                steps.end()
                return stop.value
            except BaseException as error:
                steps.end(error)
                raise
            steps.yielded(fresh[0])
            try:
                sent = yield fresh.pop()
            except BaseException as error:
                # thrown in, so that the function's own handlers run; what comes of it is the next step's result
                steps.closing = isinstance(error, GeneratorExit)
                step = functools.partial(cast("Callable[..., Any]", generator.throw), error)
            else:
                step = functools.partial(generator.send, sent)

    return traced


def _wrap_async_generator(func: Callable[..., AsyncGenerator[Any, Any]], plan: _Plan) -> Callable[..., Any]:
    @functools.wraps(func)
    async def traced(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        generator = func(*args, **kwargs)
        steps = _Steps(plan, args, kwargs)
        step: Callable[[], Any] = functools.partial(generator.asend, None)
        while True:
            try:
                with steps.current:
                    fresh = [await step()]  # to be emptied as it is handed over: an item is not ours to keep alive
            except StopAsyncIteration:
                steps.end()
                return
            except BaseException as error:
                steps.end(error)
                raise
            steps.yielded(fresh[0])
            try:
                sent = yield fresh.pop()
            except BaseException as error:
                steps.closing = isinstance(error, GeneratorExit)
                step = functools.partial(cast("Callable[..., Any]", generator.athrow), error)
            else:
                step = functools.partial(generator.asend, sent)

    return traced
