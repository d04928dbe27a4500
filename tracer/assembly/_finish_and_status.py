"""How a span ended, in one word: decided from what its watcher saw, what the data says, and what the user set."""

from __future__ import annotations

import msgspec

from tracer._models import SpanStatusCode
from tracer.capture.records import Ending
from tracer.interpret import Finish, ResponseView
from tracer.interpret._views import Damage

__all__ = [
    "Outcome",
    "conclude",
    "raised_unseen",
]

RAISED_BY_SDK = frozenset({"audio_text", "chat", "completions", "images"})  # errors inside their streams


# Looking up an enum member takes 0.1 µs (Python 3.11).
_OK, _ERROR, _UNSET = SpanStatusCode.OK, SpanStatusCode.ERROR, SpanStatusCode.UNSET
_RAISED, _CANCELLED, _CLOSED, _COLLECTED = Ending.RAISED, Ending.CANCELLED, Ending.CLOSED, Ending.COLLECTED
_EXHAUSTED = Ending.EXHAUSTED


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """How a span ended: in one word, as a status code, and with the reason."""

    finish: Finish
    code: SpanStatusCode
    description: str = ""
    error_type: str | None = None  # where the data does not know it


def conclude(
    ending: Ending,
    view: ResponseView | None,
    *,
    streamed: bool = False,
    operation: str | None = None,
    failure: str | None = None,
    status: tuple[str, str] | None = None,
) -> Outcome:
    """Decide how a span ended, from what its watcher saw, what the data says, and what the user set.

    A stream that brought its end mark is complete, no matter how the reader left it; so it is abandoned only if it was
    closed, dropped or never read before that mark came. The mark is ``[DONE]``, in chat and completions also a finish
    reason for each choice, in Responses the terminal event. A stream that was read to its end without one was cut off,
    if its API or its chunks promise one. An exception that reached the caller is a failure even if the response was
    complete (``.parse()``). ``set_status`` overrules neither such an exception nor a cancellation.

    Args:
        ending: What the watcher saw.
        view: What the data says; None if nothing came.
        streamed: The body was read by the caller, piece by piece.
        operation: Key of `tracer.interpret`; None for a user's span.
        failure: The exception in words.
        status: Code and description that the user set.
    """
    outcome = _seen(ending, view or ResponseView(), streamed, operation, failure)
    if status is None or status[0] == _UNSET or ending in (_RAISED, _CANCELLED):
        return outcome
    code = SpanStatusCode(status[0])
    failed = code is _ERROR and outcome.finish == "completed"
    return Outcome("failed" if failed else outcome.finish, code, status[1])


def _seen(ending: Ending, view: ResponseView, streamed: bool, operation: str | None, failure: str | None) -> Outcome:
    said = view.finish
    if ending is _RAISED:
        return Outcome("failed", _ERROR, failure or view.error or "")
    if (damage := _seen_damage(ending, view)) is not None:
        return Outcome("failed", _ERROR, f"{damage.error_type}: {damage.message}", damage.error_type)
    if said in ("failed", "cancelled"):
        return Outcome(said, _ERROR, view.error or said)
    if said is not None and (streamed or ending is not _CANCELLED):
        return Outcome(said, _OK, (view.error or "") if said == "incomplete" else "")
    if ending is _CANCELLED:
        return Outcome("cancelled", _ERROR, "cancelled")
    if ending is _CLOSED or ending is _COLLECTED:
        return Outcome("abandoned", _OK)
    if streamed and operation in ("responses", "retrieved", "realtime"):
        # These always close with a terminal event; a body that ends without one was cut off.
        return Outcome("incomplete", _OK, "the stream ended without a terminal event")
    if streamed and view.lacks_end:
        return Outcome("incomplete", _OK, "the stream ended without a finish reason")
    return Outcome("completed", _OK)


def _seen_damage(ending: Ending, view: ResponseView) -> Damage | None:
    """Return the damage in a stream's data if its reader got an error because of it.

    It is raised above our tap on the bytes. For compressed data, httpx raises it (the SDK wraps it as
    APIConnectionError), and closes the body as if the reader had left (the generators of httpx2 see a GeneratorExit and
    no other exception). For a character that the end of the body cuts, the SDK raises it when the body is read already.
    But a reader who leaves has not read the damaged bytes.
    """
    damage = view.damage
    if damage is None:
        return None
    is_seen = ending is _EXHAUSTED if damage.at_end else ending is _CLOSED or ending is _COLLECTED
    return damage if is_seen else None


def raised_unseen(ending: Ending, operation: str | None, view: ResponseView) -> list[tuple[str, str | None]]:
    """Return the exception that the SDK raised while it read a stream, where our tap on the bytes can't see it.

    That is an error inside the stream (Responses' errors are events), or damaged data. Type and message; at most one.
    """
    if (damage := _seen_damage(ending, view)) is not None:
        return [(damage.error_type, damage.message)]
    is_raised = view.finish == "failed" and not view.is_quiet and operation in RAISED_BY_SDK
    return [("APIError", view.error)] if is_raised else []
