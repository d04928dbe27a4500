"""Other tools that wrap `request`: whatever they put where, in whatever order they come and go, a call is one span."""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from openai import _base_client as sdk

import tracer
from tests.openai.calling import CHAT, Caller, only_span, said, traces
from tracer.openai import _bypasses
from tracer.testing import FakeOpenAI

Undo = Callable[[], None]


class CallableObject:
    """A wrapper that is an object, as wrapt's are."""

    def __init__(self, found: Any) -> None:
        self.found = found

    def __get__(self, client: Any, owner: Any) -> Any:
        return functools.partial(self.found, client)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.found(*args, **kwargs)


def closure(found: Any) -> Any:
    def request(client: Any, *args: Any, **kwargs: Any) -> Any:
        return found(client, *args, **kwargs)

    return request


def told_closure(found: Any) -> Any:
    return functools.wraps(found)(closure(found))


def in_default(found: Any) -> Any:
    def request(client: Any, *args: Any, _found: Any = found, **kwargs: Any) -> Any:
        return _found(client, *args, **kwargs)

    return request


WRAPPERS: list[Any] = [lambda found: found, closure, told_closure, in_default, functools.partialmethod, CallableObject]
NAMES = ["the method itself", "closure", "functools.wraps", "default", "partialmethod", "object"]


def wrap_attribute(owner: Any, wrap: Any) -> Undo:
    """Wrap ``owner.request`` as OpenInference and Logfire do, which leave an attribute behind when they go."""
    found = owner.request
    owner.request = wrap(found)

    def undo() -> None:
        owner.request = found

    return undo


@pytest.fixture
def caller(caller: Caller) -> Caller:
    """Tracing is off at first."""
    tracer.autolog(disable=True)
    return caller


@pytest.fixture
def clean() -> Iterator[None]:
    """Nothing that the test put on a class stays."""
    classes: list[Any] = [sdk.SyncAPIClient, sdk.AsyncAPIClient, openai.OpenAI, openai.AsyncOpenAI, openai.AzureOpenAI]
    before = [cls.__dict__.get("request") for cls in classes]
    yield
    tracer.autolog(disable=True)
    for cls, found in zip(classes, before, strict=True):
        if found is not None:
            cls.request = found
        elif "request" in cls.__dict__:
            del cls.request


@pytest.fixture(params=WRAPPERS, ids=NAMES)
def wrap(request: pytest.FixtureRequest) -> Any:
    return request.param


def global_wrapper(client: Any, *args: Any, **kwargs: Any) -> Any:
    return FOUND["request"](client, *args, **kwargs)


FOUND: dict[str, Any] = {}


class Patcher:
    found: Any

    @staticmethod
    def request(client: Any, *args: Any, **kwargs: Any) -> Any:
        return Patcher.found(client, *args, **kwargs)


