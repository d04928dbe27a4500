"""Forks: what has to be done around a fork, and how a child notices a fork that ran no hooks.

``os.fork`` runs the functions that are registered here. A fork from C code (``libc.fork()`` through ctypes, a server
written in C) runs none of them. So code that is about to use inherited state looks at `mark` first, and calls `notice`
if it reads 0.

In a child, whatever another thread had locked stays locked for ever, as that thread does not exist there. So code that
takes locks which nobody renews in a child, such as an import in a thread of ours, runs in a block of `delayed`.
"""

from __future__ import annotations

import _imp
import contextlib
import logging
import mmap
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from tracer.process.native_threads import new_lock

__all__ = ["delayed", "make_immortal", "mark", "notice", "register"]

logger = logging.getLogger("tracer")

MADV_WIPEONFORK = 18  # Linux 4.14, madvise(2); the mmap module has no name for it before Python 3.13
PATIENCE = 3.0  # seconds that a fork waits for the blocks of `delayed`


class Mark(Protocol):
    """Something whose item 0 is 1 in the process that it belongs to, and 0 in a child that has not noticed the fork."""

    def __getitem__(self, index: int, /) -> int: ...


class _PidMark:
    """Compares the process id, which takes a system call: for systems without a cheaper way."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    def __getitem__(self, index: int, /) -> int:
        return 1 if os.getpid() == self._pid else 0


class _Hooks(NamedTuple):
    before: Callable[[], None]
    after_in_parent: Callable[[], None]
    after_in_child: Callable[[], None]


_hooks: list[_Hooks] = []
_entered: list[_Hooks] = []
"""The hooks whose `before` was called for the current fork. Another thread may register more meanwhile."""


def _nothing() -> None:
    """Stand in for a function that is not needed."""


def register(
    before: Callable[[], None] = _nothing,
    after_in_parent: Callable[[], None] = _nothing,
    after_in_child: Callable[[], None] = _nothing,
) -> None:
    """Have functions called around each fork; they stay for the life of the process.

    Args:
        before: Not called for a fork that runs no hooks. The last one registered comes first.
        after_in_parent: Called only if `before` was. The first one registered comes first, also in the child.
        after_in_child: Must not rely on `before`.
    """
    _hooks.append(_Hooks(before, after_in_parent, after_in_child))


_delaying = new_lock()


@contextlib.contextmanager
def delayed() -> Iterator[None]:
    """In this block, a fork in another thread waits for the block's end; for three seconds at most.

    CPython renews its own locks in a child, but not those of modules that are being imported.
    """
    with _delaying:
        yield


def notice() -> None:
    """In a child whose fork ran no hooks: do what should have been done after it, the interpreter's part included.

    CPython requires code that forks to call ``PyOS_AfterFork_Child`` in the child. Without this call, the next thread
    that starts can wait for ever for the interpreter's lock, because threads of the parent were waiting for it. The
    call forgets all other threads, so it is too late once the child has started a thread. See
    https://docs.python.org/3/c-api/sys.html.
    """
    if _is_only_thread():
        import ctypes  # takes 5 ms

        _imp.acquire_lock()  # as `PyOS_BeforeFork` does; the next call releases it
        ctypes.pythonapi.PyOS_AfterFork_Child()  # calls our hooks as well
    if not mark[0]:
        _run_after_in_child()


def make_immortal(value: object) -> None:
    """In a child: have an inherited object never freed, not even when the interpreter ends."""
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))


def _is_only_thread() -> bool:
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


def _make_mark() -> Mark:
    """Return a page that the kernel wipes in children: a look costs 40 ns, a third of ``os.getpid()``."""
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(MADV_WIPEONFORK)
    except (AttributeError, OSError, ValueError):  # not Linux, or an older one
        return _PidMark()
    page[0] = 1
    return page


mark: Mark = _make_mark()
"""``mark[0]`` is 0 in a child that has not run `notice` yet."""


def _guarded(function: Callable[[], None]) -> None:
    try:
        function()
    except Exception:
        logger.exception("tracer was not made ready for a fork: %s failed", function)


def _run_before() -> None:
    import ctypes  # noqa: F401  # for the child, where a module that another thread is importing stays half for ever

    _delaying.acquire(timeout=PATIENCE)
    _entered[:] = _hooks
    for hooks in reversed(_entered):
        _guarded(hooks.before)


def _run_after_in_parent() -> None:
    for hooks in _entered:
        _guarded(hooks.after_in_parent)
    if _delaying._is_owned():
        _delaying.release()


def _run_after_in_child() -> None:
    global _delaying
    _delaying = new_lock()
    _renew_mark()
    for hooks in _hooks:
        _guarded(hooks.after_in_child)


def _renew_mark() -> None:
    if isinstance(mark, mmap.mmap):
        mark[0] = 1
    elif isinstance(mark, _PidMark):
        mark.__init__()  # type: ignore[misc]  # other modules hold this object


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(before=_run_before, after_in_parent=_run_after_in_parent, after_in_child=_run_after_in_child)
