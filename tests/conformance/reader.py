"""Reads from a record's own bytes what its span must say, without any use of `tracer.interpret`.

Written for clearness, not speed, and from the API's documentation and the records, so that it can disagree with
`tracer.interpret`.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import Any

import msgspec

__all__ = ["Answer", "Json", "read_answer", "read_events", "reported_tokens", "server_sent_data"]

Json = dict[str, Any]

_USAGE = {
    "input_tokens": ("input_tokens", "prompt_tokens"),
    "output_tokens": ("output_tokens", "completion_tokens"),
    "total_tokens": ("total_tokens",),
    "cache_read_input_tokens": (
        "prompt_tokens_details.cached_tokens",
        "prompt_token_details.cached_tokens",
        "input_tokens_details.cached_tokens",
        "cache_read_input_tokens",
        "prompt_cache_hit_tokens",
        "cached_tokens",
    ),
    "cache_creation_input_tokens": (
        "prompt_tokens_details.cache_write_tokens",
        "input_tokens_details.cache_write_tokens",
        "cache_creation_input_tokens",
    ),
    "reasoning_tokens": (
        "completion_tokens_details.reasoning_tokens",
        "output_tokens_details.reasoning_tokens",
        "reasoning_tokens",
    ),
    "input_audio_tokens": (
        "prompt_tokens_details.audio_tokens",
        "input_tokens_details.audio_tokens",
        "input_token_details.audio_tokens",
    ),
    "output_audio_tokens": ("completion_tokens_details.audio_tokens", "output_tokens_details.audio_tokens"),
}
_SHOWN = {
    "web_search_call",
    "file_search_call",
    "code_interpreter_call",
    "computer_call",
    "image_generation_call",
    "mcp_call",
    "mcp_list_tools",
    "tool_search_call",
    "program",
    "local_shell_call",
    "shell_call",
    "apply_patch_call",
    "custom_tool_call",
    "mcp_approval_request",
}
_ARGUMENTS = {
    "function_call": "arguments",
    "custom_tool_call": "input",
    "computer_call": "action",
    "local_shell_call": "action",
    "shell_call": "action",
    "apply_patch_call": "operation",
    "tool_search_call": "arguments",
}


class Answer(msgspec.Struct, kw_only=True):
    """What an exchange brought.

    Attributes:
        texts: What each choice says, or each message of a response.
        thoughts: Its reasoning, if the response has it (``reasoning_content``, ``reasoning``, summaries).
        tool_calls: (id, name, arguments), in the order of choices and items.
        shown: How many calls of the provider's tools and of custom tools there are, whoever must run them.
        finish: How it ended: ``completed``, ``incomplete``, ``failed``, ``cancelled``; None if the bytes don't tell.
    """

    id: str | None = None
    model: str | None = None
    usage: dict[str, int] | None = None
    texts: list[str] = []
    refusals: list[str] = []
    thoughts: list[str] = []
    tool_calls: list[tuple[Any, Any, Any]] = []
    shown: int = 0
    finish_reasons: list[str] = []
    finish: str | None = None


# --- any response -----------------------------------------------------------------------------------------------------


def read_answer(operation: str, body: Json) -> Answer:
    """Read a plain response."""
    if operation in ("chat", "completions"):
        answer = _read_choices(operation, body)
    elif operation == "embeddings":
        answer = Answer(finish="completed" if body.get("data") else None)
    else:
        answer = _read_response(body)
    answer.id, answer.model, answer.usage = (
        body.get("id") or None,
        body.get("model") or None,
        reported_tokens(_reported_usage(body)),
    )
    if body.get("error"):
        answer.finish = "failed"
    return answer


def read_events(operation: str, events: list[str]) -> Answer:
    """Read the data of a stream's events, as far as they go."""
    bodies: list[Json] = []
    done = False
    for data in events:
        if data.startswith("[DONE]"):
            done = True
            break
        bodies.append(json.loads(data))
    failed = [body for body in bodies if body.get("error") or body.get("type") == "error"]
    if operation in ("chat", "completions"):
        answer = _read_chunks(operation, bodies, done)
    else:
        answer = _read_response_events(bodies)
    if failed:
        answer.finish = "failed"
    return answer


def server_sent_data(body: bytes) -> list[str]:
    """Return the data of each server-sent event of a whole stream."""
    text = body.removeprefix(codecs.BOM_UTF8).decode("utf-8", "replace")
    blocks = re.split(r"\n\n+", re.sub(r"\r\n?", "\n", text))
    found = []
    for block in blocks:
        lines = [line[5:].removeprefix(" ") for line in block.split("\n") if line.startswith("data:")]
        if lines:
            found.append("\n".join(lines))
    return found


