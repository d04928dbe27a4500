"""How a span ended, and what may be stored of its texts."""

from __future__ import annotations

import base64
import json
import math
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

import tracer
from tests.reading import stored_bytes, stored_rows
from tracer import _semconv as sc
from tracer._models import SpanStatusCode
from tracer.assembly._exception_texts import describe_failure, exception_attributes
from tracer.assembly._finish_and_status import Outcome, conclude
from tracer.assembly._payload_views import read_request, read_response, read_stream, read_value
from tracer.assembly._privacy import Privacy
from tracer.assembly._response_head import http_attributes
from tracer.assembly._row_parts import seconds_after
from tracer.capture.failures import capture_failure
from tracer.capture.records import Codec, Ending, Failure, HttpFacts, Payload
from tracer.capture.snapshots import snapshot
from tracer.interpret import ResponseView
from tracer.testing import FakeOpenAI

OK, ERROR = SpanStatusCode.OK, SpanStatusCode.ERROR
SECRET = "swordfish"


def hide(text: str) -> str:
    return text.replace(SECRET, "***")


def broken(text: str) -> str:
    raise RuntimeError(text)


HIDING = Privacy(hooks=(hide,))
WITHHOLDING = Privacy(capture=False)
CARES = ["hiding", "withholding", "both"]

R, X, C, E, L, G = (
    Ending.RETURNED,
    Ending.RAISED,
    Ending.CANCELLED,
    Ending.EXHAUSTED,
    Ending.CLOSED,
    Ending.COLLECTED,
)


@pytest.mark.parametrize(
    ("ending", "said", "streamed", "operation", "outcome"),
    [
        (R, None, False, None, Outcome("completed", OK)),
        (R, "completed", False, "chat", Outcome("completed", OK)),
        (R, "incomplete", False, "chat", Outcome("incomplete", OK, "reason")),
        (R, "failed", False, "responses", Outcome("failed", ERROR, "reason")),
        (R, "cancelled", False, "responses", Outcome("cancelled", ERROR, "reason")),
        (X, None, False, None, Outcome("failed", ERROR, "ValueError: x")),
        (X, "completed", False, "chat", Outcome("failed", ERROR, "ValueError: x")),
        (X, "completed", True, "chat", Outcome("failed", ERROR, "ValueError: x")),
        (C, None, False, None, Outcome("cancelled", ERROR, "cancelled")),
        (C, None, True, "chat", Outcome("cancelled", ERROR, "cancelled")),
        (C, "completed", False, "chat", Outcome("cancelled", ERROR, "cancelled")),
        (C, "completed", True, "chat", Outcome("completed", OK)),
        (E, "completed", True, "chat", Outcome("completed", OK)),
        (E, None, True, "chat", Outcome("completed", OK)),
        (E, None, True, "responses", Outcome("incomplete", OK, "the stream ended without a terminal event")),
        (L, None, False, None, Outcome("abandoned", OK)),
        (L, None, True, "responses", Outcome("abandoned", OK)),
        (L, "completed", True, "chat", Outcome("completed", OK)),
        (L, "failed", True, "chat", Outcome("failed", ERROR, "reason")),
        (G, None, True, "chat", Outcome("abandoned", OK)),
    ],
)
def test_how_a_span_ended(
    ending: Ending, said: str | None, streamed: bool, operation: str | None, outcome: Outcome
) -> None:
    view = None if said is None else ResponseView(finish=said, error="reason" if said != "completed" else None)  # type: ignore[arg-type]
    failure = "ValueError: x" if ending is X else None
    assert conclude(ending, view, streamed=streamed, operation=operation, failure=failure) == outcome


@pytest.mark.parametrize(
    ("ending", "status", "outcome"),
    [
        (R, ("OK", "fine"), Outcome("completed", OK, "fine")),
        (R, ("ERROR", "bad"), Outcome("failed", ERROR, "bad")),
        (R, ("UNSET", ""), Outcome("completed", OK)),
        (L, ("ERROR", "bad"), Outcome("abandoned", ERROR, "bad")),
        (X, ("OK", "fine"), Outcome("failed", ERROR, "ValueError: x")),
        (C, ("OK", "fine"), Outcome("cancelled", ERROR, "cancelled")),
    ],
)
def test_what_the_user_set_counts_unless_an_exception_left_the_span(
    ending: Ending, status: tuple[str, str], outcome: Outcome
) -> None:
    assert conclude(ending, None, failure="ValueError: x" if ending is X else None, status=status) == outcome


