"""Views of the recorded exchanges say what a small reader, written apart from the package, finds in the records."""

from __future__ import annotations

import json
from collections import defaultdict

import pytest

from tests.interpret.wire import body, loads, reads, records
from tracer import _semconv as sc
from tracer.interpret.dispatch import interpret_request, interpret_response, interpret_stream

KINDS = [("chat", False), ("chat", True), ("responses", False), ("responses", True), ("completions", False),
         ("completions", True), ("embeddings", False)]  # fmt: skip


def view_of(operation, record):
    content_type = record["response_content_type"]
    if record["stream"]:
        return interpret_stream(operation, reads(record), content_type=content_type)
    return interpret_response(operation, record["response_body"].encode(), content_type=content_type)


def documents(record):
    """Return the JSON documents of an answer: one, or a stream's."""
    if not record["stream"]:
        return [json.loads(record["response_body"])]
    lines = [line[5:].strip() for line in record["response_body"].splitlines() if line.startswith("data:")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


@pytest.mark.parametrize(("operation", "stream"), KINDS)
def test_model_usage_text_calls_and_finish_reasons(operation, stream):
    found = records(operation, stream=stream)
    assert found
    for record in found:
        docs = documents(record)
        read = {"responses": read_responses, "embeddings": read_embeddings}.get(operation, read_choices)
        view = view_of(operation, record)
        ours = {
            "model": view.model,
            "usage": view.usage and [view.usage[key] for key in ("input_tokens", "output_tokens", "total_tokens")],
            "texts": texts_of(operation, loads(view.outputs)),
            "calls": [(c["name"], c["arguments"]) for c in view.attributes.get(sc.TOOL_CALLS, [])],
            "reasons": view.attributes.get(sc.RESPONSE_FINISH_REASONS, []),
        }
        assert ours == read(docs), record["id"]
        if text := next((text for text in map(squeeze, ours["texts"]) if text), None):
            assert squeeze(view.preview).startswith(text[:100])
        assert (view.finish == "failed") == any(doc.get("error") for doc in docs)


def texts_of(operation, outputs):
    if operation == "responses":
        return ["".join(p.get("text", "") for i in outputs["output"] if i["type"] == "message" for p in i["content"])]
    if operation == "embeddings":
        return []
    return [flat(c["message"].get("content") if "message" in c else c.get("text")) for c in outputs.get("choices", [])]


def squeeze(text):
    return "".join((text or "").split())


def flat(content):
    """Return a content's plain text; Mistral sends parts."""
    return "".join(p.get("text", "") for p in content) if isinstance(content, list) else content or ""


def numbers(usage, given, made):
    if not usage:
        return None
    return [
        usage.get(given, 0),
        usage.get(made, 0),
        usage.get("total_tokens", usage.get(given, 0) + usage.get(made, 0)),
    ]


def read_choices(docs):
    streamed = len(docs) > 1
    texts: dict[int, str] = defaultdict(str)
    reasons: dict[int, str | None] = {}
    calls: dict[tuple[int, int], list[str]] = {}
    usages = [usage for doc in docs if (usage := doc.get("usage") or (doc.get("x_groq") or {}).get("usage"))]
    for doc in docs:
        for choice in doc.get("choices") or []:
            index = choice["index"]
            message = (choice.get("delta") if streamed else choice.get("message")) or {"content": choice.get("text")}
            texts[index] += flat(message.get("content"))
            reasons[index] = choice.get("finish_reason") or reasons.get(index)
            for position, call in enumerate(message.get("tool_calls") or []):
                tool = call.get("function") or {"name": call["custom"]["name"], "arguments": call["custom"]["input"]}
                add_call(calls, (index, call.get("index", position) if streamed else position), tool)
            if any((message.get("function_call") or {}).values()):
                add_call(calls, (index, 1000), message["function_call"])
    models = [doc["model"] for doc in docs if doc.get("model")]
    return {
        "model": models[-1] if models else None,
        "usage": numbers(usages[-1], "prompt_tokens", "completion_tokens") if usages else None,
        "texts": [texts[index] for index in sorted(texts)],
        "calls": [tuple(calls[key]) for key in sorted(calls)],
        "reasons": [reason for _, reason in sorted(reasons.items()) if reason],
    }


def add_call(calls, key, tool):
    call = calls.setdefault(key, ["", ""])
    call[0] = call[0] or tool.get("name")
    call[1] += tool.get("arguments") or ""


def read_responses(docs):
    final = next((doc["response"] for doc in reversed(docs) if "response" in doc), docs[-1])
    items = final["output"]
    calls = [(i["name"], i["arguments"]) for i in items if i["type"] == "function_call"]
    for kind, field in (("computer_call", "action"), ("apply_patch_call", "operation"), ("shell_call", "action"),
                        ("local_shell_call", "action"), ("tool_search_call", "arguments")):  # fmt: skip
        calls += [
            (kind[:-5], json.dumps(i[field], separators=(",", ":"), ensure_ascii=False))
            for i in items
            if i["type"] == kind and i.get("execution") != "server"
        ]
    return {
        "model": final["model"],
        "usage": numbers(final.get("usage"), "input_tokens", "output_tokens"),
        "texts": ["".join(p.get("text", "") for i in items if i["type"] == "message" for p in i["content"])],
        "calls": calls,
        "reasons": [final["status"]],
    }


def read_embeddings(docs):
    (doc,) = docs
    usage = numbers(doc.get("usage"), "prompt_tokens", "completion_tokens")
    return {"model": doc["model"], "usage": usage, "texts": [], "calls": [], "reasons": []}


@pytest.mark.parametrize("operation", ["chat", "responses", "completions", "embeddings"])
def test_requests(operation):
    for record in records(operation):
        sent = record["request_json"]
        view = interpret_request(operation, body(sent))
        assert json.loads(view.inputs) == sent
        assert view.model == sent.get("model")
        assert sc.NOTE not in view.attributes
        assert view.preview, record["id"]
        assert len(view.attributes.get(sc.TOOL_DEFINITIONS, [])) >= len(sent.get("tools") or [])
