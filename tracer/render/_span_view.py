"""Everything that the page shows of one span, gathered for the template."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from tracer import _semconv as sc
from tracer._models import Span, SpanEvent, Trace
from tracer.interpret._json import as_dict
from tracer.render import _format
from tracer.render._conversation import Conversation, bounded
from tracer.render._errors import Attempt, Failed, failed_attempts, failures
from tracer.render._events import Stream, other_events, read_stream_events
from tracer.render._json_tree import json_text
from tracer.render._media import MediaLinks
from tracer.render._repeat import Repeat, repeat
from tracer.render._sides import Results, collect_results, link_calls, read_inputs, read_outputs

__all__ = ["Context", "SpanView", "finish_words", "make_context", "model_words", "view_span"]

RAW_CHARS = 200_000
_USAGE_WORDS = (
    ("cache_read_input_tokens", "cached"),
    ("cache_creation_input_tokens", "written to the cache"),
    ("reasoning_tokens", "reasoning"),
    ("input_audio_tokens", "audio in"),
    ("output_audio_tokens", "audio out"),
)


class Context(NamedTuple):
    """What the view of a span takes from its trace."""

    trace: Trace
    links: MediaLinks
    results: Results
    start_ns: int


class SpanView(NamedTuple):
    """A span for the template; the templates show where each field goes.

    Attributes:
        facts: (word, value) pairs of the line below the name.
        schema: The schema of the structured output that was asked for; None if there is none.
        raw: The span as JSON text, without its chunks; `raw_cut` says that its end is missing.
    """

    span: Span
    facts: list[tuple[str, str]]
    failures: list[Failed]
    attempts: list[Attempt]
    inputs: Conversation
    outputs: Conversation
    tools: list[Any]
    schema: Any
    stream: Stream
    events: list[SpanEvent]
    repeat: Repeat | None
    raw: str
    raw_cut: bool

    @property
    def has_input(self) -> bool:
        """Whether there is an input to show."""
        return bool(self.inputs.messages or self.inputs.fields or self.inputs.value not in (None, {}, []))

    @property
    def has_output(self) -> bool:
        """Whether there is an output to show."""
        return bool(self.outputs.messages or self.outputs.fields or self.outputs.value is not None)


def make_context(trace: Trace, links: MediaLinks, start_ns: int) -> Context:
    """Gather what all spans of a trace share."""
    return Context(trace, links, collect_results(trace.data.spans, links), start_ns)


def view_span(span: Span, context: Context) -> SpanView:
    """Make the view of a span. Inputs and outputs that can't be read are shown as plain values."""
    inputs = _read(read_inputs, span, span.inputs, {}, context.links)
    outputs = _read(read_outputs, span, span.outputs, context.results, context.links)
    raw = json_text(_without_chunks(span))
    return SpanView(
        span=span,
        facts=_facts(span, context.start_ns),
        failures=failures(span),
        attempts=failed_attempts(span),
        inputs=inputs,
        outputs=outputs,
        tools=_tools(span),
        schema=span.attributes.get(sc.OUTPUT_SCHEMA),
        stream=read_stream_events(span),
        events=other_events(span),
        repeat=repeat(span),
        raw=raw[:RAW_CHARS],
        raw_cut=len(raw) > RAW_CHARS,
    )


def _read(
    read: Callable[[Span, MediaLinks], Conversation], span: Span, value: Any, results: Results, links: MediaLinks
) -> Conversation:
    """Read one side of a call. Data of an unexpected shape is shown as a plain value."""
    try:
        conversation = read(span, links)
        conversation.messages = bounded(link_calls(conversation.messages, results))
    except Exception:
        return Conversation(value=value)
    return conversation


def _without_chunks(span: Span) -> dict[str, Any]:
    kept = msgspec.structs.replace(span, events=other_events(span))
    return {name: getattr(kept, name) for name in kept.__struct_fields__}


def _tools(span: Span) -> list[Any]:
    found = span.attributes.get(sc.TOOL_DEFINITIONS)
    return found if type(found) is list else []


def _facts(span: Span, start_ns: int) -> list[tuple[str, str]]:
    """Return the facts that people look for first, in that order; those that are not known are left out."""
    known = span.attributes
    facts = [
        ("model", model_words(known)),
        ("duration", _format.format_duration(span.duration_ns)),
        ("starts at", f"+{_format.format_duration(max(0, span.start_time_ns - start_ns))}"),
        ("first token", _seconds(known.get(sc.TIME_TO_FIRST_TOKEN))),
        ("speed", _speed(span)),
        ("tokens", _tokens(span.token_usage)),
        ("cost", _format.format_cost(span.cost) + (", charged by the server" if sc.COST_CHARGED in known else "")),
        ("finish", finish_words(known)),
        ("retries", str(known.get(sc.RETRIES) or "")),
        ("request id", str(known.get(sc.REQUEST_ID) or "")),
        ("cut off", ", ".join(_cut(*part) for part in as_dict(known.get(sc.TRUNCATED)).items())),
        ("not kept", "the body (the queue was full)" if known.get(sc.PAYLOAD_DROPPED) else ""),
        ("note", str(known.get(sc.NOTE) or "")),
    ]
    return [(word, value) for word, value in facts if value]


def _cut(what: str, size: Any) -> str:
    return f"{size} exceptions" if what == "exceptions" else f"{what}: {size} bytes"


def model_words(known: dict[str, Any]) -> str:
    """Return the model of a call, by its attributes; if another model was requested, that one too."""
    asked, got = known.get(sc.REQUEST_MODEL), known.get(sc.RESPONSE_MODEL)
    return f"{asked} → {got}" if asked and got and asked != got else str(got or asked or "")


def _seconds(value: Any) -> str:
    return _format.format_duration(int(value * 1e9)) if isinstance(value, (int, float)) and 0 <= value < 1e9 else ""


def _speed(span: Span) -> str:
    """Return tokens per second since the first token, if that time is long enough to mean something."""
    first, made = span.attributes.get(sc.TIME_TO_FIRST_TOKEN), (span.token_usage or {}).get("output_tokens", 0)
    if not isinstance(first, (int, float)) or span.duration_ns is None or made < 2:
        return ""
    seconds = span.duration_ns / 1e9 - first
    return f"{(made - 1) / seconds:,.0f} tokens/s" if seconds > 0.05 else ""


def _tokens(usage: dict[str, int] | None) -> str:
    if not usage:
        return ""
    more = [f"{usage[key]:,} {word}" for key, word in _USAGE_WORDS if usage.get(key)]
    return f"{usage.get('input_tokens', 0):,} in, {usage.get('output_tokens', 0):,} out" + (
        f" ({', '.join(more)})" if more else ""
    )


def finish_words(known: dict[str, Any]) -> str:
    """Return how a call ended, by its attributes, if that says more than the mere fact that it ended."""
    finish, reasons = known.get(sc.FINISH), known.get(sc.RESPONSE_FINISH_REASONS)
    words = [str(finish)] if finish and finish != "completed" else []
    if isinstance(reasons, list):
        words += [str(reason) for reason in dict.fromkeys(map(str, reasons))]
    return ", ".join(words)
