"""Turns exceptions into `Failure` records, cheaply: this runs on the user's thread, where exceptions are seen."""

from __future__ import annotations

import asyncio

from tracer.capture.records import Failure
from tracer.capture.text import clean_text, safe_str
from tracer.redact.sent_credentials import hide_secrets, sent_secrets

__all__ = ["capture_failure", "is_cancellation"]

MAX_FRAMES = 64
MAX_CAUSES = 8
MAX_MEMBERS = 8


def is_cancellation(error: BaseException) -> bool:
    """Tell whether this exception means "cancelled" on asyncio or trio (whose class we must not import).

    A coroutine or generator that is closed before its end sees GeneratorExit, which means the same to its caller. An
    exception group counts as cancelled if it contains only cancellations.
    """
    if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
        return True
    kind = type(error)
    if kind.__name__ == "Cancelled" and kind.__module__.partition(".")[0] == "trio":
        return True
    members = _members(error)
    return bool(members) and all(is_cancellation(member) for member in members)


def capture_failure(error: BaseException) -> Failure:
    """Take an exception apart without touching the disk. Keeps neither it nor its frames alive. Never raises.

    If the failed request had sent a credential, that text is removed from all messages, also from those of other
    exceptions that quote the error.
    """
    secrets: list[str] = []
    failure = _capture(error, MAX_CAUSES, secrets)
    if secrets:
        _hide(failure, secrets)
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


def _capture(error: BaseException, causes_left: int, secrets: list[str]) -> Failure:
    secrets += sent_secrets(error)
    explicit = error.__cause__ is not None
    cause = error.__cause__ if explicit or error.__suppress_context__ else error.__context__
    return Failure(
        type=type(error).__name__,
        message=safe_str(error),
        frames=_frames(error),
        cause=_capture(cause, causes_left - 1, secrets) if cause is not None and causes_left else None,
        explicit=explicit,
        # Members may go only half as deep, so that groups of groups stay small.
        members=[
            _capture(member, causes_left // 2, secrets) for member in _members(error)[:MAX_MEMBERS] if causes_left
        ],
    )


def _frames(error: BaseException) -> list[tuple[str, int, str]]:
    frames = []
    step = error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        line: int | None = step.tb_lineno
        if line is None or line < 0:  # Ctrl-C came at an instruction that has no line (-1 on Python 3.10)
            line = code.co_firstlineno
        frames.append((clean_text(code.co_filename), line, clean_text(code.co_name)))
        step = step.tb_next
    return frames if len(frames) <= MAX_FRAMES else frames[: MAX_FRAMES // 2] + frames[-MAX_FRAMES // 2 :]
