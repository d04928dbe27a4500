"""Two traces, or two calls, side by side."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from tracer._exceptions import ConfigurationError, TraceNotFoundError, TracerError
from tracer._models import MODEL_CALL_TYPES, Span, Trace
from tracer.server._errors import status_of
from tracer.server._source import store_of
from tracer.server._templates import render
from tracer.store.base import TraceQuery

if TYPE_CHECKING:
    from tracer.render.comparison import Comparison

__all__ = ["ROUTES", "compare_sides", "read_sides"]

PREVIOUS = "previous"
_REFERENCE = re.compile(r"(?:.*/traces/)?([0-9a-f]{32})(?::([0-9a-f]{16})|\?(?:.*&)?span=([0-9a-f]{16})\b.*|[?#].*)?")
_PROPOSED = 12


class Part(NamedTuple):
    """A trace, or one of its spans."""

    trace: Trace
    span_id: str | None = None

    @property
    def reference(self) -> str:
        """The form of it that URLs use."""
        return self.trace.info.trace_id + (f":{self.span_id}" if self.span_id else "")


async def read_sides(request: Request) -> tuple[Part, Part]:
    """Return what a request wants to compare. The errors that are raised say which of the two is wrong.

    Raises:
        ConfigurationError: A parameter can't be understood, or both are the same.
        TraceNotFoundError: There is no such trace or span.
    """
    given = request.query_params
    a = await _part(request, "a", given.get("a", ""))
    text = given.get("b", "").strip()
    b = await _previous(request, a) if text == PREVIOUS else await _part(request, "b", text)
    if a.reference == b.reference:
        raise ConfigurationError("a and b are the same: choose another to compare it with")
    return a, b


async def compare_sides(sides: tuple[Part, Part]) -> Comparison:
    """Compare, in a thread: long texts take their time."""
    from tracer.render import compare  # Markdown, Pygments and nh3: imported only when needed

    a, b = sides
    return await anyio.to_thread.run_sync(lambda: compare(a.trace, b.trace, a_span=a.span_id, b_span=b.span_id))


async def _part(request: Request, name: str, text: str) -> Part:
    match = _REFERENCE.fullmatch(text.strip())
    if match is None:
        got = f", got {text.strip()[:80]!r}" if text.strip() else "; it is missing"
        raise ConfigurationError(f"{name} must be the id of a trace (32 hex digits), trace:span, or a link to it{got}")
    trace = await (await store_of(request)).get_trace(match[1])
    span_id = match[2] or match[3]
    if span_id and all(span.span_id != span_id for span in trace.data.spans):
        raise TraceNotFoundError(f"{name}: trace {match[1]} has no span {span_id!r}")
    return Part(trace, span_id)


async def _previous(request: Request, a: Part) -> Part:
    """Return the trace of the same name before `a`; if `a` is a span, the span of the same name in that trace."""
    info = a.trace.info
    beside = await (await store_of(request)).neighbours(TraceQuery(name=info.name), info.trace_id)
    if beside.next is None:
        raise TraceNotFoundError(f"there is no trace of the name {info.name!r} before this one")
    trace = await (await store_of(request)).get_trace(beside.next)
    if a.span_id is None:
        return Part(trace)
    name = next(span.name for span in a.trace.data.spans if span.span_id == a.span_id)
    found = next((span for span in trace.data.spans if span.name == name), None)
    if found is None:
        raise TraceNotFoundError(f"the trace before this one, {beside.next}, has no span {name!r}")
    return Part(trace, found.span_id)


async def compare(request: Request) -> Response:
    """Show the comparison. If fewer than two things are named, show a form that asks for them."""
    given = request.query_params
    ticked = given.getlist("id")
    if ticked:  # from a list without scripts
        pairs = [*zip(("a", "b"), ticked, strict=False)]
        return RedirectResponse(f"/compare?{urlencode(pairs)}", 303)
    if not given.get("a", "").strip() or not given.get("b", "").strip():
        return await _form(request)
    try:
        a, b = await read_sides(request)
        comparison = await compare_sides((a, b))
    except (ConfigurationError, TraceNotFoundError) as error:
        return await _form(request, error)
    if given["b"].strip() == PREVIOUS:
        return RedirectResponse(f"/compare?{urlencode({'a': a.reference, 'b': b.reference})}", 303)
    rendered = given.get("show") == "rendered"
    return render(
        request,
        "compare.html",
        comparison=comparison,
        a=a.reference,
        b=b.reference,
        rendered=await anyio.to_thread.run_sync(_rendered, a, b) if rendered else None,
    )


def _rendered(a: Part, b: Part) -> list[tuple[str, tuple[str, str]]]:
    """Return the messages of both as a trace's page shows them: inputs, then outputs."""
    from tracer.render import render_sides

    left, right = (render_sides(part.trace, part.span_id) for part in (a, b))
    return [("Input", (left[0], right[0])), ("Output", (left[1], right[1]))]


async def _form(request: Request, error: TracerError | None = None) -> Response:
    """Ask for what is missing, and propose what it could be."""
    given = request.query_params
    proposals: list[tuple[str, list[dict[str, Any]]]] = []
    a = None
    if error is None and given.get("a", "").strip():
        try:
            a = await _part(request, "a", given["a"])
            proposals = await _proposals(request, a)
        except (ConfigurationError, TraceNotFoundError) as wrong:
            error = wrong
    return render(
        request,
        "compare_form.html",
        status=status_of(error)[0] if error else 200,
        problem=str(error) if error else None,
        given={name: given.get(name, "").strip() for name in ("a", "b")},
        a=a,
        proposals=proposals,
    )


async def _proposals(request: Request, a: Part) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return what to compare with: for a trace, others of its name; for a span, other model calls of its trace."""
    info, found = a.trace.info, []
    if a.span_id is not None:
        calls = [
            span for span in a.trace.data.spans if span.span_type in MODEL_CALL_TYPES and span.span_id != a.span_id
        ]
        found.append(("Other model calls of this trace", [_proposed_span(a, span) for span in calls[:_PROPOSED]]))
        return found
    query = TraceQuery(name=info.name, max_results=_PROPOSED + 1, include_spans=False)
    traces = await (await store_of(request)).search_traces(query)
    others = [_proposed_trace(a, trace) for trace in traces if trace.info.trace_id != info.trace_id]
    return [(f"The newest of the name {info.name}", others[:_PROPOSED])]


def _proposed_trace(a: Part, trace: Trace) -> dict[str, Any]:
    info = trace.info
    told = {"name": info.name, "start_time_ns": info.start_time_ns, "duration_ns": info.duration_ns}
    return {**told, "preview": info.request_preview or "", "url": _url(a.reference, info.trace_id)}


def _proposed_span(a: Part, span: Span) -> dict[str, Any]:
    told = {"name": span.name, "start_time_ns": span.start_time_ns, "duration_ns": span.duration_ns, "preview": ""}
    return {**told, "url": _url(a.reference, f"{span.trace_id}:{span.span_id}")}


def _url(a: str, b: str) -> str:
    return f"/compare?{urlencode({'a': a, 'b': b})}"


ROUTES = (Route("/compare", compare),)
