"""Requests to a tracking server, by the HTTP client that openai brings, and what its answers mean.

The client's transport is used without the client around it: that would log each request, and other tracing tools
instrument it.
"""

from __future__ import annotations

import datetime
import importlib
import ipaddress
import random
import urllib.request
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import msgspec

from tracer._exceptions import StoreError, TracerError, TransientStoreError
from tracer.store.uri import ServerAddress
from tracer.store.wire import CONTENT_TYPE, VERSION, VERSION_HEADER, raised_again

__all__ = ["Backoff", "Connection", "RejectedError", "import_client"]

CONNECT_SECONDS = 5.0
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0
_TOO_LARGE, _UNPROCESSABLE, _FORBIDDEN, _UNAUTHORIZED = 413, 422, 403, 401
_REFUSALS = (_UNAUTHORIZED, _FORBIDDEN, 404, 421)


class RejectedError(StoreError):
    """The server can't take what was sent, and won't take it the next time either: it is too large, or malformed."""


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


class Detail(msgspec.Struct):
    """What an error answer says; the place of a bad row in its list, if one is bad."""

    code: str
    message: str
    index: int | None = None


class ErrorBody(msgspec.Struct):
    """The body of an error answer."""

    error: Detail


_error_decoder = msgspec.json.Decoder(ErrorBody)


class Answer(NamedTuple):
    """A good answer: its body, and the encodings that the server takes."""

    body: bytes
    encodings: list[str]


def import_client() -> Any:
    """Return the package ``httpx2``, which openai brings since 3.0, or ``httpx``, which it brought before."""
    try:
        return importlib.import_module("httpx2")
    except ModuleNotFoundError:
        return importlib.import_module("httpx")


class Connection:
    """Requests to one server; kept alive between them. Belongs to one event loop.

    Args:
        address: The server's.
        token: Sent with each request; None sends none.
    """

    def __init__(self, address: ServerAddress, token: str | None) -> None:
        self._http = import_client()
        self._url = address.url
        self.is_near = is_loopback(address.host)
        proxy = None if self.is_near else _proxy_for(address)
        limits = self._http.Limits(max_connections=20, keepalive_expiry=60.0)
        verifies = address.url.startswith("https:")  # to read the machine's certificates takes a tenth of a second
        self._transport = self._http.AsyncHTTPTransport(verify=verifies, limits=limits, proxy=proxy)
        self._headers = {"content-type": CONTENT_TYPE, "accept": CONTENT_TYPE, VERSION_HEADER: str(VERSION)}
        if not self.is_near:
            self._headers["accept-encoding"] = "gzip"
        if token:
            self._headers["authorization"] = f"Bearer {token}"

    async def post(self, path: str, body: bytes, *, seconds: float, encoding: str | None = None) -> Answer:
        """Send a body, and return the answer. Is not repeated here.

        Args:
            path: What comes after the server's address.
            body: As it is to be sent.
            seconds: For each step: to connect, to send, to be answered.
            encoding: Its Content-Encoding.

        Raises:
            TransientStoreError: No answer, or one that says that trying again may help.
            TracerError: What the server answered.
        """
        headers = self._headers if encoding is None else {**self._headers, "content-encoding": encoding}
        limits = {"connect": min(seconds, CONNECT_SECONDS), "read": seconds, "write": seconds, "pool": seconds}
        request = self._http.Request(
            "POST", self._url + path, headers=headers, content=body, extensions={"timeout": limits}
        )
        try:
            response = await self._transport.handle_async_request(request)
            try:
                content = await response.aread()
            finally:
                await response.aclose()
        # RuntimeError: at exit, Python starts no thread any more that could look up a name.
        except (self._http.HTTPError, OSError, RuntimeError) as error:
            words = str(error) or type(error).__name__
            raise TransientStoreError(f"{self._url} did not answer: {words}") from error
        versions = response.headers.get(VERSION_HEADER)
        if versions is None:
            raise self._strange(response)
        if response.status_code < 300:
            return Answer(content, _words(response.headers.get("accept-encoding", "")))
        raise self._error(response, content)

    def _strange(self, response: Any) -> StoreError:
        status = response.status_code
        if status >= 500 or status in (408, 429):  # a proxy whose server is away
            return TransientStoreError(f"{self._url} answered {status}", retry_after=_retry_after(response.headers))
        if status == _TOO_LARGE:
            reason = "a proxy before it takes no bodies of this size (it answered 413); let it take 32 MiB"
        else:
            reason = f"this is no tracking server of tracer (it answered {status}); `tracer serve` starts one"
        return TransientStoreError(f"{self._url}: {reason}", is_refusal=True)

    def _error(self, response: Any, content: bytes) -> TracerError:
        status = response.status_code
        try:
            detail = _error_decoder.decode(content).error
        except msgspec.MsgspecError:
            detail = Detail("unknown", f"HTTP status {status}")
        retry_after = _retry_after(response.headers)
        if (known := raised_again(detail.code, detail.message)) is not None:
            if isinstance(known, TransientStoreError):
                return TransientStoreError(detail.message, retry_after=retry_after)
            return known
        message = f"{self._url}: {detail.message}"
        if detail.index is not None or status == _TOO_LARGE or detail.code == "internal":  # the last: a fault of ours
            return RejectedError(message)
        is_refusal = status in _REFUSALS or status == _UNPROCESSABLE
        return TransientStoreError(message, retry_after=retry_after, is_refusal=is_refusal)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _proxy_for(address: ServerAddress) -> str | None:
    """Return the proxy that the environment names for a server, as curl and httpx read it."""
    if urllib.request.proxy_bypass(address.host):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(address.url.partition(":")[0]) or proxies.get("all")


def _retry_after(headers: Any) -> float | None:
    given = headers.get("retry-after", "")
    try:
        return max(0.0, float(given))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(given)
    except (ValueError, TypeError):
        return None
    return max(0.0, (moment - datetime.datetime.now(datetime.timezone.utc)).total_seconds())


def _words(header: str) -> list[str]:
    return [word.strip() for word in header.split(",")]
