"""``tracer ui``: the web page."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import click

from tracer._exceptions import MissingDependencyError
from tracer.cli._options import json_option, uri_option
from tracer.cli._output import print_json

__all__ = ["ui"]


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65_535), default=5151, show_default=True, help="0 takes a free one.")
@click.option("--open", "open_browser", is_flag=True, help="Open the page in your browser.")
@click.option(
    "--read-timeout",
    type=click.FloatRange(0.001, 86_400),
    default=5.0,
    show_default=True,
    help="Seconds after which a search is stopped.",
)
@click.option("--otlp", is_flag=True, help="Take in spans by OpenTelemetry's protocol, at /v1/traces.")
@click.option("--no-token", is_flag=True, help="Ask for no token; on 127.0.0.1 only.")
@json_option
@uri_option
def ui(
    host: str, port: int, open_browser: bool, read_timeout: float, otlp: bool, no_token: bool, as_json: bool, uri: str
) -> None:
    """Serve the web page until Ctrl-C. The address that is printed holds a token, which a browser needs once.

    With --json the address is printed as {"url": …}.
    """
    run = _load()

    def announce(url: str) -> None:
        if as_json:
            print_json({"url": url})
        else:
            click.echo(f"tracer is at {url}\nCtrl-C ends it.")

    try:
        with contextlib.suppress(KeyboardInterrupt):
            token = None if no_token else run.NEW_TOKEN
            options: dict[str, Any] = {"token": token, "announce": announce, "read_timeout": read_timeout}
            options["takes_otlp"] = otlp
            run.serve_ui(uri, host, port, open_browser, **options)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise click.ClickException(
            f"can't listen on {host}, port {port}: {reason}; choose with --host and --port"
        ) from error


def _load() -> Any:
    """Import the server, which is an extra of its own."""
    try:
        from tracer.server import run
    except ModuleNotFoundError as error:
        if (error.name or "tracer").partition(".")[0] == "tracer":
            raise
        raise MissingDependencyError("tracer ui", package=error.name or "uvicorn", extra="ui") from error
    return run
