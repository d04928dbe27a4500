"""The tracking server as an application: the page and its API, and what services send (`tracer serve`).

It has no state of its own: any number of them may run over one store.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.middleware import Middleware

from tracer._exceptions import ConfigurationError, TracerError
from tracer.server import _intake, _metrics, otlp
from tracer.server._intake import Intake
from tracer.server._metrics import AccessLog, Metrics
from tracer.server._security import Guard
from tracer.server._source import Source
from tracer.server.app import READ_TIMEOUT, assemble, checked_limit, lifespan, page_routes
from tracer.server.tokens import Access
from tracer.store.base import Retention
from tracer.store.uri import is_server, parse_uri
from tracer.store.wire import VERSION_HEADER, VERSIONS

__all__ = ["create_tracking_server"]

logger = logging.getLogger("tracer")

_LOOK_EVERY = 1.0  # seconds between two looks for upkeep
_EXPIRE_EVERY = 10.0
_LEAST_PAUSE = 0.02  # seconds between two steps of upkeep, so that batches come between them


def create_tracking_server(
    uri: str,
    *,
    access: Access | None = None,
    hosts: tuple[str, ...] | None = None,
    read_timeout: float = READ_TIMEOUT,
    retention: Retention = Retention(),  # noqa: B008  it is frozen
    takes_otlp: bool = False,
) -> Starlette:
    """Return a tracking server as an ASGI application.

    Args:
        uri: The store's.
        access: Knows the tokens; None requires none.
        hosts: The host names that requests may use, without port. None for those of loopback, or for any if tokens
            are required.
        read_timeout: Seconds that a read may take.
        retention: Which traces are deleted.
        takes_otlp: Take in spans of other instrumentations, as in `tracer.server.create_app`.

    Raises:
        ConfigurationError: The URI names no store that can be served, or `read_timeout` is no time.
        MissingDependencyError: `takes_otlp` without the extra.
    """
    if takes_otlp:
        otlp.check_installed()
    if is_server(parse_uri(uri)):
        raise ConfigurationError("store must be a database, got a tracking server; point the services at that one")
    source = Source(uri, checked_limit(read_timeout), writes=True)
    metrics = Metrics()
    intake = Intake(metrics)

    @contextlib.asynccontextmanager
    async def serving(app: Starlette) -> AsyncIterator[None]:
        async with lifespan(app):
            upkeep = asyncio.create_task(_look_after(source, intake, retention))
            try:
                yield
            finally:
                metrics.closing = True
                upkeep.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await upkeep
                async with intake.writing:  # what was begun is committed
                    pass

    guards = [
        Middleware(AccessLog, metrics=metrics),
        Middleware(
            Guard,
            hosts=hosts,
            access=access,
            cookie="tracer_server",
            headers={VERSION_HEADER: ", ".join(map(str, VERSIONS))},
        ),
    ]
    routes = [*page_routes(), *_intake.ROUTES, *_metrics.ROUTES, *(otlp.ROUTES if takes_otlp else ())]
    app = assemble(source, routes, guards, serving)
    app.state.intake = intake
    return app


async def _look_after(source: Source, intake: Intake, retention: Retention) -> None:
    """Do the store's upkeep in quiet moments, and delete what is kept no longer."""
    seen, next_expiry, told = -1, 0.0, ""
    while True:
        await asyncio.sleep(_LOOK_EVERY)
        try:
            store = await source.ready()
            store.options.retention = retention
            is_quiet, seen = intake.metrics.batches == seen, intake.metrics.batches
            if retention.is_limited and time.monotonic() >= next_expiry:
                while await store.expire():  # noqa: ASYNC110  a step at a time, not a wait for something
                    await asyncio.sleep(_LEAST_PAUSE)
                next_expiry = time.monotonic() + _EXPIRE_EVERY
            while is_quiet and await store.tidy():
                await asyncio.sleep(_LEAST_PAUSE)
                is_quiet = intake.metrics.batches == seen
        except (TracerError, OSError) as error:
            if str(error) != told:
                told = str(error)
                logger.warning("the store could not be looked after: %s", error)
