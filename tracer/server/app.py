"""The application: pages, API, live events and static files over one store."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from tracer._config import Settings, updated
from tracer._exceptions import StoreError
from tracer.server import api, compare, feedback, live, otlp, overview, pages, sessions, storage
from tracer.server._errors import HANDLERS
from tracer.server._leaving import Leaving
from tracer.server._security import LOOPBACK_HOSTS, Guard
from tracer.server._source import Source
from tracer.server._templates import STATIC_FOLDERS, static_version
from tracer.server.tokens import Access, digest
from tracer.store import Store

__all__ = ["READ_TIMEOUT", "assemble", "checked_limit", "create_app", "lifespan", "page_routes"]

logger = logging.getLogger("tracer")

READ_TIMEOUT = 5.0
"""Seconds that a read may take, by default."""


def create_app(
    store_or_uri: Store | str,
    *,
    token: str | None = None,
    hosts: tuple[str, ...] = LOOPBACK_HOSTS,
    read_timeout: float = READ_TIMEOUT,
    takes_otlp: bool = False,
) -> Starlette:
    """Return the page as an ASGI application.

    ::

        app = create_app("sqlite:///tracer.db")  # uvicorn.run(app, port=5151)

    The store is opened when the application starts, in its event loop (asyncio). Without `takes_otlp`, nothing but
    feedback is written to it. Everything that the browser needs comes from this application: no request leaves the
    machine.

    Args:
        store_or_uri: A tracking URI, or a store that is open in the event loop that will serve. The caller closes such
            a store, and sets its `options.time_limit`.
        token: The token that a browser or program must send, see `tracer.server._security.Guard`; None requires none.
        hosts: The host names that requests may use, without port: a guard against DNS rebinding.
        read_timeout: Seconds that a read may take. Then it is stopped, and the answer is an error that says so.
        takes_otlp: Take in spans of other instrumentations, at ``/v1/traces``. Needs the extra `otlp`.

    Raises:
        ConfigurationError: The URI names no store that this version has, or `read_timeout` is no time.
        MissingDependencyError: `takes_otlp` without the extra.
    """
    if takes_otlp:
        otlp.check_installed()
    source = Source(store_or_uri, checked_limit(read_timeout))
    access = None if token is None else Access(token)
    cookie = "tracer" if token is None else f"tracer_{digest(token)[:8]}"
    routes = [*page_routes(), *(otlp.ROUTES if takes_otlp else ())]
    return assemble(source, routes, [Middleware(Guard, hosts=hosts, access=access, cookie=cookie)], lifespan)


def checked_limit(read_timeout: float) -> float:
    """Return the time limit of reads. Raises ConfigurationError, as the setting does."""
    return updated(Settings(), {"read_timeout": read_timeout}).read_timeout


def assemble(
    source: Source,
    routes: list[BaseRoute],
    guards: list[Middleware],
    lifespan: Callable[[Starlette], AbstractAsyncContextManager[None]],
) -> Starlette:
    """Return an application over a store, from its routes and what stands before them."""
    app = Starlette(
        routes=routes,
        middleware=[*guards, Middleware(Leaving), Middleware(GZipMiddleware, minimum_size=1_000, compresslevel=5)],
        exception_handlers=HANDLERS,
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # a path exists or it doesn't: no redirect
    app.state.source = source
    app.state.watch = live.Watch(source)
    return app


def page_routes() -> list[BaseRoute]:
    """Every page and operation. Each module of pages has its own in a tuple ROUTES."""
    return [
        *pages.ROUTES,
        *overview.ROUTES,
        *sessions.ROUTES,
        *api.ROUTES,
        *compare.ROUTES,
        *feedback.ROUTES,
        *storage.ROUTES,
        *live.ROUTES,
        Mount("/static/{version}/render", _Static(directory=STATIC_FOLDERS["render"])),
        Mount("/static/{version}", _Static(directory=STATIC_FOLDERS[""])),
    ]


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Open the store at the start, and close it at the end."""
    try:
        await app.state.source.ready()
    except StoreError as error:  # the page also shows this, and the store may come back
        logger.warning("%s", error)
    try:
        yield
    finally:
        await app.state.watch.aclose()
        await app.state.source.aclose()


class _Static(StaticFiles):
    """Files whose URLs change with their content: see `static_version`."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        answer = await super().get_response(path, scope)
        if answer.status_code == 200 and scope["path_params"].get("version") == static_version():
            answer.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return answer
