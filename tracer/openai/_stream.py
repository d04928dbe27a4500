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
    stream_class: type = type(stream)
    response.stream = _tap_class(stream_class)(stream, call)


@functools.cache
def _tap_class(stream_class: type) -> type[_Tap]:
    bases: list[type] = []
    for library in ("httpx2", "httpx"):
        module = sys.modules.get(library)
        for base_name, tap_class in (("SyncByteStream", _SyncTap), ("AsyncByteStream", _AsyncTap)):
            base = getattr(module, base_name, None)
            if base is not None and issubclass(stream_class, base):
                bases += [tap_class, base]
    if not bases:
        raise TypeError(f"a response stream of {stream_class!r} can't be tapped")
    return type("Tap", tuple(dict.fromkeys(bases)), {})


class _Tap:
    """What sync and async taps share. Ends its call once, from wherever the end is seen first."""

    _call: Call | None = None

    def __init__(self, stream: Any, call: Call) -> None:
        self._stream = stream
        self._call = call
        self._is_read = False

    def __getattr__(self, name: str) -> Any:
        # httpx reads `elapsed` off its own stream class; transports may add more.
        if name == "_stream":
            raise AttributeError(name)
        return getattr(self._stream, name)

    def _end(self, ending: Ending, error: BaseException | None = None) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.stream_ended(ending, error)

    def _end_by(self, error: BaseException) -> None:
        """End with what a read raised; but a reader that merely stopped may go on, until it closes or is dropped."""
        if not isinstance(error, GeneratorExit):
            self._end(Ending.CANCELLED if is_cancellation(error) else Ending.RAISED, error)

    def _end_by_close(self) -> None:
        """End because the body is closed: by a task that leaves as it is cancelled, or by somebody's choice."""
        reason = sys.exc_info()[1]
        cancelled = reason is not None and not isinstance(reason, GeneratorExit) and is_cancellation(reason)
        self._end(Ending.CANCELLED if cancelled else Ending.CLOSED)

    def __del__(self) -> None:
        # Dropped unread or half-read. Runs inside the garbage collector: takes no lock, makes one queue append.
        self._end(Ending.COLLECTED)


# Only the first pass over a body is recorded: the SDK reads on for its rest after [DONE], to reuse the connection.


class _SyncTap(_Tap):
    def __iter__(self) -> Iterator[bytes]:
        call = self._call
        if self._is_read or call is None:
            return iter(self._stream)
        self._is_read = True
        return self._read_sync(call)

    def _read_sync(self, call: Call) -> Iterator[bytes]:
        read = call.stream_read
        try:
            for data in self._stream:
                read(data)
                yield data
        except BaseException as error:
            self._end_by(error)
            raise
        self._end(Ending.EXHAUSTED)

    def close(self) -> None:
        try:
            self._stream.close()
        finally:
            self._end_by_close()


class _AsyncTap(_Tap):
    def __aiter__(self) -> AsyncIterator[bytes]:
        call = self._call
        if self._is_read or call is None:
            return aiter(self._stream)
        self._is_read = True
        return _AsyncReader(self, call, aiter(self._stream))

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            self._end_by_close()


class _AsyncReader(AsyncGenerator[bytes, None]):
    """Reads through an async tap.

    An async generator in form only: event loops want real ones closed, which httpx2 does and httpx does not.
    """

    def __init__(self, tap: _Tap, call: Call, stream: AsyncIterator[bytes]) -> None:
        self._tap = tap
        self._keep = call.stream_read
        self._stream = stream

    async def __anext__(self) -> bytes:
        try:
            data = await anext(self._stream)
        except StopAsyncIteration:
            self._tap._end(Ending.EXHAUSTED)
            raise
        except BaseException as error:
            self._tap._end_by(error)
            raise
        self._keep(data)
        return data

    async def aclose(self) -> None:
        if isinstance(self._stream, AsyncGenerator):
            await self._stream.aclose()

    async def asend(self, value: None) -> bytes:
        return await self.__anext__()

    async def athrow(self, *error: Any) -> bytes:
        await self.aclose()
        raise error[0]
