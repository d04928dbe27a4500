"""A process that ends itself by `signal.raise_signal`, which skips ``atexit``.

uvicorn's workers end in this way: when SIGTERM has come, they finish their work, put the earlier handlers back and
raise the signal again (`uvicorn.Server.capture_signals`, since 0.29). Nothing else of Python runs before such an end,
and `signal.raise_signal` has no audit event. So the function is replaced by one that calls ours first, and then itself.
A signal that comes from outside, and one for which there is a handler, are not touched.
"""

from __future__ import annotations

import functools
import signal
from collections.abc import Callable

__all__ = ["call_before_a_raised_signal_ends_the_process", "raise_at_once"]

raise_at_once = signal.raise_signal  # nothing is called before it

# Those that ask a process to end. Whoever raises SIGABRT, SIGQUIT or SIGKILL wants no more code to run.
_ENDING = frozenset(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name))


def call_before_a_raised_signal_ends_the_process(function: Callable[[], object]) -> None:
    """Have `function` called when this process raises a signal at itself that will end it.

    Args:
        function: Must not raise. It runs in the thread that raises the signal, in this process and in its children.
    """
    raise_signal = signal.raise_signal  # also that of another tool

    @functools.wraps(raise_signal)
    def raise_signal_after_it(signum: int, /) -> None:
        if signum in _ENDING and signal.getsignal(signum) is signal.SIG_DFL:
            function()
        raise_signal(signum)

    signal.raise_signal = raise_signal_after_it
