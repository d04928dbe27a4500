"""What users say of a running trace: `tracer.update_current_trace`."""

from __future__ import annotations

import contextlib
import contextvars
from uuid import UUID

import pytest

import tracer
from tests.reading import last_trace


class Unprintable:
    def __str__(self) -> str:
        raise ValueError("no")


async def test_values_that_are_not_text_become_text() -> None:
    with tracer.start_span("root"):
        tracer.update_current_trace(
            tags={
                "n": 1,
                2: None,  # type: ignore[dict-item]
                "state": tracer.TraceState.OK,
                "bad": Unprintable(),
            },
            metadata={"n": 1.5, "list": [1, "b"], "lone": "\ud800", "long": "x" * 50_000},
            session_id=UUID(int=7),  # type: ignore[arg-type]
            user_id=42,  # type: ignore[arg-type]
        )
    info = (await last_trace()).info
    assert info.tags == {"n": "1", "2": "None", "state": "OK", "bad": "<Unprintable: str() raised ValueError>"}
    assert info.metadata == {"n": "1.5", "list": "[1, 'b']", "lone": "\\ud800", "long": "x" * 50_000}
    assert (info.session_id, info.user_id) == (str(UUID(int=7)), "42")


@pytest.mark.parametrize("state", ["OK", "ERROR", tracer.TraceState.ERROR])
async def test_the_user_decides_what_became_of_the_trace(state: str) -> None:
    @tracer.trace
    def work() -> None:
        tracer.update_current_trace(state=state)
        running = tracer.sync.search_traces()[0].info
        assert running.state == "IN_PROGRESS"
        if state == "OK":
            raise ValueError("handled elsewhere")

    with contextlib.suppress(ValueError):
        work()
    trace = await last_trace()
    assert trace.info.state == state
    assert trace.data.spans[0].status.status_code == ("ERROR" if state == "OK" else "OK")
    assert len(await tracer.search_traces(status=str(state))) == 1


async def test_the_user_may_replace_previews_whatever_the_spans_say() -> None:
    with tracer.start_span("root") as root:
        root.set_inputs("raw question")
        tracer.update_current_trace(request_preview="question", response_preview="answer", client_request_id="c-1")
        live = (await tracer.get_trace(root.trace_id)).info
        assert (live.request_preview, live.response_preview, live.state) == ("question", "answer", "IN_PROGRESS")
        with tracer.start_span("child"):
            tracer.update_current_trace(response_preview="better answer")
        root.set_attribute("touched", True)
        assert (await tracer.get_trace(root.trace_id)).info.request_preview == "question"
        root.set_outputs("raw answer")
    info = (await last_trace()).info
    assert (info.request_preview, info.response_preview) == ("question", "better answer")
    assert (info.client_request_id, info.state) == ("c-1", "OK")
    [found] = await tracer.search_traces(filter_string="client_request_id = 'c-1' AND request = 'question'")
    assert found.info.trace_id == info.trace_id


async def test_a_span_that_outlives_the_root_may_still_decide() -> None:
    with tracer.start_span("root") as root:
        scope, elsewhere = tracer.start_span("child"), contextvars.copy_context()
        child = elsewhere.run(scope.__enter__)
    assert (await last_trace()).info.state == "OK"
    elsewhere.run(tracer.update_current_trace, state="ERROR", response_preview="too late?")
    child.end()
    info = (await tracer.get_trace(root.trace_id)).info
    assert (info.state, info.response_preview) == ("ERROR", "too late?")


async def test_previews_of_the_user_are_texts_too() -> None:
    tracer.configure(redact=[lambda text: text.replace("secret", "[hidden]")])
    with tracer.start_span("root"):
        tracer.update_current_trace(
            request_preview="a secret", response_preview="the secret", client_request_id="secret"
        )
    info = (await last_trace()).info
    assert (info.request_preview, info.response_preview) == ("a [hidden]", "the [hidden]")
    assert info.client_request_id == "[hidden]"
    tracer.configure(redact=[], capture_content=False)
    with tracer.start_span("root"):
        tracer.update_current_trace(request_preview="a secret", response_preview="the secret")
    info = (await last_trace()).info
    assert (info.request_preview, info.response_preview) == (None, None)
