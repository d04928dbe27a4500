"""Fixtures of the command's tests."""

from tests.cli.commands import uri

__all__ = ["uri"]