def test_odd_numbers_and_bytes_of_users_come_back_as_json() -> None:
    value = {"nan": math.nan, "inf": math.inf, "bytes": b"hello", "large": 2**64 - 1}
    view = read_response(None, snapshot(value, 1000), Privacy())
    assert json.loads(view.outputs or b"") == {
        "nan": "NaN",
        "inf": "Infinity",
        "bytes": "aGVsbG8=",
        "large": 2**64 - 1,
    }


def test_a_value_nested_too_deep_to_read_is_replaced() -> None:
    deep = b"\x91" * 100_000 + b"\xc0"
    assert "could not be read" in read_value(Payload(Codec.VALUE, deep), Privacy())


PICTURE = base64.b64encode(random.Random(7).randbytes(3_000)).decode()
PICTURE_IN_LINES = base64.encodebytes(random.Random(7).randbytes(3_000)).decode()
CLIENT = "<openai.AsyncOpenAI object at 0x7f3a>"


@pytest.mark.parametrize(
    ("value", "preview"),
    [
        ({"client": CLIENT, "question": "Why?"}, "Why?"),
        ({"client": CLIENT, "question": "Why\nnot?", "limit": None}, "Why not?"),
        ({"client": CLIENT, "question": "Why?", "limit": 3}, '{"question":"Why?","limit":3}'),
        ({"kwargs": {"client": CLIENT, "tools": None}, "question": "Why?"}, "Why?"),
        ({"kwargs": {"client": CLIENT, "limit": 3}}, '{"kwargs":{"limit":3}}'),
        ({"args": ["Why?"], "kwargs": {}}, "Why?"),
        ({"args": [CLIENT, None, "Why?"], "kwargs": {"client": CLIENT}}, "Why?"),
        ({"args": [], "kwargs": {"question": "Why?", "limit": None}}, "Why?"),
        ({"args": ["Why?", 3], "kwargs": {}}, '{"args":["Why?",3]}'),
        ({"question": "Why?", "args": [], "kwargs": {}}, "Why?"),
        (
            {"question": "Why?", "args": [1], "kwargs": {"limit": 3}},
            '{"question":"Why?","args":[1],"kwargs":{"limit":3}}',
        ),
        ({"args": [], "kwargs": {}}, None),
        ({"args": [CLIENT], "kwargs": {"client": CLIENT}}, None),
        ({"args": {}, "kwargs": []}, None),
        ({"picture": PICTURE}, "[media]"),
        ({"picture": PICTURE_IN_LINES, "question": "Why?"}, '{"picture":"[media]","question":"Why?"}'),
        ({"pictures": [PICTURE, PICTURE], "question": "Why?"}, '{"pictures":["…","…"],"question":"Why?"}'),
        ({"prompt": f"{PICTURE} Why?"}, "… Why?"),
        ({"then": "<function <lambda> at 0x7f3a>", "numbers": [1, 2]}, '{"numbers":[1,2]}'),
        ({"options": {}}, '{"options":{}}'),
        ({"client": CLIENT}, None),
        ({"limit": None}, None),
        ({}, None),
        ({"html": "<b>an object</b>"}, "<b>an object</b>"),
        ("What is up?\nSay!", "What is up? Say!"),
        (["a", 1], '["a",1]'),
    ],
)
def test_preview_of_a_users_value_tells_what_is_worth_telling(value: Any, preview: str | None) -> None:
    payload = snapshot(value, 100_000)
    assert payload is not None
    view = read_request(None, payload, Privacy())
    assert view.preview == preview
    assert json.loads(view.inputs) == value


