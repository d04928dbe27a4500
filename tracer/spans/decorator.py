"""``@trace``: a span around each call of a function, whatever kind of function it is.

A span's inputs are the bound arguments with defaults, without ``self`` or ``cls``. Its outputs are what the function
returned or, for generators, the list of what it yielded.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, ParamSpec, TypeVar, overload

from tracer import _semconv as sc
from tracer._exceptions import ConfigurationError
from tracer._models import SpanType
from tracer.capture.argument_checks import check_mapping, check_text, optional_share, optional_text
from tracer.capture.records import EncodedAttributes
from tracer.capture.text import clean_text
from tracer.spans._argument_binding import variable_names
from tracer.spans._call_plan import Plan, UnopenedCall
from tracer.spans._generators import wrap_async_generator, wrap_generator
from tracer.spans.context import current_span, leave
from tracer.spans.guard import report
from tracer.spans.live_span import LiveSpan

__all__ = ["trace"]

P = ParamSpec("P")
R = TypeVar("R")
Reducer = Callable[[list[Any]], Any]


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
    current only inside its steps, and ends with the generator. Its parent is the span that was current when the
    function was called, even if that span has ended by then. If the generator is closed early, the span is
    ``abandoned``.

    A plain function may return a coroutine or a generator, as a wrapper of an async function does. The span then goes
    on until that is awaited or read to its end, and its outputs are the awaited value or the items. If nobody awaits
    it, the span is ``abandoned``. Tasks and futures are outputs like any other value: they run by themselves.

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
    code = _code_of(func)
    name = options.name or _name_of(func, code)
    wrap = _wrapper_for(func, code)
    if options.reducer is not None and wrap not in (wrap_generator, wrap_async_generator):
        raise ConfigurationError(f"output_reducer is for generators; {name!r} is none")
    function: dict[str, Any] = {sc.CODE_FUNCTION_NAME: _full_name(code)}
    if not {"args", "kwargs"}.issuperset(variable := variable_names(func)):  # these names need no saying
        function[sc.VARIABLE_PARAMETERS] = variable
    attributes = {**function, **options.attributes} if options.attributes else EncodedAttributes(function)
    return wrap(func, Plan(func, name, options.span_type, attributes, options.reducer, options.sample_rate))


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


def _name_of(func: Any, code: Any) -> str:
    if code is not func and inspect.ismethod(code):  # an object with __call__
        return type(func).__name__
    return getattr(code, "__name__", None) or type(func).__name__


def _wrapper_for(func: Any, code: Any) -> Callable[[Callable[..., Any], Plan], Callable[..., Any]]:
    for is_kind, wrap in (
        (inspect.isasyncgenfunction, wrap_async_generator),
        (inspect.isgeneratorfunction, wrap_generator),
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


def _wrap_function(func: Callable[..., Any], plan: Plan) -> Callable[..., Any]:
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
            if type(result) in _GOES_ON and sys.getrefcount(result) <= _OWN_REFERENCES:
                result = _continued(result, span, plan)
            else:
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


def _wrap_coroutine(func: Callable[..., Any], plan: Plan) -> Callable[..., Any]:
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


_GOES_ON: dict[type, Callable[[Callable[..., Any], Plan], Callable[..., Any]]] = {
    CoroutineType: _wrap_coroutine,
    GeneratorType: wrap_generator,
    AsyncGeneratorType: wrap_async_generator,
}
"""What a plain function may return that has not run yet, and how it is traced."""

# The variable in `traced` and the argument of `getrefcount`. What somebody else holds, too (it may be kept for the next
# caller), must stay the same object: then the span ends with the call.
_OWN_REFERENCES = 2


def _continued(returned: Any, span: LiveSpan, plan: Plan) -> Any:
    """Return what stands in for a coroutine or generator, and runs it in the span of the call that returned it."""
    try:
        if not _is_old_coroutine(returned):
            call = UnopenedCall(plan, span, returned)
            stand_in = _GOES_ON[type(returned)](call.resume, call)()
            stand_in.__name__, stand_in.__qualname__ = returned.__name__, returned.__qualname__
            return stand_in
    except Exception:
        report(f"tracing what {plan.name} returned")
    _finish(span, result=returned)
    return returned


def _is_old_coroutine(returned: Any) -> bool:
    """Tell whether it is a generator that can be awaited (``types.coroutine``)."""
    return type(returned) is GeneratorType and inspect.isawaitable(returned)
