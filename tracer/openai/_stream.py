"""Byte taps: what reads a response's body sees the same bytes, and so do we.

A tap stands in for ``response.stream``, below the SDK's ``Stream`` objects, ``iter_lines``, ``iter_bytes`` and the
Agents SDK's way of streaming, so all of them are seen and none is wrapped. httpx asks for an instance of its own
stream classes, so a tap is made for each of httpx2 and the older httpx that a user may inject.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from tracer._failures import is_cancellation
from tracer._records import Ending

if TYPE_CHECKING:
    from tracer.openai._calls import Call

__all__ = ["tap"]


def tap(response: Any, call: Call) -> None:
    """Put a tap into a response whose body is unread. Raises TypeError if its stream is of no kind that we know."""
    stream = response.stream
    response.stream = _tap_class(type(stream))(stream, call)


@functools.cache
def _tap_class(stream_class: type) -> type[_Tap]:
    for library in ("httpx2", "httpx"):
        module = sys.modules.get(library)
        if module is not None and issubclass(stream_class, module.AsyncByteStream):
            return type("AsyncTap", (_AsyncTap, module.AsyncByteStream), {})
        if module is not None and issubclass(stream_class, module.SyncByteStream):
            return type("SyncTap", (_SyncTap, module.SyncByteStream), {})
    raise TypeError(f"a response stream of {stream_class!r} can't be tapped")


class _Tap:
    """What sync and async taps share. Ends its call once, from wherever the end is seen first."""

    def __init__(self, stream: Any, call: Call) -> None:
        self._stream = stream
        self._call = call
        self._tapped = False

    def __getattr__(self, name: str) -> Any:
        # httpx reads `elapsed` off its own stream class; transports may add more.
        return getattr(self.__dict__["_stream"], name)

    def _ended_by(self, error: BaseException) -> None:
        if isinstance(error, GeneratorExit):
            return  # the reader stopped: close() or the garbage collector tells us whether for good
        self._call.stream_ended(Ending.CANCELLED if is_cancellation(error) else Ending.RAISED, error)

    def __del__(self) -> None:
        # Dropped unread or half-read. Runs inside the garbage collector: takes no lock, makes one queue append.
        call = self.__dict__.get("_call")
        if call is not None:
            call.stream_ended(Ending.COLLECTED)


class _SyncTap(_Tap):
    def __iter__(self) -> Iterator[bytes]:
        if self._tapped:
            return iter(self._stream)
        self._tapped = True
        return self._read()

    def _read(self) -> Iterator[bytes]:
        read = self._call.stream_read
        try:
            for data in self._stream:
                read(data)
                yield data
        except BaseException as error:
            self._ended_by(error)
            raise
        self._call.stream_ended(Ending.EXHAUSTED)

    def close(self) -> None:
        try:
            self._stream.close()
        finally:
            self._call.stream_ended(Ending.CLOSED)


class _AsyncTap(_Tap):
    def __aiter__(self) -> AsyncIterator[bytes]:
        # The SDK reads on for the rest of the body after [DONE], to reuse the connection: that is not recorded.
        if self._tapped:
            return aiter(self._stream)
        self._tapped = True
        return self._read()

    async def _read(self) -> AsyncGenerator[bytes, None]:
        read = self._call.stream_read
        stream = aiter(self._stream)
        try:
            async for data in stream:
                read(data)
                yield data
        except BaseException as error:
            self._ended_by(error)
            raise
        finally:
            if isinstance(stream, AsyncGenerator):
                await stream.aclose()
        self._call.stream_ended(Ending.EXHAUSTED)

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        except BaseException as error:
            self._ended_by(error)
            raise
        finally:
            self._call.stream_ended(Ending.CLOSED)
