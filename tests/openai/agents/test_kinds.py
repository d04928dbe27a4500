"""Each type of the SDK's spans is named, typed and says what the SDK knows."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import agents.tracing as sdk
import pytest
from agents.tracing import span_data

import tracer
from tests.openai.agents.running import shape, span_named
from tests.reading import last_trace
from tracer import Span
from tracer.openai.agents import _describe
from tracer.testing import FakeOpenAI, reply

pytestmark = pytest.mark.usefixtures("traced")


async def record(span: Any, **later: Any) -> Span:
    """Run one span of the SDK's, with data that is set before its end."""
    with sdk.trace("W"), span() as running:
        for name, value in later.items():
            setattr(running.span_data, name, value)
    [_, found] = (await last_trace()).data.spans
    return found


def test_every_type_of_the_sdk_is_known() -> None:
    source = Path(span_data.__file__ or "").read_text()
    types = set(re.findall(r'def type\(self\) -> str:\s+return "(\w+)"', source))
    assert types == set(_describe._KINDS)


async def test_task_and_turn_have_names() -> None:
    with sdk.trace("W"), sdk.task_span("Booking"), sdk.turn_span(3, "Clerk"):
        pass
    found = await last_trace()
    assert shape(found) == ["W WORKFLOW", "  Booking TASK", "    Turn 3 CHAIN"]
    assert found.data.spans[2].attributes["gen_ai.agent.name"] == "Clerk"


async def test_function_of_an_mcp_server_names_it() -> None:
    span = await record(lambda: sdk.function_span("search", input='{"q": 1}'), mcp_data={"server": "docs"}, output=[1])
    assert (span.span_type, span.inputs, span.outputs) == ("TOOL", {"q": 1}, [1])
    assert span.attributes["tracer.mcp.server_label"] == "docs"


@pytest.mark.parametrize("given", ["plain words", '{"cut', "[1, 2"])
async def test_function_input_that_is_no_json_is_kept_as_text(given: str) -> None:
    assert (await record(lambda: sdk.function_span("f", input=given))).inputs == given


async def test_custom_span_keeps_its_data() -> None:
    span = await record(lambda: sdk.custom_span("lookup", {"table": "users"}), data={"table": "users", "rows": 3})
    assert (span.name, span.span_type, span.outputs) == ("lookup", "CHAIN", {"table": "users", "rows": 3})


async def test_mcp_list_tools_says_what_the_server_has() -> None:
    span = await record(lambda: sdk.mcp_tools_span("docs"), result=["search", "fetch"])
    assert (span.name, span.span_type, span.outputs) == ("MCP list tools", "TOOL", ["search", "fetch"])
    assert span.attributes["tracer.mcp.server_label"] == "docs"


async def test_transcription_counts_audio_and_keeps_its_text() -> None:
    span = await record(lambda: sdk.transcription_span(model="stt", input="QUJD" * 100), output="Hello")
    assert (span.name, span.span_type, span.outputs) == ("Transcription", "TOOL", "Hello")
    assert span.inputs == {"format": "pcm", "bytes": 300}
    assert span.attributes["gen_ai.request.model"] == "stt"


async def test_speech_keeps_its_text_and_counts_audio() -> None:
    span = await record(lambda: sdk.speech_span(model="tts", input="Hello"), output="QUJD" * 100)
    assert (span.name, span.span_type, span.inputs) == ("Speech", "TOOL", "Hello")
    assert span.outputs == {"format": "pcm", "bytes": 300}
    assert span.attributes["gen_ai.operation.name"] == "speech"


async def test_speech_group_holds_its_speech_by_the_parent_it_is_told() -> None:
    with sdk.trace("W"):
        group = sdk.speech_group_span(input="Hello")
        group.start()
        with sdk.custom_span("elsewhere"), tracer.start_span("user's"), sdk.custom_span("part", parent=group):
            pass
        group.finish()
    found = await last_trace()
    assert span_named(found, "Speech group").inputs == "Hello"
    assert span_named(found, "part").parent_id == span_named(found, "Speech group").span_id


