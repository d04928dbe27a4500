"""The JSON API behind every page. Each operation is declared once, for the routes and for ``/api/openapi.json``."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tracer._exceptions import ConfigurationError
from tracer._models import Feedback, Trace, TraceInfo
from tracer.render.comparison import Comparison
from tracer.server._errors import error_response
from tracer.server._exports import export_trace, export_traces
from tracer.server._openapi import LIST, Operation, Parameter, describe
from tracer.server._params import LIST_PARAMETERS, check_known, read_query, whole_number
from tracer.server._source import store_of
from tracer.server.compare import compare_sides, read_sides
from tracer.server.feedback import NewFeedback, read_body, store_feedback
from tracer.server.sessions import find_session, session_id_of
from tracer.store.base import TraceQuery
from tracer.store.fields import SHOWN_FIELDS, find_field
from tracer.store.summaries import (
    ExperimentSummary,
    Facets,
    Histogram,
    Neighbours,
    Overview,
    SessionPage,
    SessionSummary,
    StorageSummary,
)

__all__ = ["ROUTES", "as_json"]

MOST = 1_000
_LIMIT = Parameter("limit", f"How many at most, up to {MOST}.", "integer")
_PAGE = Parameter("page_token", "The `next_page_token` of the page before.")


class TraceList(msgspec.Struct):
    """A page of traces without their spans; `next_page_token` is null on the last page."""

    traces: list[TraceInfo]
    next_page_token: str | None = None


class ExperimentList(msgspec.Struct):
    """All experiments."""

    experiments: list[ExperimentSummary]


class FilterField(msgspec.Struct):
    """A field of the filter language.

    Attributes:
        kind: ``text``, ``number``, or ``words`` for a field that can only have one of `values`.
        unit: The unit of a number.
    """

    name: str
    kind: str
    unit: str | None = None
    values: list[str] = msgspec.field(default_factory=list)


class FilterFields(msgspec.Struct):
    """The filter language's fields."""

    fields: list[FilterField]


class FilterVerdict(msgspec.Struct):
    """The answer for a valid filter."""

    valid: bool


async def list_traces(request: Request) -> Response:
    """Search traces: a page of them without their spans, the newest first unless `order_by` says otherwise."""
    page = await (await store_of(request)).search_traces(_query(request, with_page=True))
    return as_json(TraceList([trace.info for trace in page], page.next_page_token))


async def get_trace(request: Request) -> Response:
    """Return one trace with its spans: what was sent and received, tokens, cost, events."""
    store = await store_of(request)
    return as_json(await store.get_trace(request.path_params["trace_id"]))


async def add_feedback(request: Request) -> Response:
    """Log feedback on a trace or, with `span_id`, on a span of it: a thumb, a score or a label."""
    given = await _body(request, NewFeedback)
    feedback = await store_feedback(request, request.path_params["trace_id"], given)
    return as_json(feedback, 201)


async def delete_feedback(request: Request) -> Response:
    """Delete one feedback by its id."""
    feedback_id = request.path_params["feedback_id"]
    if not await (await store_of(request)).delete_feedback(feedback_id):
        return error_response(request, 404, "feedback_not_found", f"no feedback {feedback_id!r} is stored")
    return Response(status_code=204)


async def get_facets(request: Request) -> Response:
    """Return the most frequent values by which the traces found can be narrowed further."""
    limit = whole_number(request.query_params, "limit", default=10, most=MOST)
    return as_json(await (await store_of(request)).facets(_query(request), limit=limit))


async def get_histogram(request: Request) -> Response:
    """Return calls, errors and latency of the traces found, over time."""
    buckets = whole_number(request.query_params, "limit", default=60, most=MOST)
    return as_json(await (await store_of(request)).histogram(_query(request), buckets=buckets))


async def get_overview(request: Request) -> Response:
    """Return calls, errors, latency, tokens and cost of the traces found: in total, over time, by model and by name."""
    limit = whole_number(request.query_params, "limit", default=10, most=MOST)
    return as_json(await (await store_of(request)).overview(_query(request), limit=limit))


