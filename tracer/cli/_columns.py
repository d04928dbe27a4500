"""The columns of ``tracer traces list`` and ``tail``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tracer._exceptions import ConfigurationError
from tracer._format import clean, did_you_mean, format_cost, format_duration
from tracer._models import Trace
from tracer.cli._format import iso_text, pairs_text, seconds_text, short_text, tokens_text
from tracer.cli._output import Head, console, is_terminal, status_style

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["COLUMNS", "DEFAULT_COLUMNS", "Column", "cells", "heads", "needs_spans", "pick_columns"]

_SHORT_ID = 12  # digits; `tracer traces show` takes them


class Column(NamedTuple):
    """What a column shows.

    Attributes:
        for_people: The cell on a terminal.
        for_programs: The cell in a pipe, if it differs.
        of_spans: The column is read from the trace's spans.
    """

    for_people: Callable[[Trace], Any]
    for_programs: Callable[[Trace], Any] | None = None
    right: bool = False
    shrinks: bool = False
    grows: bool = False
    of_spans: bool = False


def _usage(key: str) -> Column:
    return Column(lambda trace: (trace.info.token_usage or {}).get(key, ""), right=True)


def _first_token_ns(trace: Trace) -> int | None:
    seconds = trace.info.time_to_first_token
    return None if seconds is None else round(seconds * 1e9)


def _error(trace: Trace) -> str:
    described = (span.status.description for span in reversed(trace.data.spans) if str(span.status) == "ERROR")
    return next((text for text in described if text), "")


COLUMNS = {
    "id": Column(lambda t: t.info.trace_id[:_SHORT_ID], lambda t: t.info.trace_id),
    "status": Column(lambda t: _styled(str(t.info.state)), lambda t: str(t.info.state)),
    "name": Column(lambda t: t.info.name or "", shrinks=True),
    "start": Column(lambda t: short_text(t.info.start_time_ns), lambda t: iso_text(t.info.start_time_ns)),
    "duration": Column(
        lambda t: format_duration(t.info.duration_ns), lambda t: seconds_text(t.info.duration_ns), right=True
    ),
    "ttft": Column(
        lambda t: "" if (ns := _first_token_ns(t)) is None else format_duration(ns),
        lambda t: seconds_text(_first_token_ns(t)),
        right=True,
    ),
    "tokens": Column(lambda t: tokens_text(t.info.token_usage), right=True),
    "input_tokens": _usage("input_tokens"),
    "output_tokens": _usage("output_tokens"),
    "total_tokens": _usage("total_tokens"),
    "cached_tokens": _usage("cache_read_input_tokens"),
    "reasoning_tokens": _usage("reasoning_tokens"),
    "cost": Column(
        lambda t: format_cost(t.info.cost), lambda t: "" if t.info.cost is None else repr(t.info.cost), right=True
    ),
    "models": Column(lambda t: ", ".join(t.info.models), shrinks=True),
    "spans": Column(lambda t: len(t.data.spans), right=True, of_spans=True),
    "error": Column(_error, grows=True, of_spans=True),
    "experiment": Column(lambda t: t.info.experiment),
    "session": Column(lambda t: t.info.session_id or ""),
    "user": Column(lambda t: t.info.user_id or ""),
    "tags": Column(lambda t: pairs_text(t.info.tags), shrinks=True),
    "metadata": Column(lambda t: pairs_text(t.info.metadata), shrinks=True),
    "feedback": Column(lambda t: pairs_text({given.name: given.value for given in t.info.feedback}), shrinks=True),
    "dropped": Column(lambda t: pairs_text(t.info.dropped), shrinks=True),
    "request": Column(lambda t: t.info.request_preview or "", grows=True),
    "response": Column(lambda t: t.info.response_preview or "", grows=True),
}
DEFAULT_COLUMNS = "id,status,name,start,duration,tokens,cost,request,response"
_NARROW_COLUMNS = "id,status,name,start,duration,tokens,cost"
_NARROW = 110  # a terminal with fewer columns has no room for texts


def pick_columns(text: str | None) -> dict[str, Column]:
    """Return the columns of a comma-separated list; for None, those that the terminal has room for.

    Raises:
        ConfigurationError: One of them is not known.
    """
    if text is None:
        text = _NARROW_COLUMNS if is_terminal() and console().width < _NARROW else DEFAULT_COLUMNS
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in COLUMNS:
            hint = did_you_mean(name, COLUMNS)
            raise ConfigurationError(f"--columns knows {', '.join(COLUMNS)}; got {name!r}{hint}")
    if not names:
        raise ConfigurationError(f"--columns needs at least one of {', '.join(COLUMNS)}; got {text!r}")
    return {name: COLUMNS[name] for name in names}


def needs_spans(columns: dict[str, Column]) -> bool:
    """Tell whether any of the columns needs the traces' spans."""
    return any(column.of_spans for column in columns.values())


def heads(columns: dict[str, Column]) -> list[Head]:
    """Return the headings of the columns."""
    return [Head(name, column.right, column.shrinks, column.grows) for name, column in columns.items()]


def cells(columns: Iterable[Column], trace: Trace) -> Sequence[Any]:
    """Return a trace's row, for a terminal or for a pipe."""
    people = is_terminal()
    return [
        column.for_people(trace) if people or column.for_programs is None else column.for_programs(trace)
        for column in columns
    ]


def _styled(word: str) -> Text:
    from rich.text import Text

    return Text(clean(word), style=status_style(word))
