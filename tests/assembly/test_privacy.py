"""A user's text can be in many places: in none of them is it stored if texts must not be stored.

One secret word is put into all these places at once; then the whole database is searched for it.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import tracer
from tests.leaks import find_leaks
from tests.reading import last_spans, last_trace, stored_rows
from tracer.testing import FakeOpenAI, reply

WORD = "swordfish"


def hide(text: str) -> str:
    return text.replace(WORD, "***")


def broken(text: str) -> str:
    raise RuntimeError(text)


def leaving(text: str) -> str:
    raise SystemExit(text)


def silent(text: str) -> Any:
    return None


async def stored(tmp_path: Path) -> str:
    """Return the database's content as text, after a check that the word is neither in it nor in the files' bytes."""
    assert await tracer.flush()
    await tracer.search_traces(text="anything")  # which fills the full-text index
    assert find_leaks(tmp_path, [WORD.encode(), base64.b64encode(WORD.encode())]) == []
    rows = stored_rows(tmp_path)
    assert WORD not in rows
    return rows


class Odd:
    def __repr__(self) -> str:
        return f"<Odd {WORD}>"


@tracer.trace(attributes={"decorated": WORD})
async def pieces(question: str, *, bag: dict[str, Any]) -> AsyncIterator[str]:
    yield f"{question} one"
    yield f"{question} two"
    raise ValueError(f"no third {WORD}") from KeyError(WORD)


async def say_it_everywhere() -> None:
    """Make one trace of the user's own that has the word in every place that takes a text."""
    with (
        contextlib.suppress(ValueError),
        tracer.start_span(f"root {WORD}", attributes={f"{WORD}!": "x", "a b": WORD}) as span,
    ):
        bag = {"deep": [{"x": (WORD, b"\xff" + WORD.encode(), {WORD})}], f"who is {WORD}": 1, "odd": Odd()}
        span.set_inputs(bag)
        span.set_outputs({f"{WORD} says": WORD})
        span.set_attribute("later", [WORD, {"b": WORD}])
        span.add_event(f"event {WORD}", {"k": WORD, f"{WORD}!": 1})
        span.record_exception(f"noted {WORD}")
        span.record_exception(LookupError(WORD))
        span.set_status("ERROR", f"bad {WORD}")
        tracer.update_current_trace(
            tags={"tag": WORD},
            metadata={"meta": WORD},
            session_id=f"session {WORD}",
            user_id=f"user {WORD}",
            name=f"name {WORD}",
        )
        await tracer.flush()  # what is written while it runs
        async for _ in pieces(WORD, bag=bag):
            pass


async def call_everything(server: FakeOpenAI) -> None:
    """Make model calls with the word in their prompts, answers, tools, errors, files and streams."""
    said: Any = [{"role": "user", "name": WORD, "content": f"say {WORD}"}]
    tool: Any = {"type": "function", "function": {"name": "look_up", "description": WORD, "parameters": {"a b": WORD}}}
    async with server.async_client(max_retries=0) as client:
        server.enqueue(reply.text(f"the {WORD} swims", reasoning=WORD))
        await client.chat.completions.create(
            model="gpt-5", messages=said, tools=[tool], stop=[WORD], user=WORD, metadata={"k": WORD, f"k {WORD}": "v"}
        )
        server.enqueue(reply.tool_calls(("look_up", {"who": WORD})))
        async for _ in await client.chat.completions.create(model="gpt-5", messages=said, tools=[tool], stream=True):
            await tracer.flush()
        server.enqueue(reply.text(f"the {WORD} swims"))
        async for _ in await client.responses.create(
            model="gpt-5", input=f"say {WORD}", instructions=WORD, stream=True
        ):
            pass
        for code in (400, 500):
            server.enqueue(reply.error(code, f"I won't say {WORD}"))
            with contextlib.suppress(Exception):
                await client.responses.create(model="gpt-5", input=WORD)
        server.enqueue(reply.failed(f"I failed to say {WORD}", text=WORD))
        await client.responses.create(model="gpt-5", input=WORD)
        server.enqueue(reply.text(f"the {WORD} swims").failing(message=f"I stop at {WORD}", after_events=2))
        with contextlib.suppress(Exception):
            async for _ in await client.chat.completions.create(model="gpt-5", messages=said, stream=True):
                pass
        server.enqueue(reply.raw(f"<p>{WORD}".encode(), "text/html"))
        with contextlib.suppress(Exception):
            await client.chat.completions.create(model="gpt-5", messages=said)
        output: Any = [
            {"type": "code_interpreter_call", "id": "1", "code": WORD, "outputs": [{"type": "logs", "logs": WORD}]},
            {"type": "file_search_call", "id": "2", "queries": [WORD], "results": [{"text": WORD, "filename": WORD}]},
            {"type": "mcp_call", "id": "3", "name": "find", "server_label": "x", "arguments": WORD, "error": WORD},
        ]
        server.enqueue(reply.output(*output))
        await client.responses.create(model="gpt-5", input=WORD)
        server.enqueue(reply.output(*output))
        async for _ in await client.responses.create(model="gpt-5", input=WORD, stream=True):
            pass
        server.enqueue(reply.json_body(200, {"text": f"I hear {WORD}"}))
        await client.audio.transcriptions.create(model="whisper-1", file=(f"{WORD}.mp3", b"RIFF"), prompt=WORD)
        await client.embeddings.create(model="text-embedding-3-small", input=[WORD])
        await client.completions.create(model="gpt-3.5-turbo-instruct", prompt=WORD)


