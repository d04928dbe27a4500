"""Byte taps: the reader of a response's body gets the same bytes as before, and we see them too.

A tap stands in for ``response.stream``, below the SDK's ``Stream`` objects, ``iter_lines``, ``iter_bytes`` and the
Agents SDK's way of streaming, so all of them are seen and none is wrapped. httpx asks for an instance of its own
stream classes, so a tap is made for each of httpx2 and the older httpx that a user may inject.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import Any, Protocol

from tracer.capture.failures import is_cancellation
from tracer.capture.records import Ending, Rank, SpanChunk, encode
from tracer.spans.guard import report
from tracer.spans.live_span import LiveSpan

__all__ = ["Reads", "TappedCall", "end_as_closed", "tap"]

LAST_EVENT_BYTES = 4 * 1024 * 1024  # for the event that ends a stream; that of Responses repeats the whole answer
_CHUNK = Rank.CHUNK  # members of an enum are slow to look up on Python 3.11 (0.25 µs)


class Reads:
    """What came of a stream's body.

    Attributes:
        last_ns: When the last read came; if there was none, when the response came.
        room: How many bytes may still be kept. A negative number: how many were too many.
    """

    __slots__ = (
        "_clock_offset",
        "_end",
        "_perf_counter_ns",
        "_pipeline",
        "_queue",
        "_span",
        "_span_id",
        "last_ns",
        "room",
    )

    def __init__(self, span: LiveSpan) -> None:
        self._pipeline = pipeline = span.pipeline
        self._queue = pipeline.queue
        self._span = span
        self._span_id = span.span_id
        self._clock_offset = span.clock_offset
        self._perf_counter_ns = pipeline.clock.perf_counter_ns
        self._end: _LastEvent | None = None  # from the reads that there was no room for
        self.last_ns = span.now_ns()
        self.room = pipeline.settings.max_payload_bytes

    def keep(self, data: bytes) -> None:
        """Keep one read. It is called for each read, so it does nothing else.

        The read goes straight to the queue. The other checks of `Pipeline.push` are not needed for a chunk, because its
        span has begun and will end.
        """
        try:
            self.last_ns = now = self._clock_offset + self._perf_counter_ns()
            self.room -= len(data)
            if self.room < 0 or self._pipeline.closed:
                self._miss(data)
            elif self._queue.push(encode(SpanChunk(self._span_id, now, data)), _CHUNK):
                self._end = None
            else:
                self._miss(data)
        except Exception:
            report("Reads.keep")

    def _miss(self, data: bytes) -> None:
        if self._pipeline.closed:
            self._pipeline.refuse(_CHUNK)
        if self._end is None:
            self._end = _LastEvent(LAST_EVENT_BYTES)
        self._end.add(data)
        self._span.lose("chunks")

    def keep_last(self) -> None:
        """Keep the last event even without room: it tells how the stream ended, and in Responses it has everything."""
        end, self._end = self._end, None
        if end is not None:
            self._pipeline.push(SpanChunk(self._span_id, self._span.now_ns(), end.take()), Rank.END)


class _LastEvent:
    """What may be the stream's last event, from reads that there was no room for. Nothing before it is held."""

    __slots__ = ("_limit", "_parts", "_seam", "_size")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self._seam = b""  # the last few bytes

    def add(self, data: bytes) -> None:
        """Take the next read, which may be cut anywhere."""
        # A blank line ends an event (WHATWG HTML, 9.2.6). At the very end of the data, no new event follows it. A blank
        # line may be split across two reads.
        text = self._seam + data
        self._seam = text[-4:]
        body = text.rstrip(b"\r\n")
        start = max(body.rfind(b"\n\n"), body.rfind(b"\r\n\r\n"))
        if start >= 0:
            self._parts, self._size = [text[start:]], len(text) - start
        elif self._size + len(data) > self._limit:  # not an event at all, for example a file download
            self._parts, self._size = [b"\n\n", data], len(data)
        else:
            self._parts.append(data)
            self._size += len(data)

    def take(self) -> bytes:
        """Return the event, after a blank line if something was left out before it; else it continues what was kept."""
        return b"".join(self._parts)


class TappedCall(Protocol):
    """The call that a body belongs to (`tracer.openai._calls.Call`)."""

    reads: Reads | None
    span: LiveSpan

    def stream_ended(self, ending: Ending, error: BaseException | None = None) -> None:
        """Note that the body has ended, and how."""