async def test_span_that_is_never_made_current_holds_none_but_its_own() -> None:
    with sdk.trace("W"):
        aside = sdk.speech_group_span()
        aside.start(mark_as_current=False)
        with sdk.custom_span("main"), tracer.start_span("user's"), sdk.custom_span("inner"):
            pass
        aside.finish()
    assert shape(await last_trace()) == [
        "W WORKFLOW",
        "  Speech group CHAIN",
        "  main CHAIN",
        "    user's UNKNOWN",
        "      inner CHAIN",
    ]


async def test_span_that_another_task_ends_holds_nothing_that_begins_later() -> None:
    async def finish(span: Any) -> None:
        span.finish()

    with sdk.trace("W"):
        for number in (1, 2):
            span = sdk.custom_span(f"part {number}")
            span.start()
            await asyncio.create_task(finish(span))
    assert shape(await last_trace()) == ["W WORKFLOW", "  part 1 CHAIN", "  part 2 CHAIN"]


async def test_span_inside_a_model_call_without_http_stands_beside_it() -> None:
    with sdk.trace("W"), sdk.generation_span(model="m") as call, sdk.custom_span("tokenize"):
        pass
    assert call.ended_at
    assert sorted(shape(await last_trace())[1:]) == ["  Generation CHAT_MODEL", "  tokenize CHAIN"]


async def test_span_of_a_later_version_is_kept_as_it_exports_itself() -> None:
    class Later(sdk.SpanData):
        type = "hologram"

        def export(self) -> dict[str, Any]:
            return {"type": "hologram", "depth": 3}

    provider = sdk.get_trace_provider()
    span = await record(lambda: provider.create_span(Later()))
    assert (span.name, span.span_type, span.outputs) == ("hologram", "CHAIN", {"type": "hologram", "depth": 3})


async def test_error_that_the_sdk_notes_is_the_spans() -> None:
    with sdk.trace("W"), sdk.custom_span("step") as step:
        step.set_error({"message": "Step failed", "data": {"error": "disk full"}})
    span = span_named(await last_trace(), "step")
    assert (str(span.status), span.status.description) == ("ERROR", "Step failed: disk full")
    assert span.attributes["tracer.finish"] == "failed"


@pytest.mark.parametrize("error", ["words", {"message": None, "data": [1]}, {"data": object()}, 7])
async def test_error_of_any_shape_is_kept(error: Any) -> None:
    with sdk.trace("W"), sdk.custom_span("step") as step:
        step.set_error(error)
    assert str(span_named(await last_trace(), "step").status) == "ERROR"


async def test_data_that_cannot_be_read_costs_the_span_its_content_only() -> None:
    class Broken:
        @property
        def triggered(self) -> bool:
            raise RuntimeError("unreadable")

        type = "guardrail"
        name = "broken"

    with sdk.trace("W"), sdk.get_trace_provider().create_span(Broken()):  # type: ignore[type-var]
        pass
    found = await last_trace()
    assert all(span.end_time_ns for span in found.data.spans)
    assert "could not be read" in span_named(found, "broken").attributes["tracer.note"]


async def test_values_of_any_kind_are_kept() -> None:
    loop: dict[str, Any] = {}
    loop["self"] = loop
    span = await record(lambda: sdk.custom_span("odd"), data={"loop": loop, "object": object(), "bytes": b"\xff"})
    assert set(span.outputs) == {"loop", "object", "bytes"}


def test_flush_traces_waits_until_all_is_stored(tmp_path: Path) -> None:
    with sdk.trace("W"):
        pass
    sdk.flush_traces()
    stats = tracer.stats()
    assert stats.written == stats.accepted > 0


async def test_transcription_over_http_gives_way_to_the_calls_own_span(client: Any, server: FakeOpenAI) -> None:
    server.enqueue(reply.json_body(200, {"text": "Hello"}), path="/audio/transcriptions")
    with sdk.trace("W"), sdk.transcription_span(model="stt"):
        await client.audio.transcriptions.create(model="stt", file=("a.wav", b"RIFF"))
    assert shape(await last_trace()) == ["W WORKFLOW", "  AsyncTranscriptions TOOL"]