@pytest.mark.parametrize(
    "options", [{"redact": hide}, {"redact": hide, "capture_content": False}], ids=["redact", "both"]
)
async def test_a_redacted_word_is_nowhere(options: dict[str, Any], server: FakeOpenAI, tmp_path: Path) -> None:
    tracer.configure(**options)
    tracer.autolog()
    await say_it_everywhere()
    info = (await last_trace()).info
    assert (info.name, info.session_id, info.user_id) == ("name ***", "session ***", "user ***")
    assert (info.tags, info.metadata) == ({"tag": "***"}, {"meta": "***"})
    await tracer.set_trace_tag(info.trace_id, "late", f"a {WORD}")
    assert (await tracer.get_trace(info.trace_id)).info.tags["late"] == "a ***"
    await call_everything(server)
    await stored(tmp_path)
    assert tracer.stats().redaction_failed == 0


async def test_without_content_no_text_of_a_call_is_stored(server: FakeOpenAI, tmp_path: Path) -> None:
    tracer.configure(capture_content=False)
    tracer.autolog()
    await call_everything(server)
    rows = await stored(tmp_path)
    for kept in ("gpt-5", "look_up", "code_interpreter", "mcp.find", "whisper-1", "text-embedding-3-small"):
        assert kept in rows


async def test_without_content_structure_model_usage_and_times_stay(server: FakeOpenAI) -> None:
    tracer.configure(capture_content=False)
    tracer.autolog()
    async with server.async_client() as client:
        await client.chat.completions.create(
            model="gpt-5", messages=[{"role": "user", "content": f"say {WORD}"}], temperature=0.5
        )
    trace = await last_trace()
    [span] = trace.data.spans
    assert span.inputs == {
        "messages": [{"role": "user", "content": "[withheld]"}],
        "model": "gpt-5",
        "temperature": 0.5,
    }
    assert span.outputs["choices"][0]["finish_reason"] == "stop"
    assert (span.token_usage or {})["output_tokens"] > 0
    assert span.end_time_ns is not None
    assert span.attributes["gen_ai.response.model"].startswith("gpt-5")
    assert (trace.info.request_preview, trace.info.response_preview) == (None, None)


async def test_without_content_a_users_span_keeps_its_shape_and_what_he_called_it(tmp_path: Path) -> None:
    """Names, tags, session and user are names that the user gives to things: they are stored. To hide a text in them,
    use ``redact``."""
    tracer.configure(capture_content=False)
    with tracer.start_span("lookup", attributes={"size": 3, "who": WORD}) as span:
        span.set_inputs({"question": WORD, f"who is {WORD}": [1, WORD], "n": 3})
        span.set_outputs(WORD)
        span.add_event("found", {"what": WORD})
        span.set_status("ERROR", WORD)
        tracer.update_current_trace(tags={"env": "prod"}, session_id="s1")
        with contextlib.suppress(ValueError):
            async for _ in pieces(WORD, bag={"x": Odd()}):
                pass
    spans = await last_spans()
    root, generator = spans["lookup"], spans["pieces"]
    assert root.inputs == {"question": "[withheld]", "[withheld]": [1, "[withheld]"], "n": 3}
    assert root.outputs == "[withheld]"
    assert root.attributes["size"] == 3
    assert root.status.description == "content not captured"
    assert generator.outputs == ["[withheld]", "[withheld]"]
    assert generator.status.description == "ValueError"
    assert (await last_trace()).info.tags == {"env": "prod"}
    await stored(tmp_path)


@pytest.mark.parametrize("hook", [broken, leaving, silent])
async def test_a_hook_that_fails_closes_every_place_and_is_counted(
    hook: Any, server: FakeOpenAI, tmp_path: Path
) -> None:
    tracer.configure(redact=hook)
    tracer.autolog()
    await say_it_everywhere()
    trace = await last_trace()
    await tracer.set_trace_tag(trace.info.trace_id, "late", WORD)
    await call_everything(server)
    rows = await stored(tmp_path)
    assert "[redaction failed]" in rows
    assert trace.data.spans[0].inputs["odd"] == "[redaction failed]"
    assert tracer.stats().redaction_failed > 50


async def test_keys_that_would_be_the_same_are_kept_apart() -> None:
    tracer.configure(redact=tracer.redact.emails)
    with tracer.start_span("s") as span:
        span.set_inputs({"ada@example.com": 1, "grace@example.com": 2, "n": 3})
    assert (await last_spans())["s"].inputs == {"[email]": 1, "[email] (2)": 2, "n": 3}


async def test_a_card_that_is_written_as_a_number_is_redacted_and_other_numbers_stay_numbers() -> None:
    tracer.configure(redact=tracer.redact.card_numbers)
    with tracer.start_span("s") as span:
        span.set_inputs({"card": 4111111111111111, "count": 12, "at": 1795000000000, "x": 1.5, "yes": True})
    inputs = (await last_spans())["s"].inputs
    assert inputs == {"card": "[card number]", "count": 12, "at": 1795000000000, "x": 1.5, "yes": True}


async def test_bytes_among_the_attributes_go_through_the_hooks() -> None:
    tracer.configure(redact=lambda text: text.replace("secret", "[gone]"))
    with tracer.start_span("s") as span:
        span.set_attribute("raw", b"a secret")
    trace = await tracer.get_trace(span.trace_id)
    assert trace.data.spans[0].attributes["raw"] == "a [gone]"
