"""The command line: ``tracer …``, also as ``python -m tracer``.

Needs the extra ``cli``: ``pip install 'openai-tracer[cli]'``. This module imports nothing of that extra, so that the
command can say when it is missing. The commands use click rather than typer, which takes twice as long to import and
also imports rich at once. Tables, colour and progress come from rich, which only the commands that draw import.

Exit codes: 0 done, 1 not found or a check failed, 2 wrong use.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from typing import NoReturn

from tracer._exceptions import MissingDependencyError

__all__ = ["main"]

_NEEDED = ("click", "rich")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line with ``sys.argv``, or with `arguments`, and exit with its code."""
    for package in _NEEDED:
        if importlib.util.find_spec(package) is None:
            sys.stderr.write(f"error: {MissingDependencyError('the tracer command', package=package, extra='cli')}\n")
            sys.exit(2)
    from tracer.cli._app import run

    sys.exit(run(arguments))
