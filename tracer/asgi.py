"""A middleware for ASGI services (Starlette, FastAPI, Litestar, Quart, …): one root span for each request.

::

    from tracer.asgi import TraceMiddleware

    app.add_middleware(TraceMiddleware)     # Starlette, FastAPI
    app = TraceMiddleware(app)              # any ASGI application

Everything that the request calls is in its trace, also while a response is streamed after the endpoint has returned.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from tracer import _semconv as sc
from tracer._models import SpanType
from tracer.capture.records import Ending
from tracer.spans.context import current_span, leave, read_traceparent
from tracer.spans.guard import guarded, report
from tracer.spans.live_span import LiveSpan
from tracer.spans.opening import open_root

__all__ = ["TraceMiddleware"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_SEEN = "tracer.request"  # in the scope: the request has its span
_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})
_SWITCHING_PROTOCOLS = 101
_SERVER_ERROR = 500
_CLOSED_BY_CLIENT = frozenset({1000, 1001, 1005})  # normally, going away, without a code (RFC 6455, 7.4.1)
_DISCONNECT = "WebSocketDisconnect"  # what Starlette and Litestar raise where nobody handles the client's close


class TraceMiddleware:
    """One root span for each request, from its head to the last byte of the body sent, or until the client has gone.

    The span is named ``POST /users/{id}``, by the template of the route where the framework tells it, else by the path.
    Its attributes are those of OpenTelemetry's conventions for HTTP servers. Bodies, query strings, headers and the
    client's address are not recorded. The span is ``abandoned`` if the client left before the end, ``cancelled`` if the
    request was cancelled, and ``failed`` (ERROR) if the application raised or answered with 5xx. A client that leaves
    is noticed where the application asks for it (Starlette does while it streams), and where the server tells it:
    uvicorn does, and on asyncio Hypercorn and Daphne. Granian ignores what is sent to nobody and has no sign of it.

    A WebSocket has one span, too, from its handshake to its end. It is ``completed`` if the client closed it (codes
    1000, 1001, or none), ``abandoned`` if the connection broke. Lifespans pass through. What runs after the last byte
    (background tasks) is outside of the span. Needs no package of its own, and works on asyncio and trio.

    Args:
        app: The ASGI application.
        continue_traces: Take the trace and the parent from the header ``traceparent`` (W3C trace context), if there is
            one. Its sampling flag is not looked at: ``sample_rate`` decides. False begins a trace with each request,
            for services whose clients are not to be trusted with that.
    """

    def __init__(self, app: App, *, continue_traces: bool = True) -> None:
        self.app = app
        self._continues = continue_traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection, as ASGI defines it."""
        request = self._request(scope)
        if request is None:
            await self.app(scope, receive, send)
            return
        is_over = False
        try:
            request.enter()
            await self.app(scope, request.receiving(receive), request.sending(send))
            request.leave(None)
            is_over = True
        finally:  # twice, because Ctrl-C can cut the first short: see `tracer.spans.decorator`
            try:
                if not is_over:
                    request.leave(sys.exc_info()[1])
            finally:
                if not is_over:
                    request.leave(sys.exc_info()[1])

    @guarded
    def _request(self, scope: Scope) -> _Request | None:
        if scope["type"] not in ("http", "websocket") or _SEEN in scope:
            return None
        request = _Request(scope, self._continues)
        scope[_SEEN] = True
        return request


