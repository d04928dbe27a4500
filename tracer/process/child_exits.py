"""Children that end with ``os._exit``, which skips ``atexit``: what each library runs in its children before it.

| started by | ends with | we ask for |
|---|---|---|
| ``multiprocessing``: ProcessPoolExecutor, uvicorn's workers, dramatiq, Django-Q, loky | its finalizers | a finalizer |
| ``multiprocess`` (pathos) | finalizers of its own | a finalizer there |
| ``billiard.Process`` | the finalizers of ``multiprocessing`` | a finalizer |
| ``billiard.Pool``: celery | the callback ``on_exit`` of its pool's worker | to be called beside it |

Nothing is run before a bare ``os._exit`` (RQ's work horse), nor before a signal that kills (``with
multiprocessing.Pool()`` terminates its children).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tracer.process.imports import imported

__all__ = ["call_before_child_exits"]

_LIBRARIES = ("multiprocessing", "multiprocess")  # billiard puts its processes and finalizers into the first's lists
_AFTER_OTHERS = -100  # a negative priority comes after the child's own children and queues are done


def call_before_child_exits(function: Callable[[], object]) -> None:
    """Have `function` called at the end of this process, if one of those libraries has started it.

    Call this in the child. A call in the parent has no effect there, as a child first clears its parent's finalizers.
    """
    for library in _LIBRARIES:
        process, util = imported(f"{library}.process"), imported(f"{library}.util")
        if process is None or util is None or not _is_child(process):
            continue
        util.Finalize(None, function, exitpriority=_AFTER_OTHERS)
    _call_before_billiards_worker_exits(function)


def _is_child(process: Any) -> bool:
    """Tell whether the process has a parent; only main processes have none. billiard lacks `parent_process`."""
    return getattr(process.current_process(), "_parent_pid", None) is not None


def _call_before_billiards_worker_exits(function: Callable[[], object]) -> None:
    """A worker of billiard's pool skips the finalizers as well; it calls `on_exit` with its pid and exit code."""
    pool, process = imported("billiard.pool"), imported("billiard.process")
    if pool is None or process is None:
        return
    worker = getattr(process.current_process(), "_target", None)
    if not isinstance(worker, pool.Worker):
        return
    on_exit = worker.on_exit

    def exiting(pid: int, code: int) -> None:
        try:
            if on_exit is not None:
                on_exit(pid, code)
        finally:
            function()

    worker.on_exit = exiting
