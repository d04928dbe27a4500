"""What the list shows: its columns, and the links that change one thing of a view and keep the rest.

The overview and the sessions are views of the same traces: their links keep the conditions that narrow them.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import NamedTuple
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from tracer.server._params import LIST_PARAMETERS

__all__ = ["COLUMNS", "Column", "View", "equation", "is_narrowed"]


class Column(NamedTuple):
    """One column of the list.

    Attributes:
        order: Its name in `order_by`; None if the list can't be sorted by it.
        shown: Shown unless the reader chose otherwise.
        number: Aligned to the right, in digits of equal width.
    """

    key: str
    title: str
    order: str | None = None
    shown: bool = True
    number: bool = False
    hint: str = ""


COLUMNS = (
    Column("status", "Status", "status", hint="how the trace stands"),
    Column("name", "Name", "name"),
    Column("request", "Request"),
    Column("response", "Response"),
    Column("models", "Model"),
    Column("start", "Start", "start_time", number=True),
    Column("duration", "Duration", "duration", number=True),
    Column("ttft", "First token", "time_to_first_token", number=True, hint="from the trace's start"),
    Column("input", "Tokens in", "input_tokens", number=True),
    Column("output", "Tokens out", "output_tokens", number=True),
    Column("cached", "Cached", "cache_read_input_tokens", shown=False, number=True, hint="input tokens from the cache"),
    Column("total", "Tokens", "total_tokens", shown=False, number=True),
    Column("cost", "Cost", "cost", number=True, hint="US dollars"),
    Column("session", "Session", shown=False),
    Column("user", "User", shown=False),
    Column("experiment", "Experiment", shown=False),
    Column("tags", "Tags"),
)
_SPANS = (
    ("", "All time"),
    ("15m", "Last 15 minutes"),
    ("1h", "Last hour"),
    ("24h", "Last 24 hours"),
    ("7d", "Last 7 days"),
    ("30d", "Last 30 days"),
)
_KEYS = [column.key for column in COLUMNS]
_NARROWING = [name for name in LIST_PARAMETERS if name != "order_by"]
_PER_SEARCH = ("page_token", "limit")
_PATHS = ("/", "/sessions", "/overview")
_IN_FORM = ("text", "filter", "since")
_EQUATED = ("status", "name", "model", "experiment", "session_id", "user_id")
_CHIPS = (
    "status",
    "name",
    "model",
    "experiment",
    "session_id",
    "user_id",
    "tag",
    "linked_to",
    "min_duration",
    "text_prefix",
)


class View:
    """One state of the list, or of another page about the same traces, as its URL has it.

    Attributes:
        path: The page's path, which links lead to unless they name another.
        paths: The paths of all pages that can show the same traces.
    """

    def __init__(self, parameters: QueryParams, path: str = "/") -> None:
        self.parameters = parameters
        self.path, self.paths = path, _PATHS
        self.chosen = parameters.get("cols")
        keys = self.chosen.split(",") if self.chosen else [column.key for column in COLUMNS if column.shown]
        self.shown = {key for key in keys if key in _KEYS} or {column.key for column in COLUMNS if column.shown}
        self.columns = COLUMNS
        self.order, self.descending = self._order()

    def get(self, name: str) -> str:
        """Return one parameter, blank if it isn't given."""
        return self.parameters.get(name, "").strip()

    @property
    def hidden(self) -> str:
        """The table's classes: one for each column that isn't shown."""
        return " ".join(f"hide-{column.key}" for column in COLUMNS if column.key not in self.shown)

    @property
    def spans(self) -> tuple[tuple[str, str], ...]:
        """Return the choices of the time range: since when, and in words. A custom range, if chosen, is one of them."""
        since, until = self.get("since"), self.get("until")
        if until or since not in dict(_SPANS):
            return *_SPANS, (since, "A chosen time")
        return _SPANS

    def moment(self, name: str) -> datetime | None:
        """Return a bound of the chosen time; None if there is none, or if it moves with the clock (``24h``)."""
        text = self.get(name)
        with contextlib.suppress(ValueError, OverflowError, OSError):
            if re.fullmatch(r"\d+(\.\d+)?", text):
                return datetime.fromtimestamp(float(text), timezone.utc)
            return datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text)).astimezone(timezone.utc)
        return None

    @property
    def state(self) -> str:
        """The view as one parameter, so that a trace's page can link back to it; blank if nothing was chosen."""
        return urlencode([item for item in self.parameters.multi_items() if item[0] not in _PER_SEARCH and item[1]])

    @property
    def trace_suffix(self) -> str:
        """The end of a trace's URL that tells its page which list it was opened from."""
        return f"?{urlencode({'list': self.state})}" if self.state else ""

    def export_link(self, form: str) -> str:
        """Return the URL of a file of all traces of this view."""
        given = [item for item in self.parameters.multi_items() if item[0] in LIST_PARAMETERS and item[1]]
        return f"/api/export?{urlencode([('format', form), *given])}"

    @property
    def kept(self) -> list[tuple[str, str]]:
        """Return the parameters that the form has no field for and must not lose."""
        free = (*_IN_FORM, *_PER_SEARCH)
        return [item for item in self.parameters.multi_items() if item[0] not in free and item[1]]

    def chips(self) -> list[tuple[str, str]]:
        """Return each condition that narrows the view: in words, and with the URL without it."""
        found = [
            (f"{name.removesuffix('_id').replace('_', ' ')}: {value}", self.toggled(name, value))
            for name, value in self.parameters.multi_items()
            if name in _CHIPS and value
        ]
        if since := self.get("since"):
            words = dict(_SPANS).get(since) or f"from {since.replace('T', ' ')}"
            if until := self.get("until"):
                words += f" until {until.replace('T', ' ')}"
            found.append((words, self.link(since=None, until=None)))
        return found

    def sort_link(self, column: Column) -> str:
        """Return the URL that sorts by this column: numbers and times descending first, at the next click ascending."""
        down = not self.descending if self.order == column.order else column.number
        return self.link(order_by=f"{column.order} {'desc' if down else 'asc'}")

    def sorted_by(self, column: Column) -> str:
        """Return the value of ``aria-sort`` for a column."""
        if self.order != column.order:
            return "none"
        return "descending" if self.descending else "ascending"

    def link(self, path: str | None = None, **changes: str | None) -> str:
        """Return this view's URL with some parameters set, or with None left out."""
        kept = [item for item in self.parameters.multi_items() if item[0] not in changes and item[0] not in _PER_SEARCH]
        pairs = [*kept, *((name, value) for name, value in changes.items() if value is not None)]
        return _url(self.path if path is None else path, pairs)

    def elsewhere(self, path: str, **changes: str | None) -> str:
        """Return the URL of another page about the same traces, with some parameters set.

        If a parameter of this view already has another value (a second model), the new one is added to the filter.
        """
        held = [item for item in self.parameters.multi_items() if item[0] in _NARROWING]
        clashing = {name: value for name, value in changes.items() if value and self._narrows_otherwise(name, value)}
        for name, value in clashing.items():
            changes = {**changes, name: None, "filter": self._joined(changes.get("filter"), equation(name, value))}
        if changes.get("filter"):
            changes["filter"] = self._joined(self.get("filter"), changes["filter"])
        kept = [(name, value) for name, value in held if changes.get(name) is None]
        return _url(path, [*kept, *changes.items()])

    def _narrows_otherwise(self, name: str, value: str | None) -> bool:
        return name in _EQUATED and self.get(name) not in ("", value)

    @staticmethod
    def _joined(held: str | None, comparison: str | None) -> str | None:
        """Return a filter that requires both."""
        if not held or not comparison:
            return held or comparison
        held = f"({held})" if re.search(r"\bor\b", held, re.IGNORECASE) else held
        return f"{held} AND {comparison}"

    def toggled(self, name: str, value: str) -> str:
        """Return this view's URL with a parameter set to a value, or without it if it has that value already."""
        held = self.parameters.getlist(name)
        others = [item for item in self.parameters.multi_items() if item[0] not in (*_PER_SEARCH, name)]
        values = [] if name != "tag" else [tag for tag in held if tag != value]  # all others have one value only
        pairs = [*others, *((name, other) for other in values), *([] if value in held else [(name, value)])]
        return _url(self.path, pairs)

    def and_filter(self, comparison: str) -> str:
        """Return this view's URL with a comparison added to its filter, or taken from its end."""
        held = self.get("filter").strip()
        if held == comparison:
            return self.link(filter=None)
        if held.endswith(f" AND {comparison}"):
            return self.link(filter=held.removesuffix(f" AND {comparison}"))
        return self.link(filter=self._joined(held, comparison))

    def has(self, name: str, value: str) -> bool:
        """Tell whether a parameter has this value."""
        return value in self.parameters.getlist(name)

    def query(self, path: str) -> str:
        """Return the URL of something about the same traces (the next rows, facets, the histogram)."""
        return self.link(path)

    def _order(self) -> tuple[str, bool]:
        words = (self.parameters.get("order_by") or "start_time desc").split()
        return words[0], words[-1].lower() == "desc"


def equation(field: str, value: str) -> str:
    """Return the comparison, in the filter language, that a field has this value."""
    quoted = value.replace("\\", "\\\\").replace("'", "''")
    return f"{field} = '{quoted}'"


def _url(path: str, pairs: Iterable[tuple[str, str | None]]) -> str:
    given = [(name, value) for name, value in pairs if value]
    return path + (f"?{urlencode(given)}" if given else "")


def is_narrowed(parameters: QueryParams) -> bool:
    """Tell whether the view shows less than everything."""
    return any(parameters.get(name, "").strip() for name in _NARROWING)
