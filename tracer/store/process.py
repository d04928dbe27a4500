"""The process that writes, and how it differs from earlier or later processes with the same pid."""

from __future__ import annotations

import functools
import os
import socket
import sys
import time

from tracer.store.batch import ProcessRow

__all__ = ["current_process", "is_alive"]

_IMPORTED_NS = time.time_ns()


def current_process() -> ProcessRow:
    """Return the row of the current process; in a forked child, the child's own row."""
    return _row(os.getpid())


def is_alive(process: ProcessRow) -> bool:
    """Tell whether the process still runs. If that can't be seen from here, it counts as running.

    On Linux the start time is compared too, so that a reused pid is not mistaken for the process. On other systems only
    the pid is looked at. On Windows every process counts as running, because signal 0 is a real signal there.
    """
    if process.host != socket.gethostname() or sys.platform == "win32":
        return True
    if (started := _start_ticks(process.pid)) is not None:
        return started == process.started
    return not os.path.isdir("/proc/self") and _answers(process.pid)


@functools.lru_cache(maxsize=1)
def _row(pid: int) -> ProcessRow:
    host = socket.gethostname()
    started = _start_ticks(pid) or str(_IMPORTED_NS)
    return ProcessRow(process_id=f"{host}:{pid}:{started}", host=host, pid=pid, started=started)


def _start_ticks(pid: int) -> str | None:
    """Return when the process started, in clock ticks since boot: field 22 of ``/proc/PID/stat``, see proc(5).

    None if there is no such process, if it is a zombie, or where there is no such file system.
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            # The second field, the command in parentheses, may hold spaces and parentheses of its own.
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
