"""The service of `benchmarks.soak` as a process: started, commanded, sampled and stopped from outside."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType

import msgspec

from benchmarks._soak_service import Account

__all__ = ["Sample", "ServiceProcess"]

NOBODY = 65534
_decode_account = msgspec.json.Decoder(Account).decode


class Sample(msgspec.Struct, frozen=True):
    """What the process holds at one moment: memory of its own and shared (the crash ring) in MB, and counts."""

    own_mb: float
    shared_mb: float
    descriptors: int
    threads: int


class ServiceProcess:
    """The running service; the block ends with its process.

    Attributes:
        log: The lines that it wrote to stderr.
    """

    def __init__(self, base_url: str, database: Path, tasks: int, rate: float) -> None:
        command = [sys.executable, "-m", "benchmarks._soak_service", base_url, f"--tasks={tasks}", f"--rate={rate}"]
        if os.geteuid() == 0:  # nothing is unwritable for root
            command.append(f"--user={NOBODY}")
            os.chown(database.parent, NOBODY, NOBODY)
        environment = {**os.environ, "TRACER_TRACKING_URI": f"sqlite:///{database}"}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True, start_new_session=True
        )
        self.log: list[str] = []
        self._log_reader = threading.Thread(target=self._read_log, daemon=True)

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> ServiceProcess:
        self._log_reader.start()
        self._answer()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def command(self, word: str) -> None:
        """Let the service do something (`benchmarks._soak_service`); return when it has done it."""
        self._send(word)
        self._answer()

    def stop(self) -> Account:
        """Let the service end; return its account."""
        self._send("stop")
        account = _decode_account(self._answer())
        if code := self._process.wait():
            account.fail(f"the service ended with {code}")
        self._log_reader.join()
        return account

    def sample(self) -> Sample:
        """Look at the process in ``/proc``."""
        place = Path("/proc", str(self.pid))
        status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
        own, shared = (int(status[name].split()[0]) / 1e3 for name in ("RssAnon", "RssShmem"))
        return Sample(own, shared, len(list((place / "fd").iterdir())), int(status["Threads"]))

    def _send(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            return line
        self._log_reader.join()
        raise RuntimeError(f"the service ended with {self._process.wait()}:\n{''.join(self.log[-30:])}")

    def _read_log(self) -> None:
        assert self._process.stderr is not None
        self.log.extend(self._process.stderr)
