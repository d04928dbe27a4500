"""Moderations: ``POST /moderations``."""

from __future__ import annotations

from typing import Any

from tracer import _semconv as sc
from tracer.interpret._json import as_dict, as_dicts
from tracer.interpret._params import read_params
from tracer.interpret._views import RequestView, ResponseView
from tracer.interpret.choices import read_head
from tracer.interpret.completions import prompt_texts
from tracer.interpret.previews import content_text, join_texts, media_label, one_line

__all__ = ["read_request", "read_response"]


def read_request(body: dict[str, Any], view: RequestView) -> None:
    """Fill in model, preview and text of a request: a string, strings, or parts that may be images."""
    read_params(body, view)
    given = body.get("input")
    if parts := as_dicts(given):
        words = content_text(parts)
        view.preview, view.text = one_line(words or media_label(parts)), join_texts([words])
    else:
        view.preview, view.text = prompt_texts(given, "inputs")


def read_response(body: dict[str, Any], view: ResponseView) -> None:
    """Fill in whether anything was flagged, and as what."""
    read_head(body, view)
    results = as_dicts(body.get("results"))
    if not results:
        return
    flagged = any(result.get("flagged") is True for result in results)
    names = {
        name: None for result in results for name, found in as_dict(result.get("categories")).items() if found is True
    }
    view.attributes[sc.MODERATION_FLAGGED] = flagged
    if names:
        view.attributes[sc.MODERATION_CATEGORIES] = list(names)
    view.preview = f"flagged: {', '.join(names) or 'yes'}" if flagged else "not flagged"
    view.finish = view.finish or "completed"
