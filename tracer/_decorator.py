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

from tracer._context import current_span
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
BOUND_NAMES = ("self", "cls")


@overload
def trace(func: Callable[P, R]) -> Callable[P, R]: ...
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

    Works on functions, coroutine functions, generators, async generators, methods, and above or below
    ``@classmethod`` and ``@staticmethod``. The wrapped function is what it was: same signature, same kind, same
    result, same exceptions, same cancellation. A generator's span starts with its first step, is current only
    inside its own steps, and ends with it; closed early it is ``abandoned``.

    Args:
        func: The function, when used without parentheses.
        name: The span's name; the function's own by default.
        span_type: One of `SpanType`, or any string.
        attributes: Set on each span from the start.
        output_reducer: For generators: makes the span's outputs out of the list of items.

    Raises:
        ConfigurationError: `func` is not callable, or `output_reducer` was given for a plain function.
    """
    if func is None:
        return functools.partial(
            trace, name=name, span_type=span_type, attributes=attributes, output_reducer=output_reducer
        )
    if isinstance(func, (classmethod, staticmethod)):
        inner = trace(func.__func__, name, span_type, attributes, output_reducer)
        return type(func)(inner)
    if not callable(func):
        raise ConfigurationError(f"@trace must stand above a function, got {func!r}")
    return _wrap(func, _Plan(func, name, span_type, attributes, output_reducer))


class _Plan:
    """What is the same for every call of one function."""

    def __init__(
        self,
        func: Callable[..., Any],
        name: str | None,
        span_type: str,
        attributes: Mapping[str, object] | None,
        reducer: Reducer | None,
    ) -> None:
        self.name = name or getattr(func, "__name__", None) or type(func).__name__
        self.span_type = span_type
        self.attributes = dict(attributes) if attributes else None
        self.reducer = reducer
        try:
            self.signature: inspect.Signature | None = inspect.signature(func)
        except (TypeError, ValueError):  # a builtin without a signature
            self.signature = None
        if reducer is not None and not (inspect.isgeneratorfunction(func) or inspect.isasyncgenfunction(func)):
            raise ConfigurationError(f"output_reducer is for generators; {self.name!r} is none")

    def open(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> LiveSpan | None:
        """Open a span for one call; None, and a log line, if that fails."""
        try:
            span = open_span(self.name, self.span_type)
            span._attributes = self.attributes
            inputs = span.snapshot(self._bind(args, kwargs))
            capture = span.settings.capture_content
            span.begin(inputs=inputs, attributes=self.attributes, capture=capture)
        except Exception:
            logger.exception("a call of %s is not traced", self.name)
            return None
        return span

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        if self.signature is None:
            return {"args": list(args), **kwargs}
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError:  # the call itself is about to raise, in the user's own words
            return {"args": list(args), **kwargs}
        bound.apply_defaults()
        arguments = dict(bound.arguments)
        first = next(iter(arguments), None)
        if first in BOUND_NAMES:
            del arguments[first]
        return arguments

    def reduced(self, span: LiveSpan, items: list[Any]) -> Payload | None:
        """Return a generator's outputs; a reducer that raises is logged, and the items kept."""
        outputs: Any = items
        if self.reducer is not None:
            try:
                outputs = self.reducer(items)
            except Exception:
                logger.exception("output_reducer of %s raised; its items are kept instead", self.name)
        return span.snapshot(outputs)


def _wrap(func: Callable[..., Any], plan: _Plan) -> Callable[..., Any]:
    if inspect.isasyncgenfunction(func):
        return _wrap_async_generator(func, plan)
    if inspect.isgeneratorfunction(func):
        return _wrap_generator(func, plan)
    if inspect.iscoroutinefunction(func) or inspect.iscoroutinefunction(getattr(func, "__call__", None)):  # noqa: B004
        return _wrap_coroutine(func, plan)
    return _wrap_function(func, plan)


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
        token = current_span.set(span)
        try:
            result = func(*args, **kwargs)
        except BaseException as error:
            current_span.reset(token)
            _finish(span, error)
            raise
        current_span.reset(token)
        _finish(span, result=result)
        return result

    return traced


