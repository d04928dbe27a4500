"""A model call as a library above the openai package sees it, so that one call makes one span.

The Agents SDK has a span of its own around each model call. Where that call comes through the seam as well, the
seam's span is the better one: it holds the wire bytes, the stream and the retries. This is how the seam says so.
"""

from __future__ import annotations

from collections.abc import Container
from contextvars import ContextVar

__all__ = ["ModelCall", "current_model_call", "running_model_call"]


class ModelCall:
    """Something around model calls that gives way to what the seam sees of them.

    Attributes:
        is_over: It has ended: calls that a task makes later, which was begun inside, are none of its.
        is_seen: A call of a kind that counts was recorded inside.
        withholds: The texts of the calls inside are not to be stored.
    """

    __slots__ = ("_around", "_span_types", "is_over", "is_seen", "withholds")

    def __init__(self, span_types: Container[str], around: ModelCall | None, *, withholds: bool = False) -> None:
        self._span_types = span_types
        self._around = around
        self.is_over = False
        self.is_seen = False
        self.withholds = withholds

    def saw(self, span_type: str) -> None:
        """Take note of a call that is recorded inside. Safe in any thread."""
        call: ModelCall | None = self
        while call is not None:
            call.is_seen = call.is_seen or span_type in call._span_types
            call = call._around


current_model_call: ContextVar[ModelCall | None] = ContextVar("tracer_current_model_call", default=None)
"""The one that began last in this task or thread. It may be over: see `running_model_call`."""


def running_model_call() -> ModelCall | None:
    """Return the innermost one of this task or thread that is not over."""
    call = current_model_call.get()
    while call is not None and call.is_over:
        call = call._around
    return call
