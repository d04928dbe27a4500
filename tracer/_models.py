"""What users read: frozen traces and spans.

Everything here is a copy taken when it was read. Nothing in this module knows of queues, stores or openai.
"""

from __future__ import annotations

import enum
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from tracer import _semconv as sc
from tracer._format import clean, format_duration

__all__ = [
    "Feedback",
    "Media",
    "Span",
    "SpanEvent",
    "SpanStatus",
    "SpanStatusCode",
    "SpanType",
    "TokenUsage",
    "Trace",
    "TraceData",
    "TraceInfo",
    "TracePage",
    "TraceState",
]

TokenUsage = dict[str, int]
"""Token counts by name: ``input_tokens``, ``output_tokens``, ``total_tokens`` and, if the API reports them, the other
names in `USAGE_KEYS`."""

USAGE_KEYS = (
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "reasoning_tokens",
    "input_audio_tokens",
    "output_audio_tokens",
)


class _Word(str, enum.Enum):
    """A string constant that prints as its word."""

    def __str__(self) -> str:
        return str(self.value)

    def __format__(self, format_spec: str) -> str:
        return format(str(self.value), format_spec)


class TraceState(_Word):
    """The state of a trace. `INTERRUPTED`: its process ended without closing it."""

    IN_PROGRESS = "IN_PROGRESS"
    OK = "OK"
    ERROR = "ERROR"
    INTERRUPTED = "INTERRUPTED"


class SpanStatusCode(_Word):
    """OpenTelemetry's three status codes. A span that has not ended is `UNSET`."""

    OK = "OK"
    ERROR = "ERROR"
    UNSET = "UNSET"


class SpanType:
    """What kind of work a span stands for. Plain strings: any other string is accepted too."""

    LLM = "LLM"
    CHAT_MODEL = "CHAT_MODEL"
    EMBEDDING = "EMBEDDING"
    AGENT = "AGENT"
    TOOL = "TOOL"
    CHAIN = "CHAIN"
    RETRIEVER = "RETRIEVER"
    RERANKER = "RERANKER"
    PARSER = "PARSER"
    MEMORY = "MEMORY"
    WORKFLOW = "WORKFLOW"
    TASK = "TASK"
    GUARDRAIL = "GUARDRAIL"
    EVALUATOR = "EVALUATOR"
    UNKNOWN = "UNKNOWN"


MAX_ROWS = 100  # traces of a page that are shown
MAX_NAME = 120  # characters of a name that are shown
MODEL_CALL_TYPES = frozenset({SpanType.LLM, SpanType.CHAT_MODEL, SpanType.EMBEDDING})


class SpanStatus(msgspec.Struct, frozen=True):
    """Status code and, for errors, what happened. Prints as its code."""

    status_code: SpanStatusCode = SpanStatusCode.UNSET
    description: str = ""

    def __str__(self) -> str:
        return self.status_code.value


class Media(msgspec.Struct, frozen=True, kw_only=True):
    """An image, a recording or a file of a call: what its ``media://`` reference stands for.

    Attributes:
        hash: SHA-256 of `data`, 64 lower-case hex digits.
        content_type: ``image/png``, ``audio/wav``, …: recognised by the first bytes; if that fails, as the call
            declared it.
    """

    hash: str
    content_type: str
    data: bytes

    def __repr__(self) -> str:
        return f"Media(hash={self.hash!r}, content_type={self.content_type!r}, data=<{len(self.data)} bytes>)"


