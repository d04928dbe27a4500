"""``tracer traces export``: traces into a file, or into a pipe."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import click

from tracer._exceptions import ConfigurationError, MediaNotFoundError, MissingDependencyError
from tracer._models import Media, Trace
from tracer.cli._options import json_option, query_of, search_options, uri_option
from tracer.cli._output import is_terminal, print_json, progress
from tracer.cli._reading import each_trace, find_trace, with_store
from tracer.interpret.media import media_hash
from tracer.store.base import Store, TraceQuery

__all__ = ["export"]

_ENDINGS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet", ".html": "html"}
_FORMATS = tuple(dict.fromkeys(_ENDINGS.values()))
_PIPE = "-"
_MAX_MEDIA_BYTES = 20_000_000  # of the images and recordings in one HTML file


@click.command()
@click.argument("trace_ids", nargs=-1, metavar="[TRACE_ID]...")
@search_options
@click.option(
    "--output", "-o", default=_PIPE, show_default=True, metavar="FILE", help="The file; - is standard output."
)
@click.option(
    "--format", "-f", "form", type=click.Choice(_FORMATS), help="By default from FILE's name, otherwise jsonl."
)
@click.option(
    "--rows",
    type=click.Choice(["traces", "spans"]),
    default="traces",
    show_default=True,
    help="For CSV and Parquet: a row for each trace, or for each span.",
)
@click.option("--force", is_flag=True, help="Replace an existing file.")
@json_option
@uri_option
def export(
    trace_ids: tuple[str, ...],
    output: str,
    form: str | None,
    rows: str,
    force: bool,
    as_json: bool,
    uri: str,
    **conditions: Any,
) -> None:
    """Write traces with their spans to a file: those with these ids, or all that meet the conditions."""
    form = form or _ENDINGS.get(Path(output).suffix.lower(), "jsonl")
    query = query_of(conditions)
    if trace_ids and query != TraceQuery():
        raise click.UsageError("name the traces by TRACE_ID, or by conditions such as --status ERROR; not by both")
    if as_json and output == _PIPE:
        raise click.UsageError("--json prints a report, but standard output is for the export; name a file by -o")

    async def work(store: Store) -> int:
        with _opened(output, form, force) as file, progress("exporting", quiet=as_json) as advance:
            traces = _counted(_traces(store, trace_ids, query), advance)
            if form == "html":
                return await _write_html(store, traces, file)
            from tracer.export import write_traces

            return await write_traces(traces, file, form, rows=rows)

    count = with_store(uri, work)
    if as_json:
        print_json({"traces": count, "format": form, "output": output})
    elif output != _PIPE:
        click.echo(f"wrote {count:,} {'trace' if count == 1 else 'traces'} to {output}", err=True)


async def _traces(store: Store, trace_ids: tuple[str, ...], query: TraceQuery) -> AsyncIterator[Trace]:
    if not trace_ids:
        async for trace in each_trace(store, query):
            yield trace
    for trace_id in trace_ids:
        yield await find_trace(store, trace_id)


async def _counted(traces: AsyncIterator[Trace], advance: Callable[[int], None]) -> AsyncIterator[Trace]:
    async for trace in traces:
        yield trace
        advance(1)


@contextlib.contextmanager
def _opened(output: str, form: str, force: bool) -> Iterator[BinaryIO]:
    """Open the output. A file gets its name only once it is complete. Only its owner can read it: it holds prompts."""
    if output == _PIPE:
        if form == "parquet" and is_terminal():
            raise ConfigurationError("--format parquet is no text for a terminal; name a file by --output")
        yield sys.stdout.buffer
        return
    path, part = Path(output), Path(f"{output}.part")
    if path.exists() and not force:
        raise ConfigurationError(f"--output {output!r} is there already; name another, or replace it by --force")
    with contextlib.suppress(FileNotFoundError):
        part.unlink()
    try:
        with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


async def _write_html(store: Store, traces: AsyncIterator[Trace], file: BinaryIO) -> int:
    """Write the page of one trace, with all that it shows in it."""
    try:
        from tracer.render import render_trace
    except ModuleNotFoundError as error:
        if (error.name or "tracer").partition(".")[0] == "tracer":
            raise
        raise MissingDependencyError("--format html", package=error.name or "jinja2", extra="ui") from error
    found = [trace async for trace in traces]
    if len(found) != 1:
        raise ConfigurationError(f"--format html shows one trace, got {len(found)}; name it by TRACE_ID, as in `last`")
    file.write(render_trace(found[0], standalone=True, media=await _media(store, found[0])).encode())
    file.flush()
    return 1


async def _media(store: Store, trace: Trace) -> list[Media]:
    from tracer.render import references

    hashes = [media_hash(reference) for reference in references(trace, max_bytes=_MAX_MEDIA_BYTES)]
    found = []
    for wanted in hashes:
        with contextlib.suppress(MediaNotFoundError):  # the page shows the reference in its place
            if wanted is not None:
                found.append(await store.get_media(wanted))
    return found
