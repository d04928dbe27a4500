"""Citations: the sources that an answer names for its words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tracer.interpret._json import as_dicts

__all__ = ["read_citations"]

_FIELDS = ("url", "title", "file_id", "filename", "container_id", "start_index", "end_index", "index")


def read_citations(cited: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the citations of messages (chat) or of their parts (Responses), all in Responses' flat form.

    ``{"type": "url_citation", "url", "title", "start_index", "end_index"}``, ``{"type": "file_citation", "file_id",
    "filename", "index"}``, …; excerpts, which some gateways add, are only in the outputs. Indexes count characters of
    the text that contains the citation.
    """
    return [_flat(annotation) for each in cited for annotation in as_dicts(each.get("annotations"))]


def _flat(annotation: dict[str, Any]) -> dict[str, Any]:
    kind = annotation.get("type")
    inner = annotation.get(kind) if type(kind) is str else None
    fields = inner if type(inner) is dict else annotation  # in chat, the fields are in an object of their own
    return {"type": kind, **{key: fields[key] for key in _FIELDS if fields.get(key) is not None}}
