"""What the server said when it refused a call: stored whole, bounded, without credentials, shown and found."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import openai
import pytest

import tracer
from tests.leaks import NEVER_STORED, find_leaks
from tests.openai.calling import CHAT, HELLO, Caller, finish, only_span, only_trace
from tests.reading import stored_rows
from tracer import _semconv as sc
from tracer.capture.limits import ERROR_BODY_BYTES
from tracer.render import render_trace
from tracer.testing import reply

UPSTREAM = {
    "error": {
        "message": "Provider returned error",
        "code": 400,
        "metadata": {"raw": "max_tokens is too large: 99999", "provider_name": "Acme"},
    },
    "user_id": "u1",
}
AZURE = {
    "error": {
        "message": "The response was filtered.",
        "code": "content_filter",
        "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"hate": {"filtered": True}}},
    }
}
GOOGLE = [{"error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT"}}]
PAGE = "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
BODIES: dict[str, tuple[reply.Reply, Any]] = {
    "OpenRouter": (reply.json_body(400, UPSTREAM), UPSTREAM),
    "Azure": (reply.json_body(400, AZURE), AZURE),
    "Google": (reply.json_body(400, GOOGLE), GOOGLE),
    "a list of FastAPI's": (
        reply.json_body(422, {"detail": [{"loc": ["body"], "msg": "Field required"}]}),
        {"detail": [{"loc": ["body"], "msg": "Field required"}]},
    ),
    "text": (reply.raw(b"upstream connect error", "text/plain", status=502), "upstream connect error"),
    "HTML": (reply.raw(PAGE.encode(), "text/html", status=503), PAGE),
    "bytes": (reply.raw(b"\xff\xfe", "application/octet-stream", status=500), "\ufffd\ufffd"),
    "empty": (reply.raw(b"", "text/plain", status=500), None),
}


UMLAUT = {"error": {"message": "Schlüssel ungültig", "code": 400, "metadata": {"raw": "größer als 99999 €"}}}
CHARSETS = {
    "latin-1": ("iso-8859-1", "iso-8859-1"),
    "windows": ("cp1252", "windows-1252"),
    "utf-16": ("utf-16", "utf-16"),
    "utf-16, no mark": ("utf-16-le", "utf-16-le"),
    "utf-16, not declared": ("utf-16", None),
    "utf-8, not declared": ("utf-8", None),
    "utf-8 with a mark": ("utf-8-sig", "utf-8"),
    "an unknown one": ("utf-8", "no-such-charset"),
    "Shift JIS": ("shift_jis", "Shift_JIS"),
}


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "text/html"])
@pytest.mark.parametrize(("codec", "declared"), CHARSETS.values(), ids=CHARSETS)
async def test_the_body_of_a_failed_call_is_read_as_its_charset_says(
    caller: Caller, kind: str, codec: str, declared: str | None
) -> None:
    said = UPSTREAM if codec == "shift_jis" else UMLAUT
    text = json.dumps(said, ensure_ascii=False).replace("€" if codec == "iso-8859-1" else "\0", "EUR")
    text = "天気" + text if codec == "shift_jis" and kind != "application/json" else text
    content_type = kind if declared is None else f'{kind}; charset="{declared}"'
    await fail(caller, reply.raw(text.encode(codec), content_type, status=400))
    span = await only_span()
    wanted: Any = text
    with suppress(ValueError):
        wanted = json.loads(text)
    assert span.outputs == wanted
    assert len(await tracer.search_traces(text="99999")) == 1


async def ask_chat(caller: Caller) -> None:
    await caller.chat()


async def ask_stream(caller: Caller) -> None:
    await caller.chat(stream=True)


async def ask_responses(caller: Caller) -> None:
    await caller.settle(caller.client.responses.create, model="gpt-5", input="Hi")


async def ask_completions(caller: Caller) -> None:
    await caller.settle(caller.client.completions.create, model="gpt-5", prompt="Hi")


async def ask_embeddings(caller: Caller) -> None:
    await caller.settle(caller.client.embeddings.create, model="e", input="Hi")


async def ask_speech(caller: Caller) -> None:
    await caller.settle(caller.client.audio.speech.create, model="tts-1", voice="alloy", input="Hi")


async def ask_raw(caller: Caller) -> None:
    await caller.settle(caller.client.chat.completions.with_raw_response.create, **CHAT)


async def ask_streaming(caller: Caller) -> None:
    async with caller.entered(caller.client.chat.completions.with_streaming_response.create(**CHAT)):
        pass


WAYS = [
    ask_chat, ask_stream, ask_responses, ask_completions, ask_embeddings, ask_speech, ask_raw, ask_streaming,
]  # fmt: skip


async def fail(caller: Caller, scripted: reply.Reply, ask: Any = ask_chat) -> openai.APIStatusError:
    caller.server.enqueue(scripted)
    with pytest.raises(openai.APIStatusError) as caught:
        await ask(caller)
    return caught.value


@pytest.mark.parametrize(("scripted", "body"), BODIES.values(), ids=BODIES)
async def test_the_body_of_a_failed_call_is_its_output(caller: Caller, scripted: reply.Reply, body: Any) -> None:
    error = await fail(caller, scripted)
    trace = await only_trace()
    [span] = trace.data.spans
    assert span.outputs == body
    assert (finish(span), trace.info.state) == ("failed", "ERROR")
    assert span.status.description == f"{type(error).__name__}: {error}"
    assert span.attributes[sc.ERROR_TYPE] == type(error).__name__
    assert (span.token_usage, span.cost) == (None, None)


@pytest.mark.parametrize("ask", WAYS)
async def test_every_way_of_calling_keeps_the_body(caller: Caller, ask: Any) -> None:
    await fail(caller, reply.json_body(400, UPSTREAM), ask)
    assert (await only_span()).outputs == UPSTREAM


async def test_the_body_is_that_of_the_last_attempt(caller: Caller) -> None:
    caller.client = caller.make_client(max_retries=1)
    caller.server.enqueue(reply.error(429, "First"), reply.error(429, "Second"))
    with pytest.raises(openai.RateLimitError):
        await caller.chat()
    span = await only_span()
    assert span.outputs["error"]["message"] == "Second"


async def test_the_body_is_found_and_shown(caller: Caller) -> None:
    await fail(caller, reply.json_body(400, UPSTREAM))
    [found] = await tracer.search_traces(text="99999")
    assert "max_tokens is too large: 99999" in render_trace(await tracer.get_trace(found.info.trace_id))


async def test_a_long_body_is_cut_and_counted(caller: Caller) -> None:
    text = "word " * ERROR_BODY_BYTES
    await fail(caller, reply.raw(text.encode(), "text/plain", status=500))
    span = await only_span()
    assert span.outputs == text[:ERROR_BODY_BYTES]
    assert span.attributes[sc.TRUNCATED] == {"outputs": len(text) - ERROR_BODY_BYTES}


async def test_a_long_json_body_is_kept_as_far_as_it_goes(caller: Caller) -> None:
    await fail(caller, reply.json_body(400, {"error": {"message": "No.", "input": "x" * 2 * ERROR_BODY_BYTES}}))
    assert (await only_span()).outputs["error"]["message"] == "No."


KEY = f"sk-{NEVER_STORED}"
SLASHED = f"{NEVER_STORED}/{NEVER_STORED}"


@pytest.mark.parametrize("size", [0, 5_000, ERROR_BODY_BYTES - 40], ids=["short", "long", "across the cut"])
async def test_a_key_that_the_body_repeats_is_not_stored(caller: Caller, size: int, tmp_path: Path) -> None:
    said = {"pad": "x" * size, "headers": {"Authorization": f"Bearer {KEY}"}, "detail": f"bad key {KEY}"}
    caller.client = caller.make_client(api_key=KEY)
    await fail(caller, reply.json_body(401, said))
    assert await tracer.flush()
    assert find_leaks(tmp_path) == []
    assert NEVER_STORED not in stored_rows(tmp_path)


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("declares", [True, False])
async def test_a_key_in_a_wide_charset_is_not_stored(
    caller: Caller, codec: str, declares: bool, tmp_path: Path
) -> None:
    caller.client = caller.make_client(api_key=KEY)
    content_type = f"text/plain; charset={codec}" if declares else "text/plain"
    await fail(caller, reply.raw(f"bad key {KEY}".encode(codec), content_type, status=401))
    span = await only_span()
    assert find_leaks(tmp_path) == []
    assert NEVER_STORED not in json.dumps(span.outputs).replace("\\u0000", "")
    if declares:
        assert span.outputs == "bad key [credential]"


async def test_another_key_and_one_with_slashes_are_not_stored(caller: Caller, tmp_path: Path) -> None:
    caller.client = caller.make_client(api_key=SLASHED)
    escaped = json.dumps({"detail": SLASHED, "upstream": f"sk-proj-{NEVER_STORED}"}).replace("/", "\\/")
    await fail(caller, reply.raw(escaped.encode(), "application/json", status=401))
    assert await tracer.flush()
    assert find_leaks(tmp_path) == []
    assert NEVER_STORED not in stored_rows(tmp_path)
    assert (await only_span()).outputs == {"detail": "[credential]", "upstream": "[api key]"}


async def test_texts_of_the_body_are_withheld_and_hooks_see_them(caller: Caller) -> None:
    tracer.configure(capture_content=False)
    await fail(caller, reply.json_body(400, AZURE))
    assert (await only_span()).outputs["error"]["message"] == "[withheld]"


async def test_hooks_see_the_body(caller: Caller) -> None:
    tracer.configure(redact=lambda text: text.replace("99999", "[number]"))
    await fail(caller, reply.json_body(400, UPSTREAM))
    assert (await only_span()).outputs["error"]["metadata"]["raw"] == "max_tokens is too large: [number]"


async def test_a_response_whose_body_was_never_read_has_none(caller: Caller) -> None:
    class OddError(Exception):
        class response:  # noqa: N801  like an attribute of the SDK's
            status_code = 500

            @property
            def content(self) -> bytes:
                raise RuntimeError("not read")

    def refuse() -> str:
        raise OddError("odd")

    client = caller.make_client(api_key=refuse) if hasattr(openai.OpenAI, "_refresh_api_key") else None
    if client is None:
        pytest.skip("this SDK knows no function in place of a key")
    with pytest.raises(OddError):
        await caller.settle(client.chat.completions.create, model="gpt-5", messages=HELLO)
    span = await only_span()
    assert (span.outputs, finish(span)) == (None, "failed")
