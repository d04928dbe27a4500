"""Spans of the Agents SDK that have started: how each ends, and how the tree is kept right meanwhile."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from typing import Any

from tracer import _semconv as sc
from tracer._models import SpanType
from tracer.capture.failures import is_cancellation
from tracer.capture.records import Ending, Payload
from tracer.openai._model_call import ModelCall, current_model_call
from tracer.openai.agents._bodies import Bodies, bodies_of, usage_bodies
from tracer.openai.agents._describe import (
    CALL_TYPES,
    OPERATION,
    Ended,
    Kind,
    describe_error,
    end_of,
    spoken,
)
from tracer.openai.agents._runs import Run
from tracer.spans.context import current_span
from tracer.spans.live_span import LiveSpan
from tracer.spans.opening import open_span

__all__ = ["OpenModelSpan", "OpenSpan", "OpenTurn", "inner"]

inner: ContextVar[LiveSpan | None] = ContextVar("tracer_inner_agents_span", default=None)
"""The SDK's span that started last in this task or thread. It is current unless a user's span is."""

_RETURNED, _RAISED, _CANCELLED, _CLOSED = Ending.RETURNED, Ending.RAISED, Ending.CANCELLED, Ending.CLOSED
SDK_ERROR = "SpanError"  # the SDK's name for an error that it only describes
TURN_NOTE = "the model has no span of its own: the times are the turn's"


class OpenSpan:
    """A span that is current from its start to its end.

    Attributes:
        live: Our span.
        is_asked: For an agent: its input is known.
        said: For an agent: what its model said last.
    """

    __slots__ = (
        "__weakref__", "_around", "_call_around", "_inner_around", "_kind", "_outer_error", "_parent", "_run",
        "is_asked", "live", "said",
    )  # fmt: skip

    def __init__(self, live: LiveSpan, kind: Kind, run: Run | None, parent: OpenSpan | None) -> None:
        self.live = live
        self.is_asked = False
        self.said: Any = None
        self._kind = kind
        self._run = run
        self._parent = parent
        self._outer_error = id(sys.exc_info()[1])  # the exception of a handler that the whole span runs in
        self._around: LiveSpan | None = None
        self._call_around: ModelCall | None = None
        self._inner_around: LiveSpan | None = None

    @property
    def is_agent(self) -> bool:
        """Whether this is an agent's span."""
        return self._kind.operation == "invoke_agent"

    @property
    def agent(self) -> OpenSpan | None:
        """The innermost agent's span around this one."""
        above = self._parent
        while above is not None and not above.is_agent:
            above = above._parent
        return above

    @property
    def below(self) -> LiveSpan | None:
        """The parent for spans that begin inside this one."""
        return self.live

    @property
    def call(self) -> ModelCall | None:
        """The `ModelCall` that model calls inside report to; None for most spans."""
        return None

    def take_inputs(self) -> Payload | None:
        """Return the inputs that are known at the start: the first agent of a run has those of the run."""
        if not self.is_agent or self._run is None:
            return None
        inputs, self._run.inputs = self._run.inputs, None
        self.is_asked = inputs is not None
        return inputs

    def enter(self) -> None:
        """Make this span current, in this context."""
        self._around, self._call_around, self._inner_around = current_span.get(), current_model_call.get(), inner.get()
        current_span.set(self.live)
        inner.set(self.live)
        if self.call is not self._call_around:
            current_model_call.set(self.call)

    def leave(self) -> None:
        """Make the span before this one current again, unless another span is current by now (in another task)."""
        if self.call is not None:
            self.call.is_over = True
        if inner.get() is self.live:
            inner.set(self._inner_around)
        if current_span.get() is self.live:
            around = self._around
            current_span.set(None if around is None else around.nearest_open())
        if current_model_call.get() is self.call:
            current_model_call.set(self._call_around)

    def end(self, data: Any, error: Any) -> None:
        """End the span with what its data says, and the error that the SDK noted."""
        self.leave()
        live = self.live
        ended = Ended({}) if data is None else end_of(data, self._kind)
        raised = self.raised()
        if live.is_recording:
            if ended.inputs is not None:
                live.set_inputs(ended.inputs)
            outputs = spoken(self.said) if self.is_agent else ended.outputs
            finish(live, None if outputs is None else live.snapshot(outputs), ended.attributes, error, raised)
        else:
            finish(live, None, None, None, None)
        if self._run is not None and data is not None and data.type in ("agent", "task"):
            self._run.note(data.type, error, raised)
        self.said = None

    def raised(self) -> BaseException | None:
        """Return the exception that leaves this span, if any: the SDK ends its spans while it propagates."""
        error = sys.exc_info()[1]
        return None if id(error) == self._outer_error else error

    def __del__(self) -> None:
        # The SDK's span was dropped without an end. Runs inside the garbage collector: one queue append, no lock.
        self.live.finish(Ending.COLLECTED)