def test_hooks_see_what_is_in_bytes() -> None:
    assert read_value(snapshot([b"a swordfish"], 1000), HIDING) == ["a ***"]
    assert read_value(snapshot([b"\xff swordfish"], 1000), HIDING) == ["\\xff ***"]


@pytest.mark.parametrize(
    ("body", "truncated"),
    [
        (b'{"model": "m", "messages": [{"role": "user", "content": "swordfish"}]}', 0),
        (b'{"model": "m", "messages": [{"role": "user", "content": "swordfish and mo', 100),
        (b"no JSON, swordfish", 0),
        (b"no JSON, swordfish", 5),
        (b"\xff\xfe swordfish", 0),
        (b"", 0),
        (b"", 9),
    ],
    ids=["whole", "cut", "text", "cut text", "binary", "empty", "all cut"],
)
@pytest.mark.parametrize("operation", ["chat", "responses", "embeddings", "raw"])
@pytest.mark.parametrize("privacy", [HIDING, WITHHOLDING, Privacy(capture=False, hooks=(hide,))], ids=CARES)
def test_no_secret_passes_whatever_the_body_is(body: bytes, truncated: int, operation: str, privacy: Privacy) -> None:
    payload = Payload(Codec.WIRE, body, truncated)
    views = [read_request(operation, payload, privacy), read_response(operation, payload, privacy)]
    assert SECRET.encode() not in msgspec.json.encode(views)


def test_a_hook_that_raises_withholds_the_text_and_is_counted() -> None:
    privacy = Privacy(hooks=(broken,))
    view = read_response(None, snapshot({"a": SECRET, "b": 1}, 1000), privacy)
    assert json.loads(view.outputs or b"") == {"a": "[redaction failed]", "b": 1}
    assert privacy.failures == 1


def stream(*deltas: str) -> list[tuple[int, bytes]]:
    return [
        (
            number,
            b"data: %b\n\n"
            % json.dumps(
                {
                    "id": "1",
                    "object": "chat.completion.chunk",
                    "created": 1,
                    "model": "gpt-5",
                    "choices": [{"index": 0, "delta": {"content": delta}, "finish_reason": None}],
                }
            ).encode(),
        )
        for number, delta in enumerate(deltas)
    ]


def test_a_secret_across_two_chunks_is_redacted() -> None:
    view = read_stream("chat", stream("the sword", "fish swims"), HIDING)
    assert json.loads(view.outputs or b"")["choices"][0]["message"]["content"] == "the *** swims"
    assert "swordfish" not in f"{view.preview}{view.text}"


def test_without_content_the_model_stays_known() -> None:
    for privacy in (WITHHOLDING, Privacy(capture=False, hooks=(hide,))):
        view = read_stream("chat", stream("the swordfish"), privacy)
        assert view.attributes[sc.RESPONSE_MODEL] == "gpt-5"
        assert view.model == "gpt-5"
        assert "swordfish" not in repr(view)


def test_without_content_a_users_value_has_no_labels() -> None:
    value = dict.fromkeys(("name", "id", "code", "reason", "status", "type", "role"), SECRET)
    hidden = dict.fromkeys(value, "[withheld]")
    assert json.loads(read_request(None, snapshot(value, 1000), WITHHOLDING).inputs) == hidden
    assert json.loads(read_response(None, snapshot(value, 1000), WITHHOLDING).outputs or b"") == hidden
    assert WITHHOLDING.clean(value) == hidden
    assert read_value(snapshot(value, 1000), WITHHOLDING) == hidden


def test_without_content_what_a_tool_did_is_withheld_and_its_name_is_not() -> None:
    output = [
        {"type": "code_interpreter_call", "id": "ci_1", "code": SECRET, "outputs": [{"type": "logs", "logs": SECRET}]},
        {"type": "file_search_call", "id": "fs_1", "queries": [SECRET], "results": [{"id": SECRET, "text": SECRET}]},
        {"type": "mcp_call", "id": "mcp_1", "name": "look_up", "arguments": json.dumps({"name": SECRET, "id": SECRET})},
    ]
    body = json.dumps({"object": "response", "status": "completed", "output": output}).encode()
    view = read_response("responses", Payload(Codec.WIRE, body), WITHHOLDING)
    assert SECRET not in repr(view)
    assert [child.name for child in view.children] == ["code_interpreter", "file_search", "mcp.look_up"]
    assert json.loads(view.outputs or b"")["output"][2]["name"] == "look_up"


