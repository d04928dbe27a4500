"""Decisions: ``POST /decisions``, questions about an input that are answered by probabilities, choices and scores."""

from __future__ import annotations

from typing import Any

from tracer.interpret import responses
from tracer.interpret._json import as_dicts, as_text
from tracer.interpret._views import RequestView, ResponseView
from tracer.interpret.choices import read_head
from tracer.interpret.previews import content_text, join_texts, one_line

__all__ = ["read_request", "read_response"]


def read_request(body: dict[str, Any], view: RequestView) -> None:
    """Fill in model, preview and text of a request: its input has the form of a response's."""
    responses.read_request(body, view)
    questions = [content_text(question.get("instructions")) for question in as_dicts(body.get("questions"))]
    view.text = join_texts([*questions, view.text])


def read_response(body: dict[str, Any], view: ResponseView) -> None:
    """Fill in model, usage and the answers, in the order of the questions."""
    read_head(body, view)
    answers = [_describe(answer, number) for number, answer in enumerate(as_dicts(body.get("answers")), 1)]
    if answers:
        view.preview, view.text = one_line(", ".join(answers)), join_texts(answers)
        view.finish = view.finish or "completed"


def _describe(answer: dict[str, Any], number: int) -> str:
    """Return ``name: answer``, with the number of the question if it has no name."""
    kind = as_text(answer.get("type")) or ""
    field = {"predicate": "probability", "choice": "choice", "score": "score"}.get(kind)
    return f"{as_text(answer.get('name')) or number}: {kind if field is None else answer.get(field)}"
