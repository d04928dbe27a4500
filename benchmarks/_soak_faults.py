"""What `benchmarks.soak` does to its service while it runs. None of these may cost a span."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from benchmarks._soak_process import ServiceProcess

__all__ = ["FAULTS", "databases"]

PATIENCE = 30.0  # seconds that the service is given to go on

Fault = Callable[[ServiceProcess, Path, float], None]
"""Does something to a service and its database for some seconds, and puts it right again."""


def databases(path: Path) -> list[Path]:
    """Return the database, and those that stood in its place before."""
    return [*sorted(path.parent.glob("replaced-*.db")), path]


def _lock(service: ServiceProcess, path: Path, seconds: float) -> None:
    uri = f"{path.as_uri()}?mode=rw"  # a database that is being replaced must not be made by us
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=PATIENCE)) as other:
        other.execute("BEGIN EXCLUSIVE")
        time.sleep(seconds)


def _make_unwritable(service: ServiceProcess, path: Path, seconds: float) -> None:
    """With a fork, before which the connections are closed: they can't be opened again."""
    path.parent.chmod(0o500)
    try:
        service.command("fork")
        time.sleep(seconds)
    finally:
        path.parent.chmod(0o700)


def _between(begin: str, end: str) -> Fault:
    """Return a fault that the service brings about itself, from one command to another."""

    def run(service: ServiceProcess, path: Path, seconds: float) -> None:
        service.command(begin)
        time.sleep(seconds)
        service.command(end)

    return run


def _fork(service: ServiceProcess, path: Path, seconds: float) -> None:
    for _ in range(3):
        service.command("fork")
        time.sleep(seconds / 3)


def _replace(service: ServiceProcess, path: Path, seconds: float) -> None:
    """As log rotation does. The service makes a new file with its next batch."""
    path.rename(path.with_name(f"replaced-{time.monotonic_ns():020}.db"))
    until = time.monotonic() + PATIENCE
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(seconds)


FAULTS: dict[str, Fault] = {
    "another process locks the database": _lock,
    "the directory is unwritable, and a fork": _make_unwritable,
    "the disk is full": _between("full", "room"),
    "a redact hook raises": _between("hook", "heal"),
    "three forks, whose children leave by os._exit": _fork,
    "the database is moved away": _replace,
}