def test_without_content_attributes_keep_the_names_of_tools_alone() -> None:
    body = {
        "tools": [
            {"type": "function", "function": {"name": "look_up", "parameters": {"name": SECRET, "type": SECRET}}}
        ],
        "response_format": {"type": "json_schema", "json_schema": {"schema": {"type": SECRET, "id": SECRET}}},
        "stop": [SECRET],
    }
    view = read_request("chat", Payload(Codec.WIRE, json.dumps(body).encode()), WITHHOLDING)
    assert SECRET not in repr(view)
    assert view.attributes[sc.TOOL_DEFINITIONS][0]["function"]["name"] == "look_up"
    assert view.attributes[sc.REQUEST_STOP_SEQUENCES] == ["[withheld]"]


TOOL = {"type": "mcp", "server_label": "m", "authorization": SECRET, "headers": {"X-Key": SECRET}}
ECHO = {"object": "response", "status": "completed", "model": "gpt-5", "output": [], "tools": [TOOL]}
FOUND = {"type": "tool_search_call", "id": "ts_1", "call_id": "c1", "arguments": "{}"}
FOUND_OUTPUT = {"type": "tool_search_output", "call_id": "c1", "tools": [TOOL]}


@pytest.mark.parametrize(
    "privacy", [Privacy(), Privacy(hooks=(str.lower,)), Privacy(capture=False)], ids=["open", *CARES[:2]]
)
def test_credentials_are_in_no_view_and_close_the_raw_bytes(privacy: Privacy) -> None:
    wire = [Payload(Codec.WIRE, json.dumps(body).encode()) for body in ({"model": "m", "tools": [TOOL]}, ECHO)]
    request = read_request("responses", wire[0], privacy)
    assert SECRET not in repr(request)
    assert request.model == "m"
    assert privacy.has_credentials
    assert not privacy.is_open
    assert SECRET not in repr(read_response("responses", wire[1], privacy))


@pytest.mark.parametrize("content_type", ["text/event-stream", "application/json"])
def test_credentials_that_a_stream_repeats_are_in_no_view(content_type: str) -> None:
    privacy = Privacy()
    body = json.dumps({**ECHO, "output": [FOUND, FOUND_OUTPUT]})
    if content_type == "text/event-stream":
        body = f'event: response.completed\ndata: {{"type": "response.completed", "response": {body}}}\n\n'
    view = read_stream("responses", [(1, body.encode())], privacy, content_type=content_type)
    assert SECRET not in repr(view)
    assert "[credential]" in repr(view.children)
    assert view.model == "gpt-5"
    assert not privacy.is_open


def test_a_response_cut_off_after_credentials_were_sent_is_given_up() -> None:
    privacy = Privacy(has_credentials=True)
    view = read_stream("responses", [(1, json.dumps(ECHO).encode()[:-3])], privacy, content_type="application/json")
    assert SECRET not in repr(view)


def test_credentials_are_hidden_in_a_request_that_could_not_be_encoded() -> None:
    privacy = Privacy()
    assert SECRET not in repr(read_request("responses", snapshot({"input": "\ud800", "tools": [TOOL]}, 1000), privacy))
    assert privacy.has_credentials


def test_raw_reads_with_credentials_are_not_kept_nor_any_after_them() -> None:
    privacy, data = Privacy(), json.dumps(ECHO).encode()
    harmless = [(1, b'data: {"tools": [{"type": "mcp", "headers": null}]}')]
    assert privacy.keeps_reads(harmless)
    assert not privacy.keeps_reads([(2, data[:100]), (3, data[100:])])
    assert not privacy.keeps_reads(harmless)


async def read_and_flush(stream: Any) -> str:
    """Read a stream to its end, with what came first written while it runs; return the response's id."""
    first = await anext(stream)
    await tracer.flush()
    assert SECRET in first.model_dump_json()  # the server repeats the tools
    async for _ in stream:
        pass
    response_id: str = first.response.id
    return response_id


