"""Where and with what a benchmark ran, and how busy the machine was with other things."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

__all__ = ["Environment", "OthersMeter", "describe", "load_average"]

PACKAGES = ("openai", "httpx2", "msgspec", "anyio", "aiosqlite")
QUIET_CORES = 0.25
_TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


class Environment(msgspec.Struct, kw_only=True):
    """Versions and machine; `versions` by package, ``None`` for what isn't installed."""

    versions: dict[str, str | None]
    commit: str
    cpu: str
    cores: int
    system: str
    started: str
    load_average: float | None


def describe() -> Environment:
    """Look at this process and this machine."""
    versions: dict[str, str | None] = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    return Environment(
        versions={**versions, **{name: _version(name) for name in PACKAGES}},
        commit=_commit(),
        cpu=_cpu_model(),
        cores=os.cpu_count() or 1,
        system=platform.platform(),
        started=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        load_average=load_average(),
    )


def load_average() -> float | None:
    """Return the machine's load over the last minute, including the load of this benchmark."""
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str:
    """Return tracer's commit, with a plus sign if files differ from it."""
    repository = Path(__file__).parent.parent

    def git(*arguments: str) -> str:
        command = ["git", "--no-optional-locks", *arguments]
        return subprocess.run(command, cwd=repository, capture_output=True, check=True, text=True).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "tracer") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


class OthersMeter:
    """Tells how many cores processes other than this one and its finished children use (Linux: ``/proc/stat``).

    A server that is still running counts as another process, and so does time that the hypervisor took.
    """

    def __init__(self) -> None:
        self.cores: float | None = None

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Measure over the block; `cores` has the answer after it."""
        begun, wall = _busy_elsewhere(), time.monotonic()
        yield
        ended, wall = _busy_elsewhere(), time.monotonic() - wall
        self.cores = None if begun is None or ended is None else max(0.0, (ended - begun) / wall)


def _busy_elsewhere() -> float | None:
    """Return seconds of CPU that others have used since the machine started."""
    try:
        fields = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0].split()
    except OSError:
        return None
    user, nice, system, _, _, irq, softirq, steal = map(int, fields[1:9])
    return (user + nice + system + irq + softirq + steal) / _TICK - sum(os.times()[:4])
