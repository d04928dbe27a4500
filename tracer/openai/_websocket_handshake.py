"""What a WebSocket's own objects say: its handshake, a refused handshake, a close.

The objects are those of the websockets package. They are read by attribute, without importing that package, because the
user's program may not need it.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from tracer import _semconv as sc
from tracer.capture.records import HttpFacts
from tracer.capture.response_heads import kept_head

__all__ = ["Handshake", "close_attributes", "is_clean", "is_closed"]

# The parts of a URL's query that are kept. The rest may be secret: Azure once took an `api-key` there.
_QUERY = frozenset({"model", "deployment", "call_id", "intent", "api-version"})


class Handshake(NamedTuple):
    """What was agreed on when the connection was made. Of the request's headers, only the host is kept.

    Attributes:
        http: Status and headers of the answer.
        query: The parts of the URL's query that are not secret.
        server: Attributes that say where the server is.
    """

    http: HttpFacts | None
    query: dict[str, str]
    server: dict[str, Any]

    @property
    def status_code(self) -> int | None:
        """The answer's status, 101 if all is well."""
        return self.http.status_code if self.http is not None else None

    @classmethod
    def of(cls, connection: Any) -> Handshake:
        """Read a connection of the websockets package (since 13)."""
        request = getattr(connection, "request", None)
        http = _facts_of(getattr(connection, "response", None))
        if request is None:
            return cls(http, {}, {})
        query = dict(parse_qsl(urlsplit(request.path).query))
        kept = {key: value for key, value in query.items() if key in _QUERY}
        return cls(http, kept, _server_of(connection, request.headers.get("Host")))

    @staticmethod
    def refusal(error: BaseException) -> HttpFacts | None:
        """Return the head of the answer that refused the handshake, if there was one."""
        return _facts_of(getattr(error, "response", None))


def _facts_of(response: Any) -> HttpFacts | None:
    try:
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers.raw_items()]
        return kept_head(response.status_code, headers)
    except Exception:  # no response, or not one of the websockets package
        return None


def _server_of(connection: Any, host: str | None) -> dict[str, Any]:
    if not host:
        return {}
    parts = urlsplit(f"//{host}")
    is_secure = getattr(getattr(connection, "protocol", None), "wsuri", None)
    port = parts.port or (443 if is_secure is None or is_secure.secure else 80)
    return {sc.SERVER_ADDRESS: parts.hostname, sc.SERVER_PORT: port}


def _exceptions() -> Any:
    return sys.modules.get("websockets.exceptions")


def is_closed(error: BaseException) -> bool:
    """Tell whether an exception means that the connection is gone."""
    known = _exceptions()
    return known is not None and isinstance(error, known.ConnectionClosed)


def is_clean(error: BaseException) -> bool:
    """Tell whether the connection was closed in good order (1000, 1001)."""
    known = _exceptions()
    return known is not None and isinstance(error, known.ConnectionClosedOK)


def close_attributes(error: Any) -> dict[str, Any]:
    """Return the code and reason of a close; 1006 if there was no close frame (RFC 6455, 7.1.5)."""
    frame = error.rcvd or error.sent
    if frame is None:
        return {sc.WEBSOCKET_CLOSE_CODE: 1006}
    reason = {sc.WEBSOCKET_CLOSE_REASON: frame.reason} if frame.reason else {}
    return {sc.WEBSOCKET_CLOSE_CODE: frame.code, **reason}
