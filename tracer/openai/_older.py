"""The seam where older versions of the SDK differ. Newer ones have none of this, so nothing here is in their way.

=========================================  =================================================================
``SyncAPIClient._retry_request``           pauses and makes the next attempt, in one (1.x)
``SyncAPIClient._request``                 one attempt: the pause before it is over (1.x)
``Stream.__stream__``                      lets an error pass without closing the response (1.x, early 2.x)
=========================================  =================================================================

Async alike. What is there is told by looking and not by the version: methods by their names, the last by a try.
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

from tracer.openai._stream import end_as_closed
from tracer.openai._websocket import Patch
from tracer.spans.guard import guarded

__all__ = ["seam"]

Pause = AbstractContextManager[None]
MakePause = Callable[[Any], "Pause | None"]


def seam(pause: MakePause) -> Iterable[Patch]:
    """Yield what is to be patched of the SDK that is installed.

    Args:
        pause: Begins to time the pause after an attempt that failed, given its response if there was one.
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
    """A pause with all the attempts that follow it; its time is over as the first of them begins."""

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
        with suppress(ValueError):  # a coroutine that the garbage collector closes, in another context
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
    # Serves both: the async one hands its coroutine through.
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
    """Tell whether the SDK closes a response whose stream brings an error; else it is left to the garbage collector."""
    probe: Any = _Probe()
    with suppress(Exception):
        list(Stream(cast_to=object, response=probe, client=probe))
    return bool(probe.is_closed)


class _Events:
    """What the SDK reads from a stream, and the error that ends it.

    Refers to the response and not to the stream, which would keep itself alive so.
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
