"""``tracer serve``: the tracking server, and its tokens."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from tracer._config import DEFAULT_TRACKING_URI, from_environment
from tracer._exceptions import MissingDependencyError
from tracer.cli._format import local_text
from tracer.cli._options import json_option
from tracer.cli._output import Head, is_terminal, print_json, print_table

if TYPE_CHECKING:
    from tracer.server.tokens import Grant, TokenFile

__all__ = ["serve"]

_store_option = click.option(
    "--store", "--uri", "store", default=DEFAULT_TRACKING_URI, show_default=True, help="The database that is served."
)
_tokens_option = click.option(
    "--tokens", "tokens", type=click.Path(path_type=Path), help="The tokens' file; by default beside the database."
)


@click.group(invoke_without_command=True)
@_store_option
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65_535), default=5151, show_default=True, help="0 takes a free one.")
@click.option(
    "--token",
    envvar="TRACER_TOKEN",
    show_envvar=True,
    help="One token that allows everything, beside those of --tokens.",
)
@_tokens_option
@click.option("--ssl-certfile", type=click.Path(dir_okay=False), help="A certificate (PEM), to serve https.")
@click.option("--ssl-keyfile", type=click.Path(dir_okay=False), help="Its key, if that is in another file.")
@click.option(
    "--read-timeout",
    type=click.FloatRange(0.001, 86_400),
    default=30.0,
    show_default=True,
    help="Seconds after which a search is stopped.",
)
@click.option("--otlp", is_flag=True, help="Take in spans by OpenTelemetry's protocol, at /v1/traces.")
@click.option("--access-log/--no-access-log", default=True, help="A line of JSON for each request, to standard error.")
@json_option
@click.pass_context
def serve(
    context: click.Context,
    store: str,
    host: str,
    port: int,
    token: str | None,
    tokens: Path | None,
    ssl_certfile: str | None,
    ssl_keyfile: str | None,
    read_timeout: float,
    otlp: bool,
    access_log: bool,
    as_json: bool,
) -> None:
    """Run a tracking server until Ctrl-C: services send to it, and it serves the page.

    In a service: tracer.set_tracking_uri("http://HOST:PORT"). Without any token it listens on this machine alone. With
    --json the address is printed as {"url": …}. TRACER_RETENTION_MAX_AGE and TRACER_RETENTION_MAX_BYTES say what it
    keeps.
    """
    if context.invoked_subcommand is not None:
        return
    run = _load("run")
    settings = from_environment()
    access = _load("tokens").Access(token, _token_file(store, tokens))
    retention = _retention(settings.retention_max_age, settings.retention_max_bytes)

    def announce(url: str) -> None:
        if as_json:
            print_json({"url": url}, one_line=True)
        else:
            click.echo(f"tracer serves {store} at {url}\nCtrl-C ends it.")
            sys.stdout.flush()

    try:
        with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as logs:
            logs.enter_context(_logged("tracer", logging.WARNING, "%(levelname)s: %(message)s"))
            if access_log:
                logs.enter_context(_logged("tracer.access", logging.INFO, "%(message)s"))
            options: dict[str, Any] = {"ssl_certfile": ssl_certfile, "ssl_keyfile": ssl_keyfile}
            options |= {"announce": announce, "read_timeout": read_timeout, "retention": retention}
            options["takes_otlp"] = otlp
            run.serve_store(store, host, port, access=access, **options)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise click.ClickException(
            f"can't listen on {host}, port {port}: {reason}; choose with --host and --port"
        ) from error


@serve.group()
def token() -> None:
    """Make, list and revoke tokens. A running server takes a change within a second."""


@token.command()
@click.option("--name", default="", help="Who has it; to be found in the list.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(["read", "write", "admin"]),
    help="What it allows; may be repeated. By default all.",
)
@click.option("--experiment", "experiments", multiple=True, help="What it may read and write; may be repeated.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Spans a second that it may write.")
@_store_option
@_tokens_option
@json_option
def create(
    name: str,
    scopes: tuple[str, ...],
    experiments: tuple[str, ...],
    rate: float | None,
    store: str,
    tokens: Path | None,
    as_json: bool,
) -> None:
    """Make a token, and show it once: only its hash is kept."""
    file = _token_file(store, tokens)
    given: dict[str, Any] = {"name": name, "experiments": experiments or None, "rate": rate}
    if scopes:
        given["scopes"] = scopes
    made, grant = file.create(**given)
    if as_json:
        print_json({"token": made, **_shown(grant)})
    else:
        click.echo(made)
        if is_terminal():
            click.echo(f"This is token {grant.id} of {file.path}. It is not shown again.", err=True)


@token.command(name="list")
@_store_option
@_tokens_option
@json_option
def list_tokens(store: str, tokens: Path | None, as_json: bool) -> None:
    """List the tokens: what each allows, but not the token itself."""
    grants = _token_file(store, tokens).grants()
    if as_json:
        print_json({"tokens": [_shown(grant) for grant in grants]})
        return
    heads = ["id", "name", "scopes", "experiments", "spans/s", "created"]
    print_table([Head(each) for each in heads], [_row(grant) for grant in grants])


@token.command()
@click.argument("id_or_name")
@_store_option
@_tokens_option
@json_option
def revoke(id_or_name: str, store: str, tokens: Path | None, as_json: bool) -> None:
    """Revoke a token, by its id or its name."""
    grant = _token_file(store, tokens).revoke(id_or_name)
    if as_json:
        print_json({"revoked": _shown(grant)})
    else:
        click.echo(f"revoked {grant.id} {grant.name}".rstrip())


def _shown(grant: Grant) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(grant)
    del told["kept"]
    return told


def _row(grant: Grant) -> tuple[str, ...]:
    experiments = "all" if grant.experiments is None else ", ".join(grant.experiments)
    rate = "" if grant.rate is None else f"{grant.rate:g}"
    return grant.id, grant.name, ", ".join(grant.scopes), experiments, rate, local_text(grant.created_ns)


def _token_file(store: str, given: Path | None) -> TokenFile:
    tokens = _load("tokens")
    file: TokenFile = tokens.TokenFile(given or tokens.default_token_file(store))
    return file


def _retention(max_age: float | None, max_bytes: int | None) -> Any:
    from tracer.store.base import Retention

    return Retention(max_age=max_age, max_bytes=max_bytes)


@contextlib.contextmanager
def _logged(name: str, level: int, form: str) -> Iterator[None]:
    """Write a logger's lines to standard error until the block ends."""
    log = logging.getLogger(name)
    before = log.level, log.propagate
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(form))
    handler.setLevel(level)
    log.addHandler(handler)
    log.setLevel(level)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before[0])
        log.propagate = before[1]


def _load(module: str) -> Any:
    """Import a module of the server, which is an extra of its own."""
    import importlib

    try:
        return importlib.import_module(f"tracer.server.{module}")
    except ImportError as error:  # also the page's MissingDependencyError, which names the page's extra
        cause = error.__cause__ if isinstance(error, MissingDependencyError) else error
        package = getattr(cause, "name", None) or "uvicorn"
        if package.partition(".")[0] == "tracer":
            raise
        raise MissingDependencyError("tracer serve", package=package, extra="server") from error
