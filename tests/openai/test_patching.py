"""Switching on and off: once, completely, in any order with others, in the middle of things."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import anyio
import openai
import pytest
from openai import _base_client as sdk
from openai._resource import AsyncAPIResource, SyncAPIResource

import tracer
from tests.openai.calling import CHAT, Caller, finish, only_span, said, traces
from tracer import _semconv as sc
from tracer.openai import _patch
from tracer.testing import FakeOpenAI, reply

CLASSES = (sdk.BaseClient, sdk.SyncAPIClient, sdk.AsyncAPIClient, SyncAPIResource, AsyncAPIResource)
OLDER = {"_sleep_for_retry": "_retry_request"}  # what went before


def state_of(function: Any) -> Any:
    """What a function is, and what it does."""
    if not isinstance(function, FunctionType):
        return function
    return function, function.__code__, function.__kwdefaults__, dict(function.__dict__)


def snapshot() -> list[dict[str, Any]]:
    return [{name: state_of(found) for name, found in cls.__dict__.items()} for cls in CLASSES]


@pytest.fixture
def off() -> Iterator[None]:
    """Tracing is off at first, and everything that the test does with the classes is undone."""
    tracer.autolog(disable=True)
    before = [dict(cls.__dict__) for cls in CLASSES]
    yield
    tracer.autolog(disable=True)
    for cls, attributes in zip(CLASSES, before, strict=True):
        for owner, name, _ in _patch._SEAM:
            if owner is cls and name in attributes:
                setattr(cls, name, attributes[name])


def test_disabling_restores_the_very_same_functions(off: None) -> None:
    before = snapshot()
    tracer.autolog()
    assert snapshot() != before
    tracer.autolog()
    tracer.autolog(disable=True)
    assert snapshot() == before
    assert [list(attributes) for attributes in snapshot()] == [list(attributes) for attributes in before]
    tracer.autolog(disable=True)
    assert snapshot() == before


def test_the_patched_methods_are_the_same_objects_with_the_same_signatures(off: None) -> None:
    def seen() -> list[Any]:
        methods = [owner.__dict__[name] for owner, name, _ in _patch._SEAM if name in owner.__dict__]
        return [(method, inspect.signature(method), inspect.iscoroutinefunction(method)) for method in methods]

    before = seen()
    tracer.autolog()
    assert seen() == before


@pytest.mark.parametrize(
    "option", ["disable", "capture_content", "disable_openai_agent_tracer", "stream_usage", "propagate"]
)
def test_an_option_of_the_wrong_type_is_refused(option: str) -> None:
    wrong: dict[str, Any] = {option: "yes"}
    with pytest.raises(tracer.ConfigurationError, match=f"^{option} must be True(,| or) False.*, got 'yes'"):
        tracer.openai.autolog(**wrong)


async def test_switching_on_twice_leaves_one_span(caller: Caller) -> None:
    tracer.autolog()
    tracer.openai.autolog()
    await caller.chat()
    assert said(await only_span()) == "You said: Hi"


async def test_nothing_is_recorded_once_switched_off(caller: Caller) -> None:
    tracer.autolog(disable=True)
    await caller.chat()
    assert await traces() == []


async def test_content_is_left_out_if_told_so(caller: Caller) -> None:
    tracer.openai.autolog(capture_content=False)
    await caller.items(await caller.chat(stream=True))
    span = await only_span()
    assert "Hi" not in str(span.inputs)
    assert "You said" not in str(span.outputs) + str(span.events)
    assert finish(span) == "completed"


class TestInFlight:
    @pytest.fixture(params=["asyncio", "trio"])
    def mode(self, request: pytest.FixtureRequest) -> Any:
        return request.param

    async def test_switching_on_while_a_call_runs_is_harmless(self, caller: Caller, server: FakeOpenAI) -> None:
        tracer.autolog(disable=True)
        answers: list[Any] = []

        async def ask() -> None:
            answers.append(await caller.chat())

        server.enqueue(reply.text("late").held())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await server.async_wait_for_held()
            tracer.autolog()
            server.release()
        assert answers[0].choices[0].message.content == "late"
        assert await traces() == []

    async def test_a_call_that_runs_when_tracing_is_switched_off_ends_and_says_what_is_missing(
        self, caller: Caller, server: FakeOpenAI
    ) -> None:
        server.enqueue(reply.text("late").held())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(caller.chat)
            await server.async_wait_for_held()
            tracer.autolog(disable=True)
            server.release()
        span = await only_span()
        assert span.inputs == CHAT
        assert span.outputs is None
        assert "not seen" in span.attributes[sc.NOTE]


class OtherLibrary:
    """Wraps ``request`` as other instrumentors do, and takes its wrapper off again by putting back what it found."""

    def __init__(self, owner: Any, *, tells: bool) -> None:
        self.owner = owner
        self.calls = 0
        found = self.found = owner.__dict__["request"]

        def request(client: Any, *args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            return found(client, *args, **kwargs)

        self.wrapper = functools.wraps(found)(request) if tells else request
        owner.request = self.wrapper

    def undo(self) -> None:
        self.owner.request = self.found


@pytest.fixture(params=[True, False], ids=["functools.wraps", "bare closure"])
def tells(request: pytest.FixtureRequest) -> Any:
    return request.param


class TestBesideAnotherLibrary:
    @pytest.fixture
    def owner(self, off: None, caller: Caller) -> type:
        return sdk.AsyncAPIClient if caller.is_async else sdk.SyncAPIClient

    async def test_its_wrapper_around_ours_stays_when_we_go(self, caller: Caller, owner: type, tells: bool) -> None:
        tracer.autolog()
        other = OtherLibrary(owner, tells=tells)
        tracer.autolog(disable=True)
        assert owner.__dict__["request"] is other.wrapper
        await caller.chat()
        assert (other.calls, await traces()) == (1, [])

    async def test_coming_back_below_its_wrapper_records_once(self, caller: Caller, owner: type, tells: bool) -> None:
        tracer.autolog()
        other = OtherLibrary(owner, tells=tells)
        tracer.autolog(disable=True)
        tracer.autolog()
        await caller.chat()
        assert other.calls == 1
        assert said(await only_span()) == "You said: Hi"

    async def test_after_both_have_gone_nothing_is_left(self, caller: Caller, owner: type, tells: bool) -> None:
        tracer.autolog(disable=True)
        before = owner.__dict__["request"]
        tracer.autolog()
        other = OtherLibrary(owner, tells=tells)
        tracer.autolog(disable=True)
        other.undo()
        await caller.chat()
        assert await traces() == []
        tracer.autolog()
        await caller.chat()
        assert said(await only_span()) == "You said: Hi"
        tracer.autolog(disable=True)
        assert owner.__dict__["request"] is before

    async def test_we_can_come_back_after_it_took_our_wrapper_off(
        self, caller: Caller, owner: type, tells: bool
    ) -> None:
        tracer.autolog(disable=True)
        other = OtherLibrary(owner, tells=tells)
        tracer.autolog()
        other.undo()
        tracer.autolog()
        await caller.chat()
        assert said(await only_span()) == "You said: Hi"


def test_autolog_reaches_what_the_sdk_calls_its_base_clients() -> None:
    for owner, name, _ in _patch._SEAM:
        names = {name, OLDER.get(name)}
        assert names & owner.__dict__.keys(), f"{owner.__name__}.{name} is gone in openai {openai.__version__}"
