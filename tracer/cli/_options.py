"""Options that several commands share, and how the options of a search become a `TraceQuery`."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import click

from tracer._config import DEFAULT_TRACKING_URI
from tracer.store.base import TraceQuery

__all__ = ["AGE", "MOMENT", "condition_options", "json_option", "query_of", "search_options", "uri_option"]

F = TypeVar("F", bound=Callable[..., Any])
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_UNSET = frozenset({None, (), False})


class Age(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.5 alone
    """``30d``, ``12h``, ``15m``, ``90s``, ``2w``."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Return the time span; a bad one is a usage error."""
        if isinstance(value, timedelta):
            return value
        match = _AGE.fullmatch(str(value).strip().lower())
        try:
            return timedelta(**{_UNITS[match[2]]: float(match[1])}) if match else self._refuse(value, param, ctx)
        except OverflowError:
            return self._refuse(value, param, ctx)

    def _refuse(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        self.fail(f"{value!r} is no age; write a number and s, m, h, d or w, as in 30d", param, ctx)


class Moment(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.5 alone
    """An age (a time before now), seconds since the epoch, or ISO 8601 text, which the search reads."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return what `tracer.search_traces` takes."""
        if not isinstance(value, str):
            return value
        if _AGE.fullmatch(value.strip().lower()):
            return AGE.convert(value, param, ctx)
        try:
            return float(value)
        except ValueError:
            return value


class Pair(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.5 alone
    """``key=value``."""

    name = "key=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Return key and value; a bad pair is a usage error."""
        if isinstance(value, tuple):
            return value
        key, separator, text = str(value).partition("=")
        if not separator or not key:
            self.fail(f"{value!r} is no tag; write key=value, as in env=prod", param, ctx)
        return key, text


AGE = Age()
MOMENT = Moment()

uri_option = click.option(
    "--uri",
    default=DEFAULT_TRACKING_URI,
    envvar="TRACER_TRACKING_URI",
    show_default=True,
    show_envvar=True,
    help="Where the traces are.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, in the shape that docs/cli.md gives.")

_CONDITIONS = (
    click.option("--filter", "filter_string", help="status = 'ERROR' AND duration > 2: see docs/filters.md."),
    click.option("--experiment", help="The experiment's name."),
    click.option("--status", help="OK, ERROR, IN_PROGRESS or INTERRUPTED."),
    click.option("--name", help="The trace's name."),
    click.option("--model", help="A model that one of its calls asked for or got."),
    click.option(
        "--text", help='Words of inputs, outputs, names, errors; "a phrase"; prefix*; an id or its beginning.'
    ),
    click.option("--text-prefix", is_flag=True, help="Each word of --text may be the beginning of a longer one."),
    click.option("--tag", "tags", type=Pair(), multiple=True, help="A tag it has; may be repeated."),
    click.option("--session-id", help="Its session."),
    click.option("--user-id", help="Its user."),
    click.option("--linked-to", metavar="TRACE_ID", help="Traces that continue this trace, or that it continues."),
    click.option("--min-duration", type=float, metavar="SECONDS", help="Took at least this many seconds."),
)
_TIMES = (
    click.option("--since", type=MOMENT, help="Started since: 15m, 24h, 7d (ago), ISO 8601, or epoch seconds."),
    click.option("--until", type=MOMENT, help="Started before; the same forms."),
)


def condition_options(command: F) -> F:
    """Add the conditions of `tracer.search_traces` except its times, as keywords for `query_of`."""
    for option in reversed(_CONDITIONS):
        command = option(command)
    return command


def search_options(command: F) -> F:
    """Add the conditions of `tracer.search_traces` to a command, as keywords for `query_of`."""
    for option in reversed(_TIMES):
        command = option(command)
    return condition_options(command)


def query_of(conditions: dict[str, Any], **more: Any) -> TraceQuery:
    """Return the search that options ask for; `more` is passed on to `TraceQuery`. The store checks the values."""
    given = {name: value for name, value in conditions.items() if value not in _UNSET}
    if "tags" in given:
        given["tags"] = dict(given["tags"])
    return TraceQuery(**given, **more)
