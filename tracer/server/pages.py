"""The list of traces and the page of one trace."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from tracer._exceptions import ConfigurationError, ReadTimeoutError
from tracer._models import Span, Trace, TracePage
from tracer.server import _charts
from tracer.server._errors import status_of
from tracer.server._exports import formats
from tracer.server._format import stretch
from tracer.server._listing import View, equation, is_narrowed
from tracer.server._params import read_query, whole_number
from tracer.server._source import store_of
from tracer.server._templates import render
from tracer.server.feedback import feedback_box
from tracer.store.base import TraceQuery
from tracer.store.summaries import Facet

__all__ = ["ROUTES"]

PAGE_SIZE = 100
RECENT_NS = 7 * 86_400 * 10**9
"""Losses that are older than a week are shown on the page of the storage only."""
_FORMS = {"Referrer-Policy": "same-origin"}
"""For pages with forms: under ``no-referrer``, browsers send forms with ``Origin: null``. Other hosts learn nothing."""
_TITLES = {"status": "Status", "model": "Model", "experiment": "Experiment", "name": "Name"}


async def traces(request: Request) -> Response:
    """Show the list; without scripts too, a page at a time."""
    store = await store_of(request)
    try:
        found, problem, status = await store.search_traces(_query(request)), None, 200
    except (ConfigurationError, ReadTimeoutError) as error:
        found, problem, status = TracePage(), str(error), status_of(error)[0]
    return render(
        request,
        "traces.html",
        status=status,
        view=View(request.query_params),
        traces=found,
        problem=problem,
        whole_losses=await store.losses(since_ns=time.time_ns() - RECENT_NS),
        is_empty=not found and not problem and not is_narrowed(request.query_params),
        uri=request.app.state.source.name,
        formats=formats(),
    )


async def rows(request: Request) -> Response:
    """Show a piece of the list: only its rows, and in a header the token of the next piece."""
    store = await store_of(request)
    found = await store.search_traces(_query(request))
    answer = render(request, "_rows.html", traces=found, view=View(request.query_params))
    if found.next_page_token:
        answer.headers["X-Next-Page-Token"] = found.next_page_token
    return answer


async def facets(request: Request) -> Response:
    """Show the values that the list can be narrowed by, each as a link."""
    store = await store_of(request)
    found = await store.facets(read_query(request.query_params), limit=8)
    view = View(request.query_params)
    shown = [_facet(view, facet) for facet in found.facets if facet.values]
    return render(request, "_facets.html", facets=shown, scope=found.scope)


async def histogram(request: Request) -> Response:
    """Draw the traces of the list over time."""
    store = await store_of(request)
    found = await store.histogram(read_query(request.query_params), buckets=72)
    errors = sum(bucket.errors for bucket in found.buckets)
    return render(
        request,
        "_histogram.html",
        bars=_charts.bars(found.buckets, found.width_ns),
        latency=_charts.polyline([bucket.p95_ns for bucket in found.buckets]),
        width=_charts.WIDTH,
        height=_charts.HEIGHT,
        scope=found.scope,
        errors=errors,
        slowest=max((bucket.p95_ns or 0 for bucket in found.buckets), default=0),
        step=stretch(found.width_ns),
        summary=f"{found.scope.traces:,} traces over time, {errors:,} of them errors",
    )


async def trace(request: Request) -> Response:
    """Show one trace, with the way back to the list that it was opened from."""
    from tracer.render import render_trace  # Markdown, Pygments and nh3: imported only when needed

    store = await store_of(request)
    found = await store.get_trace(request.path_params["trace_id"])
    given = request.query_params
    body = render_trace(found, span_id=given.get("span"), find=given.get("find"), tools=_span_tools(found))
    return render(
        request,
        "trace.html",
        headers=_FORMS,
        trace=found,
        body=body,
        feedback=feedback_box(found),
        opened_from=given.get("list", ""),
        end=given.get("end", ""),
    )


async def span(request: Request) -> Response:
    """Show one span of a trace: the part of its page that is requested when the span is chosen."""
    from tracer.render import render_span

    store = await store_of(request)
    found = await store.get_trace(request.path_params["trace_id"])
    return HTMLResponse(render_span(found, request.path_params["span_id"], tools=_span_tools(found)))


async def beside(request: Request) -> Response:
    """Go to the trace before or after this one in the list that it was opened from; at the end, stay and say so."""
    trace_id, way = request.path_params["trace_id"], request.url.path.rpartition("/")[2]
    opened_from = request.query_params.get("list", "")
    query = read_query(QueryParams(opened_from))
    found = await (await store_of(request)).neighbours(query, trace_id)
    there = found.previous if way == "previous" else found.next
    told = {"list": opened_from, "end": "" if there else way}
    kept = urlencode([item for item in told.items() if item[1]])
    return RedirectResponse(f"/traces/{there or trace_id}{f'?{kept}' if kept else ''}", 303)


def _span_tools(trace: Trace) -> Callable[[Span], str]:
    def tools(span: Span) -> str:
        return feedback_box(trace, span.span_id)

    return tools


def _query(request: Request) -> TraceQuery:
    given = request.query_params
    limit = whole_number(given, "limit", default=PAGE_SIZE, most=1_000)
    return read_query(given, limit=limit, page_token=given.get("page_token"))


def _facet(view: View, facet: Facet) -> dict[str, Any]:
    field, _, key = facet.field.partition(".")
    items = []
    for item in facet.values:
        name, value = _as_parameter(field, key, item.value)
        url = view.and_filter(value) if name == "filter" else view.toggled(name, value)
        items.append({"value": item.value, "traces": item.traces, "url": url, "held": view.has(name, value)})
    title = _TITLES.get(field) or f"{'Tag' if field == 'tags' else field.capitalize()} {key}"
    return {"title": title, "field": facet.field, "items": items}


def _as_parameter(field: str, key: str, value: str) -> tuple[str, str]:
    """Return the URL's parameter for a facet's value: the field's own parameter, or a comparison in the filter."""
    if field == "tags":
        return "tag", f"{key}={value}"
    if key:
        return "filter", equation(f"{field}.`{key}`", value)
    return field, value


ROUTES = (
    Route("/", traces),
    Route("/rows", rows),
    Route("/facets", facets),
    Route("/histogram", histogram),
    Route("/traces/{trace_id}", trace),
    Route("/traces/{trace_id}/spans/{span_id}", span),
    Route("/traces/{trace_id}/previous", beside),
    Route("/traces/{trace_id}/next", beside),
)
