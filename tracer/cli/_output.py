"""What leaves the command: text that can't harm a terminal, tables, JSON, progress.

A terminal gets colour and columns that fit; a pipe gets every character, tab-separated, and no colour.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

import msgspec

from tracer._format import clean

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tracer.cli._console import Console

__all__ = [
    "Head",
    "console",
    "is_terminal",
    "print_json",
    "print_table",
    "progress",
    "size_text",
    "status_style",
]

_STYLES = {"OK": "green", "ERROR": "bold red", "IN_PROGRESS": "yellow", "INTERRUPTED": "magenta"}


class Head(NamedTuple):
    """A column's heading, and how it shares a terminal's width.

    Attributes:
        shrinks: The column becomes narrower if the terminal is narrow.
        grows: The column becomes narrower too, and otherwise takes the width that is left.
    """

    title: str
    right: bool = False
    shrinks: bool = False
    grows: bool = False


def is_terminal(stream: TextIO | None = None) -> bool:
    """Tell whether a person looks at standard output (or `stream`)."""
    stream = sys.stdout if stream is None else stream
    return stream.isatty()


def console(*, to_stderr: bool = False) -> Console:
    """Return a console over standard output or standard error as they are now."""
    from tracer.cli._console import Console  # imports rich

    return Console(sys.stderr if to_stderr else sys.stdout)


def print_json(value: Any, *, to: TextIO | None = None, one_line: bool = False) -> None:
    """Write JSON: one line for programs, indented for a terminal unless it is one of several (JSON Lines)."""
    stream = sys.stdout if to is None else to
    encoded = msgspec.json.encode(value)
    if is_terminal(stream) and not one_line:
        encoded = msgspec.json.format(encoded, indent=2)
    stream.write(encoded.decode() + "\n")
    stream.flush()  # a program that follows the output needs each line at once


def print_table(heads: Sequence[Head], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows of strings or rich texts: a table that fits the terminal, or in a pipe tab-separated lines."""
    if not is_terminal():
        for row in [[head.title for head in heads], *rows]:
            sys.stdout.write("\t".join(clean(str(cell)) for cell in row) + "\n")
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", expand=any(head.grows for head in heads))
    for head in heads:
        # rich only shrinks columns that may wrap; their cells don't wrap, so they are cut instead
        table.add_column(
            head.title,
            justify="right" if head.right else "left",
            no_wrap=not (head.shrinks or head.grows),
            ratio=1 if head.grows else None,
        )
    for row in rows:
        table.add_row(*(_cell(cell) for cell in row))
    console().print(table)


def status_style(status: str) -> str:
    """Return the colour of a trace's state or a span's status."""
    return _STYLES.get(status, "")


def size_text(count: int) -> str:
    """Return a number of bytes for people: ``1.5 MiB``."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1024
    return f"{value:,.1f} TiB"


@contextlib.contextmanager
def progress(label: str, total: int | None = None, *, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """Show progress on a terminal's standard error until the block ends; yields a function that advances it."""
    if quiet or not is_terminal(sys.stderr):
        yield lambda done: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    counted = [] if total is None else [BarColumn(), MofNCompleteColumn()]
    columns = [SpinnerColumn(), TextColumn("{task.description}", markup=False), *counted, TimeElapsedColumn()]
    with Progress(*columns, console=console(to_stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda done: bar.advance(task, done)


def _cell(cell: Any) -> RenderableType:
    from rich.text import Text

    text = cell if isinstance(cell, Text) else Text(clean(str(cell)))
    text.no_wrap, text.overflow = True, "ellipsis"
    return text