class OpenTurn(OpenSpan):
    """A turn. If a model makes no span of its own, the turn's usage is all that is known of its call."""

    __slots__ = ("_call",)

    def __init__(self, live: LiveSpan, kind: Kind, run: Run | None, parent: OpenSpan | None) -> None:
        super().__init__(live, kind, run, parent)
        self._call = ModelCall(CALL_TYPES, None)

    @property
    def call(self) -> ModelCall | None:
        """Used to see whether there is a model call inside at all."""
        return self._call

    def end(self, data: Any, error: Any) -> None:
        """End the turn. If tokens were used but no model call was seen inside, add a span for that call."""
        usage = getattr(data, "usage", None)
        if not self._call.is_seen and usage and self.live.is_recording:
            live = open_span("Generation", SpanType.CHAT_MODEL, self.live)
            live.start_time_ns = self.live.start_time_ns
            bodies = usage_bodies(usage, live.settings.max_payload_bytes)
            record(live, bodies, {sc.OPERATION_NAME: "chat", sc.NOTE: TURN_NOTE}, None, None, capture=True)
        super().end(data, error)


class OpenModelSpan(OpenSpan):
    """A model call that is recorded only if the seam did not see it. Therefore it is never the current span."""

    __slots__ = ("_call", "_capture")

    def __init__(self, live: LiveSpan, kind: Kind, run: Run | None, parent: OpenSpan | None, capture: bool) -> None:
        super().__init__(live, kind, run, parent)
        self._capture = capture
        around = current_model_call.get()
        self._call = ModelCall(kind.gives_way_to or (), around, withholds=run is not None and run.withholds)

    @property
    def below(self) -> LiveSpan | None:
        """The span around this one."""
        return self._around

    @property
    def call(self) -> ModelCall | None:
        """Used to see whether the seam sees this call."""
        return self._call

    def enter(self) -> None:
        """Watch what happens in this context."""
        self._around, self._call_around = current_span.get(), current_model_call.get()
        current_model_call.set(self._call)

    def end(self, data: Any, error: Any) -> None:
        """End the call. If the seam saw it, nothing is recorded."""
        self.leave()
        self._tell_agent(data)
        if self._call.is_seen:
            return
        live, attributes = self.live, {sc.OPERATION_NAME: self._kind.operation or ""}
        self._call.saw(live.span_type)
        if self._kind.gives_way_to is CALL_TYPES:
            bodies = bodies_of(data, live.settings.max_payload_bytes)
        else:
            ended = end_of(data, self._kind)
            attributes.update(ended.attributes)
            bodies = Bodies(OPERATION, live.snapshot(ended.inputs), live.snapshot(ended.outputs))
        record(live, bodies, attributes, error, self.raised(), capture=self._capture)

    def _tell_agent(self, data: Any) -> None:
        """Tell the agent around this call what its model was asked first, and what it said last."""
        agent, asked = self.agent, getattr(data, "input", None)
        if agent is None or self._kind.gives_way_to is not CALL_TYPES:
            return
        if asked and not agent.is_asked:
            agent.is_asked = True
            agent.live.set_inputs(asked)
        agent.said = getattr(data, "response", None) or getattr(data, "output", None) or agent.said

    def __del__(self) -> None: ...  # nothing of it was recorded


def record(
    live: LiveSpan, bodies: Bodies, attributes: dict[str, Any], error: Any, raised: Any, *, capture: bool
) -> None:
    """Put a whole model call on the queue, its start and its end. It began when `live` was made."""
    live.begin(inputs=bodies.request, attributes=attributes, operation=bodies.operation, capture=capture)
    finish(live, bodies.response, None, error, raised)


def finish(
    live: LiveSpan, outputs: Payload | None, attributes: dict[str, Any] | None, error: Any, raised: BaseException | None
) -> None:
    """End a span with the exception that is leaving it; otherwise as the SDK says."""
    if isinstance(raised, GeneratorExit):
        live.finish(_CLOSED, outputs=outputs, attributes=attributes)
    elif raised is not None and is_cancellation(raised):
        live.finish(_CANCELLED, outputs=outputs, attributes=attributes)
    elif raised is not None:
        live.finish(_RAISED, outputs=outputs, attributes=attributes, error=raised)
    else:
        if error is not None:
            description = describe_error(error)
            event = {sc.EXCEPTION_TYPE: SDK_ERROR, sc.EXCEPTION_MESSAGE: description, sc.EXCEPTION_STACKTRACE: ""}
            live.note(sc.EVENT_EXCEPTION, event)
            live.set_status("ERROR", description)
        live.finish(_RETURNED, outputs=outputs, attributes=attributes)
