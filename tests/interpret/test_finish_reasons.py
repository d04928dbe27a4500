"""How answers end whose servers bend OpenAI's finish reasons: plain, streamed, legacy, Responses."""

from __future__ import annotations

from typing import Any

import pytest

from tests.interpret.wire import body, chat_chunk, loads, sse
from tracer import _semconv as sc
from tracer.interpret.dispatch import interpret_response, interpret_stream

LOST = {"code": 502, "message": "Upstream lost"}

Ends = list[dict[str, Any]]


def plain_chat(ends: Ends) -> Any:
    choices = [
        {"index": n, "message": {"role": "assistant", "content": "The cap"}, **end} for n, end in enumerate(ends)
    ]
    return interpret_response("chat", body({"id": "c", "model": "m", "choices": choices}))


def streamed_chat(ends: Ends) -> Any:
    chunks = [chat_chunk({"content": "The cap"}, index=n) for n in range(len(ends))]
    for n, end in enumerate(ends):
        chunk = chat_chunk({}, index=n)
        chunk["choices"][0].update(end)
        chunks.append(chunk)
    return interpret_stream("chat", sse(chunks))


def plain_completion(ends: Ends) -> Any:
    choices = [{"index": n, "text": "The cap", **end} for n, end in enumerate(ends)]
    return interpret_response("completions", body({"id": "c", "model": "m", "choices": choices}))


def streamed_completion(ends: Ends) -> Any:
    chunks = [
        {"id": "c", "object": "text_completion", "choices": [{"index": n, **piece}]}
        for n, end in enumerate(ends)
        for piece in ({"text": "The cap", "finish_reason": None}, {"text": "", **end})
    ]
    return interpret_stream("completions", sse(chunks))


FORMS = [plain_chat, streamed_chat, plain_completion, streamed_completion]
FAILED = [
    "error",
    "ERROR",
    "network_error",
    "abort",
    "insufficient_system_resource",
    "MALFORMED_FUNCTION_CALL",
    "function_call_filter: MALFORMED_FUNCTION_CALL",
    "internal_server_error",
]
LIMITED = [
    "length",
    "max_tokens",
    "MAX_TOKENS",
    "FinishReason.MAX_TOKENS",
    "max_output_tokens",
    "model_context_window_exceeded",
    "model_length",
    "ERROR_LIMIT",
]
FILTERED = ["content_filter", "content_filter: SAFETY", "SAFETY", "sensitive", "content-filter", "ERROR_TOXIC"]
COMPLETE = ["stop", "tool_calls", "function_call", "end_turn", "eos", "COMPLETE", "unheard_of", "", None]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("reason", FAILED)
def test_a_finish_reason_that_says_the_server_gave_up_is_a_failure(form: Any, reason: str) -> None:
    view = form([{"finish_reason": reason}])
    assert (view.finish, view.error_type) == ("failed", reason)
    assert reason in view.error
    assert view.preview == "The cap"
    assert view.attributes[sc.RESPONSE_FINISH_REASONS] == [reason]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("reason", ["error", "stop", None])
def test_an_error_on_a_choice_is_the_failures_message(form: Any, reason: str | None) -> None:
    view = form([{"finish_reason": reason, "error": LOST}])
    assert (view.finish, view.error, view.error_type) == ("failed", "Upstream lost", "502")
    assert loads(view.outputs)["choices"][0]["error"] == LOST


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("reason", LIMITED)
def test_a_finish_reason_that_names_a_limit_is_incomplete(form: Any, reason: str) -> None:
    view = form([{"finish_reason": reason}])
    assert (view.finish, view.error_type) == ("incomplete", None)
    assert "limit" in view.error
    assert reason in view.error


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("reason", FILTERED)
def test_a_content_filter_makes_an_answer_incomplete(form: Any, reason: str) -> None:
    view = form([{"finish_reason": reason}])
    assert (view.finish, view.error_type) == ("incomplete", None)
    assert "content filter" in view.error


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("reason", COMPLETE)
def test_any_other_finish_reason_is_complete(form: Any, reason: str | None) -> None:
    view = form([{"finish_reason": reason}])
    assert (view.finish, view.error, view.error_type) == ("completed", None, None)


