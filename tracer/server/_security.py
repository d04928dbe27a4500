"""Who may send requests, and what the browser may do with the answers: one middleware around everything.

Rules and their reasons: a page on loopback can be reached by every site that a browser visits (DNS rebinding, forged
requests) and by every user of the machine. So the Host must be one that we serve, a request that changes something must
come from our own page, and a token is asked for unless it was turned off. Model output is hostile: the page's policy
allows no inline script, no foreign host, no frame.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tracer.server._errors import error_response, fault_response, wants_json
from tracer.server._templates import render
from tracer.server.tokens import Access, Grant, digest
from tracer.store.wire import METHODS

__all__ = ["LOOPBACK_HOSTS", "Guard", "grant_of"]

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "[::1]")
_OPEN = ("/static/", "/healthz")
_GRANT = "tracer.grant"
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_COOKIE_SECONDS = 30 * 24 * 3600


class Guard:
    """The middleware. Without `access`, and while that knows no token, whoever can reach the port may use the server.

    Args:
        hosts: The host names that requests may use, without port; no patterns. None for those of loopback, and for
            any name once tokens are required: a page of another name has no cookie of ours.
        access: Knows the tokens. One is required as ``Authorization: Bearer``, or once as ``?token=``, which becomes a
            cookie.
        cookie: The cookie's name. Cookies are shared between ports: two servers on one machine need two names.
        headers: Of all answers, beside those that every page has.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: tuple[str, ...] | None,
        access: Access | None,
        cookie: str = "tracer",
        headers: dict[str, str] | None = None,
    ) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts or LOOPBACK_HOSTS)
        self._any_host_with_token = hosts is None
        self._access = access
        self._cookie = cookie
        self._headers = {**_HEADERS, **(headers or {})}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request, sent = Request(scope), _Sent(send, self._headers)
        try:
            await (self._refusal(request) or self._app)(scope, receive, sent)
        except ClientDisconnect:  # in the middle of its body: nobody is there to be answered
            return
        except Exception as error:  # handled here, so that this answer has the security headers, too
            answer = fault_response(request, error)
            if sent.started:
                raise
            await answer(scope, receive, sent)

    def _refusal(self, request: Request) -> Response | None:
        """Return what to answer instead of the page; None if the request may pass."""
        access = None if self._access is None or not self._access.is_required else self._access
        takes_any_host = self._any_host_with_token and access is not None
        if not takes_any_host and not self._is_our_host(request.headers):
            hosts = ", ".join(sorted(self._hosts))
            return error_response(request, 421, "wrong_host", f"this server answers to {hosts} only")
        if request.method not in _SAFE_METHODS and not _is_same_origin(request.headers):
            return error_response(request, 403, "wrong_origin", "changes are taken from this server's own page only")
        if access is None or request.url.path.startswith(_OPEN):
            return None
        if "token" in request.query_params:
            return self._exchange(request, access, request.query_params["token"])
        presented = self._presented(request)
        grant = access.find(presented)
        if grant is None:
            what = "a token is needed" if presented is None else "the token is not known here"
            return _unauthorized(request, f"{what}: open the address that tracer printed, or send another token")
        if (scope := _needed_scope(request)) not in grant.scopes:
            return error_response(request, 403, "forbidden", f"this token lacks the scope {scope!r}")
        request.scope[_GRANT] = grant
        return None

    def _is_our_host(self, headers: Headers) -> bool:
        given = headers.getlist("host")
        return len(given) == 1 and re.sub(r":\d+$", "", given[0].lower()) in self._hosts

    def _presented(self, request: Request) -> str | None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return digest(token.strip())
        return request.cookies.get(self._cookie)

    def _exchange(self, request: Request, access: Access, token: str) -> Response:
        """Turn ``?token=`` into a cookie, so that the token does not stay in a history, bookmark or log."""
        if access.find(digest(token)) is None:
            return _unauthorized(request, "this token isn't the one that tracer printed")
        rest = [(name, value) for name, value in parse_qsl(request.url.query, True) if name != "token"]
        path = "/" + request.url.path.lstrip("/")  # "//elsewhere" would lead to another host
        answer = RedirectResponse(path + (f"?{urlencode(rest)}" if rest else ""), 303)
        secure = request.url.scheme == "https"
        answer.set_cookie(
            self._cookie, digest(token), max_age=_COOKIE_SECONDS, httponly=True, samesite="strict", secure=secure
        )
        return answer


def grant_of(request: Request) -> Grant | None:
    """Return what the request's token allows; None if the server asks for none."""
    grant: Grant | None = request.scope.get(_GRANT)
    return grant


def _needed_scope(request: Request) -> str:
    """Return the scope that a request needs: what is not named here needs the widest."""
    path = request.url.path
    if request.method in _SAFE_METHODS:
        return "read"
    if path.startswith("/api/store/"):
        method = METHODS.get(path.removeprefix("/api/store/"))
        return "read" if method is None else method.scope
    if path in ("/api/ingest", "/v1/traces", "/v1/logs") or "feedback" in path.split("/"):
        return "write"
    return "admin"


def _is_same_origin(headers: Headers) -> bool:
    """Tell whether a changing request is from our own page. Browsers always send an origin, programs need not."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None and site not in ("same-origin", "none"):
        return False
    return origin is None or urlsplit(origin).netloc.lower() == headers.get("host", "").lower()


def _unauthorized(request: Request, message: str) -> Response:
    headers = {"WWW-Authenticate": "Bearer"}
    if wants_json(request.url.path):
        return error_response(request, 401, "unauthorized", message, headers)
    return render(request, "token.html", status=401, headers=headers, message=message)


class _Sent:
    """Passes messages on, with our headers added."""

    def __init__(self, send: Send, headers: dict[str, str]) -> None:
        self.started = False
        self._send = send
        self._headers = headers

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = MutableHeaders(scope=message)
            for name, value in self._headers.items():
                headers.setdefault(name, value)
        await self._send(message)
