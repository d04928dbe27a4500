"""One trace on a terminal: its tree with times, its spans' events, inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from rich.table import Table
from rich.text import Text

from tracer import _semconv as sc
from tracer._exceptions import ConfigurationError, TraceNotFoundError
from tracer._format import clean, format_cost, format_duration
from tracer._models import Span, SpanEvent, Trace
from tracer.cli._format import local_text, pairs_text, tokens_text
from tracer.cli._output import console, is_terminal, status_style

__all__ = ["find_span", "print_events", "print_span", "print_trace", "print_value"]

_TYPE_STYLES = {"LLM": "cyan", "CHAT_MODEL": "cyan", "EMBEDDING": "blue", "AGENT": "magenta", "TOOL": "yellow"}
_BAR = 20  # cells of the waterfall
_WIDE = 120  # a terminal with this many columns has room for the waterfall
_QUIET_FINISHES = frozenset({None, "completed", "failed"})  # … which the status already says


def print_trace(trace: Trace) -> None:
    """Print what is known of the whole trace, then its tree."""
    info, out = trace.info, console()
    out.print(
        Text.assemble(
            (clean(info.name or "(no name yet)"), "bold"),
            "  ",
            (f"[{info.state}]", status_style(str(info.state))),
            f"  {format_duration(info.duration_ns)}  {local_text(info.start_time_ns)}  ",
            (info.trace_id, "dim"),
        )
    )
    for label, text in _facts(trace):
        out.print(Text.assemble((f"{label}: ", "dim"), clean(text)))
    rows = [_row(trace, lead, span) for lead, span in trace._walk()]
    if is_terminal():
        _print_grid(trace, rows)
    else:
        for row in rows:
            out.print(Text("  ".join(cell.plain for cell in row if cell.plain)))


def _facts(trace: Trace) -> Iterator[tuple[str, str]]:
    """Yield the facts that the trace has."""
    info = trace.info
    facts = {
        "tokens": tokens_text(info.token_usage),
        "cost": format_cost(info.cost),
        "experiment": info.experiment,
        "session": info.session_id or "",
        "user": info.user_id or "",
        "tags": pairs_text(info.tags),
        "metadata": pairs_text(info.metadata),
        "feedback": pairs_text({given.name: given.value for given in info.feedback}),
        "dropped": pairs_text(info.dropped),
    }
    return ((label, text) for label, text in facts.items() if text)


def _row(trace: Trace, lead: str, span: Span) -> list[Text]:
    return [
        Text.assemble((lead, "dim"), (clean(span.name), status_style("ERROR") if _failed(span) else "bold")),
        Text(clean(span.span_type), style=_TYPE_STYLES.get(span.span_type, "dim")),
        Text(f"+{format_duration(max(0, span.start_time_ns - trace.info.start_time_ns))}", style="dim"),
        Text(format_duration(span.duration_ns), style="" if span.end_time_ns else "yellow"),
        Text(f"{tokens} tokens" if (tokens := tokens_text(span.token_usage)) else ""),
        Text(format_cost(span.cost), style="green"),
        Text(span.span_id, style="dim"),
        Text(_note(span), style=status_style("ERROR") if _failed(span) else "yellow"),
    ]


def _failed(span: Span) -> bool:
    return str(span.status) == "ERROR"


def _note(span: Span) -> str:
    """Say how the span ended, if that is worth mentioning; on a terminal only the first line."""
    finish = span.attributes.get(sc.FINISH)
    told = span.status.description.split("\n")[0] if is_terminal() else span.status.description
    words = [str(span.status) if _failed(span) else "", "" if finish in _QUIET_FINISHES else str(finish), clean(told)]
    return " ".join(word for word in words if word)


def _print_grid(trace: Trace, rows: list[list[Text]]) -> None:
    """Print the tree's rows as a table; on a narrow terminal without the bars, the ids and the offsets."""
    out = console()
    is_wide = out.width >= _WIDE
    titles = ["span", "type", "when", "at", "took", "in → out", "cost", "id", ""]
    shown = titles if is_wide else [title for title in titles if title not in ("when", "at", "id")]
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in shown:
        right = title in ("at", "took", "in → out", "cost")
        table.add_column(title, justify="right" if right else "left", no_wrap=bool(title), overflow="fold")
    spans, length_ns = [span for _, span in trace._walk()], _length_ns(trace)
    for span, (name, kind, offset, took, tokens, cost, span_id, note) in zip(spans, rows, strict=True):
        tokens.right_crop(len(" tokens"))
        cells = dict(
            zip(
                titles,
                (
                    name,
                    kind,
                    _bar(span, trace.info.start_time_ns, length_ns),
                    offset,
                    took,
                    tokens,
                    cost,
                    span_id,
                    note,
                ),
                strict=True,
            )
        )
        table.add_row(*(cells[title] for title in shown))
    out.print(table)


