"""``tracer stats`` and ``tracer db``: what a database holds, and care for its file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

import click
import msgspec

from tracer._exceptions import StoreError
from tracer._format import format_cost
from tracer.cli._format import local_text, pairs_text
from tracer.cli._options import json_option, uri_option
from tracer.cli._output import Head, print_json, print_table, progress, size_text
from tracer.cli._reading import require, run, take_over, with_store
from tracer.store.base import Store, TraceQuery
from tracer.store.summaries import ExperimentSummary, StorageSummary
from tracer.store.uri import has_file

if TYPE_CHECKING:
    from tracer.store.sqlite._upkeep import Totals

__all__ = ["db", "stats"]

T = TypeVar("T")


@click.command()
@json_option
@uri_option
def stats(as_json: bool, uri: str) -> None:
    """Tell what a database holds: traces, spans, tokens, cost, size, and what was lost before it could be stored.

    Of a server with more than 10,000 traces, the sums are estimates.
    """
    from tracer.store.sqlite import _upkeep

    async def look(store: Store) -> tuple[StorageSummary, list[ExperimentSummary], Totals | None]:
        estimated = None if has_file(uri) else await _estimate(store)
        return await store.storage(), await store.experiments(), estimated

    storage, experiments, estimated = with_store(uri, look)
    totals = _upkeep.totals(uri) if estimated is None else estimated
    if as_json:
        print_json({"totals": totals, "experiments": experiments, "storage": storage})
    else:
        print_table([Head("what"), Head("how much")], list(_lines(totals, experiments, storage)))


async def _estimate(store: Store) -> Totals:
    """Sum up what a server has, from a sample if there are more than 10,000 traces."""
    from tracer.store.sqlite._upkeep import Totals

    seen = await store.overview(TraceQuery(), buckets=1, limit=1)
    states = next((each.values for each in (await store.facets(TraceQuery())).facets if each.field == "status"), [])
    usage = {"input_tokens": seen.input_tokens, "output_tokens": seen.output_tokens, "total_tokens": seen.total_tokens}
    return Totals(
        traces=seen.scope.traces,
        states={each.value: each.traces for each in states},
        token_usage=usage if seen.total_tokens else None,
        cost=seen.cost,
    )


def _lines(totals: Totals, experiments: list[ExperimentSummary], storage: StorageSummary) -> Iterator[tuple[str, str]]:
    yield "traces", f"{totals.traces:,}"
    yield from ((f"  {state}", f"{count:,}") for state, count in totals.states.items())
    yield from ((f"  in {experiment.name}", f"{experiment.traces:,}") for experiment in experiments)
    yield from ((table, f"{rows:,}") for table, rows in storage.rows.items() if table != "traces")
    yield from ((key.replace("_", " "), f"{count:,}") for key, count in (totals.token_usage or {}).items())
    yield "cost", format_cost(totals.cost)
    for label, moment in (("oldest", storage.oldest_ns), ("newest", storage.newest_ns)):
        yield label, "" if moment is None else local_text(moment)
    yield "lost records", pairs_text(storage.dropped) or "0"
    yield from ((f"lost as a whole ({loss.reason})", f"{loss.count:,}") for loss in storage.losses)
    yield "file", f"{size_text(storage.file_bytes)}, {size_text(storage.free_bytes)} of it free"
    yield "log", size_text(storage.log_bytes)
    yield "schema version", str(storage.schema_version)


@click.group()
def db() -> None:
    """Look after a database's file."""


@db.command()
@json_option
@uri_option
def upgrade(as_json: bool, uri: str) -> None:
    """Bring a database to this tracer's schema. Older versions of tracer can't use it after that."""
    from tracer.store import open_store
    from tracer.store.sqlite import _upkeep

    before = _existing(uri, lambda: _upkeep.schema_version(uri))

    async def migrate() -> None:
        store = open_store(uri)
        try:
            await store.open()
        finally:
            await store.aclose()

    with progress("upgrading", quiet=as_json):
        run(migrate)
    after = _upkeep.schema_version(uri)
    if as_json:
        print_json({"schema_version_before": before, "schema_version": after})
    else:
        told = f"schema version {before} → {after}" if after != before else f"schema version {after}: nothing to do"
        click.echo(told)


@db.command()
@json_option
@uri_option
def vacuum(as_json: bool, uri: str) -> None:
    """Rewrite the file without gaps. Other processes can't write meanwhile; their records wait."""
    from tracer.store.sqlite import _upkeep

    require(uri)
    with progress("vacuuming", quiet=as_json):
        sizes = _upkeep.vacuum(uri)
    if as_json:
        print_json(sizes)
    else:
        click.echo(f"{size_text(sizes.bytes_before)} → {size_text(sizes.bytes_after)}")


@db.command()
@json_option
@uri_option
def check(as_json: bool, uri: str) -> int:
    """Look for damage: PRAGMA integrity_check and foreign_key_check. Exits with 1 if there is any.

    First, what killed processes left beside the file is written into it.
    """
    from tracer.store.sqlite import _upkeep

    with progress("checking", quiet=as_json):
        take_over(uri)
        health = _existing(uri, lambda: _upkeep.check(uri))
    if as_json:
        print_json({"ok": not health.problems, **msgspec.to_builtins(health)})
    else:
        click.echo("\n".join(health.problems) or f"no damage found; schema version {health.schema_version}")
    return 1 if health.problems else 0


def _existing(uri: str, look: Callable[[], T]) -> T:
    """Look at a file of any schema version. Raises StoreError if there is none."""
    from tracer.store.sqlite import _upkeep

    path = _upkeep.file_of(uri, unseen=True)
    if not path.exists():
        raise StoreError(f"--uri {uri!r}: there is no {path}; name the database with --uri or $TRACER_TRACKING_URI")
    return look()
