"""Posting over HTTP, by the client that openai brings; and how long to wait after failures.

The client's transport is used without the client around it: that would log each request, and other tracing tools
instrument it.
"""

from __future__ import annotations

import datetime
import importlib
import ipaddress
import random
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

__all__ = ["Backoff", "HttpAnswer", "NoAnswerError", "Poster", "import_client", "import_modules"]

CONNECT_SECONDS = 5.0
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0


class Backoff:
    """How long to wait after failures: exponential, with full jitter, so that many clients don't come back at once."""

    def __init__(self) -> None:
        self._failures = 0

    def succeeded(self) -> None:
        """A request was answered as it should."""
        self._failures = 0

    @property
    def is_failing(self) -> bool:
        """The last request failed."""
        return self._failures > 0

    def next_pause(self) -> float:
        """Return the seconds to wait after one more failure."""
        longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return random.uniform(0, longest)


class NoAnswerError(Exception):
    """Nobody answered; the message says why."""


class HttpAnswer(NamedTuple):
    """What was answered.

    Attributes:
        headers: Their names match in any case.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def retry_after(self) -> float | None:
        """Seconds until the next try, if the answer says so."""
        from email.utils import parsedate_to_datetime

        given = self.headers.get("retry-after", "")
        try:
            return max(0.0, float(given))
        except ValueError:
            pass
        try:
            moment = parsedate_to_datetime(given)
        except (ValueError, TypeError):
            return None
        return max(0.0, (moment - datetime.datetime.now(datetime.timezone.utc)).total_seconds())


def import_client() -> Any:
    """Return the package ``httpx2``, which openai brings since 3.0, or ``httpx``, which it brought before."""
    try:
        return importlib.import_module("httpx2")
    except ModuleNotFoundError:
        return importlib.import_module("httpx")


def import_modules() -> None:
    """Import what posting needs, before a thread does it that may still run while the interpreter exits."""
    import_client()
    for name in ("email.utils", "urllib.request"):
        importlib.import_module(name)


class Poster:
    """Posts to one server; its connections are kept between requests. Belongs to one event loop.

    Args:
        url: Where the server is; what follows its host does not matter here.

    Attributes:
        is_near: The server is on this machine.
    """

    def __init__(self, url: str) -> None:
        self._http = import_client()
        parts = urlsplit(url)
        host = parts.hostname or ""
        self.is_near = _is_loopback(host)
        proxy = None if self.is_near else _proxy_for(parts.scheme, host)
        limits = self._http.Limits(max_connections=20, keepalive_expiry=60.0)
        verifies = parts.scheme == "https"  # to read the machine's certificates takes a tenth of a second
        self._transport = self._http.AsyncHTTPTransport(verify=verifies, limits=limits, proxy=proxy)

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, *, seconds: float) -> HttpAnswer:
        """Send a body, and return the answer. Is not repeated here.

        Args:
            url: The whole address.
            headers: Sent as they are.
            body: Sent as it is.
            seconds: For each step: to connect, to send, to be answered.

        Raises:
            NoAnswerError: No answer came.
        """
        limits = {"connect": min(seconds, CONNECT_SECONDS), "read": seconds, "write": seconds, "pool": seconds}
        try:
            request = self._http.Request("POST", url, headers=headers, content=body, extensions={"timeout": limits})
            response = await self._transport.handle_async_request(request)
            try:
                content = await response.aread()
            finally:
                await response.aclose()
        # RuntimeError: at exit, Python starts no thread any more that could look up a name.
        except (self._http.HTTPError, OSError, RuntimeError) as error:
            raise NoAnswerError(str(error) or type(error).__name__) from error
        return HttpAnswer(response.status_code, response.headers, content)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _proxy_for(scheme: str, host: str) -> str | None:
    """Return the proxy that the environment names for a server, as curl and httpx read it."""
    import urllib.request  # with what it imports, this takes 10 ms

    if urllib.request.proxy_bypass(host):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(scheme) or proxies.get("all")
