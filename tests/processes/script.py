"""Runs scripts as real processes over one database, and reads what they left in it."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

# Since 3.12 os.fork() warns a process that has threads, and a traced one has.
FORK = "ignore:This process (pid:DeprecationWarning"
PYTHON = (sys.executable, "-X", "dev", "-W", "error", "-W", FORK)
LIMIT = 25.0  # seconds after which a script counts as hanging
PATIENCE = 120.0  # … while it is on its way to a mark
PROLOGUE = """
import logging, os, sys, threading, time
import tracer

logging.getLogger("asyncio").setLevel("ERROR")  # its debug mode (-X dev) tells of every stall of a slow machine

def record(name="s"):
    with tracer.start_span(name):
        pass
"""

AS_USER = """
if len(sys.argv) > 1:
    from tracer.testing._isolation import isolated
    with isolated():  # import what is needed: the other user may be unable to read Python itself
        tracer.autolog()
        record()
        assert tracer.sync.flush(20)
        tracer.autolog(disable=True)
    os.setgroups([])
    os.setgid(int(sys.argv[1]))
    os.setuid(int(sys.argv[1]))
"""
"""What a script does first that takes the id of the user as whom it is to go on."""


@dataclass
class Ended:
    """How a script ended. `seconds` is from its mark "end" on stdout, where it prints one, else from its start."""

    code: int
    out: str
    err: str
    seconds: float


class Script:
    """A script that runs, with `tracer` imported, `record()` defined and its tracking URI set."""

    def __init__(self, directory: Path, source: str, *arguments: object, **environment: str) -> None:
        file = directory / f"script{len(list(directory.glob('script*.py')))}.py"
        file.write_text(PROLOGUE + textwrap.dedent(source))
        self.process = subprocess.Popen(
            [*PYTHON, str(file), *map(str, arguments)],
            cwd=directory,
            env={**os.environ, "TRACER_TRACKING_URI": f"sqlite:///{directory}/t.db", **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._since = time.monotonic()

    def wait_for(self, mark: str) -> None:
        """Wait until the script prints this line. One that hangs is killed, so that only its own test fails."""
        assert self.process.stdout is not None
        impatience = threading.Timer(PATIENCE, self.process.kill)
        impatience.start()
        try:
            for line in self.process.stdout:
                if line.strip() == mark:
                    self._since = time.monotonic()
                    return
        finally:
            impatience.cancel()
        raise AssertionError(f"the script ended before {mark!r}:\n{self.process.communicate()[1]}")

    def answer(self, line: str = "") -> None:
        """Give the script a line that it reads from stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)
        self._since = time.monotonic()

    def end(self) -> Ended:
        """Wait for its end."""
        out, err = _communicate(self.process, LIMIT)
        return Ended(self.process.returncode, out, err, time.monotonic() - self._since)


def run(directory: Path, source: str, *arguments: object, **environment: str) -> Ended:
    """Run a script to its end; time counts from its line "end", if it prints one."""
    script = Script(directory, source, *arguments, **environment)
    if 'print("end"' in source:
        script.wait_for("end")
    return script.end()


def run_quietly(directory: Path, source: str, *arguments: object, **environment: str) -> Ended:
    """Run a script that must succeed and say nothing."""
    ended = run(directory, source, *arguments, **environment)
    assert (ended.code, ended.err) == (0, ""), ended.err
    return ended


def run_bare(directory: Path, source: str, **environment: str) -> Ended:
    """Run a script without the prologue, and with Python's default warnings: other libraries have some."""
    file = directory / "bare.py"
    file.write_text(textwrap.dedent(source))
    since = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, str(file)],
        cwd=directory,
        env={**os.environ, "TRACER_TRACKING_URI": f"sqlite:///{directory}/t.db", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    out, err = _communicate(process, 2 * LIMIT)
    assert process.returncode == 0, err
    return Ended(process.returncode, out, err, time.monotonic() - since)


def needs(*packages: str) -> pytest.MarkDecorator:
    """Skip without these packages of the extra `servers`."""
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}: the extra `servers`")


def _communicate(process: subprocess.Popen[str], limit: float) -> tuple[str, str]:
    try:
        return process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # with its children, which hold its pipes open
        raise AssertionError(f"the script hangs:\n{process.communicate()[1]}") from None


def query(directory: Path, sql: str) -> list[Any]:
    """Ask the database; one column comes as a flat list."""
    with contextlib.closing(sqlite3.connect(directory / "t.db")) as connection:
        rows = connection.execute(sql).fetchall()
    return [row[0] if len(row) == 1 else row for row in rows]


def states(directory: Path) -> dict[str, int]:
    """How many traces are in which state."""
    return dict(query(directory, "SELECT state, count(*) FROM traces GROUP BY state"))


@contextlib.contextmanager
def log_stays(path: Path) -> Iterator[None]:
    """Keep every process from moving the write-ahead log of a database into the file, as they do when they are idle."""
    with open(f"{path}-lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def assert_intact(directory: Path) -> None:
    """No page is damaged, and nothing refers to what is not there."""
    assert query(directory, "PRAGMA integrity_check") == ["ok"]
    assert query(directory, "PRAGMA foreign_key_check") == []


def note(record_property: Callable[[str, object], None], **numbers: object) -> None:
    """Put measured numbers into the test report, and on the terminal with ``-s``."""
    for name, number in numbers.items():
        record_property(name, number)
        print(f"{name}: {number}")  # noqa: T201  pytest keeps it unless asked