class _Request:
    """The span of one request, and what is seen of the request."""

    def __init__(self, scope: Scope, continues: bool) -> None:
        self._scope = scope
        self._is_http = scope["type"] == "http"
        self._has_left = False  # the client
        self._close_code: int | None = None  # of a WebSocket, from the client
        self._sent_ns: int | None = None  # when the last byte was sent, if the span did not end with it
        self._status = 0
        self._server: object = None  # the server's side of the request: what `receive` is a method of
        self._before = current_span.get()
        remote = _remote(scope) if continues else None
        self._span: LiveSpan = open_root(f"{self._verb} {scope['path']}", SpanType.CHAIN, remote)
        self._span.begin_with(self._attributes())

    @property
    def _verb(self) -> str:
        if not self._is_http:
            return "WEBSOCKET"
        method: str = self._scope["method"]
        return method if method in _METHODS else "HTTP"

    def _attributes(self) -> dict[str, Any]:
        scope = self._scope
        method = scope.get("method", "GET")
        attributes = {
            sc.HTTP_REQUEST_METHOD: method if method in _METHODS else "_OTHER",
            sc.URL_PATH: scope["path"],
            sc.URL_SCHEME: scope.get("scheme", "http"),
        }
        if method not in _METHODS:
            attributes[sc.HTTP_REQUEST_METHOD_ORIGINAL] = method
        if scope.get("http_version"):
            attributes[sc.NETWORK_PROTOCOL_VERSION] = scope["http_version"]
        if scope.get("server"):
            address, port = scope["server"]
            attributes[sc.SERVER_ADDRESS] = address
            if port is not None:
                attributes[sc.SERVER_PORT] = port
        return attributes

    def enter(self) -> None:
        """Make the span current."""
        current_span.set(self._span)

    def leave(self, error: BaseException | None) -> None:
        """End the span, unless the last byte has. A second call does nothing."""
        try:
            leave(self._span, self._before)
            self._end(error)
        except Exception:
            report("TraceMiddleware", "the request goes on without it")

    def _end(self, error: BaseException | None) -> None:
        span = self._span
        if self._sent_ns is not None:
            ending = Ending.RAISED if isinstance(error, Exception) else Ending.RETURNED
            span.finish(ending, error=error if ending is Ending.RAISED else None, end_ns=self._sent_ns)
        elif (self._has_left and self._is_http) or isinstance(error, GeneratorExit):
            span.finish(Ending.CLOSED)
        elif self._is_close(error):
            span.finish(Ending.RETURNED if self._close_code in _CLOSED_BY_CLIENT else Ending.CLOSED)
        else:
            span.finish_with(error)

    def _is_close(self, error: BaseException | None) -> bool:
        """Tell whether an error says no more than that the client has closed the WebSocket."""
        if self._is_http or error is None or not (self._has_left or self._close_code is not None):
            return False
        return isinstance(error, OSError) or any(base.__name__ == _DISCONNECT for base in type(error).__mro__)

    def receiving(self, receive: Receive) -> Receive:
        """Return a ``receive`` that notices that the client leaves."""
        self._server = getattr(receive, "__self__", None)

        async def traced_receive() -> Any:
            message = await receive()
            if message["type"] == "http.disconnect":
                self._has_left = True
            elif message["type"] == "websocket.disconnect":
                self._close_code = message.get("code", 1005)
            return message

        return traced_receive

    def sending(self, send: Send) -> Send:
        """Return a ``send`` that notices status and last byte."""

        async def traced_send(message: Any) -> None:
            self._before_sending(message)
            try:
                await send(message)
            except OSError:  # how a server says that the client has gone (ASGI 2.4)
                self._has_left = True
                raise
            self._sent(message)

        return traced_send

    @guarded
    def _before_sending(self, message: Any) -> None:
        kind = message["type"]
        if kind == "websocket.accept":
            self._answered(_SWITCHING_PROTOCOLS)
        elif kind in ("http.response.start", "websocket.http.response.start"):
            self._answered(message["status"])
        elif kind == "http.response.body" and not message.get("more_body", False):
            self._has_left = self._has_left or _waits_to_say_gone(self._server)

    def _answered(self, status: int) -> None:
        span = self._span
        self._status = status
        attributes: dict[str, Any] = {sc.HTTP_STATUS_CODE: status}
        route = _route(self._scope)
        if route is not None:
            attributes[sc.HTTP_ROUTE] = route
            span.rename(f"{self._verb} {route}")
        if status >= _SERVER_ERROR:
            attributes[sc.ERROR_TYPE] = str(status)
            span.set_status("ERROR", f"HTTP {status}")
        span.set_attributes(attributes)

    @guarded
    def _sent(self, message: Any) -> None:
        if message["type"] != "http.response.body" or message.get("more_body", False):
            return
        if self._status >= _SERVER_ERROR and not self._has_left and sys.exc_info()[1] is not None:
            self._sent_ns = self._span.now_ns()  # the exception that was answered may be raised again, as in Starlette
            return
        # uvicorn throws away what is sent to a client that has left, and says nothing.
        self._has_left = self._has_left or getattr(self._server, "disconnected", None) is True
        self._end(None)


def _waits_to_say_gone(server: object) -> bool:
    """Tell whether ``http.disconnect`` is in the queue that `receive` reads (Hypercorn and Daphne on asyncio).

    It must be looked for before the last byte is sent: afterwards Hypercorn puts it there for every request. The queue
    is not read, because its messages are the application's.
    """
    waiting: Any = getattr(server, "_queue", None) if isinstance(server, asyncio.Queue) else None
    return bool(waiting) and waiting[-1].get("type") == "http.disconnect"


def _remote(scope: Scope) -> tuple[str, str] | None:
    values = [value for name, value in scope.get("headers", ()) if name == b"traceparent"]
    return read_traceparent(values[0].decode("latin-1")) if len(values) == 1 else None


def _route(scope: Scope) -> str | None:
    """Return the template of the route that a framework has found, as in ``/users/{id}``; None if it does not tell."""
    path = getattr(scope.get("route"), "path", None)  # FastAPI
    if isinstance(path, str):
        return str(scope.get("root_path", "")) + path
    endpoint = scope.get("endpoint")
    found = [] if endpoint is None else _paths(getattr(scope.get("router"), "routes", ()), endpoint)  # Starlette
    return found[0] if len(found) == 1 else None


def _paths(routes: Iterable[Any], endpoint: object, prefix: str = "") -> list[str]:
    """Return the templates of the routes that lead to an endpoint."""
    found = []
    for route in routes:
        path = getattr(route, "path", None)
        if isinstance(path, str):
            if getattr(route, "endpoint", None) is endpoint:
                found.append(prefix + path)
            found += _paths(getattr(route, "routes", None) or (), endpoint, prefix + path)
    return found