@pytest.mark.parametrize("form", FORMS)
def test_the_gravest_end_of_several_choices_is_the_calls(form: Any) -> None:
    cut, lost, whole = {"finish_reason": "length"}, {"finish_reason": "error", "error": LOST}, {"finish_reason": "stop"}
    assert form([whole, cut]).finish == "incomplete"
    assert form([cut, {"finish_reason": "cancelled"}]).finish == "cancelled"
    view = form([whole, cut, lost])
    assert (view.finish, view.error) == ("failed", "Upstream lost")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("error", [None, {}, ""])
def test_an_empty_error_beside_a_choice_is_none(form: Any, error: Any) -> None:
    assert form([{"finish_reason": "stop", "error": error}]).finish == "completed"


def test_an_error_of_the_whole_body_wins_over_that_of_a_choice() -> None:
    lost = {**chat_chunk({}, finish="error"), "error": {"code": 503, "message": "No upstream"}}
    view = interpret_stream("chat", sse([chat_chunk({"content": "The cap"}), lost], done=False))
    assert (view.finish, view.error, view.error_type, view.is_quiet) == ("failed", "No upstream", "503", False)


def test_an_error_object_in_place_of_an_answer_is_a_failure() -> None:
    view = interpret_response("chat", body({"object": "error", "message": "No such model", "code": 40401}))
    assert (view.finish, view.error, view.error_type) == ("failed", "No such model", "40401")


# --- Responses -----------------------------------------------------------------------------------------------------

MESSAGE = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "The cap"}]}


def plain_response(fields: dict[str, Any]) -> Any:
    return interpret_response("responses", body({"id": "r", "model": "m", "output": [MESSAGE], **fields}))


def streamed_response(fields: dict[str, Any]) -> Any:
    response = {"id": "r", "model": "m", "output": [MESSAGE], **fields}
    return interpret_stream("responses", sse([{"type": "response.completed", "response": response}], names=True))


@pytest.mark.parametrize("form", [plain_response, streamed_response])
@pytest.mark.parametrize(
    ("fields", "finish"),
    [
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, "incomplete"),
        ({"status": "completed", "incomplete_details": {"reason": "max_output_tokens"}}, "incomplete"),
        ({"status": "completed", "incomplete_details": None}, "completed"),
        ({"status": "error"}, "failed"),
        ({"status": "aborted"}, "failed"),
        ({"status": "completed", "error": LOST}, "failed"),
        ({"status": "canceled"}, "cancelled"),
    ],
    ids=str,
)
def test_a_response_ends_by_the_same_words(form: Any, fields: dict[str, Any], finish: str) -> None:
    assert form(fields).finish == finish


def streamed_reasons(operation: str, *ends: dict[str, Any]) -> Any:
    content = {"delta": {"content": "The cap"}} if operation == "chat" else {"text": "The cap"}
    pieces = [content, *({**({"delta": {}} if operation == "chat" else {"text": ""}), **end} for end in ends)]
    chunks = [{"id": "c", "object": "o", "choices": [{"index": 0, **piece}]} for piece in pieces]
    return interpret_stream(operation, sse(chunks))


