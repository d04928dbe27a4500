"""Sessions: their list, and one of them as the conversation that it was, across its traces."""

from __future__ import annotations

from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tracer._exceptions import ConfigurationError, ReadTimeoutError, TraceNotFoundError
from tracer._models import Trace, TraceInfo
from tracer.render.addresses import session_url
from tracer.server._errors import SessionNotFoundError, status_of
from tracer.server._listing import View, is_narrowed
from tracer.server._params import read_query, whole_number
from tracer.server._source import store_of
from tracer.server._templates import render
from tracer.store import Store
from tracer.store.base import TraceQuery
from tracer.store.summaries import SessionPage, SessionSummary

__all__ = ["ROUTES", "find_session", "session_id_of"]

PAGE_SIZE = 50
TURNS = 50
_MOST_TURNS = 10_000  # the most that one search returns
_MOST_SPANS = 2_000  # read for one page: traces beyond them are shown with what the list knows of them
_MOST_CHARS = 200_000  # of a page's HTML, likewise


class Turn(NamedTuple):
    """A trace of the conversation. `body` is None if only its previews are shown."""

    number: int
    info: TraceInfo
    body: str | None


async def sessions(request: Request) -> Response:
    """Show the sessions, a page at a time, the one with the newest trace first."""
    given = request.query_params
    store = await store_of(request)
    try:
        limit = whole_number(given, "limit", default=PAGE_SIZE, most=200)
        query = read_query(given, limit=limit, page_token=given.get("page_token") or None)
        found, problem, status = await store.sessions(query), None, 200
    except (ConfigurationError, ReadTimeoutError) as error:
        found, problem, status = SessionPage(sessions=[]), str(error), status_of(error)[0]
    return render(
        request,
        "sessions.html",
        status=status,
        view=View(given, "/sessions"),
        found=found,
        problem=problem,
        narrowed=is_narrowed(given),
        limit=given.get("limit"),
        later="page_token" in given,
    )


async def session(request: Request) -> Response:
    """Show what was said in one session, trace by trace."""
    session_id = session_id_of(request)
    store = await store_of(request)
    summary = await find_session(store, session_id)
    pages = max(1, -(-min(summary.traces, _MOST_TURNS) // TURNS))
    page = whole_number(request.query_params, "page", default=1, most=pages)
    return render(
        request,
        "session.html",
        session=summary,
        turns=await _turns(store, session_id, page),
        page=page,
        pages=pages,
        page_url=lambda number: _page_url(session_id, number),
    )


def session_id_of(request: Request) -> str:
    """Return the id that a request is about: see `tracer.render.addresses.session_url`."""
    session_id: str = request.path_params["session_id"]
    return session_id or request.query_params.get("id", "")


async def find_session(store: Store, session_id: str) -> SessionSummary:
    """Return one session summed up. Raises SessionNotFoundError."""
    found = await store.sessions(TraceQuery(session_id=session_id, max_results=1))
    if not found.sessions:
        raise SessionNotFoundError(f"no trace of a session {session_id[:200]!r} is stored")
    return found.sessions[0]


async def _turns(store: Store, session_id: str, page: int) -> list[Turn]:
    """Return one page of a session's traces, the oldest first, each with its messages as long as there is room."""
    query = TraceQuery(session_id=session_id, order_by="start_time asc", max_results=page * TURNS, include_spans=False)
    infos = [trace.info for trace in await store.search_traces(query)]
    spans, chars, turns = 0, 0, []
    for number, info in enumerate(infos[(page - 1) * TURNS :], (page - 1) * TURNS + 1):
        body = None
        if spans < _MOST_SPANS and chars < _MOST_CHARS and (trace := await _whole(store, info)) is not None:
            body = _body(trace, _MOST_CHARS - chars)
            spans += len(trace.data.spans)
            chars += len(body or "")
        turns.append(Turn(number, info, body))
    return turns


async def _whole(store: Store, info: TraceInfo) -> Trace | None:
    try:
        return await store.get_trace(info.trace_id)
    except TraceNotFoundError:  # deleted after it was found
        return None


def _body(trace: Trace, room: int) -> str | None:
    from tracer.render import render_turn  # Markdown, Pygments and nh3: imported only when needed

    body = render_turn(trace)
    return body if len(body) <= room else None


def _page_url(session_id: str, page: int) -> str:
    path = session_url(session_id)
    return path if page == 1 else f"{path}{'&' if '?' in path else '?'}page={page}"


ROUTES = (Route("/sessions", sessions), Route("/sessions/{session_id:path}", session))
