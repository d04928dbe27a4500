"""A PostgreSQL server of our own for tests: Debian's binaries, an unprivileged user, a temporary directory."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["MISSING", "PostgresServer", "find_binaries", "running_server"]

MISSING = "PostgreSQL's server is not installed (on Debian: apt-get install postgresql)"
_SETTINGS = {
    "fsync": "off",  # tests kill processes, never the machine
    "max_connections": "60",
    "shared_buffers": "32MB",
    "autovacuum_naptime": "10s",
    "log_min_messages": "fatal",
}
PASSWORD = "s3cret-of-the-tests"


def find_binaries() -> Path | None:
    """Return the newest installed server's directory of programs; None without one."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    return max((path.parent for path in versions), key=lambda path: int(path.parent.name), default=None)


class PostgresServer:
    """One server. It listens on a free port of the loopback interface and on a socket in its directory.

    The role ``tracer`` needs no password and may do everything; the role ``careful`` needs `PASSWORD`.
    """

    def __init__(self, binaries: Path, directory: Path, *, port: int | None = None) -> None:
        self.directory = directory
        self.port = port or _free_port()
        self._binaries = binaries
        self._process: subprocess.Popen[bytes] | None = None

    def create(self) -> None:
        """Make the database files and the roles, and start."""
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.directory, user.pw_uid, user.pw_gid)
        data = str(self.directory / "data")
        self._run("initdb", "-D", data, "-U", "tracer", "--auth=trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
        rules = self.directory / "data" / "pg_hba.conf"
        rules.write_text("host all careful 127.0.0.1/32 scram-sha-256\n" + rules.read_text())
        self.start()
        self.execute("CREATE DATABASE tracer", database="postgres")
        self.execute(f"CREATE ROLE careful LOGIN PASSWORD '{PASSWORD}'")

    def start(self) -> None:
        """Start the server and wait until it answers."""
        settings = {**_SETTINGS, "port": str(self.port), "listen_addresses": "127.0.0.1"}
        settings["unix_socket_directories"] = str(self.directory)
        options = [f"--{name}={value}" for name, value in settings.items()]
        log = (self.directory / "log").open("ab")
        command = [str(self._binaries / "postgres"), "-D", str(self.directory / "data"), *options]
        with log:
            self._process = subprocess.Popen(
                [*_as_postgres(dies_with_parent=True), *command],
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )
        for _ in range(600):
            if self._psql("SELECT 1", "postgres").returncode == 0:
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError(f"PostgreSQL did not start:\n{(self.directory / 'log').read_text()}")

    def stop(self) -> None:
        """Stop without waiting for clients. Their connections are closed."""
        self._signal(signal.SIGQUIT)

    def kill(self) -> None:
        """Kill all processes of the server, as a crash does."""
        assert self._process is not None
        family = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self._process.pid)], capture_output=True, text=True, check=False
        )
        for pid in (self._process.pid, *map(int, family.stdout.split())):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        (self.directory / "data" / "postmaster.pid").unlink(missing_ok=True)

    def execute(self, sql: str, *, database: str = "tracer") -> str:
        """Run a statement as the role ``tracer`` and return its rows, one a line, columns apart by ``|``."""
        done = self._psql(sql, database)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout.strip()

    def uri(self, schema: str, *, user: str = "tracer", password: str | None = None) -> str:
        """Return the tracking URI of a schema of the database."""
        login = user if password is None else f"{user}:{password}"
        return f"postgresql://{login}@127.0.0.1:{self.port}/tracer?search_path={schema}"

    def _psql(self, sql: str, database: str) -> subprocess.CompletedProcess[str]:
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "tracer", "-d", database]
        command = [str(self._binaries / "psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", *where, "-c", sql]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    def _run(self, program: str, *arguments: str) -> None:
        command = [*_as_postgres(), str(self._binaries / program), *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd="/")

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(30)


@contextlib.contextmanager
def running_server(binaries: Path) -> Iterator[PostgresServer]:
    """Run a server in this block. Its files are deleted at the end."""
    directory = Path(tempfile.mkdtemp(prefix="tracer-postgres-", dir="/tmp"))
    server = PostgresServer(binaries, directory)
    try:
        server.create()
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)


def _as_postgres(*, dies_with_parent: bool = False) -> list[str]:
    """Return what comes before a command, so that it does not run as root: PostgreSQL refuses to."""
    if os.geteuid() != 0:
        return []
    dies = ["--pdeathsig=QUIT"] if dies_with_parent else []
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", *dies]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
