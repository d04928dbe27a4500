"""A fault of tracer's own never reaches the code inside a span, and costs no other span."""

from __future__ import annotations

import logging
from typing import Any

import pytest

import tracer
from tests.reading import last_spans
from tracer._runtime import runtime
from tracer.pipeline.pipeline import Pipeline
from tracer.pipeline.throttle import Throttle
from tracer.spans import guard, opening
from tracer.spans.live_span import LiveSpan


class OurError(Exception):
    pass


def fail(*_: Any, **__: Any) -> Any:
    raise OurError("a bug of ours")


@pytest.fixture(autouse=True)
def tells_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_throttle", Throttle())


OPENING = {
    "ids": (runtime.ids.__class__, "span_id"),
    "pipeline": (runtime.__class__, "pipeline_for_spans"),
    "open": (opening, "open_span"),
}
BEGINNING = {"begin": (LiveSpan, "begin"), "push": (Pipeline, "push"), "snapshot": (LiveSpan, "begin_with")}
ENDING = {"push": (Pipeline, "push"), "finish": (LiveSpan, "finish"), "finish_with": (LiveSpan, "finish_with")}


def told(log: list[logging.LogRecord]) -> list[str]:
    messages = [record.getMessage() for record in log]
    assert all(record.exc_info is not None and record.exc_info[0] is OurError for record in log)
    log.clear()
    return messages


@pytest.mark.parametrize("fault", [*OPENING.values(), *BEGINNING.values()], ids=[*OPENING, *BEGINNING])
async def test_a_block_runs_even_if_its_span_cannot_be_opened(
    fault: tuple[Any, str], monkeypatch: pytest.MonkeyPatch, tracer_log: list[logging.LogRecord]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(*fault, fail)
        with tracer.start_span("lost", span_type="TOOL") as span:
            span.set_inputs(1)
            span.set_outputs(2)
            span.set_attribute("a", 1)
            span.add_event("e")
            span.set_status("OK")
            span.record_exception(ValueError("x"))
            span.update_trace(tags={"a": "b"})
            assert (span.name, span.span_type, span.is_recording) == ("lost", "TOOL", False)
            assert len(span.trace_id) == 32
            assert len(span.span_id) == 16
            assert tracer.get_current_active_span() is None
            seen = True
        async with tracer.start_span("lost too"):
            pass
        with pytest.raises(KeyError), tracer.start_span("lost as well"):
            raise KeyError("the user's own")
    assert seen
    assert len(told(tracer_log)) == 3
    with tracer.start_span("kept"):
        pass
    assert (await last_spans()).keys() == {"kept"}


async def test_what_runs_inside_belongs_to_the_span_around(
    monkeypatch: pytest.MonkeyPatch, tracer_log: list[logging.LogRecord]
) -> None:
    with tracer.start_span("root") as root:
        with monkeypatch.context() as patch:
            patch.setattr(opening, "open_span", fail)
            lost = tracer.start_span("lost")
            span = lost.__enter__()
        with tracer.start_span("inner"):
            pass
        tracer.start_span_no_context("detached", parent_span=span).end()
        lost.__exit__(None, None, None)
        assert tracer.get_current_active_span() is root
    spans = await last_spans()
    assert spans.keys() == {"root", "inner", "detached"}
    assert spans["inner"].parent_id == spans["detached"].parent_id == root.span_id
    assert told(tracer_log) == [
        "opening the span lost failed; the call goes on without it (told at most once a minute)"
    ]


@pytest.mark.parametrize("fault", ENDING.values(), ids=ENDING)
async def test_the_end_of_a_block_raises_only_what_the_user_raised(
    fault: tuple[Any, str], monkeypatch: pytest.MonkeyPatch, tracer_log: list[logging.LogRecord]
) -> None:
    with tracer.start_span("root") as root:
        scope = tracer.start_span("a")
        with monkeypatch.context() as patch, scope:
            patch.setattr(*fault, fail)
        with monkeypatch.context() as patch, pytest.raises(KeyError), tracer.start_span("b"):  # noqa: PT012
            patch.setattr(*fault, fail)
            raise KeyError("the user's own")
        assert tracer.get_current_active_span() is root
        with scope:  # which can still be used
            assert tracer.get_current_active_span() is not root
    assert len(told(tracer_log)) == 2
    tracer.sync.flush()


@pytest.mark.parametrize("fault", [*OPENING.values(), *BEGINNING.values()], ids=[*OPENING, *BEGINNING])
async def test_a_detached_span_that_cannot_be_opened_is_not_recorded(
    fault: tuple[Any, str], monkeypatch: pytest.MonkeyPatch, tracer_log: list[logging.LogRecord]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(*fault, fail)
        job = tracer.start_span_no_context("lost", inputs=1, tags={"a": "b"})
        step = tracer.start_span_no_context("lost too", parent_span=job)
    step.end()
    job.end(outputs=2)
    assert not job.is_recording
    assert told(tracer_log)[0].startswith(("opening the span lost ", "beginning the span lost "))
    assert tracer.stats().open_spans == 0
