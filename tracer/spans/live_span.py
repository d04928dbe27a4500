"""Live spans: what user code holds while a span runs.

A live span keeps no history: each change goes on the queue as a record at once. So a running span can be watched, and
if the process is killed, what it had recorded before is still there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tracer import _semconv as sc
from tracer._config import Settings
from tracer._exceptions import ConfigurationError
from tracer._models import SpanEvent, SpanStatus, SpanStatusCode
from tracer._runtime import runtime
from tracer.capture.argument_checks import check_mapping, check_text, optional_moment
from tracer.capture.failures import capture_failure, is_cancellation
from tracer.capture.records import (
    EncodedAttributes,
    Ending,
    Failure,
    HttpFacts,
    Payload,
    Rank,
    SpanEnded,
    SpanNoted,
    SpanStarted,
    SpanUpdated,
    TraceUpdated,
)
from tracer.capture.snapshots import snapshot
from tracer.capture.text import safe_str
from tracer.spans.trace_context import TraceContext
from tracer.spans.trace_defaults import trace_defaults

__all__ = ["LiveSpan"]

# Looking up an enum member is slow on Python 3.11 (0.25 µs).
_DETAIL, _START, _END = Rank.DETAIL, Rank.START, Rank.END
_RETURNED, _RAISED, _CANCELLED = Ending.RETURNED, Ending.RAISED, Ending.CANCELLED

_STATUS_CODES = frozenset(code.value for code in SpanStatusCode)
_TOLD = ("state", "request_preview", "response_preview")  # what the end of its first span would say of a trace


class LiveSpan:
    """An open span. Its methods raise only for wrong arguments, and do nothing once the span has ended.

    Safe to use from several threads and tasks; if they set the same thing, the last value wins.

    Attributes:
        name: Shown in the tree.
        span_type: One of `SpanType`, or any string.
        span_id: 16 lower-case hex digits.
        parent_id: The parent's span id; None for the root.
        start_time_ns: Nanoseconds since the epoch.
        end_time_ns: Nanoseconds since the epoch; None while the span is open.
        has_ended: True once the span has ended. Then it does not become the parent of new spans.
        is_recording: False once the span has ended, if its trace is not sampled, or if a full queue refused the span.
        pipeline: The pipeline that its records go through.
    """

    __slots__ = (
        "__weakref__", "_attributes", "_begun", "_inputs", "_is_first", "_lost", "_outputs", "_own", "_parent",
        "_recording", "_status", "_trace", "end_time_ns", "has_ended", "is_recording", "name", "parent_id", "pipeline",
        "span_id", "span_type", "start_time_ns",
    )  # fmt: skip

    def __init__(self, trace: TraceContext, parent: LiveSpan | None, name: str, span_type: str, is_first: bool) -> None:
        self._trace = trace
        self._parent = parent
        self._is_first = is_first
        self._recording: bool = trace.recording and (parent is None or parent._recording)  # spans below follow it
        self._begun = False
        self.has_ended = False
        self._lost: dict[str, int] | None = None
        self._attributes: dict[str, Any] | None = None  # those it began with: other spans may share them
        self._own: dict[str, Any] | None = None  # those that were set later
        self._inputs: object = None
        self._outputs: object = None
        self._status: SpanStatus | None = None
        self.is_recording = self._recording
        self.pipeline = trace.pipeline
        self.name = name
        self.span_type = span_type
        self.end_time_ns: int | None = None
        self.span_id = trace.pipeline.ids.span_id()
        self.parent_id = parent.span_id if parent is not None else None
        self.start_time_ns = trace.start_ns if is_first else trace.now_ns()

    # --- what it is -----------------------------------------------------------------------------------------------

    @property
    def trace_id(self) -> str:
        """32 lower-case hex digits."""
        return self._trace.trace_id

    @property
    def settings(self) -> Settings:
        """The settings of the pipeline that its records go through."""
        return self.pipeline.settings

    @property
    def clock_offset(self) -> int:
        """What to add to the monotonic clock's nanoseconds to get nanoseconds since the epoch."""
        return self._trace.clock_offset

    def now_ns(self) -> int:
        """Nanoseconds since the epoch, never going back within the trace."""
        return self._trace.now_ns()

    @property
    def attributes(self) -> dict[str, Any]:
        """A copy of the attributes that were set on this span."""
        return {**(self._attributes or {}), **(self._own or {})}

    def get_attribute(self, key: str) -> Any:
        """Return an attribute that was set on this span, or None."""
        own = self._own
        return own[key] if own is not None and key in own else (self._attributes or {}).get(key)

    @property
    def inputs(self) -> Any:
        """The very object that the inputs were taken from. It is let go when the span ends; then this is None."""
        return self._inputs

    @property
    def outputs(self) -> Any:
        """The very object that was given to `set_outputs`; None once the span has ended."""
        return self._outputs

    @property
    def status(self) -> SpanStatus:
        """The status that was set, or that the span got when it ended; ``UNSET`` before that."""
        if self._status is not None:
            return self._status
        return SpanStatus(SpanStatusCode.OK if self.has_ended else SpanStatusCode.UNSET)

    def nearest_open(self) -> LiveSpan | None:
        """Return the span itself, or its nearest ancestor, that has not ended; None if there is none."""
        span: LiveSpan | None = self
        while span is not None and span.has_ended:
            span = span._parent
        return span

    def is_below(self, ancestor: LiveSpan) -> bool:
        """Tell whether a span is among the ancestors of this one."""
        span = self._parent
        while span is not None and span is not ancestor:
            span = span._parent
        return span is not None

    # --- what users set -------------------------------------------------------------------------------------------

    def set_inputs(self, inputs: object) -> None:
        """Keep a snapshot of `inputs` as it is now. Any value is accepted (see `tracer.capture.snapshots`)."""
        if self.is_recording:
            self._inputs = inputs
            self._update(inputs=self.snapshot(inputs))

    def set_outputs(self, outputs: object) -> None:
        """Keep a snapshot of `outputs` as it is now."""
        if self.is_recording:
            self._outputs = outputs
            self._update(outputs=self.snapshot(outputs))

    def set_attribute(self, key: str, value: object) -> None:
        """Set one attribute; a later value replaces an earlier one."""
        self.set_attributes({key: value})

    def set_attributes(self, attributes: Mapping[str, object]) -> None:
        """Set attributes. Keys are strings; values are JSON-like (any other value is kept as its repr)."""
        changes = check_mapping("attributes", attributes)
        if self.is_recording:
            if self._own is None:
                self._own = {}
            self._own.update(changes)
            self._update(attributes=self.pipeline.encoded(changes))

    def set_status(self, status: str | SpanStatus, description: str = "") -> None:
        """Set the status, ``"OK"`` or ``"ERROR"``; an exception that leaves the span still makes it ERROR."""
        if isinstance(status, SpanStatus):
            description = description or status.description
            status = status.status_code
        if not isinstance(status, str) or status not in _STATUS_CODES:
            raise ConfigurationError(f"status must be 'OK' or 'ERROR', got {status!r}")
        if self.is_recording:
            self._status = SpanStatus(SpanStatusCode(status), safe_str(description))
            self._update(status=(self._status.status_code.value, self._status.description))

    def set_span_type(self, span_type: str) -> None:
        """Replace the span's type."""
        self.span_type = check_text("span_type", span_type)
        if self.is_recording:
            self._update(span_type=self.span_type)

    def rename(self, name: str) -> None:
        """Replace the span's name."""
        self.name = check_text("name", name)
        if self.is_recording:
            self._update(name=self.name)

    def add_event(self, name: str | SpanEvent, attributes: Mapping[str, object] | None = None) -> None:
        """Note something that happens now; or a `SpanEvent`, which happened at its own time."""
        event: Any = name
        time_ns = getattr(event, "timestamp_ns", None) or getattr(
            event, "timestamp", None
        )  # MLflow's event has the other
        if time_ns is not None:
            attributes, event = event.attributes, event.name
        name, attributes = check_text("name", event), check_mapping("attributes", attributes)
        if self.is_recording:
            self.note(name, self.pipeline.encoded(attributes), time_ns)

    def record_exception(self, exception: BaseException | str) -> None:
        """Note an exception as an event (type, message, stack trace) and set the status to ERROR."""
        if not isinstance(exception, (BaseException, str)):
            raise ConfigurationError(
                f"exception must be an exception or a text, got {exception!r}; pass what was caught, or str(…) of it"
            )
        if not self.is_recording:
            return
        if isinstance(exception, BaseException):
            failure = capture_failure(exception)
        else:
            failure = Failure(type="Exception", message=safe_str(exception))
        self._push(SpanNoted(self.span_id, sc.EVENT_EXCEPTION, self._trace.now_ns(), failure=failure), _DETAIL)
        self.set_status("ERROR", f"{failure.type}: {failure.message}")

    def end(
        self,
        outputs: object = None,
        attributes: Mapping[str, object] | None = None,
        status: str | SpanStatus | None = None,
        end_time_ns: int | None = None,
    ) -> None:
        """End the span; a second end does nothing. ``start_span`` and ``@trace`` do this for you.

        Args:
            outputs: As for `set_outputs`; None leaves what was set.
            attributes: As for `set_attributes`.
            status: As for `set_status`.
            end_time_ns: When it ended, nanoseconds since the epoch; now by default.
        """
        end_ns = optional_moment("end_time_ns", end_time_ns)
        if attributes is not None:
            self.set_attributes(attributes)
        if status is not None:
            self.set_status(status)
        self.finish(_RETURNED, outputs=None if outputs is None else self.snapshot(outputs), end_ns=end_ns)

    # --- what instrumentation does --------------------------------------------------------------------------------

    def begin(
        self,
        inputs: Payload | None = None,
        attributes: dict[str, Any] | EncodedAttributes | None = None,
        operation: str | None = None,
        capture: bool = True,
    ) -> None:
        """Put the span's start on the queue. If it is refused, neither this span nor any below it is recorded."""
        encoded: Any  # msgspec accepts an already encoded value in place of any value
        if isinstance(attributes, EncodedAttributes):
            self._attributes, encoded = attributes.values, attributes.encoded
        else:
            self._attributes = attributes
            encoded = self.pipeline.encoded(attributes) if attributes and self._recording else None
        trace = self._trace
        if not self._recording:
            if trace.recording:  # left out because a full queue refused a span above it
                trace.spans_dropped += 1
                trace.pipeline.refuse(_START)
            return
        if not capture:
            self.pipeline.withhold_texts()
        record = SpanStarted(
            trace.trace_id,
            self.span_id,
            self.parent_id,
            self.name,
            self.span_type,
            self.start_time_ns,
            trace.experiment if self._is_first else None,
            operation,
            inputs,
            encoded,
            capture,
        )
        if not self.pipeline.push(record, _START if inputs is None else _DETAIL, inputs):
            self._recording = self.is_recording = False
            trace.spans_dropped += 1
        self._begun = True
        if self._is_first and (defaults := trace_defaults.get()).changes:
            self.update_trace(**defaults.changes)

    def began_at(self, start_ns: int) -> None:
        """Say before the begin that the span has begun at another time than now."""
        self.start_time_ns = start_ns
        if self._is_first:
            self._trace.start_ns = start_ns

    def begin_with(self, attributes: dict[str, Any] | EncodedAttributes | None, inputs: object = None) -> None:
        """Put the start of a piece of user code on the queue."""
        self._inputs = inputs if self._recording else None
        payload = None if inputs is None else self.snapshot(inputs)
        self.begin(inputs=payload, attributes=attributes, capture=self.settings.capture_content)

    def note(
        self, name: str, attributes: dict[str, Any], time_ns: int | None = None, value: Payload | None = None
    ) -> None:
        """Put an event on the queue."""
        if self.is_recording:
            time_ns = self._trace.now_ns() if time_ns is None else time_ns
            self._push(SpanNoted(self.span_id, name, time_ns, attributes, value=value), _DETAIL)

    def lose(self, kind: str) -> None:
        """Count something of this span that was not accepted."""
        lost = self._lost = self._lost or {}
        lost[kind] = lost.get(kind, 0) + 1

    def discard(self) -> None:
        """Take back a span that could not begin: nothing of it, and no span below it, is recorded."""
        self.has_ended, self.is_recording, self._recording = True, False, False

    def finish(
        self,
        ending: Ending,
        outputs: Payload | None = None,
        attributes: dict[str, Any] | None = None,
        error: BaseException | None = None,
        http: HttpFacts | None = None,
        streamed: bool = False,
        end_ns: int | None = None,
    ) -> None:
        """Put the span's end on the queue, once. Safe in a finalizer."""
        if self.has_ended:
            return
        trace, parent, failure = self._trace, self._parent, None
        try:
            self.has_ended, self.is_recording = True, False
            self._inputs = self._outputs = None
            if parent is not None and parent.has_ended:  # or tasks that each start the next would keep all spans alive
                self._parent = parent.nearest_open()
            if end_ns is None:
                end_ns = trace.clock_offset + trace.perf_counter_ns()
            self.end_time_ns = end_ns
            if not self._recording:
                return
            if self._is_first:
                trace.has_ended = True
                runtime.last_trace_id = runtime.of_thread.last_trace_id = trace.trace_id
                if trace.spans_dropped:
                    self._lost = {**(self._lost or {}), "spans": trace.spans_dropped}
            failure = capture_failure(error) if error is not None else None
            if ending is _CANCELLED:
                self._status = SpanStatus(SpanStatusCode.ERROR, "cancelled")
            elif failure is not None:
                self._status = SpanStatus(SpanStatusCode.ERROR, f"{failure.type}: {failure.message}")
            record = SpanEnded(
                self.span_id, end_ns, ending, outputs, failure, http, streamed, attributes, self._lost, not self._begun,
                trace.told if self._is_first else None,
            )  # fmt: skip
            self.pipeline.push(record, _END if outputs is None else _DETAIL, outputs)
        except BaseException:
            self._finish_again(ending, failure, outputs is not None)
            raise

    def _finish_again(self, ending: Ending, failure: Failure | None, has_outputs: bool) -> None:
        """Put a bare end on the queue after an error (Ctrl-C, a bug of ours): the full end may not be on the queue."""
        if self.end_time_ns is None:
            self.end_time_ns = self._trace.now_ns()
        if self._recording:
            lost = {"bodies": 1} if has_outputs else None
            told = self._trace.told if self._is_first else None
            record = SpanEnded(
                self.span_id, self.end_time_ns, ending, failure=failure, lost=lost, is_repeated=True, told=told
            )
            self.pipeline.push(record, _END)

    def finish_with(self, error: BaseException | None, outputs: Payload | None = None) -> None:
        """End the span of a piece of user code that returned, or that raised `error`."""
        if error is None:
            self.finish(_RETURNED, outputs=outputs)
        elif is_cancellation(error):
            self.finish(_CANCELLED, outputs=outputs)
        else:
            self.finish(_RAISED, outputs=outputs, error=error)

    def update_trace(self, **changes: Any) -> None:
        """Put what the user says of the trace on the queue: the fields of `TraceUpdated`; None leaves one unchanged."""
        if not self._recording:
            return
        if not self.settings.capture_content:  # previews quote the texts that must not be stored
            changes.update(request_preview=None, response_preview=None)
        trace = self._trace
        if not trace.has_ended and (told := {key: text for key in _TOLD if (text := changes.get(key)) is not None}):
            trace.told = {**(trace.told or {}), **told}
            changes.pop("state", None)  # until then, the trace is running
        self._push(TraceUpdated(trace.trace_id, trace.start_ns, **changes), _DETAIL)

    def snapshot(self, value: object, limit: int | None = None) -> Payload | None:
        """Encode a value as it is now. None if the span is not recorded, or (counted) if the queue is too full.

        Args:
            value: Any value.
            limit: How many bytes are kept of it; ``max_payload_bytes`` by default.
        """
        if not self.is_recording:
            return None
        pipeline = self.pipeline
        if not pipeline.queue.has_room(_DETAIL):
            pipeline.queue.refuse(_DETAIL)
            self.lose("bodies")
            return None
        return snapshot(value, pipeline.settings.max_payload_bytes if limit is None else limit)

    def _update(self, **changes: Any) -> None:
        self._push(SpanUpdated(self.span_id, **changes), _DETAIL)

    def _push(self, record: SpanNoted | SpanUpdated | TraceUpdated, rank: Rank) -> None:
        if not self.pipeline.push(record, rank):
            self.lose("details")

    def __repr__(self) -> str:
        return f"LiveSpan(name={self.name!r}, trace_id={self.trace_id!r}, span_id={self.span_id!r})"
