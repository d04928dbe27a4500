"""The servers that `benchmarks.scale` compares: started, killed, looked at from outside."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from tests.postgres import PostgresServer, find_binaries, running_server

__all__ = ["CONTENDERS", "Contender", "Mlflow", "Phoenix", "TracerServe", "cpu_of_tree"]

_TICKS = os.sysconf("SC_CLK_TCK")
_START_SECONDS = 300.0


def cpu_of_tree(root: int) -> float:
    """Return the seconds of CPU that a process and all below it have used, those that have ended included."""
    children: dict[int, list[int]] = {}
    used: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(entry.name))
            used[int(entry.name)] = sum(map(int, fields[11:15]))
    todo, ticks = [root], 0
    while todo:
        pid = todo.pop()
        ticks += used.get(pid, 0)
        todo += children.get(pid, [])
    return ticks / _TICKS


class Contender:
    """One server with its database.

    Attributes:
        name: As in the table.
        form: What it is sent: ``rows`` or ``otlp``.
        headers: Sent with each post.
        bodies: The share of spans that keep their bodies; for ``rows`` alone.
    """

    name = ""
    form = "otlp"
    headers: Mapping[str, str] = MappingProxyType({})

    bodies = 1.0

    def __init__(self, directory: Path, program: str = "") -> None:
        self.directory = directory
        self.program = program
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until it answers."""
        log = (self.directory / "log").open("ab")
        with log:
            self._process = subprocess.Popen(
                self.command(),
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env={**os.environ, **self.environment()},
                start_new_session=True,
            )
        ends = time.monotonic() + _START_SECONDS
        while time.monotonic() < ends and self._process.poll() is None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", "/")
                connection.getresponse()
                connection.close()
                return
            time.sleep(0.02)
        raise RuntimeError(f"{self.name} did not start:\n{(self.directory / 'log').read_text()[-2_000:]}")

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal to it and to all that it has started, and wait."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            self._process.wait(60)

    def close(self) -> None:
        """End what was started beside it."""

    def cpu(self) -> float:
        """Return the seconds of CPU that the server has used."""
        assert self._process is not None
        return cpu_of_tree(self._process.pid)

    def engine_cpu(self) -> float:
        """Return the seconds of CPU of a database server beside it."""
        return 0.0

    def command(self) -> list[str]:
        """Return what starts it."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """Return variables for it."""
        return {}

    def count(self) -> int:
        """Return how many spans are stored."""
        with contextlib.closing(sqlite3.connect(f"file:{self.database()}?mode=ro", uri=True, timeout=60)) as connection:
            return int(connection.execute("SELECT count(*) FROM spans").fetchone()[0])

    def database(self) -> Path:
        """Return the file of its SQLite database."""
        return self.directory / "spans.db"

    def size(self) -> int:
        """Return the bytes of its database."""
        return sum(path.stat().st_size for path in self.directory.glob(f"{self.database().name}*"))


class TracerServe(Contender):
    """``tracer serve`` over SQLite, sent the rows that our SDK sends."""

    name, form = "tracer serve, SQLite, own SDK", "rows"

    def store(self) -> str:
        """Return the tracking URI of its database."""
        return f"sqlite:///{self.database()}"

    def command(self) -> list[str]:
        """Return what starts it."""
        options = ["--no-access-log", *(["--otlp"] if self.form == "otlp" else [])]
        return [sys.executable, "-m", "tracer", "serve", "--store", self.store(), "--port", str(self.port), *options]


class TracerServeOtlp(TracerServe):
    """The same, sent OpenTelemetry's protocol."""

    name, form = "tracer serve, SQLite, OTLP", "otlp"


class TracerServePostgres(TracerServe):
    """``tracer serve`` over a PostgreSQL server of its own, sent the rows that our SDK sends."""

    name, form = "tracer serve, PostgreSQL, own SDK", "rows"
    engine: PostgresServer | None = None

    def start(self) -> None:
        """Start the database, too."""
        if self.engine is None:
            binaries = find_binaries()
            assert binaries is not None
            self._running = contextlib.ExitStack()
            self.engine = self._running.enter_context(running_server(binaries))
            self.empty = int(self.engine.execute("SELECT pg_database_size('tracer')"))
        super().start()

    def close(self) -> None:
        """End the database."""
        if self.engine is not None:
            self._running.close()

    def store(self) -> str:
        """Return the tracking URI of its database."""
        assert self.engine is not None
        return self.engine.uri("public")

    def engine_cpu(self) -> float:
        """Return the seconds of CPU of all processes of PostgreSQL."""
        assert self.engine is not None
        assert self.engine._process is not None
        return cpu_of_tree(self.engine._process.pid)

    def count(self) -> int:
        """Return how many spans are stored."""
        assert self.engine is not None
        return int(self.engine.execute("SELECT count(*) FROM spans"))

    def size(self) -> int:
        """Return the bytes of its database beyond an empty one's."""
        assert self.engine is not None
        return int(self.engine.execute("SELECT pg_database_size('tracer')")) - self.empty


class Mlflow(Contender):
    """MLflow's server over SQLite, one process, without what runs its jobs."""

    name = "MLflow, SQLite, OTLP"
    headers = MappingProxyType({"x-mlflow-experiment-id": "0"})

    def command(self) -> list[str]:
        """Return what starts it."""
        where = ["--backend-store-uri", f"sqlite:///{self.database()}", "--port", str(self.port)]
        return [self.program, "server", *where, "--workers", "1"]

    def environment(self) -> dict[str, str]:
        """Return variables for it."""
        return {"PYTHONPATH": "", "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


class Phoenix(Contender):
    """Arize Phoenix over SQLite, as it comes."""

    name = "Phoenix, SQLite, OTLP"

    def command(self) -> list[str]:
        """Return what starts it."""
        return [self.program, "serve"]

    def environment(self) -> dict[str, str]:
        """Return variables for it."""
        return {
            "PYTHONPATH": "",
            "PHOENIX_PORT": str(self.port),
            "PHOENIX_GRPC_PORT": str(_free_port()),
            "PHOENIX_WORKING_DIR": str(self.directory),
            "PHOENIX_TELEMETRY_ENABLED": "false",
        }

    def database(self) -> Path:
        """Return the file of its SQLite database."""
        return self.directory / "phoenix.db"


CONTENDERS: dict[str, type[Contender]] = {
    "sqlite": TracerServe,
    "postgres": TracerServePostgres,
    "otlp": TracerServeOtlp,
    "mlflow": Mlflow,
    "phoenix": Phoenix,
}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