@pytest.mark.parametrize("operation", ["chat", "completions"])
@pytest.mark.parametrize(
    ("first", "finish"),
    [("error", "failed"), ("abort", "failed"), ("cancelled", "cancelled"), ("length", "incomplete")],
)
@pytest.mark.parametrize("last", ["stop", "tool_calls", "length"])
def test_an_answer_that_broke_off_did_so_though_a_later_chunk_says_stop(
    operation: str, first: str, finish: str, last: str
) -> None:
    view = streamed_reasons(operation, {"finish_reason": first}, {"finish_reason": last})
    assert (view.finish, loads(view.outputs)["choices"][0]["finish_reason"]) == (finish, first)
    assert view.preview == "The cap"
    view = streamed_reasons(operation, {"finish_reason": last}, {"finish_reason": first})
    assert (view.finish, loads(view.outputs)["choices"][0]["finish_reason"]) == (
        (finish, first) if (finish, last) != ("incomplete", "length") else ("incomplete", "length")
    )


@pytest.mark.parametrize("operation", ["chat", "completions"])
def test_an_error_on_a_choice_stays_though_later_chunks_have_none(operation: str) -> None:
    laters: tuple[dict[str, Any], ...] = ({"error": None}, {}, {"error": {}})
    for later in laters:
        view = streamed_reasons(
            operation, {"finish_reason": "error", "error": LOST}, {"finish_reason": "stop", **later}
        )
        assert (view.finish, view.error, view.error_type) == ("failed", "Upstream lost", "502")


def test_of_two_complete_reasons_the_last_counts() -> None:
    view = streamed_reasons("chat", {"finish_reason": "tool_calls"}, {"finish_reason": "stop"})
    assert view.attributes[sc.RESPONSE_FINISH_REASONS] == ["stop"]


@pytest.mark.parametrize("reason", ["error", "stop", None])
@pytest.mark.parametrize("error", [LOST, {"message": "Upstream lost"}, "Upstream lost"], ids=str)
def test_an_error_on_a_message_is_a_failure(error: Any, reason: str | None) -> None:
    said = {"role": "assistant", "content": "The cap"}
    choice = {"index": 0, "message": {**said, "error": error}, "finish_reason": reason}
    streams = (
        [chat_chunk(said), chat_chunk({"error": error}, finish=reason)],
        [chat_chunk({**said, "error": error}), chat_chunk({"content": "", "error": error}, finish=reason)],
        [chat_chunk({**said, "error": error}), chat_chunk({"error": None}, finish=reason)],
    )
    views = [interpret_response("chat", body({"id": "c", "model": "m", "choices": [choice]}))]
    for view in (*views, *(interpret_stream("chat", sse(stream)) for stream in streams)):
        assert (view.finish, view.error, view.preview) == ("failed", "Upstream lost", "The cap")
        assert loads(view.outputs)["choices"][0]["message"]["error"] == error
        assert view.is_quiet


NO_CHOICES = {"none": [], "null": None, "nulls": [None]}


@pytest.mark.parametrize("operation", ["chat", "completions"])
@pytest.mark.parametrize("choices", NO_CHOICES.values(), ids=NO_CHOICES)
def test_an_answer_without_choices_is_a_failure_that_raises_nothing(operation: str, choices: Any) -> None:
    kind = "chat.completion" if operation == "chat" else "text_completion"
    usage = {"prompt_tokens": 12, "completion_tokens": 0, "total_tokens": 12}
    answer = {"id": "c", "object": kind, "model": "m", "choices": choices, "usage": usage}
    plain = interpret_response(operation, body(answer))
    streamed = interpret_stream(operation, sse([{**answer, "object": f"{kind}.chunk"}]))
    for view in (plain, streamed):
        assert (view.finish, view.error, view.is_quiet) == ("failed", "the server sent no choices", True)
        assert view.model == "m"
        assert view.usage == {"input_tokens": 12, "output_tokens": 0, "total_tokens": 12}


@pytest.mark.parametrize("operation", ["chat", "completions", "responses", "embeddings"])
@pytest.mark.parametrize("answer", [None, [], {}, [None], 0, False, "", {"id": None, "choices": None}], ids=str)
def test_a_body_that_says_nothing_is_no_answer(operation: str, answer: Any) -> None:
    view = interpret_response(operation, body(answer), content_type="application/json")
    assert view.finish == "failed"
    assert view.error
