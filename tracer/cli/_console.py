"""rich's console, set up for this command. It is in its own module because rich is slow to import."""

from __future__ import annotations

from typing import TextIO

from rich import console

__all__ = ["Console"]


class Console(console.Console):
    """Prints text without interpreting markup in it. Output that is not a terminal gets plain text, never wrapped."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(file=stream, highlight=False, markup=False, emoji=False, soft_wrap=not stream.isatty())

    def on_broken_pipe(self) -> None:
        """Leave it to `tracer.cli._app`: rich would exit with 1."""
        raise  # noqa: PLE0704  it is called from an except clause
