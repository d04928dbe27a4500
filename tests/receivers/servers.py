"""Real servers of others that take spans in by OTLP, each in a process and a folder of its own, on loopback."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx

START_SECONDS = 180.0  # they take ten on a quiet machine


class Server(NamedTuple):
    """A server that runs: where it answers over HTTP, and where it takes OTLP over gRPC, if it does."""

    url: str
    grpc: str | None = None


@contextlib.contextmanager
def mlflow_server(folder: Path) -> Iterator[Server]:
    """Run ``mlflow server`` over a new database."""
    [port] = free_ports(1)
    store = f"sqlite:///{folder}/mlflow.db"
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", store, "--default-artifact-root", str(folder / "artifacts"),
    ]  # fmt: skip
    with running(command, folder, {}, f"http://127.0.0.1:{port}/health"):
        yield Server(f"http://127.0.0.1:{port}")


@contextlib.contextmanager
def phoenix_server(folder: Path) -> Iterator[Server]:
    """Run ``phoenix serve`` over a new database."""
    port, grpc_port = free_ports(2)
    environment = {
        "PHOENIX_WORKING_DIR": str(folder),
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(grpc_port),
        "PHOENIX_TELEMETRY_ENABLED": "false",
        "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
    }
    command = [sys.executable, "-m", "phoenix.server.main", "serve"]
    with running(command, folder, environment, f"http://127.0.0.1:{port}/healthz"):
        yield Server(f"http://127.0.0.1:{port}", f"grpc://127.0.0.1:{grpc_port}")


@contextlib.contextmanager
def running(command: list[str], folder: Path, environment: dict[str, str], health: str) -> Iterator[None]:
    """Run a server until the block ends. Fails with what it printed if it does not answer."""
    log = folder / "server.log"
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TRACER_", "OTEL_"))
    }
    with log.open("wb") as output, subprocess.Popen(
        command, cwd=folder, env={**inherited, **environment}, stdout=output, stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            wait_until_healthy(process, health, log)
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 15)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)


def wait_until_healthy(process: subprocess.Popen[bytes], health: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(health, timeout=5).status_code == 200:
                return
        time.sleep(0.1)  # there is nothing to wait on
    raise AssertionError(f"{health} did not answer:\n{log.read_text(errors='replace')[-3_000:]}")


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]
