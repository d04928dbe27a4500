"""Searching within one trace."""

from __future__ import annotations

import msgspec

from tracer import _semconv as sc
from tracer._models import Span, Trace

__all__ = ["find_in_trace"]


def find_in_trace(trace: Trace, text: str) -> set[str]:
    """Return the ids of the spans that hold a text: in name, inputs, outputs, attributes or events, in any case.

    ::

        >>> sorted(find_in_trace(trace, "paris"))
        ['00f067aa0ba902b7']
    """
    wanted = " ".join(text.split()).casefold()
    if not wanted:
        return set()
    # The text as it appears in JSON, where quotes and line breaks are escaped.
    escaped = msgspec.json.encode(wanted).decode()[1:-1]
    return {span.span_id for span in trace.data.spans if _holds(span, wanted, escaped)}


def _holds(span: Span, wanted: str, escaped: str) -> bool:
    if wanted in span.name.casefold() or wanted in span.span_id or wanted in span.status.description.casefold():
        return True
    notes = [event for event in span.events if event.name != sc.EVENT_CHUNK]  # the outputs contain what chunks say
    try:
        encoded = msgspec.json.encode([span.inputs, span.outputs, span.attributes, notes]).decode()
    except (TypeError, ValueError, RecursionError):
        encoded = repr((span.inputs, span.outputs))
    return escaped in encoded.casefold()
