"""``tracer copy`` and ``tracer import``: traces from another store, or from another tool, into a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from tracer._exceptions import ConfigurationError
from tracer.cli._options import json_option, query_of, search_options, uri_option
from tracer.cli._output import print_json, progress
from tracer.cli._reading import opened, require, run
from tracer.moving import Moved, Source, StoreSource, move, open_mlflow, open_phoenix, read_langfuse
from tracer.store.uri import MEMORY_URI, has_file, parse_uri, redact_uri, sqlite_path

__all__ = ["copy", "import_"]

_SHOWN_REFUSALS = 20


@click.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@search_options
@json_option
def copy(source: str, target: str, as_json: bool, **conditions: Any) -> int:
    """Copy traces from the store FROM into the store TO: files, tracking servers, PostgreSQL databases.

    Each trace comes with its spans, tags, feedback, media and links, and keeps its ids. What TO has already stays as it
    is, so the command can be stopped, killed, and run again.
    """
    if _parsed(source, "FROM") == _parsed(target, "TO"):
        raise ConfigurationError(f"TO must name another store than FROM, got {redact_uri(target)!r} for both")
    query = query_of(conditions)
    require(source, option="FROM")

    async def work() -> Moved:
        async with opened(source) as store:
            return await move_into(target, StoreSource(store, query), "copying", as_json)

    return report(run(work), target, as_json)


@click.group("import")
def import_() -> None:
    """Take traces out of another tool's database or export. The same command may be run again: nothing comes twice."""


@import_.command()
@click.argument("source", metavar="DATABASE")
@json_option
@uri_option
def mlflow(source: str, as_json: bool, uri: str) -> int:
    """Import the traces of an MLflow database: sqlite:///mlflow.db, or the path of the file.

    With spans, tags, metadata, sessions, users, assessments and attachments. MLflow may go on writing to it.
    """
    with open_mlflow(_file_of(source, "MLflow")) as found:
        return _import(found, uri, as_json)


@import_.command()
@click.argument("source", metavar="DATABASE")
@json_option
@uri_option
def phoenix(source: str, as_json: bool, uri: str) -> int:
    """Import the traces of an Arize Phoenix database: sqlite:///phoenix.db, or the path of the file.

    With spans, sessions, tags, costs and annotations. Phoenix may go on writing to it.
    """
    with open_phoenix(_file_of(source, "Phoenix")) as found:
        return _import(found, uri, as_json)


@import_.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--experiment", help="The experiment for all of them: an export does not name its project.")
@json_option
@uri_option
def langfuse(files: tuple[Path, ...], experiment: str | None, as_json: bool, uri: str) -> int:
    """Import traces that Langfuse has exported as JSON or JSON Lines.

    What its page downloads of a trace, what its API answers, and rows of observations. The files are read into memory.
    """
    return _import(read_langfuse(files, experiment), uri, as_json)


def _import(source: Source, uri: str, as_json: bool) -> int:
    _parsed(uri, "--uri")

    async def work() -> Moved:
        return await move_into(uri, source, "importing", as_json)

    return report(run(work), uri, as_json)


def _file_of(source: str, tool: str) -> Path:
    """Return the file that an argument names. Raises ConfigurationError."""
    if "://" not in source:
        return Path(source)
    if not source.startswith("sqlite:///"):
        remedy = "name the SQLite file of its server, or a copy of it"
        raise ConfigurationError(f"DATABASE must be a file of {tool}, got {redact_uri(source)!r}; {remedy}")
    return sqlite_path(source)


async def move_into(target: str, source: Source, label: str, as_json: bool) -> Moved:
    """Move traces into the store `target`, which is made if it is not there, and show progress."""
    from tracer.store.sqlite._upkeep import schema_version

    if has_file(target) and sqlite_path(target).exists() and schema_version(target):
        require(target, option="the target")
    async with opened(target, adopts=False) as store:
        with progress(label, await source.count() or None, quiet=as_json) as advance:
            return await move(source, store, advance=advance)


def _parsed(uri: str, argument: str) -> str:
    """Return a store's URI in normal form. Raises ConfigurationError that names the argument."""
    try:
        normal = parse_uri(uri)
    except ConfigurationError as error:
        raise ConfigurationError(str(error).replace("tracking_uri", argument, 1)) from None
    if normal == MEMORY_URI:
        raise ConfigurationError(f"{argument} must be a store that outlives this command, got {uri!r}")
    return normal if not has_file(normal) else f"sqlite:///{sqlite_path(normal).resolve()}"


def report(moved: Moved, target: str, as_json: bool) -> int:
    """Say what was moved; return the exit code: 1 if something was refused."""
    if as_json:
        print_json(msgspec.to_builtins(moved))
        return 1 if moved.refused else 0
    told = {
        "copied": moved.copied,
        "completed": moved.completed,
        "already there": moved.already_there,
        "still running": moved.running,
        "refused": len(moved.refused),
    }
    counts = ", ".join(f"{count:,} {what}" for what, count in told.items() if count or what == "copied")
    click.echo(f"{moved.traces:,} {'trace' if moved.traces == 1 else 'traces'}: {counts}; now in {redact_uri(target)}")
    for refusal in moved.refused[:_SHOWN_REFUSALS]:
        click.echo(f"refused {refusal.trace_id}: {refusal.reason}", err=True)
    if (more := len(moved.refused) - _SHOWN_REFUSALS) > 0:
        click.echo(f"refused {more:,} more: see --json", err=True)
    return 1 if moved.refused else 0
