"""`@trace` changes nothing about a function, except that its calls are recorded."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import gc
import inspect
import logging
import math
import pickle
import traceback
import types
import warnings
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

import tracer
from tests.reading import last_span, last_spans, last_trace
from tracer.pipeline.throttle import Throttle
from tracer.spans import guard
from tracer.spans._argument_binding import Binder
from tracer.testing import FakeOpenAI


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@tracer.trace
def add(a: int, b: int = 2, *rest: int, scale: int = 1, **more: int) -> int:
    """Add."""
    return (a + b + sum(rest)) * scale + sum(more.values())


class Thing:
    def __init__(self, name: str) -> None:
        self.name = name

    @tracer.trace
    def method(self, x: int) -> str:
        return f"{self.name} {x}"

    @tracer.trace
    @classmethod
    def above_class(cls, x: int) -> str:
        return f"{cls.__name__} {x}"

    @classmethod
    @tracer.trace
    def below_class(cls, x: int) -> str:
        return f"{cls.__name__} {x}"

    @tracer.trace
    @staticmethod
    def above_static(x: int) -> int:
        return x

    @staticmethod
    @tracer.trace
    def below_static(x: int) -> int:
        return x

    @property
    @tracer.trace
    def prop(self) -> str:
        return self.name

    @tracer.trace
    async def async_method(self, x: int) -> int:
        await anyio.lowlevel.checkpoint()
        return x

    def __call__(self, x: int) -> int:
        return x


class AsyncThing:
    async def __call__(self, x: int) -> int:
        await anyio.lowlevel.checkpoint()
        return x


class GeneratorThing:
    def __call__(self, x: int) -> Generator[int, None, None]:
        yield x


# --- what is recorded -------------------------------------------------------------------------------------------------


async def test_inputs_are_the_bound_arguments_with_defaults() -> None:
    assert add(1) == 3
    assert (await last_span()).inputs == {"a": 1, "b": 2, "rest": [], "scale": 1, "more": {}}
    assert add(1, 2, 3, 4, scale=2, k=5) == 25
    span = await last_span()
    assert span.inputs == {"a": 1, "b": 2, "rest": [3, 4], "scale": 2, "more": {"k": 5}}
    assert (span.outputs, span.name, span.span_type) == (25, "add", "UNKNOWN")


CALLS: dict[str, tuple[Callable[[], Any], str, Any]] = {
    "method": (lambda: Thing("a").method(1), "method", {"x": 1}),
    "unbound method": (lambda: Thing.method(Thing("a"), 1), "method", {"x": 1}),
    "above classmethod": (lambda: Thing.above_class(1), "above_class", {"x": 1}),
    "above classmethod, by instance": (lambda: Thing("a").above_class(x=1), "above_class", {"x": 1}),
    "below classmethod": (lambda: Thing.below_class(1), "below_class", {"x": 1}),
    "above staticmethod": (lambda: Thing.above_static(1), "above_static", {"x": 1}),
    "below staticmethod": (lambda: Thing("a").below_static(1), "below_static", {"x": 1}),
    "property": (lambda: Thing("a").prop, "prop", {}),
    "bound method": (lambda: tracer.trace(Thing("a").method)(1), "method", {"x": 1}),
    "object": (lambda: tracer.trace(Thing("a"))(1), "Thing", {"x": 1}),
    "lambda": (lambda: tracer.trace(lambda x: x)(1), "<lambda>", {"x": 1}),
    "partial": (lambda: tracer.trace(functools.partial(math.pow, 2))(1), "pow", {"y": 1}),
    "partial with keyword": (
        lambda: tracer.trace(functools.partial(add.__wrapped__, b=5))(1),  # type: ignore[attr-defined]
        "add",
        {"a": 1, "b": 5, "scale": 1, "more": {}},
    ),
    "builtin": (lambda: tracer.trace(math.hypot)(3, 4), "hypot", {"coordinates": [3, 4]}),
    "builtin without signature": (lambda: tracer.trace(max)(1, 2), "max", {"args": [1, 2]}),
    "named": (lambda: tracer.trace(name="x")(math.sqrt)(4), "x", {"x": 4}),
    "called with a function": (lambda: tracer.trace(math.sqrt, name="y")(4), "y", {"x": 4}),
}


@pytest.mark.parametrize(("call", "name", "inputs"), CALLS.values(), ids=list(CALLS))
async def test_every_kind_of_callable_is_traced(call: Callable[[], Any], name: str, inputs: object) -> None:
    result = call()
    trace = await last_trace()
    span = trace.data.spans[0]
    assert span.name == name
    if "args" in span.inputs and "args" not in inputs:  # type: ignore[operator]  # Python 3.10 knows fewer signatures
        inputs = {"args": span.inputs["args"]}
    assert span.inputs == inputs
    assert span.outputs == result


def both(a: int, b: int = 2, *, c: int = 3) -> None: ...


@pytest.mark.parametrize("args", [(), (1,), (1, 2), (1, 2, 3)], ids=len)
@pytest.mark.parametrize("kwargs", [{}, {"a": 5}, {"b": 6}, {"c": 7}, {"c": 7, "b": 6, "a": 5}, {"d": 8}], ids=str)
def test_simple_calls_are_bound_as_inspect_binds_them(args: tuple[int, ...], kwargs: dict[str, int]) -> None:
    try:
        bound = inspect.signature(both).bind(*args, **kwargs)
    except TypeError:
        expected: dict[str, Any] = {"args": list(args), **kwargs}
    else:
        bound.apply_defaults()
        expected = dict(bound.arguments)
    assert list(Binder(both).bind(args, kwargs).items()) == list(expected.items())


async def test_a_plain_function_keeps_an_argument_called_self() -> None:
    @tracer.trace
    def plain(self: int, cls: int) -> int:
        return self + cls

    plain(1, 2)
    assert (await last_span()).inputs == {"self": 1, "cls": 2}


async def test_name_type_and_attributes_are_set() -> None:
    @tracer.trace(name="search", span_type=tracer.SpanType.RETRIEVER, attributes={"k": [1]})
    def find() -> None:
        span = tracer.get_current_active_span()
        assert span is not None
        assert span.get_attribute("k") == [1]
        span.set_attribute("k2", 2)

    find()
    find()
    span = await last_span()
    assert (span.name, span.span_type) == ("search", "RETRIEVER")
    function = f"{__name__}.test_name_type_and_attributes_are_set.<locals>.find"
    assert span.attributes == {
        "code.function.name": function,
        "k": [1],
        "k2": 2,
        "tracer.finish": "completed",
    }


class Named:
    def method(self) -> None:
        pass

    @tracer.trace
    @classmethod
    def of_class(cls) -> None:
        pass

    def __call__(self) -> None:
        pass


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (tracer.trace(Named().method, name="renamed"), "Named.method"),
        (Named.of_class, "Named.of_class"),
        (tracer.trace(Named()), "Named.__call__"),
        (tracer.trace(functools.partial(Named.method, Named())), "Named.method"),
        (tracer.trace(lambda: None), "<lambda>"),
        (tracer.trace(math.factorial), None),
    ],
    ids=["method", "class method", "callable object", "partial", "lambda", "builtin"],
)
async def test_a_span_knows_the_function_that_it_stands_for(call: Callable[..., object], name: str | None) -> None:
    call(*([3] if name is None else []))
    span = await last_span()
    full = "math.factorial" if name is None else f"{__name__}.{name}"
    assert span.get_attribute("code.function.name") == full
    assert span.get_attribute("mlflow.spanFunctionName") == full.rpartition(".")[2]


@pytest.mark.parametrize("attributes", [None, {"mine": "secret"}])
async def test_the_functions_name_is_a_label(attributes: dict[str, str] | None) -> None:
    @tracer.trace(attributes=attributes)
    def secret() -> None: ...

    tracer.configure(capture_content=False)
    secret()
    span = await last_span()
    assert span.name == span.get_attribute("mlflow.spanFunctionName") == "secret"
    assert span.get_attribute("mine") != "secret"
    tracer.configure(redact=[lambda text: text.replace("secret", "[hidden]")])
    secret()
    span = await last_span()
    assert span.name == span.get_attribute("mlflow.spanFunctionName") == "[hidden]"


async def test_mlflows_documented_forms_run() -> None:
    @tracer.trace(span_type=tracer.SpanType.AGENT)
    def agent(x: int) -> int:
        return tool(x)

    def tool(x: int) -> int:
        return x

    tool = tracer.trace(tool)
    assert agent(1) == 1
    trace = await last_trace()
    assert [(span.name, span.span_type) for span in trace.data.spans] == [("agent", "AGENT"), ("tool", "UNKNOWN")]
    assert tracer.trace(name="x")(tool)(2) == 2
    assert (await last_trace()).data.spans[0].name == "x"


async def test_coroutines_nest() -> None:
    @tracer.trace
    async def outer(x: int) -> int:
        return await inner(x) + await tracer.trace(Thing("a").async_method)(x) + await tracer.trace(AsyncThing())(x)

    @tracer.trace
    async def inner(x: int) -> int:
        await anyio.lowlevel.checkpoint()
        return x

    assert await outer(1) == 3
    spans = (await last_trace()).data.spans
    assert [span.name for span in spans] == ["outer", "inner", "async_method", "async_method", "AsyncThing"]
    assert [span.outputs for span in spans] == [3, 1, 1, 1, 1]
    assert {span.parent_id for span in spans[1:]} == {spans[0].span_id, spans[2].span_id}


async def test_recursion_is_a_chain() -> None:
    @tracer.trace
    def down(depth: int) -> int:
        return depth and down(depth - 1)

    down(50)
    spans = (await last_trace()).data.spans
    assert [span.inputs["depth"] for span in spans] == list(range(50, -1, -1))
    assert [span.parent_id for span in spans[1:]] == [span.span_id for span in spans[:-1]]


async def test_two_thousand_tasks_do_not_cross() -> None:
    @tracer.trace
    async def outer(number: int) -> None:
        await anyio.lowlevel.checkpoint()
        await inner(number)

    @tracer.trace
    async def inner(number: int) -> None:
        await anyio.lowlevel.checkpoint()
        current = tracer.get_current_active_span()
        assert current is not None
        numbers[current.trace_id] = number

    numbers: dict[str, int] = {}
    async with anyio.create_task_group() as group:
        for number in range(2_000):
            group.start_soon(outer, number)
    assert sorted(numbers.values()) == list(range(2_000))
    assert await tracer.flush()
    page = await tracer.search_traces(max_results=2_000)
    assert len(page) == 2_000
    for trace in page:
        first, second = trace.data.spans
        assert (first.name, second.name, second.parent_id) == ("outer", "inner", first.span_id)
        assert first.inputs == second.inputs == {"number": numbers[first.trace_id]}


# --- what stays as it was ---------------------------------------------------------------------------------------------


async def async_function(x: int) -> int:
    """Do nothing."""
    return x


def generator(x: int) -> Generator[int, None, None]:
    """Count."""
    yield x


async def async_generator(x: int) -> AsyncGenerator[int, None]:
    """Count, too."""
    yield x


@pytest.mark.filterwarnings("ignore:'asyncio.iscoroutinefunction' is deprecated")  # since 3.14; callers still use it
@pytest.mark.parametrize("func", [add.__wrapped__, async_function, generator, async_generator])  # type: ignore[attr-defined]
def test_a_traced_function_looks_as_it_was(func: Callable[..., Any]) -> None:
    traced = tracer.trace(func)
    for look in (
        inspect.iscoroutinefunction,
        inspect.isgeneratorfunction,
        inspect.isasyncgenfunction,
        inspect.signature,
        asyncio.iscoroutinefunction,
    ):
        assert look(traced) == look(func)
    for name in ("__name__", "__qualname__", "__doc__", "__module__", "__annotations__"):
        assert getattr(traced, name) == getattr(func, name)
    assert traced.__wrapped__ is func  # type: ignore[attr-defined]


def test_objects_that_are_called_keep_their_kind() -> None:
    assert inspect.iscoroutinefunction(tracer.trace(AsyncThing()))
    assert inspect.isgeneratorfunction(tracer.trace(GeneratorThing()))
    assert list(tracer.trace(GeneratorThing())(3)) == [3]


def test_a_traced_function_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(add)) is add


async def test_a_wrong_call_raises_as_it_would() -> None:
    with pytest.raises(TypeError, match=r"add\(\) missing 1 required positional argument: 'a'"):
        add()  # type: ignore[call-arg]
    span = await last_span()
    assert (span.status.status_code, span.inputs) == ("ERROR", {"args": []})


@pytest.mark.parametrize("kind", ["function", "coroutine", "generator", "async generator"])
async def test_an_exception_passes_unchanged_and_marks_each_span(kind: str) -> None:
    error = ValueError("wrong")

    @tracer.trace
    def fail() -> None:
        raise error

    @tracer.trace
    async def async_fail() -> None:
        raise error

    @tracer.trace
    def generator_fail() -> Generator[int, None, None]:
        yield 1
        raise error

    @tracer.trace
    async def async_generator_fail() -> AsyncGenerator[int, None]:
        yield 1
        raise error

    @tracer.trace
    async def outer() -> None:
        if kind == "function":
            fail()
        elif kind == "coroutine":
            await async_fail()
        elif kind == "generator":
            list(generator_fail())
        else:
            [item async for item in async_generator_fail()]

    with pytest.raises(ValueError, match="wrong") as caught:
        await outer()
    assert caught.value is error
    assert error.__context__ is None
    assert traceback.extract_tb(error.__traceback__)[-1].line == "raise error"
    trace = await last_trace()
    assert trace.info.state == "ERROR"
    for span in trace.data.spans:
        assert (span.status.status_code, span.status.description) == ("ERROR", "ValueError: wrong")
        [event] = [event for event in span.events if event.name == "exception"]
        assert event.attributes["exception.type"] == "ValueError"
        assert "raise error" in event.attributes["exception.stacktrace"]
    assert trace.data.spans[0].outputs is None


async def test_a_caught_error_leaves_the_parent_ok() -> None:
    @tracer.trace
    def child() -> None:
        raise ValueError("caught")

    @tracer.trace
    def parent() -> str:
        with contextlib.suppress(ValueError):
            child()
        return "fine"

    parent()
    trace = await last_trace()
    assert trace.info.state == "OK"
    assert [span.status.status_code for span in trace.data.spans] == ["OK", "ERROR"]


async def test_cancellation_is_told_apart_from_failure() -> None:
    started = anyio.Event()

    @tracer.trace
    async def wait() -> None:
        started.set()
        await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await started.wait()
        group.cancel_scope.cancel()
    span = await last_span()
    assert (span.status.status_code, span.status.description) == ("ERROR", "cancelled")
    assert span.get_attribute("tracer.finish") == "cancelled"
    assert not span.events


async def test_cancellation_of_a_group_inside_is_cancellation() -> None:
    @tracer.trace
    async def wait() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep_forever)
            group.start_soon(anyio.sleep_forever)
            scope.cancel()

    with anyio.CancelScope() as scope:
        await wait()
    assert (await last_span()).get_attribute("tracer.finish") == "cancelled"


async def test_a_timeout_is_a_failure_of_who_set_it_only() -> None:
    @tracer.trace
    async def slow() -> None:
        await anyio.sleep_forever()

    @tracer.trace
    async def impatient() -> None:
        with anyio.fail_after(0):
            await slow()

    with pytest.raises(TimeoutError):
        await impatient()
    spans = await last_spans()
    assert spans["slow"].get_attribute("tracer.finish") == "cancelled"
    assert spans["impatient"].status.description == "TimeoutError"


# --- generators -------------------------------------------------------------------------------------------------------


@tracer.trace
def echo(first: str) -> Generator[str, str, str]:
    """Yield what it was sent, in capitals; a ValueError thrown in is an item, too."""
    said = yield first
    while said != "stop":
        try:
            said = yield said.upper()
        except ValueError as error:  # noqa: PERF203  a step may raise, the loop goes on
            said = yield f"caught {error}"
    return "done"


async def test_send_throw_and_the_return_value_reach_the_generator() -> None:
    steps = echo("a")
    assert next(steps) == "a"
    assert steps.send("b") == "B"
    assert steps.throw(ValueError("x")) == "caught x"
    assert steps.send("c") == "C"
    with pytest.raises(StopIteration) as stopped:
        steps.send("stop")
    assert stopped.value.value == "done"
    span = await last_span()
    assert span.outputs == ["a", "B", "caught x", "C"]
    assert [event.attributes for event in span.events] == [
        {"index": index, "value": value} for index, value in enumerate(span.outputs)
    ]
    assert span.get_attribute("tracer.finish") == "completed"


async def test_delegation_gets_the_return_value() -> None:
    def delegating() -> Generator[str, str, str]:
        return (yield from echo("a"))

    steps = delegating()
    next(steps)
    with pytest.raises(StopIteration) as stopped:
        steps.send("stop")
    assert stopped.value.value == "done"


async def test_what_is_thrown_in_and_not_caught_comes_out() -> None:
    steps = echo("a")
    next(steps)
    error = KeyError("x")
    with pytest.raises(KeyError) as caught:
        steps.throw(error)
    assert caught.value is error
    assert (await last_span()).status.description == "KeyError: 'x'"


async def test_a_generator_closed_early_is_abandoned() -> None:
    closed = []

    @tracer.trace
    def count() -> Generator[int, None, None]:
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)

    steps = count()
    next(steps)
    steps.close()
    assert closed == [True]
    span = await last_span()
    assert (span.get_attribute("tracer.finish"), span.status.status_code, span.outputs) == ("abandoned", "OK", [1])
    next(count())  # dropped at once
    gc.collect()
    assert (await last_span()).get_attribute("tracer.finish") == "abandoned"
    assert closed == [True, True]


async def test_a_generator_that_swallows_its_close_is_abandoned_all_the_same() -> None:
    @tracer.trace
    def count() -> Generator[int, None, None]:
        with contextlib.suppress(GeneratorExit):
            yield 1

    steps = count()
    next(steps)
    steps.close()
    assert (await last_span()).get_attribute("tracer.finish") == "abandoned"


async def test_a_generator_that_is_never_stepped_leaves_nothing() -> None:
    steps = echo("a")
    steps.close()
    assert tracer.get_last_active_trace_id() is None


async def test_an_empty_generator_has_an_empty_list_as_outputs() -> None:
    @tracer.trace
    def nothing() -> Generator[int, None, None]:
        yield from ()

    assert list(nothing()) == []
    assert (await last_span()).outputs == []


async def test_a_generator_is_current_only_inside_its_own_steps() -> None:
    def current() -> str | None:
        span = tracer.get_current_active_span()
        return span.name if span else None

    @tracer.trace(name="one")
    def one() -> Generator[str | None, None, None]:
        yield current()
        with tracer.start_span("child of one"):
            yield current()
        yield current()

    two = tracer.trace(name="two")(one.__wrapped__)  # type: ignore[attr-defined]
    with tracer.start_span("root"):
        first, second = one(), two()
        seen = []
        for _ in range(3):
            seen += [next(first), current(), next(second), current()]
        assert next(first, "end") == next(second, "end") == "end"
    assert seen[:4] == ["one", "root", "two", "root"]
    assert seen[8:] == ["one", "root", "two", "root"]
    spans = (await last_trace()).data.spans
    parents = {span.span_id: span.name for span in spans}
    assert [(span.name, parents.get(span.parent_id or "")) for span in spans] == [
        ("root", None),
        ("one", "root"),
        ("two", "root"),
        ("child of one", "one"),
        ("child of one", "two"),
    ]


async def test_a_generators_items_are_let_go() -> None:
    class Big:
        pass

    @tracer.trace
    def many() -> Generator[Big, None, None]:
        for _ in range(3):
            yield Big()

    @tracer.trace
    async def async_many() -> AsyncGenerator[Big, None]:
        for _ in range(3):
            yield Big()

    for item in many():
        gone = weakref.ref(item)
        del item
        assert gone() is None
    async for item in async_many():
        gone = weakref.ref(item)
        del item
        assert gone() is None


async def test_a_reducer_makes_the_outputs() -> None:
    @tracer.trace(output_reducer=sum)
    def count() -> Generator[int, None, None]:
        yield from range(4)

    @tracer.trace(output_reducer="".join)
    async def letters() -> AsyncGenerator[str, None]:
        for letter in "abc":
            yield letter

    assert list(count()) == [0, 1, 2, 3]
    assert (await last_span()).outputs == 6
    assert [letter async for letter in letters()] == ["a", "b", "c"]
    assert (await last_span()).outputs == "abc"


async def test_a_reducer_that_raises_is_told_once_and_the_items_kept(
    tracer_log: list[logging.LogRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "_throttle", Throttle())

    @tracer.trace(output_reducer=lambda items: 1 / 0)
    def count() -> Generator[int, None, None]:
        yield 1

    assert [list(count()) for _ in range(3)] == [[1]] * 3
    assert (await last_span()).outputs == [1]
    [record] = tracer_log
    told = "output_reducer of count failed; its items are kept instead (told at most once a minute)"
    assert record.getMessage() == told
    assert record.exc_info is not None
    tracer_log.clear()


async def numbers_of_each_kind() -> list[object]:
    """Call a traced function of each kind twice."""

    @tracer.trace
    def function() -> int:
        return 1

    @tracer.trace
    async def coroutine() -> int:
        return 2

    @tracer.trace(output_reducer=sum)
    def generator() -> Generator[int, None, None]:
        yield 3

    @tracer.trace(output_reducer=sum)
    async def async_generator() -> AsyncGenerator[int, None]:
        yield 4

    got: list[object] = []
    for _ in range(2):
        got += [function(), await coroutine(), *generator(), *[item async for item in async_generator()]]
    return got


@pytest.mark.parametrize("method", ["begin_with", "note", "snapshot", "finish_with"])
async def test_a_fault_of_ours_changes_no_call_and_is_told_once_for_each_function(
    method: str, tracer_log: list[logging.LogRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(guard, "_throttle", Throttle())
    monkeypatch.setattr(tracer.LiveSpan, method, fail)
    assert await numbers_of_each_kind() == [1, 2, 3, 4] * 2
    lines = [record.getMessage() for record in tracer_log]
    assert lines
    assert len(set(lines)) == len(lines), "the same line twice"
    assert all("told at most once a minute" in line and "0x" not in line for line in lines)
    tracer_log.clear()


async def test_what_was_thrown_in_is_let_go_with_its_generator() -> None:
    class ToldError(Exception):
        pass

    gc.disable()
    try:
        steps = echo("a")
        next(steps)
        error = ToldError()
        gone = weakref.ref(error)
        with contextlib.suppress(ToldError):
            steps.throw(error)
        del steps, error
        assert gone() is None
    finally:
        gc.enable()


@tracer.trace
async def async_echo(first: str) -> AsyncGenerator[str, str]:
    said = yield first
    while said != "stop":
        await anyio.lowlevel.checkpoint()
        try:
            said = yield said.upper()
        except ValueError as error:
            said = yield f"caught {error}"


async def test_asend_and_athrow_reach_the_generator() -> None:
    steps = async_echo("a")
    assert await anext(steps) == "a"
    assert await steps.asend("b") == "B"
    assert await steps.athrow(ValueError("x")) == "caught x"
    with pytest.raises(StopAsyncIteration):
        await steps.asend("stop")
    span = await last_span()
    assert span.outputs == ["a", "B", "caught x"]
    assert span.get_attribute("tracer.finish") == "completed"


async def test_an_async_generator_closed_early_is_abandoned() -> None:
    closed = []

    @tracer.trace
    async def count() -> AsyncGenerator[int, None]:
        try:
            yield 1
            yield 2
        finally:
            await anyio.lowlevel.checkpoint()
            closed.append(True)

    steps = count()
    await anext(steps)
    await steps.aclose()
    assert closed == [True]
    span = await last_span()
    assert (span.get_attribute("tracer.finish"), span.outputs) == ("abandoned", [1])


async def test_an_async_generator_cancelled_in_its_step_is_cancelled() -> None:
    @tracer.trace
    async def count() -> AsyncGenerator[int, None]:
        yield 1
        scope.cancel()
        await anyio.sleep_forever()

    with anyio.CancelScope() as scope:
        async with contextlib.aclosing(count()) as steps:
            async for _ in steps:
                pass
    assert scope.cancelled_caught
    assert (await last_span()).get_attribute("tracer.finish") == "cancelled"


async def test_a_wrong_call_of_a_generator_leaves_no_open_span() -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        next(echo())  # type: ignore[call-arg]
    assert tracer.stats().open_spans == 0
    assert tracer.get_last_active_trace_id() is None


# --- who a generator belongs to ---------------------------------------------------------------------------------------


@tracer.trace
async def async_words() -> AsyncGenerator[str, None]:
    with tracer.start_span("inside"):
        yield "one"


@tracer.trace
def words() -> Generator[str, None, None]:
    with tracer.start_span("inside"):
        yield "one"


@pytest.mark.parametrize("is_async", [False, True], ids=["generator", "async generator"])
async def test_a_generator_belongs_to_the_span_that_was_current_when_it_was_called(is_async: bool) -> None:
    with tracer.start_span("endpoint"):
        steps = async_words() if is_async else words()
    with tracer.start_span("another"):
        if isinstance(steps, AsyncGenerator):
            assert [item async for item in steps] == ["one"]
        else:
            assert list(steps) == ["one"]
    page = await tracer.search_traces()
    trees = {trace.data.spans[0].name: [span.name for span in trace.data.spans] for trace in page}
    assert trees == {"another": ["another"], "endpoint": ["endpoint", "async_words" if is_async else "words", "inside"]}
    endpoint = next(trace for trace in page if len(trace.data.spans) == 3)
    assert endpoint.info.state == "OK"
    assert [span.parent_id for span in endpoint.data.spans[1:]] == [span.span_id for span in endpoint.data.spans[:2]]


async def test_a_response_that_is_streamed_after_its_endpoint_has_returned_is_one_tree() -> None:
    @tracer.trace
    async def endpoint(_request: Request) -> StreamingResponse:
        return StreamingResponse(async_words())

    app = Starlette(routes=[Route("/", endpoint)])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://service") as browser:
        assert (await browser.get("/")).text == "one"
    [trace] = await tracer.search_traces()
    assert [span.name for span in trace.data.spans] == ["endpoint", "async_words", "inside"]
    assert {span.get_attribute("tracer.finish") for span in trace.data.spans} == {"completed"}


async def test_a_generator_that_was_called_outside_of_spans_belongs_to_its_first_reader() -> None:
    steps = words()
    with tracer.start_span("reader"):
        assert list(steps) == ["one"]
    assert [span.name for span in (await last_trace()).data.spans] == ["reader", "words", "inside"]


class Speaker:
    @tracer.trace
    def method(self, x: int = 1) -> Generator[object, None, None]:
        """Speak."""
        yield self, x

    @tracer.trace
    @classmethod
    def above_class(cls, x: int = 1) -> Generator[object, None, None]:
        yield cls, x

    @classmethod
    @tracer.trace
    def below_class(cls, x: int = 1) -> Generator[object, None, None]:
        yield cls, x

    @staticmethod
    @tracer.trace
    async def static(x: int = 1) -> AsyncGenerator[object, None]:
        yield x


async def test_a_traced_generator_function_binds_and_looks_as_a_function() -> None:
    speaker = Speaker()
    assert list(speaker.method(2)) == [(speaker, 2)]
    assert (await last_span()).inputs == {"x": 2}
    assert list(Speaker.method(speaker, x=3)) == [(speaker, 3)]
    assert list(speaker.above_class()) == list(Speaker.below_class()) == [(Speaker, 1)]
    assert [item async for item in speaker.static(4)] == [4]
    for bound in (speaker.method, Speaker.above_class, speaker.below_class, Speaker.method):
        assert inspect.isgeneratorfunction(bound)
    assert inspect.isasyncgenfunction(speaker.static)
    assert inspect.ismethod(speaker.method)
    assert str(inspect.signature(speaker.method)) == "(x: 'int' = 1) -> 'Generator[object, None, None]'"
    assert (speaker.method.__qualname__, speaker.method.__doc__) == ("Speaker.method", "Speak.")
    assert "def method" in inspect.getsource(Speaker.method)
    assert next(speaker.method()) == (speaker, 1)
    assert list(functools.partial(speaker.method, x=5)()) == [(speaker, 5)]
    assert list(functools.partial(words)()) == ["one"]
    with contextlib.contextmanager(words)() as word:
        assert word == "one"
    assert list(tracer.trace(words, name="again")()) == ["one"]
    assert [span.name for span in (await last_trace()).data.spans] == ["again", "words", "inside"]


@pytest.mark.parametrize("func", [words, async_words, Speaker.method])
def test_a_traced_generator_function_is_pickled_by_name_and_copied_as_itself(func: object) -> None:
    assert pickle.loads(pickle.dumps(func)) is func
    assert copy.deepcopy(func) is copy.copy(func) is func


# --- functions that return what has not run yet -----------------------------------------------------------------------


@tracer.trace
def returns_coroutine(x: int) -> Coroutine[Any, Any, int]:
    return async_function(x)


@tracer.trace
def returns_generator(x: int) -> Generator[int, None, None]:
    return generator(x)


@tracer.trace
def returns_async_generator(x: int) -> AsyncGenerator[int, None]:
    return async_generator(x)


def returning(make: Callable[[], Any], name: str) -> Callable[[], Any]:
    """Make a traced function that returns what `make` returns."""

    def call() -> Any:
        return make()

    return tracer.trace(call, name=name)


async def test_the_span_of_a_function_that_returns_a_coroutine_ends_with_the_awaited_value() -> None:
    coroutine = returns_coroutine(3)
    assert inspect.iscoroutine(coroutine)
    assert (coroutine.__name__, coroutine.__qualname__) == ("async_function", "async_function")
    assert tracer.get_last_active_trace_id() is None
    assert await coroutine == 3
    span = await last_span()
    assert (span.name, span.inputs, span.outputs) == ("returns_coroutine", {"x": 3}, 3)


async def test_the_span_of_a_function_that_returns_a_generator_ends_with_it() -> None:
    steps = returns_generator(3)
    assert inspect.isgenerator(steps)
    assert steps.__name__ == "generator"
    assert list(steps) == [3]
    span = await last_span()
    assert (span.outputs, span.get_attribute("tracer.finish")) == ([3], "completed")
    async_steps = returns_async_generator(4)
    assert inspect.isasyncgen(async_steps)
    assert async_steps.__name__ == "async_generator"
    assert [item async for item in async_steps] == [4]
    assert (await last_span()).outputs == [4]
    send = returning(lambda: echo("a"), "wrapper")()
    assert (next(send), send.send("b")) == ("a", "B")
    send.close()
    spans = await last_spans()
    assert spans["echo"].parent_id == spans["wrapper"].span_id
    assert [span.get_attribute("tracer.finish") for span in spans.values()] == ["abandoned"] * 2


async def test_what_a_returned_coroutine_does_is_inside_the_span() -> None:
    @tracer.trace
    async def inner() -> tracer.LiveSpan | None:
        await anyio.lowlevel.checkpoint()
        return tracer.get_current_active_span()

    @tracer.trace
    def wrapper() -> Coroutine[Any, Any, object]:
        return inner()

    @tracer.trace
    def wrapper_of_wrapper() -> Coroutine[Any, Any, object]:
        return wrapper()

    coroutine = wrapper_of_wrapper()
    assert tracer.get_current_active_span() is None
    await coroutine
    assert tracer.get_current_active_span() is None
    trace = await last_trace()
    assert [span.name for span in trace.data.spans] == ["wrapper_of_wrapper", "wrapper", "inner"]
    assert [span.parent_id for span in trace.data.spans[1:]] == [span.span_id for span in trace.data.spans[:2]]


async def test_an_sdk_method_is_traced_although_it_is_a_plain_function(server: FakeOpenAI) -> None:
    async with server.async_client() as client:
        create = tracer.trace(client.chat.completions.create, name="ask")
        answer = await create(model="gpt-5", messages=[{"role": "user", "content": "Hi"}])
    assert answer.choices[0].message.content
    span = await last_span()
    assert (span.name, span.outputs["choices"][0]["message"]["role"]) == ("ask", "assistant")


async def test_a_returned_coroutine_may_fail_or_be_cancelled() -> None:
    async def fail() -> None:
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        await returning(fail, "fails")()
    assert (await last_span()).status.description == "ValueError: wrong"
    with anyio.move_on_after(0):
        await returning(anyio.sleep_forever, "sleeps")()
    assert (await last_span()).get_attribute("tracer.finish") == "cancelled"


@pytest.mark.parametrize("call", [returns_coroutine, returns_generator, returns_async_generator])
async def test_what_is_returned_and_dropped_ends_as_abandoned(call: Callable[[int], object]) -> None:
    warns = call is returns_coroutine
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        call(1)
        gc.collect()
    names = ["coroutine 'async_function' was never awaited"] if warns else []
    assert [str(warning.message) for warning in told] == names, "as without tracer: once"
    told.clear()  # each warning holds its coroutine
    gc.collect()
    assert (await last_span()).get_attribute("tracer.finish") == "abandoned"


async def test_what_somebody_else_holds_stays_the_same_object() -> None:
    shared = generator(1)
    running = returning(lambda: shared, "shared")()
    assert running is shared
    assert (await last_span()).get_attribute("tracer.finish") == "completed"

    @types.coroutine
    def old() -> Generator[Any, Any, int]:
        yield from anyio.lowlevel.checkpoint().__await__()
        return 5

    assert await returning(old, "old")() == 5


async def test_a_task_is_an_output_like_any_other(anyio_backend: str) -> None:
    if anyio_backend != "asyncio":
        return
    task = returning(lambda: asyncio.ensure_future(async_function(1)), "starts")()
    assert (await last_span()).name == "starts"
    assert await task == 1


async def test_a_dropped_coroutine_is_not_kept_alive_by_its_span() -> None:
    class State:
        coroutine: object

    @tracer.trace
    def start(state: State) -> Coroutine[Any, Any, int]:
        return async_function(state)  # type: ignore[arg-type]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state = State()
        state.coroutine = start(state)
        gone = weakref.ref(state)
        del state
        gc.collect()
    assert gone() is None
    assert (await last_span()).get_attribute("tracer.finish") == "abandoned"


# --- misuse -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("misuse", "message"),
    [
        (lambda: tracer.trace("name"), r"@trace must stand above a function, got 'name'; a name is given as @trace\("),  # type: ignore[call-overload]
        (lambda: tracer.trace(property(len)), "a property is traced below its @property"),  # type: ignore[call-overload]
        (lambda: tracer.trace(3), "@trace must stand above a function, got 3"),  # type: ignore[call-overload]
        (lambda: tracer.trace(len, output_reducer=sum), "output_reducer is for generators; 'len' is none"),
        (lambda: tracer.trace(output_reducer=3), "output_reducer must be a function of a list, got 3"),  # type: ignore[call-overload]
        (lambda: tracer.trace(name=3), "name must be a non-empty string, got 3"),  # type: ignore[call-overload]
        (lambda: tracer.trace(name=""), "name must be a non-empty string, got ''"),
        (lambda: tracer.trace(span_type=None), "span_type must be a non-empty string, got None"),  # type: ignore[call-overload]
        (lambda: tracer.trace(attributes=[1]), r"attributes must be a mapping with string keys, got \[1\]"),  # type: ignore[call-overload]
        (lambda: tracer.trace(attributes={1: 2}), "attributes must have strings as keys, got 1"),  # type: ignore[dict-item]
    ],
)
def test_misuse_is_told_when_the_function_is_defined(misuse: Callable[[], object], message: str) -> None:
    with pytest.raises(tracer.ConfigurationError, match=message):
        misuse()