def tap(response: Any, call: TappedCall) -> None:
    """Put a tap into a response whose body is unread. Raises TypeError if we don't know the kind of its stream."""
    stream = response.stream
    stream_class: type = type(stream)
    response.stream = _tap_class(stream_class)(stream, call)


def end_as_closed(response: Any) -> None:
    """End a response's call as a close does, for versions of the SDK that leave the response open after an error."""
    if isinstance(response.stream, _Tap):
        response.stream._end_by_close()


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

    _call: TappedCall | None = None

    def __init__(self, stream: Any, call: TappedCall) -> None:
        self._stream = stream
        self._call = call
        self._is_read = False
        call.span.pipeline.unfinished.add(self)

    def __getattr__(self, name: str) -> Any:
        # httpx reads `elapsed` off its own stream class; transports may add more.
        if name == "_stream":
            raise AttributeError(name)
        return getattr(self._stream, name)

    def _first_reads(self) -> Reads | None:
        """Return where to keep what is read, for the first pass over the body only.

        A second pass is not recorded: the SDK reads the rest after ``[DONE]`` so that it can reuse the connection.
        """
        if self._is_read or self._call is None:
            return None
        self._is_read = True
        return self._call.reads

    def _end(self, ending: Ending, error: BaseException | None = None) -> None:
        call = self._call
        if call is not None:
            call.stream_ended(ending, error)
            call.span.pipeline.unfinished.discard(self)
            self._call = None  # last: if Ctrl-C comes before this, the close or the garbage collector ends it

    def _end_by(self, error: BaseException) -> None:
        """End with what a read raised. A reader that merely stopped may go on later, until it closes or is dropped."""
        if not isinstance(error, GeneratorExit):
            self._end(Ending.CANCELLED if is_cancellation(error) else Ending.RAISED, error)

    def _end_by_close(self) -> None:
        """End because the body is closed: by a cancelled task, after an error in the SDK, or by the caller's choice."""
        reason = sys.exc_info()[1]
        if reason is None or isinstance(reason, GeneratorExit):
            self._end(Ending.CLOSED)
        elif is_cancellation(reason):
            self._end(Ending.CANCELLED)
        elif self._is_error_of_reader(reason):
            self._end(Ending.RAISED, reason)
        else:  # an error of the caller's own code, in the body of a loop
            self._end(Ending.CLOSED)

    def _is_error_of_reader(self, error: BaseException) -> bool:
        """Tell whether the SDK raised an error while it read this body: it was not JSON, or not what was asked for.

        The SDK decodes above this tap (``openai/_streaming.py``, ``openai/lib/streaming``). So all that can be seen
        here is a close of the body while an exception is leaving a reader of this response.
        """
        try:
            traceback = error.__traceback__
            while traceback is not None:
                frame, traceback = traceback.tb_frame, traceback.tb_next
                if frame.f_globals.get("__name__", "").startswith("openai."):
                    reader = frame.f_locals.get("self")
                    for name in ("response", "_response"):
                        if getattr(getattr(reader, name, None), "stream", None) is self:
                            return True
        except Exception:
            report("Tap.close")
        return False

    def abandon(self) -> None:
        """The process ends. A thread may still be reading; what it reads from now on is not recorded."""
        self._end(Ending.COLLECTED)

    def __del__(self) -> None:
        # Dropped unread or half-read. Runs inside the garbage collector: takes no lock, makes one queue append.
        self._end(Ending.COLLECTED)


class _SyncTap(_Tap):
    def __iter__(self) -> Iterator[bytes]:
        reads = self._first_reads()
        return iter(self._stream) if reads is None else self._read_sync(reads.keep)

    def _read_sync(self, keep: Callable[[bytes], None]) -> Iterator[bytes]:
        try:
            for data in self._stream:
                keep(data)
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
        reads = self._first_reads()
        return aiter(self._stream) if reads is None else _AsyncReader(self, reads.keep, aiter(self._stream))

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            self._end_by_close()


class _AsyncReader(AsyncGenerator[bytes, None]):
    """Reads through an async tap.

    It is not a real async generator, because event loops want real ones to be closed; httpx2 does that, httpx does not.
    """

    def __init__(self, tap: _Tap, keep: Callable[[bytes], None], stream: AsyncIterator[bytes]) -> None:
        self._tap = tap
        self._keep = keep
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
