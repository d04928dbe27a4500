"""Which spans keep their inputs and outputs (``keep_bodies=``), and what is left of the others."""

from __future__ import annotations

import zlib
from typing import Any

from tracer import _semconv as sc
from tracer._config import BodyRule
from tracer.assembly._privacy import CONTENT_ATTRIBUTES
from tracer.store.batch import SpanRow

__all__ = ["is_chosen", "keeps_body", "leave_body_out"]

_PARTS_OF_BODIES = frozenset(CONTENT_ATTRIBUTES) - {sc.NOTE}


def is_chosen(rule: BodyRule | None, trace_id: str) -> bool:
    """Tell whether all spans of a trace keep their bodies, however they end.

    The checksum is for traces whose ids are not random in all their digits.
    """
    return rule is None or zlib.crc32(trace_id.encode()) < rule.rate * 2**32


def keeps_body(rule: BodyRule | None, row: SpanRow) -> bool:
    """Tell whether a span that has ended keeps its body."""
    if rule is None or is_chosen(rule, row.trace_id):
        return True
    if rule.errors and row.finish != "completed":
        return True
    took = (row.end_time_ns or row.start_time_ns) - row.start_time_ns
    return rule.slower_than is not None and took > rule.slower_than * 1e9


def leave_body_out(row: SpanRow, attributes: dict[str, Any]) -> None:
    """Take inputs, outputs and what repeats parts of them out of a row, and say so in its attributes."""
    row.inputs = row.outputs = row.text = None
    for key in _PARTS_OF_BODIES & attributes.keys():
        del attributes[key]
    attributes[sc.BODY_LEFT_OUT] = True
