"""Requests to a tracking server, and what its answers mean."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from tracer._exceptions import StoreError, TracerError, TransientStoreError
from tracer._http import HttpAnswer, NoAnswerError, Poster
from tracer.store.uri import ServerAddress
from tracer.store.wire import CONTENT_TYPE, VERSION, VERSION_HEADER, raised_again

__all__ = ["Connection", "RejectedError"]

_TOO_LARGE, _UNPROCESSABLE, _FORBIDDEN, _UNAUTHORIZED = 413, 422, 403, 401
_REFUSALS = (_UNAUTHORIZED, _FORBIDDEN, 404, 421)


class RejectedError(StoreError):
    """The server can't take what was sent, and won't take it the next time either: it is too large, or malformed."""


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


class Connection:
    """Requests to one server; kept alive between them. Belongs to one event loop.

    Args:
        address: The server's.
        token: Sent with each request; None sends none.
    """

    def __init__(self, address: ServerAddress, token: str | None) -> None:
        self._url = address.url
        self._poster = Poster(address.url)
        self._headers = {"content-type": CONTENT_TYPE, "accept": CONTENT_TYPE, VERSION_HEADER: str(VERSION)}
        if not self.is_near:
            self._headers["accept-encoding"] = "gzip"
        if token:
            self._headers["authorization"] = f"Bearer {token}"

    @property
    def is_near(self) -> bool:
        """The server is on this machine."""
        return self._poster.is_near

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
        try:
            response = await self._poster.post(self._url + path, headers, body, seconds=seconds)
        except NoAnswerError as error:
            raise TransientStoreError(f"{self._url} did not answer: {error}") from error.__cause__
        versions = response.headers.get(VERSION_HEADER)
        if versions is None:
            raise self._strange(response)
        if response.status < 300:
            return Answer(response.body, _words(response.headers.get("accept-encoding", "")))
        raise self._error(response)

    def _strange(self, response: HttpAnswer) -> StoreError:
        status = response.status
        if status >= 500 or status in (408, 429):  # a proxy whose server is away
            return TransientStoreError(f"{self._url} answered {status}", retry_after=response.retry_after)
        if status == _TOO_LARGE:
            reason = "a proxy before it takes no bodies of this size (it answered 413); let it take 32 MiB"
        else:
            reason = f"this is no tracking server of tracer (it answered {status}); `tracer serve` starts one"
        return TransientStoreError(f"{self._url}: {reason}", is_refusal=True)

    def _error(self, response: HttpAnswer) -> TracerError:
        status = response.status
        try:
            detail = _error_decoder.decode(response.body).error
        except msgspec.MsgspecError:
            detail = Detail("unknown", f"HTTP status {status}")
        retry_after = response.retry_after
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
        await self._poster.aclose()


def _words(header: str) -> list[str]:
    return [word.strip() for word in header.split(",")]
