"""``tracer traces``: find, show, follow, export and delete what was recorded."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import click
import msgspec

from tracer._exceptions import ConfigurationError
from tracer._models import Trace, TracePage
from tracer.cli._asking import confirm
from tracer.cli._columns import COLUMNS, cells, heads, needs_spans, pick_columns
from tracer.cli._export import export
from tracer.cli._options import AGE, json_option, query_of, search_options, uri_option
from tracer.cli._output import is_terminal, print_json, print_table, progress
from tracer.cli._reading import PAGE, each_trace, find_trace, require, with_store
from tracer.cli._tail import tail
from tracer.store.base import Store, TraceQuery

__all__ = ["traces"]


@click.group()
def traces() -> None:
    """Find, show, follow, export and delete traces."""


traces.add_command(tail)
traces.add_command(export)


@traces.command("list")
@search_options
@click.option(
    "--order-by",
    multiple=True,
    default=("start_time desc",),
    show_default=True,
    help="Such as 'cost desc'; repeatable.",
)
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="How many at most.")
@click.option("--page-token", help="Continue where a list ended: its next_page_token.")
@click.option("--columns", metavar="NAMES", help=f"Of {', '.join(COLUMNS)}; separated by commas.")
@click.option("--include-spans", is_flag=True, help="With --json: the spans of each trace as well.")
@json_option
@uri_option
def list_(
    order_by: tuple[str, ...],
    limit: int,
    page_token: str | None,
    columns: str | None,
    include_spans: bool,
    as_json: bool,
    uri: str,
    **conditions: Any,
) -> None:
    """List traces, the newest first. Takes every condition of tracer.search_traces."""
    chosen = pick_columns(columns)
    query = query_of(
        conditions,
        order_by=list(order_by),
        page_token=page_token,
        include_spans=include_spans if as_json else needs_spans(chosen),
    )
    found = with_store(uri, lambda store: _search(store, query, limit))
    if as_json:
        print_json(
            {"traces": [_shown(trace, include_spans) for trace in found], "next_page_token": found.next_page_token}
        )
        return
    print_table(heads(chosen), [cells(chosen.values(), trace) for trace in found])
    if not is_terminal():
        return
    if not found:
        click.echo("no traces match", err=True)
    elif found.next_page_token:
        click.echo(f"there are more: --limit {limit * 10}, or --page-token {found.next_page_token}", err=True)


async def _search(store: Store, query: TraceQuery, limit: int) -> TracePage:
    """Return up to `limit` traces, with as many reads as needed."""
    found, token = TracePage(), query.page_token
    while len(found) < limit:
        size = min(PAGE, limit - len(found))
        page = await store.search_traces(msgspec.structs.replace(query, page_token=token, max_results=size))
        found.extend(page)
        token = found.next_page_token = page.next_page_token
        if token is None:
            break
    return found


def _shown(trace: Trace, with_spans: bool) -> dict[str, Any]:
    built = trace.to_dict()
    return built if with_spans else {"info": built["info"]}


@traces.command()
@click.argument("trace_id")
@click.option("--span", "wanted", metavar="SPAN", help="One span alone: its id, the beginning of it, or its name.")
@click.option("--events", is_flag=True, help="The spans' events: stream chunks with their times, retries, exceptions.")
@click.option("--inputs", is_flag=True, help="The spans' inputs.")
@click.option("--outputs", is_flag=True, help="The spans' outputs.")
@json_option
@uri_option
def show(trace_id: str, wanted: str | None, events: bool, inputs: bool, outputs: bool, as_json: bool, uri: str) -> None:
    """Draw a trace's tree with times, tokens and cost.

    TRACE_ID is a trace id, the first digits of one, or the word last.
    """
    from tracer.cli import _tree  # imports rich

    trace = with_store(uri, lambda store: find_trace(store, trace_id))
    span = None if wanted is None else _tree.find_span(trace, wanted)
    if as_json:
        print_json(trace.to_dict() if span is None else msgspec.to_builtins(span))
        return
    if span is None:
        _tree.print_trace(trace)
    else:
        _tree.print_span(trace, span)
    for shown in trace.data.spans if span is None else [span]:
        if inputs and shown.inputs is not None:
            _tree.print_value("inputs", shown, shown.inputs)
        if outputs and shown.outputs is not None:
            _tree.print_value("outputs", shown, shown.outputs)
        if events and shown.events:
            _tree.print_events(shown)


@traces.command()
@click.argument("trace_ids", nargs=-1, metavar="[TRACE_ID]...")
@search_options
@click.option("--yes", "-y", is_flag=True, help="Don't ask.")
@json_option
@uri_option
def delete(trace_ids: tuple[str, ...], yes: bool, as_json: bool, uri: str, **conditions: Any) -> None:
    """Delete the traces with these ids, or all that meet every condition, with all their spans, for good."""
    query = query_of(conditions, include_spans=False)
    is_search = query != TraceQuery(include_spans=False)
    if bool(trace_ids) == is_search:
        raise click.UsageError("name the traces by TRACE_ID, or by conditions such as --status ERROR; not by both")
    found = with_store(uri, lambda store: _chosen(store, trace_ids, query))
    ids = list(dict.fromkeys(trace.info.trace_id for trace in found))
    if ids:
        confirm(f"Delete {_count(len(ids))} for good?", yes)
    deleted = with_store(uri, lambda store: _delete(store, ids, quiet=as_json)) if ids else 0
    _report(deleted, as_json, trace_ids=ids)


async def _chosen(store: Store, trace_ids: tuple[str, ...], query: TraceQuery) -> list[Trace]:
    if trace_ids:
        return [await find_trace(store, trace_id) for trace_id in trace_ids]
    return [trace async for trace in each_trace(store, query)]


async def _delete(store: Store, ids: list[str], *, quiet: bool) -> int:
    """Delete a page at a time, so that processes that record meanwhile wait only for one page."""
    deleted = 0
    with progress("deleting", len(ids), quiet=quiet) as advance:
        for first in range(0, len(ids), PAGE):
            deleted += await store.delete_traces(trace_ids=ids[first : first + PAGE])
            advance(len(ids[first : first + PAGE]))
    return deleted


@traces.command()
@click.option("--older-than", type=AGE, metavar="AGE", help="Delete traces that started longer ago: 30d, 12h, 2w.")
@click.option("--keep", type=click.IntRange(min=0), metavar="N", help="Keep at most this many, the newest.")
@click.option("--experiment", help="Only in this experiment; --keep counts only its traces.")
@click.option("--dry-run", is_flag=True, help="Only say how many would be deleted.")
@click.option("--yes", "-y", is_flag=True, help="Don't ask.")
@json_option
@uri_option
def prune(
    older_than: timedelta | None,
    keep: int | None,
    experiment: str | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    uri: str,
) -> None:
    """Delete old traces. With both --older-than and --keep, a trace is deleted if either option asks for it."""
    if older_than is None and keep is None:
        raise click.UsageError("prune needs --older-than, as in --older-than 30d, or --keep, as in --keep 100000")
    require(uri)
    too_old = None if older_than is None else int((time.time() - older_than.total_seconds()) * 1000)
    if too_old is not None and too_old < 0:
        raise ConfigurationError(f"--older-than must reach back no further than 1970, got {older_than}")

    def surplus() -> int:
        return _surplus(uri, experiment, too_old, keep)

    count = surplus()
    if dry_run:
        _report(0, as_json, would_delete=count)
        return
    if count:
        confirm(f"Delete the {_count(count)} that started first, for good?", yes)
    deleted = with_store(uri, _pruning(experiment, surplus, count, quiet=as_json)) if count else 0
    _report(deleted, as_json, would_delete=None)


def _surplus(uri: str, experiment: str | None, too_old: int | None, keep: int | None) -> int:
    """Return how many of the oldest to delete: both the traces beyond `keep` and those too old are the oldest ones."""
    from tracer.store.sqlite import _upkeep

    old = 0 if too_old is None else _upkeep.count_traces(uri, experiment=experiment, max_timestamp_ms=too_old)
    beyond = 0 if keep is None else _upkeep.count_traces(uri, experiment=experiment) - keep
    return max(old, beyond, 0)


def _pruning(
    experiment: str | None, surplus: Callable[[], int], count: int, *, quiet: bool
) -> Callable[[Store], Awaitable[int]]:
    """Return work that deletes the oldest `count`. It counts again before each page: others may prune as well."""

    async def work(store: Store) -> int:
        deleted = 0
        with progress("pruning", count, quiet=quiet) as advance:
            while deleted < count and (left := min(surplus(), count - deleted, PAGE)):
                gone = await store.delete_traces(experiment=experiment, max_traces=left)
                if not gone:
                    break
                deleted += gone
                advance(gone)
        return deleted

    return work


def _report(deleted: int, as_json: bool, **more: Any) -> None:
    if as_json:
        print_json({"deleted": deleted, **more})
    elif more.get("would_delete") is not None:
        click.echo(f"would delete {_count(more['would_delete'])}")
    else:
        click.echo(f"deleted {_count(deleted)}")


def _count(number: int) -> str:
    return f"{number:,} trace" if number == 1 else f"{number:,} traces"
