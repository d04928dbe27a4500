"""Watches that no fork overlooks who is inside SQLite: the store opens a connection only in a turn of a gate.

A child that is forked while a thread opens a file finds one of SQLite's own locks taken for ever. That is rare enough
that only a busy machine shows it; so every test looks whether it could happen.
"""

from __future__ import annotations

import sys
from typing import Any

from tracer.store.sqlite import _gate

__all__ = ["out_of_turn"]

out_of_turn: list[str] = []
"""Functions of the store that opened a connection outside a turn."""

ALONE = "tracer.store.sqlite._upkeep"  # `tracer db …` in a process of its own, which forks nothing


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "sqlite3.connect":
        frame = sys._getframe(1)
        module = frame.f_globals.get("__name__", "")
        if module.startswith("tracer.store") and module != ALONE and not any(gate._inside for gate in _gate._gates):
            out_of_turn.append(f"{module}.{frame.f_code.co_name}")


sys.addaudithook(_watch)