async def list_sessions(request: Request) -> Response:
    """Return the sessions of the traces found, that with the newest trace first, each summed up over all its traces."""
    return as_json(await (await store_of(request)).sessions(_query(request, with_page=True)))


async def get_session(request: Request) -> Response:
    """Return one session summed up; its traces are those that `/api/traces?session_id=…` finds."""
    check_known(request.query_params, ("id",))
    return as_json(await find_session(await store_of(request), session_id_of(request)))


async def get_neighbours(request: Request) -> Response:
    """Return the traces before and after a given one in a list; the parameters select and sort the list."""
    query = _query(request)
    return as_json(await (await store_of(request)).neighbours(query, request.path_params["trace_id"]))


async def get_comparison(request: Request) -> Response:
    """Compare two traces or, as `trace:span`, two spans: figures, parameters, messages word by word, trees."""
    check_known(request.query_params, [parameter.name for parameter in _COMPARED])
    return as_json(await compare_sides(await read_sides(request)))


async def get_experiments(request: Request) -> Response:
    """Return all experiments, the one with the newest trace first."""
    return as_json(ExperimentList(await (await store_of(request)).experiments()))


async def get_storage(request: Request) -> Response:
    """Return what the database holds, how much space it takes, and what was lost before it could be stored."""
    return as_json(await (await store_of(request)).storage())


async def get_fields(request: Request) -> Response:
    """Return the fields that a filter may name."""
    return as_json(FilterFields([_described(name) for name in SHOWN_FIELDS]))


async def check_filter(request: Request) -> Response:
    """Tell whether a filter can be understood: if not, the error says where it fails, and what is expected there."""
    from tracer.store.filter import parse_filter  # lark is an extra

    try:
        parse_filter(request.query_params.get("filter", ""))
    except ConfigurationError as error:
        place = re.match(r"filter_string, position (\d+)", str(error))
        told = {"code": "invalid_request", "message": str(error), "position": int(place[1]) if place else None}
        return JSONResponse({"error": told}, 400)
    return as_json(FilterVerdict(valid=True))


async def get_media(request: Request) -> Response:
    """Return an image, a recording or a file of a call. Types that a browser might execute are sent as a download."""
    media = await (await store_of(request)).get_media(request.path_params["hash"])
    kind = media.content_type.partition(";")[0].strip().lower()
    headers = {
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cache-Control": "private, max-age=31536000, immutable",  # its address is the hash of its content
    }
    if request.query_params.get("as") == "wav":  # raw samples, which no browser plays
        from tracer.render import playable

        media = playable(media)
        kind = media.content_type
    if kind not in _SHOWN_MEDIA:
        kind = "application/octet-stream"
        headers["Content-Disposition"] = f'attachment; filename="{media.hash[:12]}.bin"'
    return _part_of(request, Response(media.data, media_type=kind, headers=headers))


async def get_openapi(request: Request) -> Response:
    """Return the description of this API (OpenAPI 3.1)."""
    return as_json(describe(OPERATIONS))


T = TypeVar("T")


async def _body(request: Request, kind: type[T]) -> T:
    """Read the request's JSON, of 64 KiB at most. Raises ConfigurationError."""
    content = await read_body(request)
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ConfigurationError(f"the body must be JSON as /api/openapi.json describes it: {error}") from None


def as_json(value: object, status: int = 200) -> Response:
    """Answer with anything that msgspec encodes."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _query(request: Request, *, with_page: bool = False) -> TraceQuery:
    given = request.query_params
    check_known(given, (*LIST_PARAMETERS, "limit", *(("page_token",) if with_page else ())))
    limit = whole_number(given, "limit", default=100, most=MOST) if with_page else 100
    return read_query(given, limit=limit, page_token=given.get("page_token") or None if with_page else None)


def _described(name: str) -> FilterField:
    field = find_field(name.split("."))
    if field.unit is not None:
        return FilterField(name, "number", unit=re.sub(r"^a number(, | of )", "", field.unit.words).partition(" (")[0])
    return FilterField(name, "words" if field.words else "text", values=list(field.words))


_SHOWN_MEDIA = frozenset(
    {"image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp"}
    | {"audio/wav", "audio/x-wav", "audio/wave", "audio/mpeg", "audio/mp3", "audio/ogg", "audio/flac", "audio/aac"}
    | {"audio/mp4", "audio/webm", "audio/opus", "video/mp4", "video/webm"}
)
"""Types that a browser shows or plays, and doesn't run: SVG and PDF are not among them."""


