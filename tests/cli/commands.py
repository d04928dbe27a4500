"""Runs commands: in this process (which is quick), or as real commands like a user, with or without a terminal."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import tracer
from tracer.cli._app import run

PYTHON = (sys.executable, "-W", "error")
ESCAPE = "\x1b["


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def rows(self) -> list[list[str]]:
        """The cells of a table in a pipe, without its heading."""
        return [line.split("\t") for line in self.lines[1:]]


def invoke(*arguments: str) -> Ended:
    """Run a command in this process, its output going into no terminal."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(arguments)
    return Ended(code, out.getvalue(), err.getvalue())


def fails(code: int, *arguments: str) -> str:
    """Run a command that must fail with this code, and return the line that it prints."""
    ended = invoke(*arguments)
    assert (ended.code, ended.out) == (code, ""), ended
    assert "Traceback" not in ended.err
    return ended.err.strip()


def start(directory: Path, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start the real command."""
    return subprocess.Popen(
        [*PYTHON, "-m", "tracer", *arguments],
        cwd=directory,
        env={**clean_environment(), **options.pop("env", {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def execute(directory: Path, *arguments: str, **environment: str) -> Ended:
    """Run the real command to its end."""
    process = start(directory, *arguments, env=environment)
    try:
        out, err = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return Ended(process.returncode, out, err)


def on_terminal(directory: Path, *arguments: str, typed: str = "", columns: int = 140, **environment: str) -> Ended:
    """Run the real command with a terminal for all its streams; what it shows is `out`.

    `typed` is typed at its question.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen(
        [*PYTHON, "-m", "tracer", *arguments],
        cwd=directory,
        env={**clean_environment(), "TERM": "xterm-256color", **environment},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509  so that ^C is a signal; no other thread holds a lock that this needs
    )
    os.close(theirs)
    shown, answered, patience = b"", False, 60
    while patience:
        ready = select.select([ours], [], [], 1)[0]
        if ready:
            try:
                shown += os.read(ours, 65_536)
            except OSError:  # how Linux says that the other side is closed
                break
        else:
            patience -= 1
        if typed and b"[y/N]" in shown and not (ready and answered):
            os.write(ours, typed.encode())  # again each second: a ^C that comes just before `input` reads has no effect
            answered = True
    else:
        process.kill()
    os.close(ours)
    return Ended(process.wait(60), shown.decode(), "")


def clean_environment() -> dict[str, str]:
    """The environment without variables that would influence tracer, openai, or a terminal's colours."""
    steering = ("TRACER_", "OPENAI_")
    names = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")
    return {k: v for k, v in os.environ.items() if not k.startswith(steering) and k not in names}


def record(name: str = "job", **update: Any) -> str:
    """Record a small trace and return its id."""
    with tracer.start_span(name, span_type=tracer.SpanType.CHAIN) as span:
        span.set_inputs({"question": f"{name}?"})
        span.set_outputs(f"{name}!")
        if update:
            tracer.update_current_trace(**update)
    return span.trace_id


@pytest.fixture
def uri(monkeypatch: pytest.MonkeyPatch) -> str:
    """The test's own database, which commands find by the environment."""
    monkeypatch.setenv("TRACER_TRACKING_URI", tracer.get_tracking_uri())
    return tracer.get_tracking_uri()
