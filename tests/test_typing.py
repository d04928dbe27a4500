"""`@trace` keeps types: mypy reads this file, as a part of the project and in the test below."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import assert_type

import tracer


@tracer.trace
def plain(x: int, *, y: str = "") -> str:
    return y * x


@tracer.trace(name="named", span_type=tracer.SpanType.TOOL, attributes={"a": 1})
async def coroutine(x: int) -> list[int]:
    return [x]


@tracer.trace
def generator(x: int) -> Generator[int, str, bool]:
    yield x
    return True


@tracer.trace(output_reducer=sum)
async def async_generator(x: int) -> AsyncGenerator[int, None]:
    yield x


class Service:
    @tracer.trace
    def method(self, x: int) -> str:
        return str(x)

    @tracer.trace(name="named")
    async def async_method(self, x: int) -> str:
        return str(x)

    @classmethod
    @tracer.trace
    def below(cls, x: int) -> str:
        return str(x)

    @staticmethod
    @tracer.trace
    def static(x: int) -> str:
        return str(x)

    @property
    @tracer.trace
    def prop(self) -> int:
        return 1


async def types() -> None:
    """Never run: read by mypy."""
    assert_type(plain(1, y="a"), str)
    pending: Coroutine[Any, Any, list[int]] = coroutine(1)
    assert_type(await pending, list[int])
    assert_type(await coroutine(1), list[int])
    assert_type(generator(1), Generator[int, str, bool])
    assert_type(async_generator(1), AsyncGenerator[int, None])
    assert_type(Service().method(1), str)
    assert_type(await Service().async_method(1), str)
    assert_type(Service.below(1), str)
    assert_type(Service.static(1), str)
    assert_type(Service().prop, int)
    assert_type(tracer.trace(plain, name="x")(1), str)
    undecorated: Callable[[int], str] = str
    assert_type(tracer.trace(undecorated)(1), str)

    plain("1")  # type: ignore[arg-type]
    plain(1, z=2)  # type: ignore[call-arg]
    await coroutine()  # type: ignore[call-arg]
    Service().method("1")  # type: ignore[arg-type]
    tracer.trace(3)  # type: ignore[call-overload]
    tracer.start_span(name=3)  # type: ignore[arg-type]

    with tracer.start_span("a") as span:
        assert_type(span, tracer.LiveSpan)
        assert_type(span.status, tracer.SpanStatus)
    async with tracer.start_span("a") as span:
        assert_type(span.trace_id, str)

    trace = await tracer.get_trace("")
    assert_type(trace, tracer.Trace)
    assert_type(tracer.sync.get_trace(""), tracer.Trace)
    assert_type(trace.data.spans, list[tracer.Span])
    assert_type(trace.info.token_usage, dict[str, int] | None)
    assert_type(await tracer.search_traces(), tracer.TracePage)
    assert_type((await tracer.search_traces())[0], tracer.Trace)
    assert_type(tracer.sync.search_traces(max_results=1), tracer.TracePage)
    assert_type(await tracer.flush(), bool)
    assert_type(tracer.sync.delete_traces(max_traces=1), int)
    assert_type(tracer.stats().dropped, dict[str, int])
    items: AsyncIterator[int] = async_generator(1)
    _ = items


def test_types_are_kept() -> None:
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", "-m", __name__]
    project = Path(__file__).parent.parent
    checked = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600, cwd=project)
    assert checked.returncode == 0, checked.stdout
