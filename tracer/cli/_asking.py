"""Asking before something is lost."""

from __future__ import annotations

import sys

import click

__all__ = ["confirm"]


def confirm(question: str, yes: bool) -> None:
    """Go on only if the user agrees. Where nobody can be asked, --yes is required.

    Raises:
        click.UsageError: Standard input is not a terminal.
        click.Abort: The user doesn't agree.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("nobody can be asked here, since standard input is no terminal; pass --yes to go ahead")
    click.confirm(question, abort=True, err=True)