class Feedback(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody, or something, thought of a trace or a span. Made by `tracer.log_feedback`.

    Attributes:
        id: The id of this feedback, 32 lower-case hex digits.
        span_id: None when the feedback is about the trace as a whole.
        name: What was judged: ``helpful``, ``correctness``, ….
        value: A thumb (True or False), a score (a number) or a label (text).
        source: ``human``, ``llm`` or ``code``. A colon and a name say who exactly: ``human:ann@example.com``.
        created_ns: Nanoseconds since the epoch.
    """

    id: str
    trace_id: str
    span_id: str | None = None
    name: str
    value: bool | int | float | str
    comment: str | None = None
    source: str = "code"
    created_ns: int


class SpanEvent(msgspec.Struct, frozen=True):
    """Something that happened at one moment of a span (a stream chunk, a retry, an exception, a user's own event)."""

    name: str
    timestamp_ns: int = msgspec.field(default_factory=time.time_ns)
    attributes: dict[str, Any] = msgspec.field(default_factory=dict)


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """One operation: a model call, a tool, a function under ``@trace``.

    Attributes:
        trace_id: 32 lower-case hex digits.
        span_id: 16 lower-case hex digits.
        parent_id: The parent's span id; None for the root.
        name: If several model calls of a trace have the same name, they are numbered: ``Completions_1``, ….
        start_time_ns: Nanoseconds since the epoch.
        end_time_ns: Nanoseconds since the epoch; None while the span is open.
        inputs: JSON-like value; for a model call the request as it was sent.
        outputs: JSON-like value; for a model call the response, rebuilt from its chunks if it was streamed.
        events: Sorted by time. Stream chunks are events named ``gen_ai.chunk``.
        token_usage: See `TokenUsage`; None when nothing was reported.
        cost: US dollars; None when unknown.
        feedback: What was logged about this span, the oldest first.
    """

    trace_id: str
    span_id: str
    parent_id: str | None = None
    name: str
    span_type: str = SpanType.UNKNOWN
    start_time_ns: int
    end_time_ns: int | None = None
    status: SpanStatus = SpanStatus()
    inputs: Any = None
    outputs: Any = None
    attributes: dict[str, Any] = msgspec.field(default_factory=dict)
    events: list[SpanEvent] = msgspec.field(default_factory=list)
    token_usage: TokenUsage | None = None
    cost: float | None = None
    feedback: list[Feedback] = msgspec.field(default_factory=list)

    @property
    def duration_ns(self) -> int | None:
        """Nanoseconds from start to end; None while the span is open."""
        return None if self.end_time_ns is None else self.end_time_ns - self.start_time_ns

    def get_attribute(self, key: str) -> Any:
        """Return one attribute, or None. MLflow's documented ``mlflow.*`` keys answer as aliases."""
        if key in self.attributes:
            return self.attributes[key]
        if key.startswith("mlflow."):
            return _mlflow_alias(self, key)
        return None


_MLFLOW_ALIASES: dict[str, Callable[[Span], Any]] = {
    "mlflow.chat.tokenUsage": lambda span: span.token_usage,
    "mlflow.chat.tools": lambda span: span.attributes.get(sc.TOOL_DEFINITIONS),
    "mlflow.llm.cost": lambda span: span.cost,
    "mlflow.llm.model": lambda span: span.attributes.get(sc.RESPONSE_MODEL, span.attributes.get(sc.REQUEST_MODEL)),
    "mlflow.llm.provider": lambda span: span.attributes.get(sc.PROVIDER_NAME),
    "mlflow.message.format": lambda span: "openai" if sc.OPERATION in span.attributes else None,
    "mlflow.spanInputs": lambda span: span.inputs,
    "mlflow.spanOutputs": lambda span: span.outputs,
    "mlflow.spanType": lambda span: span.span_type,
    "mlflow.traceRequestId": lambda span: span.trace_id,
}
_MLFLOW_CHUNK = "mlflow.chunk.item."


def _mlflow_alias(span: Span, key: str) -> Any:
    """Return what a key of MLflow's (mlflow/tracing/constant.py, ``SpanAttributeKey``) means, from our own data."""
    if key in _MLFLOW_ALIASES:
        return _MLFLOW_ALIASES[key](span)
    if key.startswith(_MLFLOW_CHUNK) and key[len(_MLFLOW_CHUNK) :].isdigit():
        chunks = [event for event in span.events if event.name == sc.EVENT_CHUNK]
        index = int(key[len(_MLFLOW_CHUNK) :])
        return chunks[index].attributes.get("data") if index < len(chunks) else None
    return None


class TraceInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a list of traces shows about one trace.

    Attributes:
        start_time_ns: Nanoseconds since the epoch.
        duration_ns: None while the trace runs.
        request_preview: One line of the root's inputs; if a function has none, what its first model call was asked.
        token_usage: Summed over the trace's model calls, each counted once; None when no call reported usage.
        cost: US dollars, summed in the same way; None when unknown.
        dropped: How many records of this trace were lost to overload, size limits or failures, by kind; empty when
            the trace is complete.
        models: Names of the models that its calls used.
        time_to_first_token: Seconds from the trace's start until the first content from any of its model calls; None
            if no call was streamed.
        chain: Ids of the traces that continue one another through ``previous_response_id`` or ``conversation``
            (Responses), including this trace, the oldest first. Empty if the trace is not part of a chain. At most
            1,000.
        feedback: What was logged about the trace and about its spans, the oldest first. See `tracer.log_feedback`.
    """

    trace_id: str
    experiment: str = "Default"
    name: str | None = None
    state: TraceState = TraceState.IN_PROGRESS
    start_time_ns: int
    duration_ns: int | None = None
    request_preview: str | None = None
    response_preview: str | None = None
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    token_usage: TokenUsage | None = None
    cost: float | None = None
    session_id: str | None = None
    user_id: str | None = None
    dropped: dict[str, int] = msgspec.field(default_factory=dict)
    models: list[str] = msgspec.field(default_factory=list)
    time_to_first_token: float | None = None
    chain: list[str] = msgspec.field(default_factory=list)
    feedback: list[Feedback] = msgspec.field(default_factory=list)


class TraceData(msgspec.Struct, frozen=True):
    """A trace's spans: the root first, then by start time."""

    spans: list[Span] = msgspec.field(default_factory=list)


class TraceServices:
    """What some methods of a trace need in addition to its data: a store to read media from, and a page to draw.

    This module knows neither, so that every other module may import it. `tracer.export.trace_services` provides both.
    """

    async def get_media(self, reference: str) -> Media:
        """Read what a ``media://`` reference stands for."""
        raise NotImplementedError

    def save_page(self, trace: Trace, path: str | Path | None) -> str:
        """Return a trace's page as one file, and write it if there is a path."""
        raise NotImplementedError

    def show_trace(self, trace: Trace) -> str:
        """Return a trace as HTML for a notebook."""
        raise NotImplementedError

    def show_list(self, traces: TracePage) -> str:
        """Return a list of traces as HTML for a notebook."""
        raise NotImplementedError


services = TraceServices()
"""Replaced by services that work, as soon as `tracer` is imported."""


class Trace(msgspec.Struct, frozen=True):
    """One trace as it was when it was read."""

    info: TraceInfo
    data: TraceData = TraceData()

    def to_dict(self) -> dict[str, Any]:
        """Return the trace as plain dicts, lists, strings and numbers, ready for any JSON encoder."""
        built: dict[str, Any] = msgspec.to_builtins(self)
        return built

    def to_json(self, *, indent: int | None = None) -> str:
        """Return `to_dict` as JSON text, on one line or indented by `indent` spaces."""
        encoded = msgspec.json.encode(self)
        return (encoded if indent is None else msgspec.json.format(encoded, indent=indent)).decode()

    async def media(self, reference: str) -> Media:
        """Return what a ``media://`` reference in this trace stands for. See `tracer.get_media`."""
        return await services.get_media(reference)

    def print_tree(self) -> None:
        """Print the span tree, one line for each span: name, type, duration, status, tokens."""
        print(self.format_tree())  # noqa: T201  printing is what this method is for

    def format_tree(self) -> str:
        """Return what `print_tree` prints."""
        return "\n".join([self._head(), *(f"{bar}{_describe(span)}" for bar, span in self._walk())])

    def _head(self) -> str:
        info = self.info
        name = clean(info.name or info.trace_id)[:MAX_NAME]
        return f"{name}  [{info.state}]  {format_duration(info.duration_ns)}  {info.trace_id}"

    def __repr__(self) -> str:
        return self.format_tree()

    def to_html(self, path: str | Path | None = None) -> str:
        """Return the trace's page as one file that needs nothing else, so that you can send it to someone.

        If `path` is given, the page is also written there; a new file can be read by its owner only (mode 0600).
        Images and recordings are read from the store and put into the page (32 MiB at most). Needs the extra `ui`.
        Blocks as `tracer.sync` does.

        ::

            trace = await tracer.get_trace(trace_id)
            trace.to_html("trace.html")

        Raises:
            MissingDependencyError: The extra `ui` is not installed.
            OSError: The file could not be written.
        """
        return services.save_page(self, path)

    def _repr_html_(self) -> str:
        """Show the trace's page in a notebook, without a server or a request. Without the extra `ui`, show the tree."""
        return _in_notebook(lambda: services.show_trace(self), self.format_tree)

    def _walk(self) -> Iterator[tuple[str, Span]]:
        """Yield each span with the box-drawing characters that come before it, depth first, without recursion."""
        known = {span.span_id for span in self.data.spans}
        children: dict[str | None, list[Span]] = {}
        for span in self.data.spans:
            children.setdefault(span.parent_id if span.parent_id in known else None, []).append(span)
        stack = [(span, "", index == 0) for index, span in enumerate(reversed(children.get(None, [])))]
        while stack:
            span, indent, last = stack.pop()
            yield f"{indent}{'└── ' if last else '├── '}", span
            below = indent + ("    " if last else "│   ")
            stack.extend((child, below, i == 0) for i, child in enumerate(reversed(children.get(span.span_id, []))))


class TracePage(list[Trace]):
    """A list of traces with the token of the page after it (None on the last page)."""

    def __init__(self, traces: list[Trace] | tuple[Trace, ...] = (), *, next_page_token: str | None = None) -> None:
        super().__init__(traces)
        self.next_page_token = next_page_token

    def format_list(self) -> str:
        """Return a line for each trace, for the first hundred at most: name, state, duration, id."""
        lines = [one._head() for one in self[:MAX_ROWS]]
        if (more := len(self) - MAX_ROWS) > 0:
            lines.append(f"… and {more:,} more")
        return "\n".join(lines)

    def __repr__(self) -> str:
        token = "" if self.next_page_token is None else f", next_page_token={self.next_page_token!r}"
        return "\n".join([f"<TracePage of {len(self):,} traces{token}>", *self.format_list().splitlines()])

    def _repr_html_(self) -> str:
        """Show the list in a notebook. Without the extra `ui`, show `format_list`."""
        return _in_notebook(lambda: services.show_list(self), self.format_list)


def _in_notebook(draw: Callable[[], str], text: Callable[[], str]) -> str:
    """Return HTML for a notebook. Never raises, because a notebook would print the exception instead of the value."""
    try:
        return draw()
    except Exception:  # the extra `ui` is missing, or a value was of a kind that we did not expect
        import html  # takes 3 ms

        return f"<pre>{html.escape(text())}</pre>"


def number_model_calls(spans: list[Span]) -> list[Span]:
    """Number the names that several model calls of a trace share, in the given order (by start)."""
    seen = Counter(span.name for span in spans if span.span_type in MODEL_CALL_TYPES)
    used: Counter[str] = Counter()
    numbered = []
    for span in spans:
        if span.span_type in MODEL_CALL_TYPES and seen[span.name] > 1:
            used[span.name] += 1
            span = msgspec.structs.replace(span, name=f"{span.name}_{used[span.name]}")
        numbered.append(span)
    return numbered


def _describe(span: Span) -> str:
    parts = [clean(span.name)[:MAX_NAME], clean(span.span_type), format_duration(span.duration_ns), str(span.status)]
    if finish := span.attributes.get(sc.FINISH):
        parts.append(clean(str(finish)))
    if usage := span.token_usage:
        parts.append(f"{usage.get('input_tokens', 0)} → {usage.get('output_tokens', 0)} tokens")
    if span.status.description:
        parts.append(clean(span.status.description.strip().partition("\n")[0])[:MAX_NAME])
    return "  ".join(parts)
