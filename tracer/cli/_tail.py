"""``tracer traces tail``: traces as they start and end.

The store is read, so the process that records may be any process, on any machine. A look costs three indexed reads, or
almost nothing while nothing is written and nothing runs. A trace shows up when it starts, if its start was stored
within `_OVERLAP`; otherwise it shows up when it ends.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from typing import Any

import click
import msgspec

from tracer._format import clean
from tracer._models import Trace, TraceInfo, TraceState
from tracer.cli._columns import cells, heads, needs_spans, pick_columns
from tracer.cli._options import condition_options, json_option, query_of, uri_option
from tracer.cli._output import console, is_terminal, print_json
from tracer.cli._reading import each_trace, with_store
from tracer.store.base import Store, TraceQuery

__all__ = ["Follower", "tail"]

_OVERLAP = timedelta(seconds=10)  # records of a busy process, or of a machine with another clock, come late
_WIDTHS = {"id": 12, "status": 11, "name": 24, "start": 16, "duration": 9, "tokens": 15, "cost": 11}


class Follower:
    """Finds what is new in a store since it was last asked.

    Args:
        query: The conditions for the traces; the follower sets order and times itself.
        last: How many of the traces that exist already count as new.
    """

    def __init__(self, store: Store, query: TraceQuery, last: int = 0) -> None:
        self._store = store
        self._query = msgspec.structs.replace(query, order_by="start_time desc", since=None, until=None)
        self._last = last
        self._told: dict[str, TraceInfo] = {}  # traces already reported, as far back as is searched
        self._running: dict[str, int] = {}  # id and start_time_ns; also of traces that don't meet the query yet
        self._marker: object = None
        self._newest_ns = 0  # start of the newest trace of all at the last look

    async def begin(self) -> list[Trace]:
        """Return the last existing traces, the oldest first; `news` returns what comes later."""
        self._running = await self._find_running()
        self._newest_ns = await self._find_newest()
        known = [trace async for trace in each_trace(self._store, self._query, self._last)] if self._last else []
        recent = [trace async for trace in self._recent()]
        self._told = {trace.info.trace_id: trace.info for trace in [*known, *recent]}
        return known[::-1]

    async def news(self) -> list[Trace]:
        """Return the traces that started or ended since the last look, the oldest first; their state tells which."""
        marker, self._marker = self._marker, await self._store.change_marker()
        # While traces run, look even if nothing was written: a process that is gone writes nothing, and this finds that
        # out.
        if marker == self._marker and not self._running:
            return []
        was_running, self._running = self._running, await self._find_running()
        newest_ns = await self._find_newest()
        found = {trace.info.trace_id: trace async for trace in self._recent() if self._is_news(trace)}
        for trace_id in was_running.keys() - self._running.keys() - found.keys():
            ended = await self._find(trace_id, was_running[trace_id])
            if ended is not None and self._is_news(ended):
                found[trace_id] = ended
        self._newest_ns = newest_ns
        self._remember(found)
        return sorted(found.values(), key=lambda trace: trace.info.start_time_ns)

    def _is_news(self, trace: Trace) -> bool:
        told = self._told.get(trace.info.trace_id)
        return told is None or told.state != trace.info.state

    def _remember(self, found: dict[str, Trace]) -> None:
        self._told.update((trace_id, trace.info) for trace_id, trace in found.items())
        horizon = self._newest_ns - 2 * _nanoseconds(_OVERLAP)
        self._told = {
            trace_id: info
            for trace_id, info in self._told.items()
            if info.start_time_ns >= horizon or trace_id in self._running
        }

    async def _find_running(self) -> dict[str, int]:
        query = TraceQuery(status=TraceState.IN_PROGRESS.value, include_spans=False)
        return {trace.info.trace_id: trace.info.start_time_ns async for trace in each_trace(self._store, query)}

    async def _find_newest(self) -> int:
        newest = await self._store.search_traces(TraceQuery(max_results=1, include_spans=False))
        return newest[0].info.start_time_ns if newest else 0

    def _recent(self) -> AsyncIterator[Trace]:
        since = _moment(self._newest_ns) - _OVERLAP if self._newest_ns else None
        return each_trace(self._store, msgspec.structs.replace(self._query, since=since))

    async def _find(self, trace_id: str, start_time_ns: int) -> Trace | None:
        """Return one trace, if it meets the query: the search covers only the moment of its start."""
        start = _moment(start_time_ns)
        query = msgspec.structs.replace(self._query, since=start, until=start + timedelta(microseconds=1))
        found = [trace async for trace in each_trace(self._store, query) if trace.info.trace_id == trace_id]
        return found[0] if found else None


@click.command()
@condition_options
@click.option("--last", "-n", type=click.IntRange(min=0), default=10, show_default=True, help="Begin with this many.")
@click.option("--columns", metavar="NAMES", help="As in `tracer traces list`.")
@click.option(
    "--interval", type=click.FloatRange(min=0.1), default=1.0, show_default=True, help="Seconds between two looks."
)
@json_option
@uri_option
def tail(last: int, columns: str | None, interval: float, as_json: bool, uri: str, **conditions: Any) -> None:
    """Follow traces live, a line when one starts and a line when it ends, until Ctrl-C.

    With --json a line is {"event": "started" or "ended", "trace": {"info": …}}.
    """
    chosen = pick_columns(columns)
    query = query_of(conditions, include_spans=needs_spans(chosen) and not as_json)

    async def follow(store: Store) -> None:
        import anyio

        follower = Follower(store, query, last)
        printer = _Printer(chosen, as_json)
        printer.lines(await follower.begin())
        while True:
            await anyio.sleep(interval)
            printer.lines(await follower.news())

    try:
        with_store(uri, follow)
    except KeyboardInterrupt:
        return


class _Printer:
    """Prints a trace a line. Widths are fixed on a terminal, since the lines to come are not known."""

    def __init__(self, columns: Any, as_json: bool) -> None:
        self._columns, self._as_json, self._people = columns, as_json, is_terminal()
        if not as_json:
            self._line([head.title for head in heads(columns)], style="bold")

    def lines(self, traces: list[Trace]) -> None:
        """Print the traces."""
        for trace in traces:
            if self._as_json:
                event = "started" if trace.info.state == TraceState.IN_PROGRESS else "ended"
                print_json({"event": event, "trace": {"info": msgspec.to_builtins(trace.info)}}, one_line=True)
            else:
                self._line(cells(self._columns.values(), trace))

    def _line(self, row: Any, style: str = "") -> None:
        if not self._people:
            click.echo("\t".join(clean(str(cell)) for cell in row))
            return
        from rich.text import Text  # an extra, and slow to import

        line = Text(style=style)
        for name, cell in zip(self._columns, row, strict=True):
            text = cell.copy() if isinstance(cell, Text) else Text(clean(str(cell)))
            if width := _WIDTHS.get(name):
                text.truncate(width, overflow="ellipsis", pad=True)
            line.append_text(text).append("  ")
        out = console()
        line.rstrip()
        out.print(line, no_wrap=True, overflow="ellipsis", crop=True)


def _moment(nanoseconds: int) -> datetime:
    """Return a time, rounded down to a microsecond. No floats: near today's time, their steps are a quarter of that."""
    return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=nanoseconds // 1_000)


def _nanoseconds(span: timedelta) -> int:
    return span // timedelta(microseconds=1) * 1_000
