"""Legacy completions: ``POST /completions``."""

from __future__ import annotations

from typing import Any

from tracer.interpret._json import as_dicts, as_text
from tracer.interpret._params import read_params
from tracer.interpret._views import RequestView, ResponseView
from tracer.interpret.choices import ChoiceStream, read_choice_ends, read_head
from tracer.interpret.deltas import merge_deltas
from tracer.interpret.previews import join_texts, one_line
from tracer.interpret.sse import Event

__all__ = ["prompt_texts", "read_request", "read_response", "read_stream"]


def read_request(body: dict[str, Any], view: RequestView) -> None:
    """Fill in parameters, preview and text of a request."""
    read_params(body, view)
    view.preview, view.text = prompt_texts(body.get("prompt"), "prompts")


def prompt_texts(prompt: Any, plural: str) -> tuple[str | None, str]:
    """Return (preview, text) of a prompt or input: a string, strings, token numbers, or lists of token numbers."""
    prompts = [prompt] if type(prompt) is str else prompt if type(prompt) is list else []
    texts = [text for text in prompts if type(text) is str]
    if len(prompts) == 1 and texts:
        return one_line(texts[0]), join_texts(texts)
    if prompts and type(prompts[0]) is int:
        return f"{len(prompts)} tokens", ""
    return (f"{len(prompts)} {plural if len(prompts) > 1 else plural[:-1]}" if prompts else None), join_texts(texts)


def read_response(body: dict[str, Any], view: ResponseView) -> None:
    """Fill in everything that a plain (or rebuilt) response says."""
    read_head(body, view)
    choices = as_dicts(body.get("choices"))
    texts = [text for choice in choices if (text := as_text(choice.get("text")))]
    view.preview = one_line(next(iter(texts), None))
    view.text = join_texts(texts)
    read_choice_ends(choices, view)


def read_stream(events: list[Event], view: ResponseView) -> Any:
    """Rebuild a stream's chunks to the plain response's shape, fill in what it says and how it ended."""
    return ChoiceStream(events).interpret("text_completion", _rebuild_content, read_response, view)


def _rebuild_content(pieces: list[dict[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {"text": "".join(text for piece in pieces if type(text := piece.get("text")) is str)}
    if logprobs := [entry for piece in pieces if type(entry := piece.get("logprobs")) is dict]:
        content["logprobs"] = merge_deltas(logprobs)
    return content