def _wrap_coroutine(func: Callable[..., Any], plan: _Plan) -> Callable[..., Any]:
    @functools.wraps(func)
    async def traced(*args: Any, **kwargs: Any) -> Any:
        span = plan.open(args, kwargs)
        if span is None:
            return await func(*args, **kwargs)
        with _Current(span):
            try:
                result = await func(*args, **kwargs)
            except BaseException as error:
                _finish(span, error)
                raise
        _finish(span, result=result)
        return result

    return traced


class _Current:
    """Makes a span current for a while; tolerates being left in another context than entered."""

    __slots__ = ("_span", "_token")

    def __init__(self, span: LiveSpan | None) -> None:
        self._span = span

    def __enter__(self) -> None:
        self._token = current_span.set(self._span)

    def __exit__(self, *_: object) -> None:
        try:
            current_span.reset(self._token)
        except ValueError:  # a coroutine or generator that the garbage collector or another task finishes
            logger.debug("span %r was left in another context", self._span)


class _Steps:
    """The span of one run of a generator: opened by its first step, fed with items, ended once."""

    def __init__(self, plan: _Plan, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._plan = plan
        self.items: list[Any] = []
        self.span = plan.open(args, kwargs)
        self.current = _Current(self.span if self.span is not None else current_span.get())

    def yielded(self, item: object) -> None:
        """Note one item."""
        if self.span is not None:
            self.items.append(item)
            self.span.note(ITEM_EVENT, {"index": len(self.items) - 1, "value": item})

    def end(self, error: BaseException | None = None) -> None:
        """End the span: as completed, abandoned (closed by its reader), cancelled or failed."""
        if self.span is None:
            return
        try:
            outputs = self._plan.reduced(self.span, self.items)
            if isinstance(error, GeneratorExit):
                self.span.finish(Ending.CLOSED, outputs=outputs)
            else:
                self.span.finish_with(error, outputs)
        except Exception:
            logger.exception("the end of %r was not traced", self.span)


def _wrap_generator(func: Callable[..., Generator[Any, Any, Any]], plan: _Plan) -> Callable[..., Any]:
    @functools.wraps(func)
    def traced(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        steps = _Steps(plan, args, kwargs)
        generator = func(*args, **kwargs)
        step: Callable[[], Any] = functools.partial(next, generator)
        while True:
            try:
                with steps.current:
                    item = step()
            except StopIteration as stop:
                steps.end()
                return stop.value
            except BaseException as error:
                steps.end(error)
                raise
            steps.yielded(item)
            try:
                sent = yield item
            except BaseException as error:
                # throw() lets the function's own handlers run; GeneratorExit comes back out of it, or StopIteration
                step = functools.partial(_thrown, generator, error)
            else:
                step = functools.partial(generator.send, sent)

    return traced


def _thrown(generator: Generator[Any, Any, Any], error: BaseException) -> Any:
    return generator.throw(error)


def _wrap_async_generator(func: Callable[..., AsyncGenerator[Any, Any]], plan: _Plan) -> Callable[..., Any]:
    @functools.wraps(func)
    async def traced(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        steps = _Steps(plan, args, kwargs)
        generator = func(*args, **kwargs)
        step: Callable[[], Any] = functools.partial(generator.asend, None)
        while True:
            try:
                with steps.current:
                    item = await step()
            except StopAsyncIteration:
                steps.end()
                return
            except BaseException as error:
                steps.end(error)
                raise
            steps.yielded(item)
            try:
                sent = yield item
            except BaseException as error:
                step = functools.partial(cast("Callable[..., Any]", generator.athrow), error)
            else:
                step = functools.partial(generator.asend, sent)

    return traced