class TestOneSpan:
    @pytest.mark.parametrize("place", ["a global", "a class"])
    async def test_below_a_wrapper_that_keeps_the_method_elsewhere(
        self, clean: None, caller: Caller, place: str
    ) -> None:
        """The tool is switched off while we are on, and puts back what it found."""
        owner = sdk.AsyncAPIClient if caller.is_async else sdk.SyncAPIClient
        FOUND["request"] = Patcher.found = owner.request
        owner.request = global_wrapper if place == "a global" else Patcher.request  # type: ignore[assignment]
        tracer.autolog()
        await caller.chat()
        assert said(await only_span()) == "You said: Hi"
        owner.request = FOUND["request"]  # type: ignore[method-assign]
        await caller.chat()
        assert len(await traces()) == 2

    async def test_below_a_wrapper_on_the_class(self, clean: None, caller: Caller, wrap: Any) -> None:
        owner = openai.AsyncOpenAI if caller.is_async else openai.OpenAI
        undo = wrap_attribute(owner, wrap)
        tracer.autolog()
        await caller.chat()
        assert said(await only_span()) == "You said: Hi"
        undo()
        await caller.chat()
        assert len(await traces()) == 2

    async def test_below_a_wrapper_on_the_sdks_base_class(self, clean: None, caller: Caller, wrap: Any) -> None:
        owner = sdk.AsyncAPIClient if caller.is_async else sdk.SyncAPIClient
        undo = wrap_attribute(owner, wrap)
        tracer.autolog()
        await caller.chat()
        assert said(await only_span()) == "You said: Hi"
        undo()
        await caller.chat()
        assert len(await traces()) == 2

    async def test_below_a_wrapper_on_one_client(self, clean: None, caller: Caller) -> None:
        found = caller.client.request
        caller.client.request = functools.partial(found)
        tracer.autolog()
        await caller.chat()
        assert said(await only_span()) == "You said: Hi"
        caller.client.request = found
        await caller.chat()
        assert len(await traces()) == 2

    async def test_of_a_stream_below_a_wrapper(self, clean: None, caller: Caller) -> None:
        wrap_attribute(openai.AsyncOpenAI if caller.is_async else openai.OpenAI, closure)
        tracer.autolog()
        await caller.items(await caller.chat(stream=True))
        assert said(await only_span()) == "You said: Hi"

    @pytest.mark.parametrize("order", list(itertools.permutations(["on", "off", "theirs on", "theirs off"])))
    async def test_in_any_order_of_coming_and_going(self, clean: None, caller: Caller, order: tuple[str, ...]) -> None:
        owner = openai.AsyncOpenAI if caller.is_async else openai.OpenAI
        before = owner.request
        undo: Undo = lambda: None  # noqa: E731
        is_on, calls = False, 0
        for step in [*order, "on", "off"]:
            if step == "theirs on":
                undo = wrap_attribute(owner, told_closure)
            elif step == "theirs off":
                undo()
            else:
                is_on = step == "on"
                tracer.autolog(disable=not is_on)
            answer = await caller.chat()
            assert answer.choices[0].message.content == "You said: Hi"
            calls += is_on
            assert len(await traces()) == calls, step
        if order.index("theirs on") < order.index("theirs off"):
            assert owner.request is before

    async def test_of_a_subclass_that_calls_super(self, clean: None, server: FakeOpenAI) -> None:
        class Own(openai.OpenAI):
            def request(self, *args: Any, **kwargs: Any) -> Any:
                return super().request(*args, **kwargs)

        wrap_attribute(openai.OpenAI, closure)
        tracer.autolog()
        with Own(api_key="k", base_url=server.base_url) as client:
            client.chat.completions.create(**CHAT)
        assert said(await only_span()) == "You said: Hi"


class TestBypasses:
    @pytest.fixture
    def copy(self) -> Iterator[Any]:
        """A client whose ``request`` does what the SDK's does, without it."""

        class Copy(openai.OpenAI):
            def request(self, cast_to: Any, options: Any, **_: Any) -> Any:
                response = self._client.send(self._build_request(options))
                return self._process_response(
                    cast_to=cast_to, options=options, response=response, stream=False, stream_cls=None, retries_taken=0
                )

        yield Copy
        del Copy.request  # so that it by-passes nothing any more, should the class outlive the test

    @pytest.fixture
    def told(self, clean: None, tracer_log: list[logging.LogRecord]) -> Iterator[list[logging.LogRecord]]:
        _bypasses._told.clear()
        yield tracer_log
        tracer_log.clear()
        _bypasses._told.clear()

    def test_autolog_names_a_client_that_does_not_call_the_sdk(self, told: list[logging.LogRecord], copy: Any) -> None:
        tracer.autolog()
        tracer.autolog()
        [record] = told
        assert f"{copy.__qualname__} may not be traced: its request() ({__file__})" in record.getMessage()
        assert "super().request()" in record.getMessage()

    def test_a_call_that_comes_past_is_told_of_once(
        self, told: list[logging.LogRecord], copy: Any, server: FakeOpenAI
    ) -> None:
        tracer.autolog()
        _bypasses._told.clear()
        told.clear()
        with copy(api_key="k", base_url=server.base_url) as client:
            for _ in range(2):
                answer = client.chat.completions.create(**CHAT)
                assert answer.choices[0].message.content == "You said: Hi"
            client.models.list()
        [record] = told
        assert "Copy may not be traced" in record.getMessage()
        assert "POST /chat/completions came past it" in record.getMessage()

    def test_wrappers_and_subclasses_that_call_the_sdk_are_not_suspected(self, clean: None, wrap: Any) -> None:
        class Own(openai.OpenAI):
            def request(self, *args: Any, **kwargs: Any) -> Any:
                return openai.OpenAI.request(self, *args, **kwargs)

        wrap_attribute(openai.OpenAI, wrap)
        tracer.autolog()
        assert _bypasses.find_bypasses() == {}


def test_a_function_with_others_code_is_left_alone(clean: None) -> None:
    tracer.autolog()
    function = sdk.SyncAPIClient.request
    ours = function.__code__
    function.__code__ = ours.replace(co_name="of_another_tool")
    tracer.autolog(disable=True)
    assert function.__code__.co_name == "of_another_tool"
    function.__code__ = ours
    tracer.autolog(disable=True)
    assert function.__code__.co_name == "request"
    assert function.__code__ is not ours
