"""A tracking server as a real process, and a network between it and its clients that loses answers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType

from tests.processes.script import LIMIT

__all__ = ["LossyProxy", "Served"]


class Served:
    """``tracer serve`` over ``t.db`` of a directory. A second `start` has the same port."""

    def __init__(self, directory: Path, *options: str, **environment: str) -> None:
        self._command = [sys.executable, "-m", "tracer", "serve", "--store", f"sqlite:///{directory}/t.db", "--json"]
        self._command += ["--no-access-log", *options]
        self._environment = {**os.environ, **environment}
        self.errors = directory / f"serve-{id(self)}.log"
        self.port = _free_port()
        self.process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http{'s' if '--ssl-certfile' in self._command else ''}://127.0.0.1:{self.port}"

    def start(self) -> Served:
        with self.errors.open("a") as errors:
            self.process = subprocess.Popen(
                [*self._command, "--port", str(self.port)],
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.errors.read_text()
        assert json.loads(line)["url"] == self.url
        return self

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, wait for the end, and return the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(LIMIT)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return code

    def __enter__(self) -> Served:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.process is not None:
            self.stop()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class LossyProxy:
    """Passes requests on to a server; of the answers it loses those whose numbers are in `lost` (0 is the first).

    The server has done what was asked of it: the connection to the client is cut when the answer comes.
    """

    def __init__(self, port: int, lost: set[int]) -> None:
        self._target = port
        self._lost = lost
        self._answers = 0
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.dropped = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                threading.Thread(target=self._requests, args=(client, server), daemon=True).start()
                threading.Thread(target=self._pass_answers, args=(server, client), daemon=True).start()

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65_536):
                server.sendall(data)
        _cut(server)

    def _pass_answers(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65_536):
                if data.startswith(b"HTTP/1.1") and self._loses_this():
                    break
                client.sendall(data)
        _cut(client)
        _cut(server)

    def _loses_this(self) -> bool:
        with self._lock:
            number, self._answers = self._answers, self._answers + 1
            self.dropped += number in self._lost
            return number in self._lost

    def close(self) -> None:
        self._listener.close()


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
