"""A model call as a library above the openai package sees it, so that one call makes one span.

The Agents SDK has a span of its own around each model call. Where that call comes through the seam as well, the seam's
span is the better one: it holds the wire bytes, the stream and the retries. With `ModelCall`, the seam tells the other
library that it recorded the call.
"""

from __future__ import annotations

from collections.abc import Container
from contextvars import ContextVar

__all__ = ["ModelCall", "current_model_call", "running_model_call"]


class ModelCall:
    """Another library's record around model calls, which is dropped where the seam records those calls.

    Attributes:
        is_over: It has ended. A task that was started inside may make calls later; they do not belong to it.
        is_seen: The seam recorded a call inside, of one of the types that replace this record.
        withholds: The texts of the calls inside must not be stored.
    """

    __slots__ = ("_around", "_span_types", "is_over", "is_seen", "withholds")

    def __init__(self, span_types: Container[str], around: ModelCall | None, *, withholds: bool = False) -> None:
        self._span_types = span_types
        self._around = around
        self.is_over = False
        self.is_seen = False
        self.withholds = withholds

    def saw(self, span_type: str) -> None:
        """Note that a call is recorded inside. Safe in any thread."""
        call: ModelCall | None = self
        while call is not None:
            call.is_seen = call.is_seen or span_type in call._span_types
            call = call._around


current_model_call: ContextVar[ModelCall | None] = ContextVar("tracer_current_model_call", default=None)
"""The model call that began last in this task or thread. It may be over: see `running_model_call`."""


def running_model_call() -> ModelCall | None:
    """Return the innermost model call of this task or thread that is not over."""
    call = current_model_call.get()
    while call is not None and call.is_over:
        call = call._around
    return call