def _length_ns(trace: Trace) -> int:
    """Return how long the trace took, or has taken so far as is known."""
    start = trace.info.start_time_ns
    ends = (span.end_time_ns or span.start_time_ns for span in trace.data.spans)
    return max(1, trace.info.duration_ns or 0, *(end - start for end in ends))


def _bar(span: Span, start_ns: int, length_ns: int) -> Text:
    """Draw a bar that shows when the span ran within the trace."""
    first = min(_BAR - 1, max(0, (span.start_time_ns - start_ns) * _BAR // length_ns))
    end_ns = start_ns + length_ns if span.end_time_ns is None else span.end_time_ns
    last = min(_BAR, max(first + 1, -(-(end_ns - start_ns) * _BAR // length_ns)))
    style = status_style("ERROR") if _failed(span) else _TYPE_STYLES.get(span.span_type, "dim")
    return Text.assemble(("─" * first, "dim"), ("━" * (last - first), style), ("─" * (_BAR - last), "dim"))


def find_span(trace: Trace, wanted: str) -> Span:
    """Return the span with this id, this beginning of an id, or this name.

    Raises:
        ConfigurationError: It is the beginning of more than one span id.
        TraceNotFoundError: The trace has no such span.
    """
    exact = [span for span in trace.data.spans if wanted in (span.span_id, span.name)]
    found = exact[:1] or [span for span in trace.data.spans if span.span_id.startswith(wanted.lower())]
    if not found:
        raise TraceNotFoundError(f"--span {wanted!r}: trace {trace.info.trace_id} has no span with this id or name")
    if len(found) > 1:
        raise ConfigurationError(f"--span {wanted!r} is the beginning of {len(found)} span ids; give more digits")
    return found[0]


def print_span(trace: Trace, span: Span) -> None:
    """Print one span with its attributes."""
    out = console()
    out.print(Text("  ").join(cell for cell in _row(trace, "", span) if cell.plain))
    for key, value in sorted(span.attributes.items()):
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        out.print(Text.assemble(("  " + clean(key), "cyan"), " = ", clean(text, keep_lines=True)))


def print_value(label: str, span: Span, value: Any) -> None:
    """Print inputs or outputs as indented JSON, coloured on a terminal."""
    out = console()
    out.print(Text.assemble((label, "bold"), f" of {clean(span.name)} ", (span.span_id, "dim")))
    text = clean(msgspec.json.format(msgspec.json.encode(value), indent=2).decode(), keep_lines=True)
    if is_terminal():
        from rich.syntax import Syntax

        out.print(Syntax(text, "json", background_color="default", word_wrap=True))
    else:
        out.print(Text(text))


def print_events(span: Span) -> None:
    """Print a span's events: when, how long after the one before, and what."""
    out = console()
    out.print(Text.assemble(("events", "bold"), f" of {clean(span.name)} ", (span.span_id, "dim")))
    before = span.start_time_ns
    for event in span.events:
        offset, gap = event.timestamp_ns - span.start_time_ns, event.timestamp_ns - before
        before = event.timestamp_ns
        out.print(
            Text.assemble(
                f"  +{format_duration(max(0, offset)):>9}  ",
                (f"(+{format_duration(max(0, gap))})".rjust(12), "dim"),
                "  ",
                (clean(event.name), "cyan"),
                f"  {clean(_event_text(event), keep_lines=not is_terminal() and event.name == sc.EVENT_EXCEPTION)}",
            )
        )


def _event_text(event: SpanEvent) -> str:
    """Return a chunk's text if it has any, otherwise its attributes."""
    data = event.attributes.get("data")
    if event.name == sc.EVENT_CHUNK and (words := _delta(data)) is not None:
        return msgspec.json.encode(words).decode()
    if event.name == sc.EVENT_EXCEPTION:
        return f"{event.attributes.get(sc.EXCEPTION_TYPE, '')}: {event.attributes.get(sc.EXCEPTION_MESSAGE, '')}"
    return msgspec.json.encode(event.attributes if data is None else data).decode()


def _delta(data: Any) -> str | None:
    """Return the text that a chunk of Responses or Chat Completions adds; None if it adds none."""
    if not isinstance(data, dict):
        return None
    if isinstance(data.get("delta"), str):
        return str(data["delta"])
    choices = data.get("choices")
    deltas = [c.get("delta") for c in choices if isinstance(c, dict)] if isinstance(choices, list) else []
    texts = [d["content"] for d in deltas if isinstance(d, dict) and isinstance(d.get("content"), str)]
    return "".join(texts) if texts else None
