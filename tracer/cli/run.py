"""``tracer run`` and ``tracer autolog``: tracing without a change of the program."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path

import click

from tracer import _autorun
from tracer._exceptions import StoreError
from tracer.cli._options import json_option, uri_option
from tracer.cli._output import print_json
from tracer.store.uri import parse_uri, sqlite_path

__all__ = ["autolog", "run"]

_DIRECTORY = Path(_autorun.__file__).resolve().parent
_HOOK = "openai_tracer_autolog.pth"


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("-m", "module", metavar="MODULE", help="Run a Python module, as `python -m` does.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@json_option
@uri_option
@click.pass_context
def run(context: click.Context, module: str | None, command: tuple[str, ...], as_json: bool, uri: str) -> int:
    """Run a program with tracing switched on, without a change of its code: tracer run -- python app.py.

    COMMAND is a program with its arguments, or a file that ends with .py. The program takes the place of this command:
    signals, exit code, input and output are its own. The Python processes that it starts are traced as well.
    """
    given = [sys.executable, "-m", module, *command] if module is not None else list(command)
    if not given:
        raise click.UsageError("name the program to run: tracer run -- python app.py", context)
    if given[0].endswith(".py"):
        given.insert(0, sys.executable)
    program = shutil.which(given[0])
    if program is None:
        raise click.ClickException(f"there is no program {given[0]!r} to run")
    if context.get_parameter_source("uri") is click.core.ParameterSource.COMMANDLINE:
        os.environ["TRACER_TRACKING_URI"] = _absolute(uri)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(_DIRECTORY), *([before] if before else [])])
    sys.stdout.flush()
    os.execv(program, given)


def _absolute(uri: str) -> str:
    """Return a URI that stays the same database when the program changes its directory."""
    checked = parse_uri(uri)
    return f"sqlite:///{sqlite_path(checked).absolute()}" if checked.startswith("sqlite:") else checked


@click.group()
def autolog() -> None:
    """Switch tracing on by TRACER_AUTOLOG=1, in every program of this Python environment."""


@autolog.command()
@json_option
@uri_option
def install(as_json: bool, uri: str) -> None:
    """Have programs of this environment look at TRACER_AUTOLOG when they start.

    Adds one file to the environment's site-packages; `tracer autolog remove` deletes it. With TRACER_AUTOLOG=1 a
    program is traced as by `tracer run`; without, its start takes some microseconds longer.
    """
    path, start = _hook_path(), str(_DIRECTORY / "sitecustomize.py")
    try:
        path.write_text(
            'import os; os.environ.get("TRACER_AUTOLOG", "").lower() in ("1", "true", "yes", "on") and '
            f"os.path.exists({start!r}) and exec(compile(open({start!r}, 'rb').read(), {start!r}, 'exec'), "
            f"{{'__name__': 'openai_tracer_autolog', '__file__': {start!r}}})\n",
            encoding="utf-8",
        )
    except OSError as error:
        raise StoreError(f"{path} can't be written: {error.strerror}") from error
    _tell(as_json, "installed", path)


@autolog.command()
@json_option
@uri_option
def remove(as_json: bool, uri: str) -> None:
    """Undo `tracer autolog install`. If it was not installed in this environment, say so."""
    path = _hook_path()
    try:
        path.unlink()
    except FileNotFoundError:
        if as_json:
            print_json({"removed": None})
        else:
            click.echo(f"nothing to remove: there is no {path}")
    except OSError as error:
        raise StoreError(f"{path} can't be deleted: {error.strerror}") from error
    else:
        _tell(as_json, "removed", path)


def _hook_path() -> Path:
    return Path(sysconfig.get_path("purelib")) / _HOOK


def _tell(as_json: bool, word: str, path: Path) -> None:
    if as_json:
        print_json({word: str(path)})
    else:
        click.echo(f"{word} {path}")
