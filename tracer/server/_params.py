"""The query string of a list: read the same by the page and by the API."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from starlette.datastructures import QueryParams

from tracer._exceptions import ConfigurationError
from tracer._format import did_you_mean
from tracer.store.base import TraceQuery

__all__ = ["LIST_PARAMETERS", "check_known", "read_query", "whole_number"]

LIST_PARAMETERS = {
    "filter": "A filter, as in `search_traces(filter_string=…)`: `status = 'ERROR' AND duration > 2`.",
    "text": 'Full-text search: all words, "a phrase", prefix*; or an id, or its first 8 characters.',
    "text_prefix": "`true`: each word of `text` may be the beginning of a longer one.",
    "status": "OK, ERROR, IN_PROGRESS or INTERRUPTED.",
    "name": "The trace's name.",
    "model": "A model that one of its calls used.",
    "experiment": "The experiment's name.",
    "session_id": "The session.",
    "user_id": "The user.",
    "tag": "`key=value`; may be given several times.",
    "linked_to": "A trace id: the traces that continue it or that it continues.",
    "since": "ISO 8601, seconds since the epoch, or a time before now: `15m`, `24h`, `7d`.",
    "until": "The same forms as `since`; traces at that very moment are not included.",
    "min_duration": "Seconds.",
    "order_by": "`start_time desc`, `duration desc`, `total_tokens asc`, `cost desc`, …",
}
_PLAIN = ("text", "status", "name", "model", "experiment", "session_id", "user_id", "linked_to")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def read_query(
    parameters: QueryParams, *, limit: int = 100, page_token: str | None = None, include_spans: bool = False
) -> TraceQuery:
    """Return the search that a query string asks for; blank parameters count as left out.

    Raises:
        ConfigurationError: A number, a time or a tag can't be understood. The store checks which values a field may
            have.
    """
    given = {name: parameters[name] for name in LIST_PARAMETERS if parameters.get(name, "").strip()}
    values: dict[str, Any] = {name: given[name] for name in _PLAIN if name in given}
    return TraceQuery(
        filter_string=given.get("filter"),
        text_prefix=_truth("text_prefix", given.get("text_prefix", "false")),
        tags=_tags(parameters.getlist("tag")),
        since=_moment("since", given.get("since")),
        until=_moment("until", given.get("until")),
        min_duration=_number("min_duration", given.get("min_duration")),
        order_by=given.get("order_by", "start_time desc"),
        max_results=limit,
        page_token=page_token,
        include_spans=include_spans,
        **values,
    )


def check_known(parameters: QueryParams, known: Any) -> None:
    """Refuse a parameter that would be ignored. Raises ConfigurationError."""
    for name in parameters:
        if name not in known:
            hint = did_you_mean(name, known) or f"; there are {', '.join(known)}"
            raise ConfigurationError(f"unknown parameter {name!r}{hint}")


def whole_number(parameters: QueryParams, name: str, *, default: int, most: int) -> int:
    """Return a whole number from 1 to `most`. Raises ConfigurationError."""
    text = parameters.get(name, "").strip()
    if not text:
        return default
    if not re.fullmatch(r"\d{1,9}", text) or not 1 <= int(text) <= most:
        raise ConfigurationError(f"{name} must be a whole number from 1 to {most}, got {text[:40]!r}")
    return int(text)


def _tags(pairs: list[str]) -> dict[str, str] | None:
    tags = {}
    for pair in filter(str.strip, pairs):
        key, separator, value = pair.partition("=")
        if not separator or not key.strip():
            raise ConfigurationError(f"tag must be key=value, got {pair[:60]!r}")
        tags[key.strip()] = value.strip()
    return tags or None


def _moment(name: str, text: str | None) -> Any:
    if text is None:
        return None
    text = text.strip()
    if ago := re.fullmatch(r"(\d{1,6})\s*([smhdw])", text):
        return timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    return text  # ISO: the store parses it, and reports errors in it


def _truth(name: str, text: str) -> bool:
    if text.strip().lower() not in ("true", "false"):
        raise ConfigurationError(f"{name} must be true or false, got {text[:40]!r}")
    return text.strip().lower() == "true"


def _number(name: str, text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        raise ConfigurationError(f"{name} must be a number, got {text!r}") from None
