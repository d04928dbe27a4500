"""Totals of a trace that has a single span, which most have: a store can write them with the trace at once."""

from __future__ import annotations

import contextlib
from collections import Counter

import msgspec

from tracer import _semconv as sc
from tracer.store.batch import SpanRow, TracePatch

__all__ = ["first_token", "sole_spans"]

_FIRST_TOKEN_KEY = sc.TIME_TO_FIRST_TOKEN.encode()


def sole_spans(spans: list[SpanRow]) -> dict[str, SpanRow]:
    """Return, by trace id, each span that is the only span of its trace in this batch."""
    count = Counter(row.trace_id for row in spans)
    return {row.trace_id: row for row in spans if count[row.trace_id] == 1}


class _Moments(msgspec.Struct):
    first_token: float | None = msgspec.field(name=sc.TIME_TO_FIRST_TOKEN, default=None)


_decode_moments = msgspec.json.Decoder(_Moments).decode


def first_token(patch: TracePatch, sole: SpanRow) -> float | None:
    """Return the seconds from the start of a trace with one span until that brought its first content."""
    if sole.attributes is None or _FIRST_TOKEN_KEY not in sole.attributes:
        return None
    with contextlib.suppress(msgspec.MsgspecError, UnicodeError):  # a user's own attributes can be anything
        first = _decode_moments(sole.attributes).first_token
        return None if first is None else (sole.start_time_ns - patch.start_time_ns) / 1e9 + first
    return None