def _reported_usage(body: Json) -> Any:
    return body.get("usage") or (body.get("x_groq") or {}).get("usage")


def reported_tokens(usage: Any) -> dict[str, int] | None:
    """Count tokens under tracer's names. What the API leaves out of the first three follows from the others."""
    counts = _flat(usage) if isinstance(usage, dict) else {}
    found = {}
    for name, places in _USAGE.items():
        known = [counts[place] for place in places if place in counts]
        if known:
            found[name] = known[0]
    if not found.keys() & {"input_tokens", "output_tokens", "total_tokens"}:
        return None
    found.setdefault("input_tokens", 0)
    found.setdefault("output_tokens", 0)
    found.setdefault("total_tokens", found["input_tokens"] + found["output_tokens"])
    return found


def _flat(fields: Json, prefix: str = "") -> dict[str, int]:
    flat = {}
    for key, value in fields.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{key}."))
        elif isinstance(value, int) and not isinstance(value, bool):
            flat[prefix + key] = value
    return flat


def _text(content: Any) -> str:
    """Return what content says; it may be a text or a list of parts (Mistral's)."""
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content if part.get("type") == "text")
    return content or ""


# --- chat and legacy completions --------------------------------------------------------------------------------------


def _read_choices(operation: str, body: Json) -> Answer:
    answer = Answer()
    choices = body.get("choices") or []
    for choice in choices:
        if operation == "completions":
            answer.texts.append(choice.get("text") or "")
        else:
            _read_message(choice.get("message") or {}, answer)
    _conclude_choices(answer, choices, "completed" if choices else None)
    return answer


def _read_message(message: Json, answer: Answer) -> None:
    answer.texts.append(_text(message.get("content")) or (message.get("audio") or {}).get("transcript") or "")
    answer.refusals.append(message.get("refusal") or "")
    answer.thoughts.append(_thoughts(message))
    for call in message.get("tool_calls") or []:
        tool = call.get("custom") or {}
        if not tool.get("name"):  # some gateways send both, one of them empty
            tool = call.get("function") or {}
        answer.tool_calls.append((call.get("id"), tool.get("name"), tool.get("arguments", tool.get("input")) or ""))
    legacy = message.get("function_call") or {}
    if legacy.get("name"):
        answer.tool_calls.append((None, legacy["name"], legacy.get("arguments") or ""))


def _thoughts(message: Json) -> str:
    return message.get("reasoning_content") or message.get("reasoning") or ""


def _conclude_choices(answer: Answer, choices: list[Json], finish: str | None) -> None:
    answer.finish_reasons = [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]
    is_cut = {"length", "content_filter"} & set(answer.finish_reasons)
    answer.finish = "incomplete" if finish and is_cut else finish


def _read_chunks(operation: str, chunks: list[Json], done: bool) -> Answer:
    """Put a stream together: first the choices of the plain response, then read these."""
    choices: dict[int, Json] = {}
    head: Json = {}
    usage: Any = None
    for chunk in chunks:
        head.update({key: chunk[key] for key in ("id", "model") if chunk.get(key)})
        usage = _reported_usage(chunk) or usage
        for piece in chunk.get("choices") or []:
            usage = piece.get("usage") or usage
            choice = choices.setdefault(piece.get("index") or 0, {"text": "", "message": {}})
            choice["text"] += piece.get("text") or ""
            choice["finish_reason"] = piece.get("finish_reason") or choice.get("finish_reason")
            _add_delta(choice["message"], piece.get("delta") or {})
            choice["message"].update(piece.get("message") or {})
    ordered = [choices[index] for index in sorted(choices)]
    answer = _read_choices(operation, {"choices": ordered})
    whole = bool(ordered) and all(choice.get("finish_reason") for choice in ordered)
    _conclude_choices(answer, ordered, "completed" if done or whole else None)
    answer.id, answer.model, answer.usage = head.get("id"), head.get("model"), reported_tokens(usage)
    return answer


def _add_delta(message: Json, delta: Json) -> None:
    for key in ("refusal", "reasoning_content", "reasoning"):
        message[key] = message.get(key, "") + (delta.get(key) or "")
    message["content"] = message.get("content", "") + _text(delta.get("content"))
    if transcript := (delta.get("audio") or {}).get("transcript"):
        audio = message.setdefault("audio", {"transcript": ""})
        audio["transcript"] += transcript
    if legacy := delta.get("function_call"):
        _add_texts(message.setdefault("function_call", {}), legacy, ("name", "arguments"))
    for piece in delta.get("tool_calls") or []:
        _add_call(message.setdefault("tool_calls", []), piece)
    if "tool_calls" in message:
        message["tool_calls"].sort(key=lambda call: call["index"])


