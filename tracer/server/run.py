"""``tracer ui``: the page over a store, served by uvicorn."""

from __future__ import annotations

import contextlib
import ipaddress
import secrets
import socket
import webbrowser
from collections.abc import Callable
from urllib.parse import quote

from starlette.applications import Starlette

from tracer._exceptions import ConfigurationError, MissingDependencyError
from tracer.server._security import LOOPBACK_HOSTS
from tracer.server.app import READ_TIMEOUT, create_app

try:
    import uvicorn

    from tracer.server._http import Protocol
except ModuleNotFoundError as error:
    raise MissingDependencyError("the web page", package="uvicorn", extra="ui") from error

__all__ = ["NEW_TOKEN", "serve_ui"]

NEW_TOKEN = "new"
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


class _Server(uvicorn.Server):
    """uvicorn that tells when it is ready. When it stops, it ends the pages' event streams, or they would delay it."""

    def __init__(self, app: Starlette, address: str, open_browser: bool, announce: Callable[[str], None]) -> None:
        options = {"loop": "asyncio", "http": Protocol, "ws": "none", "server_header": False, "proxy_headers": False}
        super().__init__(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2, **options))  # type: ignore[arg-type]  # a dict has one type of value
        self._app, self._address = app, address
        self._open_browser, self._announce = open_browser, announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._announce(self._address)
            if self._open_browser:
                webbrowser.open(self._address)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
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