def _part_of(request: Request, answer: Response) -> Response:
    """Send the bytes that a player asked for (RFC 9110, one range), so that the player can seek."""
    answer.headers["Accept-Ranges"] = "bytes"
    match = re.fullmatch(r"bytes=(\d{1,15})-(\d{0,15})", request.headers.get("range", ""))
    whole = bytes(answer.body)
    if match is None:
        return answer
    first, last = int(match[1]), min(int(match[2] or len(whole)), len(whole) - 1)
    if first > last:
        return Response(status_code=416, headers={"Content-Range": f"bytes */{len(whole)}"})
    headers = {**answer.headers, "Content-Range": f"bytes {first}-{last}/{len(whole)}"}
    del headers["content-length"]
    return Response(whole[first : last + 1], 206, headers=headers)


_COMPARED = (
    Parameter("a", "A trace's id, or `trace:span` for one of its spans; the address of its page works, too."),
    Parameter("b", "As `a`; or `previous` for the trace of the same name before `a`."),
)
_EXPORT = (
    Parameter("format", "`jsonl` (by default), `csv` or `parquet`; for a single trace also `json` and `html`."),
    Parameter("rows", "For CSV and Parquet: a row for each of the `traces` (by default) or `spans`."),
)
_BY_QUERY = (*LIST, Parameter("limit", "How many values or stretches of time.", "integer"))
_SESSIONS_BY = tuple(parameter for parameter in LIST if parameter.name != "order_by")
_ID = Parameter("id", "The session's id, if the path ends in a slash: for ids that no path can hold (`..`).")
OPERATIONS: tuple[Operation, ...] = (
    Operation("GET", "/api/traces", list_traces, TraceList, (*LIST, _LIMIT, _PAGE)),
    Operation("GET", "/api/traces/{trace_id}", get_trace, Trace),
    Operation("POST", "/api/traces/{trace_id}/feedback", add_feedback, Feedback, body=NewFeedback, status=201),
    Operation("DELETE", "/api/feedback/{feedback_id}", delete_feedback, None, status=204),
    Operation("GET", "/api/facets", get_facets, Facets, _BY_QUERY),
    Operation("GET", "/api/histogram", get_histogram, Histogram, _BY_QUERY),
    Operation("GET", "/api/overview", get_overview, Overview, _BY_QUERY),
    Operation("GET", "/api/sessions", list_sessions, SessionPage, (*_SESSIONS_BY, _LIMIT, _PAGE)),
    Operation("GET", "/api/sessions/{session_id}", get_session, SessionSummary, (_ID,), slashes=True),
    Operation("GET", "/api/traces/{trace_id}/neighbours", get_neighbours, Neighbours, LIST),
    Operation("GET", "/api/traces/{trace_id}/export", export_trace, "application/octet-stream", _EXPORT),
    Operation("GET", "/api/export", export_traces, "application/octet-stream", (*LIST, *_EXPORT)),
    Operation("GET", "/api/compare", get_comparison, Comparison, _COMPARED),
    Operation("GET", "/api/experiments", get_experiments, ExperimentList),
    Operation("GET", "/api/storage", get_storage, StorageSummary),
    Operation("GET", "/api/fields", get_fields, FilterFields),
    Operation("GET", "/api/filter", check_filter, FilterVerdict, (Parameter("filter", LIST_PARAMETERS["filter"]),)),
    Operation("GET", "/api/media/{hash}", get_media, "application/octet-stream"),
    Operation("GET", "/api/openapi.json", get_openapi, dict[str, Any]),
)
ROUTES = tuple(operation.route for operation in OPERATIONS)
