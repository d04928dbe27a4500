"""Pages, files and the notebook's view, put together from the templates."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tracer._exceptions import TraceNotFoundError
from tracer._models import MAX_ROWS, MODEL_CALL_TYPES, Media, Span, Trace, TraceState
from tracer.render._errors import failures
from tracer.render._find import find_in_trace
from tracer.render._json_tree import json_tree
from tracer.render._markdown import highlight, markdown, plain
from tracer.render._media import MediaLinks, by_hash
from tracer.render._page import asset, environment
from tracer.render._span_view import Context, SpanView, make_context, view_span
from tracer.render._tree import Timeline, failing_span, rows, timeline
from tracer.render._tree_rows import tree_groups
from tracer.render._turn import read_turn

__all__ = ["render_list", "render_sides", "render_span", "render_trace", "render_turn"]

SpanTools = Callable[[Span], str]
OPEN_SPANS = 200
"""How many spans of a file are readable without scripts; the others are templates until they are chosen."""

MAX_CHARS = 40_000_000
LONG_PAGE = 1_000  # spans
SHORT_ID = 8  # hex digits
FIRST_GROUPS = 3
"""How many boxes of rows a server's page shows at once: more than a screen's worth. The rest come after first paint."""

LATE_GROUPS = 25  # boxes that are inserted at once: too little work for anyone to notice


def render_trace(
    trace: Trace,
    *,
    span_id: str | None = None,
    standalone: bool = False,
    media: Iterable[Media] | None = None,
    find: str | None = None,
    base: str = "",
    max_chars: int = MAX_CHARS,
    tools: SpanTools | None = None,
) -> str:
    """Return the view of a trace: the body of a server's page or, `standalone`, a whole file that needs nothing else.

    ::

        Path("trace.html").write_text(render_trace(trace, standalone=True))

    Pure: reads no store, and the clock only for the end of spans that still run. Text of models is escaped or
    sanitised, a server's page has no inline script or style, and nothing is loaded from another host.

    Args:
        trace: As it was read.
        span_id: The id of the span to show, or at least its first 8 digits. Without an id, or if the trace has no such
            span, the page shows the first one found, the one that failed, or the root.
        standalone: With style, script and all spans (up to `max_chars` characters) in one document.
        media: For a file: the media that its ``media://`` references stand for (`references` lists them).
        find: Mark the spans that hold this text.
        base: The path that a server's own addresses begin with.
        max_chars: For a file: how large its spans may be together. Further spans keep their row in the tree, but lose
            their content.
        tools: What a server puts below the name of a span, as HTML: the feedback and the forms for it.

    Raises:
        MissingDependencyError: The extra `ui` is not installed.
    """
    links = MediaLinks(base, by_hash(media or ()) if standalone else None)
    page = _Page(trace, links, base=base, find=find, inline=standalone, tools=tools)
    chosen = page.choose(span_id)
    body = page.render("trace.html", chosen=chosen, **page.details(chosen, max_chars=max_chars))
    return _document(trace.info.name or trace.info.trace_id, body) if standalone else body


def render_span(trace: Trace, span_id: str, *, base: str = "", tools: SpanTools | None = None) -> str:
    """Return the part of the page that shows one span, which the page asks for when it is chosen.

    Raises:
        TraceNotFoundError: The trace has no such span.
        MissingDependencyError: The extra `ui` is not installed.
    """
    page = _Page(trace, MediaLinks(base), base=base, tools=tools)
    span = page.find(span_id)
    if span is None:
        raise TraceNotFoundError(f"trace {trace.info.trace_id} has no span {span_id}")
    return page.span(span)


def render_turn(trace: Trace, *, base: str = "") -> str:
    """Return a trace as one turn of a conversation: the user's message, the answer, what failed. For a server's page.

    Raises:
        MissingDependencyError: The extra `ui` is not installed.
    """
    links = MediaLinks(base)
    failed = failing_span(trace) if trace.info.state is TraceState.ERROR else None
    return _Page(trace, links, base=base).render_part(
        "turn.html",
        messages=read_turn(trace, links),
        failed=failed,
        failures=failures(failed) if failed else [],
        running=trace.info.state is TraceState.IN_PROGRESS,
    )


def render_sides(trace: Trace, span_id: str | None = None, *, base: str = "") -> tuple[str, str]:
    """Return what a span (by default the root) was given and what it returned, as HTML for a server's page.

    Raises:
        TraceNotFoundError: The trace has no such span.
        MissingDependencyError: The extra `ui` is not installed.
    """
    page = _Page(trace, MediaLinks(base), base=base)
    page.here = f"{base}/traces/{trace.info.trace_id}"
    span = trace.data.spans[0] if span_id is None and trace.data.spans else page.by_id.get(span_id or "")
    if span is None:
        raise TraceNotFoundError(f"trace {trace.info.trace_id} has no span {span_id!r}")
    view = page.view(span)
    inputs, outputs = (page.render_part("side.html", conversation=side) for side in (view.inputs, view.outputs))
    return inputs, outputs


def render_list(traces: Sequence[Trace]) -> str:
    """Return a row for each trace, for the first hundred at most, as a whole document; for notebooks.

    Raises:
        MissingDependencyError: The extra `ui` is not installed.
    """
    infos = [trace.info for trace in traces[:MAX_ROWS]]
    body = environment().get_template("list.html").render(infos=infos, count=len(traces))
    return _document(f"{len(traces)} traces", body)


def _document(title: str, body: str) -> str:
    """Wrap a body into a document whose policy allows only its own script, style and media."""
    script, style = asset("trace.js"), f"{asset('tokens.css')}\n{asset('trace.css')}"
    template = environment().get_template("document.html")
    return template.render(
        title=title, body=body, script=script, style=style, script_hash=_sha256(script), style_hash=_sha256(style)
    )


def _sha256(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


class _Page:
    """One trace on its way into the templates."""

    def __init__(
        self,
        trace: Trace,
        links: MediaLinks,
        *,
        base: str,
        find: str | None = None,
        inline: bool = False,
        tools: SpanTools | None = None,
    ) -> None:
        self.here = ""  # the page that the links to spans lead to, if it is not this one
        self.by_id = {span.span_id: span for span in trace.data.spans}
        running = trace.info.state is TraceState.IN_PROGRESS
        self._trace = trace
        self._links = links
        self._line = timeline(trace, time.time_ns() if running else None)
        self._base = base
        self._find = find or ""
        self._found = find_in_trace(trace, find) if find else None
        self._inline = inline
        self._tools = tools
        self._made: Context | None = None

    @property
    def _context(self) -> Context:
        if self._made is None:
            self._made = make_context(self._trace, self._links, self._line.start_ns)
        return self._made

    def find(self, span_id: str) -> Span | None:
        """Return a span by its id, or by a unique beginning of its id."""
        if span_id in self.by_id or len(span_id) < SHORT_ID:
            return self.by_id.get(span_id)
        found = [span for known, span in self.by_id.items() if known.startswith(span_id)]
        return found[0] if len(found) == 1 else None

    def _id_length(self) -> int | None:
        """Return how many digits of each id the links of a long page use: full ids are half of such a page's size."""
        if (
            self._inline
            or len(self.by_id) <= LONG_PAGE
            or len({known[:SHORT_ID] for known in self.by_id}) < len(self.by_id)
        ):
            return None
        return SHORT_ID

    def choose(self, span_id: str | None) -> Span | None:
        """Return the span to show first."""
        if span_id and (found := self.find(span_id)):
            return found
        spans = self._trace.data.spans
        if self._found:
            return next(span for span in spans if span.span_id in self._found)
        if self._trace.info.state is TraceState.ERROR:
            return failing_span(self._trace) or spans[0]
        return spans[0] if spans else None

    def view(self, span: Span) -> SpanView:
        """Return what there is to show of a span."""
        return view_span(span, self._context)

    def span(self, span: Span) -> str:
        """Return the part that shows a span."""
        return self.render_part(
            "span.html", view=view_span(span, self._context), tools=self._tools(span) if self._tools else None
        )

    def details(self, chosen: Span | None, *, max_chars: int = MAX_CHARS) -> dict[str, Any]:
        """Return the spans that go with the tree: the chosen one; in a file, followed by as many as it may have."""
        if chosen is None or not self._inline:
            return {"shown": [(span, self.span(span)) for span in (chosen,) if span], "hidden": [], "left_out": 0}
        pieces = {chosen.span_id: (chosen, self.span(chosen))}
        size = len(pieces[chosen.span_id][1])
        for span in self._trace.data.spans:
            if size > max_chars:
                break
            if span is not chosen:
                pieces[span.span_id] = (span, self.span(span))
                size += len(pieces[span.span_id][1])
        there = [pieces[span_id] for span_id in self.by_id if span_id in pieces]
        first = pieces[chosen.span_id]
        most = OPEN_SPANS
        shown = there[:most] if any(span is chosen for span, _ in there[:most]) else [first, *there[: most - 1]]
        open_ids = {span.span_id for span, _ in shown}
        hidden = [piece for piece in there if piece[0].span_id not in open_ids]
        return {"shown": shown, "hidden": hidden, "left_out": len(self.by_id) - len(pieces)}

    def render(self, template: str, *, chosen: Span | None, **values: Any) -> str:
        """Render the tree and what is around it."""
        trace = self._trace
        failed = failing_span(trace)
        first, late = self._tree(chosen)
        return self.render_part(
            template,
            trace=trace,
            info=trace.info,
            chosen=chosen,
            first_groups=first,
            late_groups=late,
            line=self._line,
            ticks=_ticks(self._line),
            failed=failed,
            failed_view=view_span(failed, self._context) if failed else None,
            found=self._found,
            find=self._find,
            inline=self._inline,
            has_tools=self._tools is not None,
            span_count=len(trace.data.spans),
            no_tokens=not any(span.token_usage for span in trace.data.spans),
            no_cost=all(span.cost is None for span in trace.data.spans),
            model_calls=sum(span.span_type in MODEL_CALL_TYPES for span in trace.data.spans),
            **values,
        )

    def _tree(self, chosen: Span | None) -> tuple[list[str], list[list[str]]]:
        """Return the boxes of rows that are shown at once, and those that a server's page inserts later, in pieces."""
        groups = tree_groups(
            rows(self._trace, self._line),
            link="#s-" if self._inline else "?span=",
            id_length=self._id_length(),
            chosen_id=chosen.span_id if chosen else None,
            found=self._found or (),
        )
        first = len(groups) if self._inline else FIRST_GROUPS
        late = range(first, len(groups), LATE_GROUPS)
        return groups[:first], [groups[start : start + LATE_GROUPS] for start in late]

    def render_part(self, template: str, **values: Any) -> str:
        """Render a template with what all of them use."""
        known = {"base": self._base, "here": self.here, "trace_id": self._trace.info.trace_id, "tree": self._json}
        made = {"md": markdown, "plain": plain, "highlight": highlight}
        return environment().get_template(template).render(**known, **made, **values)

    def _json(self, value: Any) -> Any:
        return json_tree(value, self._links)


def _ticks(line: Timeline) -> list[tuple[int, int]]:
    """Return the marks of the time axis: (percent, nanoseconds)."""
    return [(percent, line.length_ns * percent // 100) for percent in (0, 25, 50, 75)]
