"""What a search asks for, checked, apart from any database: its conditions, its order and its pages.

A page's token carries the sort keys of its last trace, the highest trace key at the time of the first page (what came
later is on no page of that search) and that time itself, so that "one hour ago" means the same on each page.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any, NamedTuple

import msgspec

from tracer._exceptions import ConfigurationError
from tracer._format import did_you_mean
from tracer._models import TraceState
from tracer.process import forks
from tracer.store.base import TraceQuery
from tracer.store.conditions import And, Comparison, Condition, Field, Linked, Text
from tracer.store.fields import trace_field

__all__ = [
    "Order",
    "SortKeys",
    "Token",
    "checked_limit",
    "fingerprint",
    "in_one_index",
    "parse_conditions",
    "parse_order",
    "read_token",
]

MAX_RESULTS = 10_000
_INDEXED = ("session_id", "user_id", "name", "experiment")  # each with an index that ends in the start time
NUMERIC_ORDERS = (
    "duration",
    "total_tokens",
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "time_to_first_token",
    "cost",
)
_ORDERS = ("start_time", "status", "name", *NUMERIC_ORDERS)
_ORDER_ALIASES = {
    "timestamp": "start_time",
    "timestamp_ms": "start_time",
    "execution_time": "duration",
    "execution_time_ms": "duration",
    "state": "status",
}
_DEFAULT_ORDER = "start_time desc"
_LATEST_NS = 2**63 - 1  # the largest integer of databases: in the year 2262
_MOMENTS = (datetime(1678, 1, 1, tzinfo=timezone.utc), datetime(2262, 1, 1, tzinfo=timezone.utc))
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

SortKeys = list[Annotated[int, msgspec.Meta(ge=-_LATEST_NS, le=_LATEST_NS)] | float | str]
"""A trace's values of all that it is sorted by."""


class Order(NamedTuple):
    """What traces are sorted by: ``start_time``, ``status``, ``name`` or one of `NUMERIC_ORDERS`.

    What is unknown comes last in either direction.
    """

    name: str
    descending: bool


