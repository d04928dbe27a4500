"""``tracer ui`` and ``tracer serve``: the page over a store, and the tracking server, served by uvicorn."""

from __future__ import annotations

import contextlib
import ipaddress
import secrets
import socket
import webbrowser
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette

from tracer._exceptions import ConfigurationError, MissingDependencyError
from tracer.server._security import LOOPBACK_HOSTS
from tracer.server.app import READ_TIMEOUT, create_app
from tracer.server.tokens import Access
from tracer.server.tracking import create_tracking_server
from tracer.store.base import Retention

try:
    import uvicorn

    from tracer.server._http import Protocol
except ModuleNotFoundError as error:
    raise MissingDependencyError("the web page", package="uvicorn", extra="ui") from error

__all__ = ["NEW_TOKEN", "serve_store", "serve_ui"]

NEW_TOKEN = "new"
GRACE = 30  # seconds for what a tracking server has begun when it is to stop
_ANY_ADDRESS = ("0.0.0.0", "::", "")


def serve_ui(
    uri: str,
    host: str = "127.0.0.1",
    port: int = 5151,
    open_browser: bool = False,
    *,
    token: str | None = NEW_TOKEN,
    announce: Callable[[str], None] = print,
    read_timeout: float = READ_TIMEOUT,
    takes_otlp: bool = False,
) -> None:
    """Serve the page until Ctrl-C or SIGTERM. Blocks, and runs an event loop of its own in the calling thread.

    ::

        serve_ui("sqlite:///tracer.db", open_browser=True)

    Args:
        uri: The store's tracking URI.
        host: The address to listen on.
        port: 0 takes a free one.
        open_browser: Open the page in the user's browser once it is served.
        token: What a browser must send once. `NEW_TOKEN` makes a random one; None requires none, on loopback only.
        announce: Called with the page's address, token included, when the page can be opened.
        read_timeout: Seconds that a read may take, as in `create_app`.
        takes_otlp: Take in spans of other instrumentations, as in `create_app`.

    Raises:
        ConfigurationError: No such store, no token on an address that others can reach, or a wrong `read_timeout`.
        OSError: The address can't be listened on.
        KeyboardInterrupt: After Ctrl-C, when everything is closed.
    """
    if not token and not _is_loopback(host):
        raise ConfigurationError(f"host {host!r} can be reached by others: use a token, or 127.0.0.1")
    token = secrets.token_urlsafe(24) if token == NEW_TOKEN else token
    app = create_app(uri, token=token, hosts=_names(host), read_timeout=read_timeout, takes_otlp=takes_otlp)
    with contextlib.closing(_listen(host, port)) as listener:
        shown = "127.0.0.1" if host in _ANY_ADDRESS else _in_url(host)
        address = f"http://{shown}:{listener.getsockname()[1]}/" + (f"?token={quote(token)}" if token else "")
        _Server(app, address, open_browser, announce).run([listener])


def serve_store(
    uri: str,
    host: str = "127.0.0.1",
    port: int = 5151,
    *,
    access: Access,
    announce: Callable[[str], None] = print,
    read_timeout: float = READ_TIMEOUT,
    retention: Retention = Retention(),  # noqa: B008  it is frozen
    takes_otlp: bool = False,
    ssl_certfile: str | None = None,
    ssl_keyfile: str | None = None,
) -> None:
    """Run a tracking server until Ctrl-C or SIGTERM. Blocks, and runs an event loop of its own in the calling thread.

    At its end it answers what it has begun, for half a minute at most; other requests get a 503.

    Args:
        uri: The store's tracking URI.
        host: The address to listen on.
        port: 0 takes a free one.
        access: Knows the tokens.
        announce: Called with the server's address when it can be used.
        read_timeout: Seconds that a read may take.
        retention: Which traces are deleted.
        takes_otlp: Take in spans of other instrumentations, as in `create_app`.
        ssl_certfile: A certificate's file (PEM), for https.
        ssl_keyfile: Its key, if that is in another file.

    Raises:
        ConfigurationError: No store that can be served, no token on an address that others can reach, or a certificate
            that can't be used.
        OSError: The address can't be listened on.
        KeyboardInterrupt: After Ctrl-C, when everything is closed.
    """
    if not access.is_required and not _is_loopback(host):
        raise ConfigurationError(
            f"host {host!r} can be reached by others: make a token (`tracer serve token create`), set TRACER_TOKEN, or "
            "listen on 127.0.0.1"
        )
    if ssl_keyfile is not None and ssl_certfile is None:
        raise ConfigurationError("ssl_keyfile needs ssl_certfile, the certificate that it belongs to")
    app = create_tracking_server(
        uri, access=access, read_timeout=read_timeout, retention=retention, takes_otlp=takes_otlp
    )
    with contextlib.closing(_listen(host, port)) as listener:
        shown = "127.0.0.1" if host in _ANY_ADDRESS else _in_url(host)
        address = f"http{'' if ssl_certfile is None else 's'}://{shown}:{listener.getsockname()[1]}"
        tls = {"ssl_certfile": ssl_certfile, "ssl_keyfile": ssl_keyfile}
        server = _Server(app, address, False, announce, timeout_graceful_shutdown=GRACE, **tls)
        try:
            server.config.load()
        except OSError as error:
            raise ConfigurationError(f"ssl_certfile {ssl_certfile!r} can't be used: {error}") from error
        server.run([listener])


class _Server(uvicorn.Server):
    """uvicorn that tells when it is ready. When it stops, it ends the pages' event streams, or they would delay it."""

    def __init__(
        self, app: Starlette, address: str, open_browser: bool, announce: Callable[[str], None], **more: Any
    ) -> None:
        options: dict[str, Any] = {
            "loop": "asyncio",
            "http": Protocol,
            "ws": "none",
            "server_header": False,
            "proxy_headers": False,
        }
        options |= {"log_level": "warning", "timeout_graceful_shutdown": 2, "access_log": False, **more}
        super().__init__(uvicorn.Config(app, **options))
        self._app, self._address = app, address
        self._open_browser, self._announce = open_browser, announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._announce(self._address)
            if self._open_browser:
                webbrowser.open(self._address)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if (intake := getattr(self._app.state, "intake", None)) is not None:
            intake.metrics.closing = True
        await self._app.state.watch.aclose()
        await super().shutdown(sockets)


def _is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _names(host: str) -> tuple[str, ...]:
    """Return the names under which browsers may ask; on all addresses also the machine's own name."""
    return (*LOOPBACK_HOSTS, socket.gethostname() if host in _ANY_ADDRESS else _in_url(host))


def _in_url(host: str) -> str:
    return f"[{host.strip('[]')}]" if ":" in host else host


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host.strip("[]"), port), family=family)
