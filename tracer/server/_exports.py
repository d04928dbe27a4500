"""Traces as files: sent while they are read, with only one page of them in memory."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable
from importlib.util import find_spec

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from tracer._exceptions import ConfigurationError, MediaNotFoundError
from tracer._models import Media, Trace
from tracer.export import FORMATS, encode_traces, iterate_query
from tracer.interpret.media import media_hash
from tracer.server._params import LIST_PARAMETERS, check_known, read_query
from tracer.server._source import store_of
from tracer.store import Store

__all__ = ["export_trace", "export_traces", "formats"]

_TYPES = {
    "json": "application/json",
    "jsonl": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
    "html": "text/html; charset=utf-8",
}
_OF_ONE = ("json", "jsonl", "csv", "parquet", "html")
_MAX_MEDIA_BYTES = 32 * 1024 * 1024  # of the images and recordings in one HTML file


def formats() -> tuple[str, ...]:
    """Return what a list can be exported as here: Parquet needs an extra."""
    return tuple(name for name in FORMATS if name != "parquet" or find_spec("pyarrow"))


async def export_traces(request: Request) -> Response:
    """Download all traces of a list with their spans: JSON Lines, CSV (formulas escaped) or Parquet."""
    given = request.query_params
    check_known(given, (*LIST_PARAMETERS, "format", "rows"))
    form = _format(request, FORMATS)
    query = msgspec.structs.replace(read_query(given), include_spans=True)
    store = await store_of(request)
    return await _streamed(iterate_query(store, query), form, given.get("rows") or "traces", "traces")


async def export_trace(request: Request) -> Response:
    """Download one trace: JSON, JSON Lines, CSV, Parquet, or an HTML file that shows it without a server."""
    given = request.query_params
    check_known(given, ("format", "rows"))
    form = _format(request, _OF_ONE)
    store = await store_of(request)
    trace = await store.get_trace(request.path_params["trace_id"])
    name = f"trace-{trace.info.trace_id[:8]}"
    if form == "json":
        return Response(msgspec.json.encode(trace), headers=_headers(form, name))
    if form == "html":
        return await _page(trace, store, name)
    return await _streamed([trace], form, given.get("rows") or "traces", name)


def _format(request: Request, known: tuple[str, ...]) -> str:
    form = request.query_params.get("format") or "jsonl"
    if form not in known:
        raise ConfigurationError(f"format must be one of {', '.join(known)}, got {form[:40]!r}")
    return form


async def _streamed(traces: AsyncIterator[Trace] | Iterable[Trace], form: str, rows: str, name: str) -> Response:
    """Answer with pieces as they are made. Two are made first, so that an error can still become an error response."""
    pieces = encode_traces(traces, form, rows=rows)
    begun = [await anext(pieces), await anext(pieces, b"")]

    async def whole() -> AsyncIterator[bytes]:
        for piece in filter(None, begun):
            yield piece
        async for piece in pieces:
            yield piece

    return StreamingResponse(whole(), headers=_headers(form, name))


async def _page(trace: Trace, store: Store, name: str) -> Response:
    from tracer.render import references, render_trace  # Markdown, Pygments and nh3: imported only when needed

    media: list[Media] = []
    for reference in references(trace, max_bytes=_MAX_MEDIA_BYTES):
        with contextlib.suppress(MediaNotFoundError):  # the page shows the reference in its place
            media.append(await store.get_media(media_hash(reference) or ""))
    return Response(render_trace(trace, standalone=True, media=media), headers=_headers("html", name))


def _headers(form: str, name: str) -> dict[str, str]:
    return {"Content-Type": _TYPES[form], "Content-Disposition": f'attachment; filename="{name}.{form}"'}