def _add_call(calls: list[Json], piece: Json) -> None:
    """Add a fragment to the call that it belongs to: the last of its index, unless it names another."""
    index = piece.get("index") or 0
    same = [call for call in calls if call["index"] == index]
    tool = piece.get("function") or {}
    if not same or (piece.get("id") and piece["id"] != same[-1]["id"] and tool.get("name")):
        calls.append({"index": index, "id": piece.get("id"), "function": {}})
        same = calls[-1:]
    same[-1]["id"] = same[-1]["id"] or piece.get("id")
    _add_texts(same[-1]["function"], tool, ("arguments",))
    if tool.get("name") and not same[-1]["function"].get("name"):
        same[-1]["function"]["name"] = tool["name"]


def _add_texts(target: Json, source: Json, keys: tuple[str, ...]) -> None:
    for key in keys:
        if source.get(key):
            target[key] = target.get(key, "") + source[key]


# --- responses --------------------------------------------------------------------------------------------------------


def _read_response(body: Json) -> Answer:
    answer = Answer(finish_reasons=[body["status"]] if body.get("status") else [])
    output = body.get("output") or []
    answered = {item.get("call_id") for item in output if item["type"].endswith("_output")}
    for item in output:
        kind = item["type"]
        if kind == "message":
            parts = item.get("content") or []
            answer.texts.append("".join(part.get("text") or "" for part in parts))
            answer.refusals.append("".join(part.get("refusal") or "" for part in parts))
        elif kind == "reasoning":
            parts = [*(item.get("summary") or []), *(item.get("content") or [])]
            answer.thoughts.append("".join(part.get("text") or "" for part in parts))
        has_answer = item.get("call_id") in answered
        if kind in _ARGUMENTS and not has_answer and item.get("execution") != "server":
            arguments = item.get(_ARGUMENTS[kind])
            answer.tool_calls.append((item.get("call_id"), item.get("name") or kind.removesuffix("_call"), arguments))
        answer.shown += kind in _SHOWN
    outcomes = {"incomplete": "incomplete", "failed": "failed", "cancelled": "cancelled"}
    known = body.get("status") is not None or "output" in body
    answer.finish = outcomes.get(body.get("status") or "", "completed") if known else None
    return answer


def _read_response_events(events: list[Json]) -> Answer:
    """Take the response from the last event that has one; output that it leaves out comes from the items."""
    told = [event["response"] for event in events if isinstance(event.get("response"), dict)]
    response = dict(told[-1]) if told else {}
    ends = {"response.completed", "response.incomplete", "response.failed", "response.cancelled"}
    ended = any(event.get("type") in ends for event in events)
    if not response.get("output"):
        response["output"] = _items(events)
    answer = read_answer("responses", response)
    answer.finish = answer.finish if ended else None
    return answer


def _items(events: list[Json]) -> list[Json]:
    """Return the output items as far as they came: the finished ones, the others with what their deltas say."""
    items: dict[int, Json] = {}
    for event in events:
        kind, index = event.get("type") or "", event.get("output_index")
        if kind == "response.created":  # one recording holds two responses in one body
            items = {}
        elif kind in ("response.output_item.added", "response.output_item.done"):
            items[event["output_index"]] = json.loads(json.dumps(event["item"]))
        elif isinstance(index, int):
            subject, _, phase = kind.removeprefix("response.").rpartition(".")
            _add_piece(items.setdefault(index, {"type": "message"}), subject, phase, event)
    return [items[index] for index in sorted(items)]


def _add_piece(item: Json, subject: str, phase: str, event: Json) -> None:
    """Add what an event says of an item: a piece of a text, or the whole of it."""
    if phase not in ("delta", "done") or subject not in _TEXTS:
        return
    container, key = _place(item, subject, event)
    if phase == "done":
        container[key] = event[_TEXTS[subject]]
    else:
        container[key] = (container.get(key) or "") + event["delta"]


# Which field of its ``done`` event holds the whole text.
_TEXTS = {
    "output_text": "text",
    "refusal": "refusal",
    "reasoning_text": "text",
    "reasoning_summary_text": "text",
    "function_call_arguments": "arguments",
    "custom_tool_call_input": "input",
    "apply_patch_call_operation_diff": "diff",
}


def _place(item: Json, subject: str, event: Json) -> tuple[Json, str]:
    """Return where the text stands: an object, and its key."""
    if subject == "apply_patch_call_operation_diff":
        return item["operation"], "diff"
    if subject in ("function_call_arguments", "custom_tool_call_input"):
        return item, _TEXTS[subject]
    field = "summary" if subject == "reasoning_summary_text" else "content"
    parts = item[field] = item.get(field) or []
    while len(parts) <= event[f"{field}_index"]:
        parts.append({})
    return parts[event[f"{field}_index"]], _TEXTS[subject]
