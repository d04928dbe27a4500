"""Turns exceptions into `Failure` records, cheaply: this runs on the user's thread, where exceptions are seen."""

from __future__ import annotations

import asyncio
from collections import deque

from tracer.capture.limits import CAUSES, EXCEPTIONS, FRAMES, MEMBERS
from tracer.capture.records import Failure
from tracer.capture.text import clean_text, safe_str
from tracer.redact.sent_credentials import hide_secrets, sent_secrets

__all__ = ["capture_failure", "is_cancellation"]

CHECKED_MEMBERS = 1_000  # of groups of groups: if all of these are cancellations, the whole is one


def is_cancellation(error: BaseException) -> bool:
    """Tell whether this exception means "cancelled" on asyncio or trio (whose class we must not import).

    A coroutine or generator that is closed before its end sees GeneratorExit, which means the same to its caller. An
    exception group counts as cancelled if it contains only cancellations.
    """
    if (single := _is_one_cancellation(error)) or not (members := _members(error)):
        return single
    waiting = deque(members[:CHECKED_MEMBERS])
    for _ in range(CHECKED_MEMBERS):
        if not waiting:
            break
        member = waiting.popleft()
        if inner := _members(member):
            waiting.extend(inner[:CHECKED_MEMBERS])
        elif not _is_one_cancellation(member):
            return False
    return True


def _is_one_cancellation(error: BaseException) -> bool:
    if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
        return True
    kind = type(error)
    return kind.__name__ == "Cancelled" and kind.__module__.partition(".")[0] == "trio"


def capture_failure(error: BaseException) -> Failure:
    """Take an exception apart without touching the disk. Keeps neither it nor its frames alive. Never raises.

    If the failed request had sent a credential, that text is removed from all messages, also from those of other
    exceptions that quote the error.
    """
    capture = _Capture()
    failure = capture.take(error, CAUSES)
    if capture.secrets:
        _hide(failure, capture.secrets)
    return failure


def _hide(failure: Failure, secrets: list[str]) -> None:
    failure.message = hide_secrets(failure.message, secrets)
    for inner in (failure.cause, *failure.members):
        if inner is not None:
            _hide(inner, secrets)


def _members(error: BaseException) -> tuple[BaseException, ...]:
    """Return the exceptions in an exception group; nothing for any other exception.

    The class is found by its name, because Python 3.10 has no such class, only a backport.
    """
    is_group = any(kind.__name__ == "BaseExceptionGroup" for kind in type(error).__mro__)
    return tuple(getattr(error, "exceptions", ())) if is_group else ()


class _Capture:
    """Takes an exception apart, with its causes and members, at most `EXCEPTIONS` in all.

    Attributes:
        secrets: What the failed requests had sent, and must not be stored.
    """

    def __init__(self) -> None:
        self.secrets: list[str] = []
        self._left = EXCEPTIONS

    def take(self, error: BaseException, causes_left: int) -> Failure:
        self._left -= 1
        self.secrets += sent_secrets(error)
        explicit = error.__cause__ is not None
        cause = error.__cause__ if explicit or error.__suppress_context__ else error.__context__
        failure = Failure(type(error).__name__, safe_str(error), _frames(error), explicit=explicit)
        if cause is not None:
            if causes_left and self._left > 0:
                failure.cause = self.take(cause, causes_left - 1)
            else:
                failure.left_out += 1
        members = _members(error)
        # Members may go only half as deep, so that groups of groups stay small.
        for member in members[:MEMBERS] if causes_left else ():
            if self._left <= 0:
                break
            failure.members.append(self.take(member, causes_left // 2))
        failure.left_out += len(members) - len(failure.members)
        return failure


def _frames(error: BaseException) -> list[tuple[str, int, str]]:
    first: list[tuple[str, int, str]] = []
    last: deque[tuple[str, int, str]] = deque(maxlen=FRAMES // 2)
    step = error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        line: int | None = step.tb_lineno
        if line is None or line < 0:  # Ctrl-C came at an instruction that has no line (-1 on Python 3.10)
            line = code.co_firstlineno
        (first if len(first) < FRAMES // 2 else last).append((code.co_filename, line, code.co_name))
        step = step.tb_next
    return [(clean_text(file), line, clean_text(name)) for file, line, name in (*first, *last)]
