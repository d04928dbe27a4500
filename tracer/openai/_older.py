"""The seam where older versions of the SDK differ. Newer versions lack these methods, so nothing here touches them.

=========================================  =================================================================
``SyncAPIClient._retry_request``           pauses, then makes the next attempt (1.x)
``SyncAPIClient._request``                 makes one attempt; the pause ends here (1.x)
``Stream.__stream__``                      lets an error pass without closing the response (1.x, early 2.x)
=========================================  =================================================================

The async classes have the same. We look at the SDK itself, not at its version number: for the methods by name, and for
the last row by trying it out.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from contextvars import ContextVar, Token
from typing import Any

from openai import _base_client as sdk
from openai._streaming import AsyncStream, SSEDecoder, Stream

from tracer.openai._redirect import Patch
from tracer.openai._stream import end_as_closed
from tracer.spans.guard import guarded

__all__ = ["seam"]

Pause = AbstractContextManager[None]
MakePause = Callable[[Any], "Pause | None"]


def seam(pause: MakePause) -> Iterable[Patch]:
    """Yield what has to be patched in the SDK that is installed.

    Args:
        pause: Starts to time the pause after a failed attempt. It is given the attempt's response, if there was one.
    """
    yield sdk.SyncAPIClient, "_retry_request", functools.partial(_wrap_sync_retry, pause)
    yield sdk.AsyncAPIClient, "_retry_request", functools.partial(_wrap_async_retry, pause)
    yield sdk.SyncAPIClient, "_request", _wrap_attempt
    yield sdk.AsyncAPIClient, "_request", _wrap_attempt
    if not _closes_by_error():
        yield Stream, "__stream__", functools.partial(_wrap_events, _SyncEvents)
        yield AsyncStream, "__stream__", functools.partial(_wrap_events, _AsyncEvents)


# --- attempts -------------------------------------------------------------------------------------------------------


class _Retry:
    """A pause together with all attempts that follow it. The pause ends when the first of them begins."""

    def __init__(self, pause: Pause) -> None:
        self._pause: Pause | None = pause

    def pause_is_over(self) -> None:
        pause, self._pause = self._pause, None
        if pause is not None:
            pause.__exit__(None, None, None)

    def __enter__(self) -> None:
        self._token: Token[_Retry | None] = _current_retry.set(self)

    def __exit__(self, *_: object) -> None:
        self.pause_is_over()
        with suppress(ValueError):  # the garbage collector may close a coroutine in another context
            _current_retry.reset(self._token)


_current_retry: ContextVar[_Retry | None] = ContextVar("tracer_current_retry", default=None)


@guarded
def _retry(make_pause: MakePause) -> _Retry | None:
    response = getattr(sys.exc_info()[1], "response", None)
    pause = make_pause(response if hasattr(response, "status_code") else None)
    return None if pause is None else _Retry(pause)


def _wrap_sync_retry(make_pause: MakePause, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def _retry_request(self: Any, *args: Any, **kwargs: Any) -> Any:
        retry = _retry(make_pause)
        if retry is None:
            return original(self, *args, **kwargs)
        with retry:
            return original(self, *args, **kwargs)

    return _retry_request


def _wrap_async_retry(make_pause: MakePause, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def _retry_request(self: Any, *args: Any, **kwargs: Any) -> Any:
        retry = _retry(make_pause)
        if retry is None:
            return await original(self, *args, **kwargs)
        with retry:
            return await original(self, *args, **kwargs)

    return _retry_request


def _wrap_attempt(original: Callable[..., Any]) -> Callable[..., Any]:
    # Serves sync and async: the coroutine of the async method is returned as it is.
    @functools.wraps(original)
    def _request(self: Any, *args: Any, **kwargs: Any) -> Any:
        retry = _current_retry.get()
        if retry is not None:
            retry.pause_is_over()
        return original(self, *args, **kwargs)

    return _request


# --- streams that fail ----------------------------------------------------------------------------------------------


class _Probe:
    """Just enough of a response, and of a client, for a stream that fails."""

    request = None
    is_closed = False

    def iter_bytes(self) -> Iterator[bytes]:
        yield b'data: {"error": {"message": "none"}}\n\n'

    def close(self) -> None:
        self.is_closed = True

    def _make_sse_decoder(self) -> SSEDecoder:
        return SSEDecoder()

    def _process_response_data(self, **_: object) -> None: ...


@functools.cache
def _closes_by_error() -> bool:
    """Tell whether the SDK closes a response whose stream brings an error. If not, the garbage collector closes it."""
    probe: Any = _Probe()
    with suppress(Exception):
        list(Stream(cast_to=object, response=probe, client=probe))
    return bool(probe.is_closed)


class _Events:
    """What the SDK reads from a stream, and the error that ends it.

    Refers to the response and not to the stream: otherwise the stream would keep itself alive.
    """

    def __init__(self, response: Any, events: Any) -> None:
        self._response = response
        self._events = events

    @guarded
    def _failed(self) -> None:
        end_as_closed(self._response)


class _SyncEvents(_Events, Iterator[Any]):
    def __next__(self) -> Any:
        try:
            return next(self._events)
        except StopIteration:
            raise
        except Exception:
            self._failed()
            raise


class _AsyncEvents(_Events, AsyncIterator[Any]):
    async def __anext__(self) -> Any:
        try:
            return await anext(self._events)
        except StopAsyncIteration:
            raise
        except Exception:
            self._failed()
            raise


def _wrap_events(events_class: type[_Events], original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def stream(self: Any) -> Any:
        return events_class(self.response, original(self))

    return stream
