"""The root command, and how an error in any command becomes one line and an exit code."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

import click

from tracer._exceptions import ConfigurationError, MissingDependencyError, TraceNotFoundError, TracerError
from tracer._format import clean
from tracer.cli import database, demo, doctor, moving, serve, traces, ui
from tracer.cli import run as run_program
from tracer.cli._output import print_json

__all__ = ["app", "run"]

_OPTIONS = {
    "filter_string": "--filter",
    "host": "--host",
    "max_results": "--limit",
    "min_duration": "--min-duration",
    "order_by": "--order-by",
    "page_token": "--page-token",
    "since": "--since",
    "ssl_certfile": "--ssl-certfile",
    "ssl_keyfile": "--ssl-keyfile",
    "status": "--status",
    "store": "--store",
    "text": "--text",
    "text_prefix": "--text-prefix",
    "tracking_uri": "--uri",
    "uri": "--uri",
    "until": "--until",
}
"""What the library's parameters are called on the command line."""


class _ClosedPipeError(Exception):
    """The reader of our output has closed the pipe."""


class _App(click.Group):
    """A group that raises an error of our own for a closed pipe: click would exit with 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError as error:
            raise _ClosedPipeError from error
        return result


@click.group(cls=_App, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(None, "-V", "--version", package_name="openai-tracer", prog_name="tracer")
def app() -> None:
    """Look at what tracer has recorded, and look after it.

    Traces are read from --uri, from $TRACER_TRACKING_URI, or from sqlite:///tracer.db. Commands that read never create
    a database. Every command takes --json; without it, a terminal gets colour and tables, a pipe tab-separated text.

    Exit codes: 0 done, 1 not found or a check failed, 2 wrong use.
    """


for command in (
    traces.traces,
    database.stats,
    database.db,
    demo.demo,
    ui.ui,
    serve.serve,
    moving.copy,
    moving.import_,
    doctor.doctor,
    run_program.run,
    run_program.autolog,
):
    app.add_command(command)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code. Only the interpreter's own SystemExit is raised."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in given
    logging.getLogger("tracer").addHandler(logging.NullHandler())  # errors that matter to the caller are reported below
    try:
        result = app.main(given, prog_name="tracer", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except _ClosedPipeError:  # for example, `head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more at exit
        return 0
    except click.exceptions.NoArgsIsHelpError as error:
        sys.stderr.write(f"{error.format_message()}\n")
        return 2
    except click.ClickException as error:
        return _fail("usage" if error.exit_code == 2 else "failed", _usage_message(error), error.exit_code, as_json)
    except click.Abort:
        return _fail("aborted", "aborted", 1, as_json)
    except (ConfigurationError, MissingDependencyError) as error:
        return _fail("usage", _in_options(str(error)), 2, as_json)
    except TracerError as error:
        code = "not_found" if isinstance(error, TraceNotFoundError) else "failed"
        return _fail(code, _in_options(str(error)), 1, as_json)
    except OSError as error:  # a full disk, a file that can't be written
        return _fail("failed", str(error), 1, as_json)


def _fail(code: str, message: str, exit_code: int, as_json: bool) -> int:
    if as_json:
        print_json({"error": {"code": code, "message": message}}, to=sys.stderr)
    else:
        sys.stderr.write(f"error: {clean(message, keep_lines=True)}\n")
    return exit_code


def _usage_message(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    where = f" (see {context.command_path} --help)" if context is not None else ""
    return " ".join(error.format_message().split()) + where


def _in_options(message: str) -> str:
    """Replace the parameter's name at the beginning of a message by the option's name."""
    word = re.match(r"\w+", message)
    option = _OPTIONS.get(word[0]) if word else None
    return message if word is None or option is None else option + message[word.end() :]