async def test_no_credential_reaches_the_file(server: FakeOpenAI, tmp_path: Path) -> None:
    tracer.autolog()
    call: Any = {"model": "gpt-5", "input": "use mcp", "tools": [TOOL]}
    async with server.async_client() as client:
        assert SECRET in (await client.responses.create(**call)).model_dump_json()
        response_id = await read_and_flush(await client.responses.create(**call, stream=True))
        await read_and_flush(await client.responses.retrieve(response_id, stream=True))
    await tracer.flush()
    assert SECRET.encode() not in stored_bytes(tmp_path)
    assert SECRET not in stored_rows(tmp_path)
    assert "[credential]" in stored_rows(tmp_path)


def test_an_exception_in_words() -> None:
    try:
        raise ValueError("the swordfish")
    except ValueError as error:
        failure = capture_failure(error)
    assert exception_attributes(failure, Privacy())[sc.EXCEPTION_MESSAGE] == "the swordfish"
    assert describe_failure(failure, Privacy()) == "ValueError: the swordfish"
    hidden = exception_attributes(failure, HIDING)
    assert hidden[sc.EXCEPTION_MESSAGE] == "the ***"
    assert "ValueError: the ***" in hidden[sc.EXCEPTION_STACKTRACE]
    assert describe_failure(failure, HIDING) == "ValueError: the ***"
    for privacy in (WITHHOLDING, Privacy(capture=False, hooks=(hide,))):
        assert exception_attributes(failure, privacy) == {
            sc.EXCEPTION_TYPE: "ValueError",
            sc.EXCEPTION_MESSAGE: "content not captured",
            sc.EXCEPTION_STACKTRACE: "",
        }
        assert describe_failure(failure, privacy) == "ValueError"
    assert describe_failure(Failure("StopIteration", ""), Privacy()) == "StopIteration"


def test_only_listed_headers_are_kept() -> None:
    facts = HttpFacts(
        429,
        [
            (b"Content-Type", b"application/json"),
            (b"content-encoding", b"gzip"),
            (b"X-Request-Id", b"req_1"),
            (b"x-ratelimit-remaining-tokens", b"7"),
            (b"set-cookie", b"session=1"),
            (b"openai-organization", b"acme"),
        ],
    )
    attributes, content_type, content_encoding = http_attributes(facts)
    assert (content_type, content_encoding) == ("application/json", "gzip")
    assert attributes == {
        sc.HTTP_STATUS_CODE: 429,
        sc.REQUEST_ID: "req_1",
        sc.RATE_LIMIT: {"remaining-tokens": "7"},
    }


def test_moments_are_seconds_and_never_negative() -> None:
    assert seconds_after(1_000_000_000, [("a", 3_500_000_000), ("b", 500), ("c", None)]) == {"a": 2.5, "b": 0.0}


FAILED = {
    "id": "resp_1",
    "object": "response",
    "model": "gpt-5",
    "status": "failed",
    "error": {"code": "server_error", "message": "no swordfish today"},
    "output": [],
}


@pytest.mark.parametrize("privacy", [HIDING, WITHHOLDING, Privacy(capture=False, hooks=(hide,))], ids=CARES)
@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "stream"])
def test_what_the_provider_says_of_a_failure_may_quote_content(privacy: Privacy, streamed: bool) -> None:
    if streamed:
        event = {"type": "response.failed", "sequence_number": 1, "response": FAILED}
        chunks = [(1, b"event: response.failed\ndata: " + json.dumps(event).encode() + b"\n\n")]
        view = read_stream("responses", chunks, privacy, content_type="text/event-stream")
    else:
        view = read_response("responses", Payload(Codec.WIRE, json.dumps(FAILED).encode()), privacy)
    assert view.finish == "failed"
    assert SECRET not in repr(view)
    outcome = conclude(Ending.RETURNED, view, operation="responses")
    assert outcome.code is ERROR
    assert outcome.description == ("content not captured" if not privacy.capture else "no *** today")