class Token(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """A ``page_token``."""

    fingerprint: bytes
    now_ns: Annotated[int, msgspec.Meta(ge=0, le=_LATEST_NS)]
    newest_key: Annotated[int, msgspec.Meta(ge=0, le=_LATEST_NS)]
    last: SortKeys

    def written(self) -> str:
        """Return it as users get it."""
        return base64.urlsafe_b64encode(msgspec.msgpack.encode(self)).rstrip(b"=").decode()


# --- conditions -------------------------------------------------------------------------------------------------------
def parse_conditions(query: TraceQuery, now_ns: int) -> Iterator[Condition]:
    """Yield what the traces must meet, all of it; each may be answered by an index of its own.

    Raises:
        ConfigurationError: It names the argument that is wrong.
    """
    if query.status is not None:
        yield _equal("state", _checked_state(query.status))
    for name in ("name", "experiment", "session_id", "user_id", "model"):
        if (value := getattr(query, name)) is not None:
            yield _equal(name, _checked_text(name, value))
    if query.linked_to is not None:
        yield Linked(_checked_text("linked_to", query.linked_to))
    for key, value in _checked_tags(query.tags).items():
        yield Comparison(Field("tag", key), "=", (value,))
    if not isinstance(query.text_prefix, bool):
        raise ConfigurationError(f"text_prefix must be True or False, got {query.text_prefix!r}")
    if query.text is not None and (text := _checked_text("text", query.text)).strip():
        if not re.search(r"[^\W_]", text):
            raise ConfigurationError(f"text must hold a word to look for, got {text!r}")
        yield Text(text, query.text_prefix)
    yield from _times(query, now_ns)
    if query.filter_string is not None and _checked_text("filter_string", query.filter_string).strip():
        with forks.delayed():  # this imports, and imports take locks
            from tracer.store.filter import parse_filter  # lark is an extra

            condition = parse_filter(query.filter_string)
        yield from condition.parts if isinstance(condition, And) else (condition,)


def _equal(name: str, value: str) -> Comparison:
    return Comparison(trace_field(name), "=", (value,))


def _times(query: TraceQuery, now_ns: int) -> Iterator[Condition]:
    start, duration = trace_field("timestamp"), trace_field("duration")
    if query.since is not None:
        yield Comparison(start, ">=", (_nanoseconds("since", query.since, now_ns),))
    if query.until is not None:
        yield Comparison(start, "<", (_nanoseconds("until", query.until, now_ns),))
    if query.min_duration is not None:
        seconds = query.min_duration
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < 1e9:
            raise ConfigurationError(f"min_duration must be seconds, 0 or more, got {seconds!r}")
        yield Comparison(duration, ">=", (round(seconds * 1e9),))


def _checked_state(status: str) -> str:
    try:
        return TraceState(str(status).upper()).value
    except ValueError:
        known = [state.value for state in TraceState]
        raise ConfigurationError(
            f"status must be one of {', '.join(known)}, got {status!r}{did_you_mean(str(status).upper(), known)}"
        ) from None


def _nanoseconds(parameter: str, value: Any, now_ns: int) -> int:
    """Read a moment: datetime or ISO text (local time if without a zone), seconds since the epoch, timedelta ago."""
    try:
        moment = _moment(value, now_ns)
    except (OverflowError, OSError):  # year 1 or 9999 in another time zone; an integer that no float can hold
        moment = None
    except ValueError:
        raise ConfigurationError(
            f"{parameter} must be a datetime, ISO text such as '2026-11-22T13:00:00', seconds since the epoch or a "
            f"timedelta (that long ago), got {_shortened(value)}"
        ) from None
    earliest, latest = ((bound - _EPOCH) // timedelta(microseconds=1) * 1_000 for bound in _MOMENTS)
    if moment is None or not earliest <= moment < latest:
        years = f"{_MOMENTS[0].year} and {_MOMENTS[1].year - 1}"
        raise ConfigurationError(f"{parameter} must lie between the years {years}, got {_shortened(value)}")
    return moment


def _moment(value: Any, now_ns: int) -> int:
    """Return nanoseconds since the epoch. Raises ValueError, or OverflowError or OSError where Python can't compute."""
    if isinstance(value, timedelta):
        return now_ns - value // timedelta(microseconds=1) * 1_000
    if isinstance(value, str):
        value = datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", value.strip()))
    if isinstance(value, datetime):
        if value.tzinfo is None and not _MOMENTS[0].year <= value.year < _MOMENTS[1].year:
            raise OverflowError  # Python's error for it depends on the local time zone
        return (value.astimezone(timezone.utc) - _EPOCH) // timedelta(microseconds=1) * 1_000
    # In seconds any moment until the year 5138 is below 1e11: a larger number was meant as milli- or nanoseconds.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e11:
        raise ValueError
    return round(value * 1e9)


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def in_one_index(query: TraceQuery) -> TraceQuery:
    """Return the part of the query that one index can answer.

    Each index ends in the start time, so that is one column and the times.
    """
    times = {"since": query.since, "until": query.until}
    for column in _INDEXED:
        if (value := getattr(query, column)) is not None:
            return TraceQuery(**times, **{column: value})
    if query.status is not None and str(query.status).upper() != "OK":
        return TraceQuery(**times, status=query.status)
    return TraceQuery(**times)


# --- order ------------------------------------------------------------------------------------------------------------
def parse_order(order_by: Any) -> list[Order]:
    """Read ``"duration desc"`` or MLflow's ``["status ASC", "timestamp_ms DESC"]``. Raises ConfigurationError.

    Traces that are equal in all of it are sorted by age, in the direction of the last one.
    """
    items = [order_by] if isinstance(order_by, str) else order_by or [_DEFAULT_ORDER]
    if not isinstance(items, (list, tuple)):
        raise _wrong_order(items)
    orders: dict[str, Order] = {}
    for item in items:
        order = _parse_sort(item)
        orders.setdefault(order.name, order)  # sorting by it once more changes nothing
    return list(orders.values())


def _parse_sort(item: Any) -> Order:
    pattern = r"\s*(?:trace\.|attributes?\.)?(\w+)(?:\s+(asc|desc))?\s*"
    match = re.fullmatch(pattern, item, re.IGNORECASE) if isinstance(item, str) else None
    name = match[1].lower() if match else ""
    name = _ORDER_ALIASES.get(name, name)
    if match is None or name not in _ORDERS:
        raise _wrong_order(item, did_you_mean(name, (*_ORDERS, *_ORDER_ALIASES)))
    return Order(name, (match[2] or "asc").lower() == "desc")


def _wrong_order(got: Any, hint: str = "") -> ConfigurationError:
    return ConfigurationError(
        f"order_by must be one of {', '.join(_ORDERS)}, with asc or desc behind it, or a list of such, "
        f"got {got!r}{hint}"
    )


# --- pages ------------------------------------------------------------------------------------------------------------
def fingerprint(query: TraceQuery) -> bytes:
    """Return a hash of what must be equal on all pages: everything except how much of each page is read."""
    told = msgspec.structs.asdict(query)
    for free in ("page_token", "max_results", "include_spans"):
        told.pop(free)
    told["tags"] = sorted(_checked_tags(query.tags).items())
    return hashlib.blake2b(repr(told).encode(errors="replace"), digest_size=8).digest()


def read_token(text: str | None, wanted: bytes, texts: list[bool]) -> Token | None:
    """Read a token; `texts` says of each sort key whether it is text. Nothing in a token can be trusted."""
    if text is None:
        return None
    try:
        padded = str(text) + "=" * (-len(str(text)) % 4)
        token = msgspec.msgpack.decode(base64.b64decode(padded, altchars=b"-_", validate=True), type=Token)
    except (ValueError, msgspec.MsgspecError):
        raise ConfigurationError(
            f"page_token must be a page's next_page_token, got {str(text)[:60]!r}; leave it out for the first page"
        ) from None
    if token.fingerprint != wanted or [isinstance(key, str) for key in token.last] != texts:
        raise ConfigurationError(
            "page_token belongs to a search with other arguments; pass the same, or leave it out for the first page"
        )
    return token


def checked_limit(value: Any) -> int:
    """Return ``max_results``. Raises ConfigurationError."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_RESULTS:
        raise ConfigurationError(f"max_results must be a whole number from 1 to {MAX_RESULTS}, got {value!r}")
    return value


def _checked_text(parameter: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(f"{parameter} must be a string, got {value!r}")
    return value.encode("utf-8", "replace").decode()  # half a surrogate pair can't be passed to a database


def _checked_tags(tags: Any) -> dict[str, str]:
    if tags is None:
        return {}
    if not isinstance(tags, dict):
        raise ConfigurationError(f"tags must be a dict of strings, as in {{'env': 'prod'}}, got {tags!r}")
    return {_checked_text("tags", key): _checked_text("tags", value) for key, value in tags.items()}
