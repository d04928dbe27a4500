"""What ``@trace`` knows of a function: how it opens, begins and reduces the span of a call."""

from __future__ import annotations

from collections.abc import Callable
from types import CoroutineType
from typing import Any

from tracer.capture.records import EncodedAttributes, Ending, Payload
from tracer.spans._argument_binding import Binder
from tracer.spans.guard import report
from tracer.spans.live_span import LiveSpan
from tracer.spans.opening import CURRENT, open_span

__all__ = ["BegunCall", "Plan", "UnopenedCall"]


class Plan:
    """What is the same for every call of one function."""

    def __init__(
        self,
        func: Callable[..., Any],
        name: str,
        span_type: str,
        attributes: dict[str, Any] | EncodedAttributes,
        reducer: Callable[[list[Any]], Any] | None,
        sample_rate: float | None,
    ) -> None:
        self.name = name
        self.span_type = span_type
        self.attributes = attributes
        self.reducer = reducer
        self.sample_rate = sample_rate
        self._binder = Binder(func)

    def open(self, parent: LiveSpan | None = CURRENT) -> LiveSpan | None:
        """Make a span for one call, not yet begun. If that fails, log it and return None."""
        try:
            return open_span(self.name, self.span_type, parent, self.sample_rate)
        except Exception:
            report(f"tracing a call of {self.name}")
            return None

    def begin(self, span: LiveSpan, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Begin the span with the call's arguments. If that fails, log it and record nothing of the span."""
        try:
            span.begin_with(self.attributes, self._binder.bind(args, kwargs) if span.is_recording else None)
        except Exception:
            span.discard()
            report(f"tracing a call of {self.name}")

    def reduced(self, span: LiveSpan, items: list[Any]) -> Payload | None:
        """Return what the reducer makes of a generator's items. If it raises, log that and return the items."""
        outputs: Any = items
        if self.reducer is not None:
            try:
                outputs = self.reducer(items)
            except Exception:
                report(f"output_reducer of {self.name}", "its items are kept instead")
        return span.snapshot(outputs)


class BegunCall(Plan):
    """The plan of what one call returned: a coroutine or a generator, that goes on in the span of the call.

    If it is dropped before its first step, the span ends here. That is done by a class of its own because a Ctrl-C that
    comes in a `__del__` is lost: once it has been opened, there is no `__del__` any more.
    """

    def __init__(self, plan: Plan, span: LiveSpan, returned: Any) -> None:
        self.name = plan.name
        self.reducer = None
        self._span = span
        self._returned = returned

    def open(self, parent: LiveSpan | None = CURRENT) -> LiveSpan | None:
        """Return the span of the call."""
        return self._span

    def begin(self, span: LiveSpan, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Do nothing: the span has begun."""

    def resume(self) -> Any:
        """Return what the call returned. This is the function that the stand-in calls at its first step."""
        returned, self._returned = self._returned, None
        return returned


class UnopenedCall(BegunCall):
    """The same, before the first step."""

    def __init__(self, plan: Plan, span: LiveSpan, returned: Any) -> None:
        super().__init__(plan, span, returned)
        span.pipeline.unfinished.add(self)

    def open(self, parent: LiveSpan | None = CURRENT) -> LiveSpan | None:
        """Return the span of the call, as somebody awaits or reads what it returned."""
        self._span.pipeline.unfinished.discard(self)
        self.__class__ = BegunCall  # type: ignore[assignment]  # see above
        return self._span

    def abandon(self) -> None:
        """The process ends."""
        self._span.finish(Ending.COLLECTED)

    def __del__(self) -> None:
        # Nobody awaited it. Runs inside the garbage collector: one queue append, no lock.
        self._span.pipeline.unfinished.discard(self)
        self._span.finish(Ending.COLLECTED)
        if isinstance(self._returned, CoroutineType):
            self._returned.close()  # Python warns of the stand-in, which has the same name
