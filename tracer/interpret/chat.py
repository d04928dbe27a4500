"""Chat Completions: ``POST /chat/completions``."""

from __future__ import annotations

from typing import Any

from tracer import _semconv as sc
from tracer.interpret._json import as_dict, as_dicts, as_text
from tracer.interpret._params import read_format, read_params, read_tools
from tracer.interpret._views import RequestView, ResponseView
from tracer.interpret.choices import ChoiceStream, read_choice_ends, read_head
from tracer.interpret.citations import read_citations
from tracer.interpret.deltas import merge_deltas
from tracer.interpret.previews import TEXT_CHARS, content_text, join_texts, media_label, one_line
from tracer.interpret.sse import Event
from tracer.interpret.tools import call_ids, chat_tool_calls, describe_calls

__all__ = ["read_request", "read_response", "read_stream"]


_CALLS = frozenset({"tool_calls", "tool_call_id", "function_call"})


def read_request(body: dict[str, Any], view: RequestView) -> None:
    """Fill in parameters, tools, the output's form, preview and text of a request."""
    read_params(body, view)
    if "tools" in body or "functions" in body:
        read_tools(body, view)
    if "response_format" in body:
        read_format(body["response_format"], view)
    if type(modalities := body.get("modalities")) is list and "audio" in modalities:
        view.attributes[sc.OUTPUT_TYPE] = "speech"
    texts: list[str] = []
    asked = spoken = shown = ""  # the user's last words, anybody's last words, what the user showed last without words
    for message in as_dicts(body.get("messages")):
        text = content_text(content := message.get("content"))
        if text:
            spoken = text
            if message.get("role") == "user":
                asked = text
        elif not asked and message.get("role") == "user":
            shown = media_label(content) or shown
        texts.append(_with_calls(message, text) if _has_calls(message) else text)
    view.preview, view.text = one_line(asked or shown or spoken), join_texts(texts, newest_last=True)


def _with_calls(message: dict[str, Any], text: str) -> str:
    calls = chat_tool_calls(message)
    return join_texts([text, describe_calls(calls), *call_ids(calls), as_text(message.get("tool_call_id"))])


def _has_calls(message: dict[str, Any]) -> bool:
    return not _CALLS.isdisjoint(message)


def read_response(body: dict[str, Any], view: ResponseView) -> None:
    """Fill in everything that a plain (or rebuilt) response says."""
    read_head(body, view)
    choices = as_dicts(body.get("choices"))
    spoken, asked, refusals, thoughts, calls, citing, shown = [], "", [], [], [], [], ""
    for choice in choices:
        message = choice.get("message")
        if type(message) is not dict:
            continue
        if text := _spoken(message):
            spoken.append(text)
        else:
            shown = shown or media_label(message.get("content")) or media_label(message.get("images"))
        if (refusal := message.get("refusal")) and type(refusal) is str:
            refusals.append(refusal)
        if ("reasoning_content" in message or "reasoning" in message) and (thought := _thoughts(message)):
            thoughts.append(thought)
        if _has_calls(message):
            calls += chat_tool_calls(message)
        if message.get("annotations"):
            citing.append(message)
    if calls:
        view.attributes[sc.TOOL_CALLS], asked = calls, describe_calls(calls)
    if citing and (citations := read_citations(citing)):
        view.attributes[sc.CITATIONS] = citations
    if thoughts:
        view.attributes[sc.REASONING] = "\n\n".join(thoughts)[:TEXT_CHARS]
    texts = [text for text in (*spoken, asked, *refusals, *thoughts) if text]
    view.preview, view.text = one_line(next(iter(texts), shown)), join_texts([*texts, *call_ids(calls)])
    read_choice_ends(choices, view)


def _spoken(message: dict[str, Any]) -> str | None:
    if text := content_text(message.get("content")):
        return text
    return as_text(as_dict(message.get("audio")).get("transcript"))


def _thoughts(message: dict[str, Any]) -> str | None:
    """Return the reasoning, which compatible servers send under one of two names (or both)."""
    return as_text(message.get("reasoning_content")) or as_text(message.get("reasoning"))


def read_stream(events: list[Event], view: ResponseView) -> Any:
    """Rebuild a stream's chunks to the plain response's shape, fill in what it says and how it ended."""
    stream = ChoiceStream(events)
    return stream.interpret("chat.completion", _rebuild_content, read_response, view)


def _rebuild_content(pieces: list[dict[str, Any]]) -> dict[str, Any]:
    """Merge one choice's deltas. If a server sends whole messages and no delta at all, return the last message.

    Some servers send the role as null, or not at all: it can only be the assistant's.
    """
    deltas = [delta for piece in pieces if type(delta := piece.get("delta")) is dict]
    message = merge_deltas(deltas) if deltas else as_dict(pieces[-1].get("message"))
    content: dict[str, Any] = {"message": {**message, "role": message.get("role") or "assistant"}}
    if logprobs := [entry for piece in pieces if type(entry := piece.get("logprobs")) is dict]:
        content["logprobs"] = merge_deltas(logprobs)
    return content
