"""Vector-store search: ``POST /vector_stores/{id}/search``."""

from __future__ import annotations

from typing import Any

from tracer import _semconv as sc
from tracer.interpret._json import as_dicts, as_text
from tracer.interpret._views import RequestView, ResponseView
from tracer.interpret.choices import read_head
from tracer.interpret.completions import prompt_texts
from tracer.interpret.previews import content_text, join_texts, one_line

__all__ = ["read_request", "read_response"]

EXCERPT_CHARS = 1_000  # how much of a document the attributes hold; the outputs have all of it


def read_request(body: dict[str, Any], view: RequestView) -> None:
    """Fill in the query as preview and text."""
    view.preview, view.text = prompt_texts(body.get("query"), "queries")


def read_response(body: dict[str, Any], view: ResponseView) -> None:
    """Fill in the documents that were found: id, score, the beginning of the text."""
    read_head(body, view)
    if type(body.get("data")) is not list:
        return
    found = as_dicts(body["data"])
    texts = [content_text(document.get("content")) for document in found]
    view.attributes[sc.RETRIEVAL_DOCUMENTS] = [
        {"id": document.get("file_id"), "score": document.get("score"), "text": text[:EXCERPT_CHARS]}
        for document, text in zip(found, texts, strict=True)
    ]
    names = [as_text(document.get("filename")) or str(document.get("file_id")) for document in found]
    view.preview = one_line(", ".join(names)) or "nothing found"
    view.text = join_texts([*names, *texts])
    view.finish = view.finish or "completed"
