"""One WebSocket session as it is recorded: a span for the session, and one below it for each response.

Events come in as the bytes on the wire, from whichever thread or task sends or receives them. Each is routed by its
head to the response that it is part of, or to the session, and queued unchanged. The worker works out what it means
(`tracer.interpret.realtime`, and `tracer.interpret.responses` for Responses). Events are framed as server-sent events,
so that all code behind the queue reads them like a stream over HTTP.

A session may last for hours, so nothing here grows with it: a response's events leave with the response, and the
session keeps the first `SESSION_ROOM` bytes of its own events and counts the rest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from tracer import _semconv as sc
from tracer._models import SpanType
from tracer.capture.failures import is_cancellation
from tracer.capture.records import Ending, HttpFacts, Rank, SpanChunk
from tracer.openai._calls import Options
from tracer.openai._calls import _provider as provider_of
from tracer.openai._websocket_events import (
    EDGE,
    NO_HEAD,
    Head,
    as_bytes,
    heard,
    measured,
    read_head,
    spoken,
    without_audio,
)
from tracer.openai._websocket_handshake import Handshake, close_attributes, is_clean, is_closed
from tracer.openai._websocket_turn import Turn, framed
from tracer.spans.guard import guarded, report
from tracer.spans.opening import open_span

__all__ = ["Kind", "Session"]

_RETURNED, _RAISED, _CANCELLED = Ending.RETURNED, Ending.RAISED, Ending.CANCELLED
_EXHAUSTED, _CLOSED = Ending.EXHAUSTED, Ending.CLOSED

SESSION_ROOM = 1 << 20  # bytes of a session's own events: they stay in the worker's memory until it ends
INPUT_ROOM = 1 << 20  # bytes of what was said since the last response: the next response's input
MAX_OPEN = 256  # responses that run at the same time
TERMINAL = frozenset(
    {"response.done", "response.completed", "response.incomplete", "response.failed", "response.cancelled"}
)
INPUT_SENT = frozenset({"conversation.item.create", "input_audio_buffer.commit"})
COMMITTED = "input_audio_buffer.committed"
TRANSCRIBED = "conversation.item.input_audio_transcription.completed"
BUSY = "conversation_already_has_active_response"


class Kind(msgspec.Struct, frozen=True):
    """A kind of session.

    Attributes:
        resource: The SDK's resource class, which names the spans.
        operation: Picks the interpreter of its responses; with ``.session`` appended, that of the session.
        by_lane: True (Responses): an event belongs to the response that runs in its lane. False (Realtime): an event
            belongs to the response that it names.
    """

    resource: str
    operation: str
    by_lane: bool = False


class Session:
    """The span of one session. Every method may be called from any thread; none raises, blocks or takes a lock.

    Args:
        kind: What is spoken over the connection.
        options: What `tracer.openai.autolog` was told.
        client_class: The class of the user's client, which tells the provider.
        model: The model as given to ``connect``, needed if no connection is made.
        is_async: Whether the client is async.
    """

    def __init__(self, kind: Kind, options: Options, client_class: type, model: str | None, *, is_async: bool) -> None:
        self.kind = kind
        self.is_async = is_async
        self.can_reconnect = False
        self._options = options
        self._name = f"Async{kind.resource}" if is_async else kind.resource
        self._client_class = client_class
        self._model = model
        self.span = open_span(f"{self._name}.connect", SpanType.CHAIN)
        capture = options.capture_content
        self._capture: bool = self.span.settings.capture_content if capture is None else capture
        self._keeps_audio = options.capture_audio and self._capture
        self._room = self.span.settings.max_payload_bytes if self._keeps_audio else SESSION_ROOM
        self._http: HttpFacts | None = None
        self._server: dict[str, Any] = {}
        self._begun = self._ended = self._closing = False
        self._cut: tuple[int, BaseException | None] | None = None  # when and how the connection was lost
        self._left: tuple[Ending, BaseException | None] = (_RETURNED, None)
        self._waiting: dict[str | None, deque[Turn]] = {}  # by lane: requested, but not yet begun by the server
        self._running: dict[str | None, Turn] = {}  # by response id, or by lane
        self._said: list[bytes] = []  # events that make up the next response's input
        self._said_room = INPUT_ROOM
        self._unanswered: set[str] = set()  # ids of the speech items among them
        self._heard = 0  # bytes of audio since the last response
        self._sent = self._received = self._responses = self._reconnects = 0
        self._audio_in = self._audio_out = 0
        self._records = False  # True once the span has begun, unless it is left out
        self._untap: Callable[[], None] | None = None

    # --- the connection -------------------------------------------------------------------------------------------

    @guarded
    def connected(self, connection: Any) -> None:
        """The handshake is done. The first handshake begins the span."""
        shaken = Handshake.of(connection)
        self._http = shaken.http
        if not self._begun:
            self._model = self._model or shaken.query.get("model") or shaken.query.get("deployment")
            self._server = shaken.server
            self._begin(shaken.query)
        else:
            self._cut = None
            self._reconnects += 1
            self.span.note(sc.EVENT_RECONNECT, {sc.HTTP_STATUS_CODE: shaken.status_code})

    def tapped(self, untap: Callable[[], None]) -> None:
        """A WebSocket is tapped; `untap` removes the tap. The tap on the WebSocket before it is removed now."""
        self._let_go()
        self._untap = untap

    def _let_go(self) -> None:
        untap, self._untap = self._untap, None
        if untap is not None:
            untap()

    def _begin(self, query: dict[str, str]) -> None:
        span = self.span
        inputs = msgspec.json.encode({"model": self._model, **query} if self._model else query)
        span.begin(
            inputs=span.pipeline.wire_payload(inputs),
            attributes=self._attributes(f"{self.kind.operation}.session"),
            operation=f"{self.kind.operation}.session",
            capture=self._capture,
        )
        self._begun = True
        self._records = span.is_recording
        span.pipeline.unfinished.add(self)

    def _attributes(self, operation: str) -> dict[str, Any]:
        return {sc.PROVIDER_NAME: provider_of(self._client_class), sc.OPERATION: operation, **self._server}

    @guarded
    def refused(self, error: BaseException) -> None:
        """The connection, or a reconnect, failed."""
        self._http = self._http or Handshake.refusal(error)
        if self._begun:
            self.span.note(sc.EVENT_RETRY, {sc.ERROR_TYPE: type(error).__name__})
            return
        self._begin({})
        self._end(_CANCELLED if is_cancellation(error) else _RAISED, error)

    @guarded
    def not_entered(self, error: BaseException) -> None:
        """The body of the ``with`` block is not entered: there is no connection, or Ctrl-C came right after it."""
        if not self._begun:
            self.refused(error)
        else:
            self.leaving(error)
            self.end()

    @guarded
    def failed(self, error: BaseException) -> None:
        """A send or receive raised. This matters only if the connection is lost; a cancelled wait changes nothing."""
        if self._closing or self._cut is not None or not is_closed(error):
            return
        clean = is_clean(error)
        self._cut = self.span.now_ns(), None if clean else error
        self._server.update(close_attributes(error))
        self._end_turns(_EXHAUSTED if clean else _RAISED, None if clean else error)
        if not self.can_reconnect:
            self._end(_EXHAUSTED)

    @guarded
    def closing(self) -> None:
        """The user closes the connection: the server's close that follows is not recorded."""
        self._closing = True

    @guarded
    def leaving(self, error: BaseException | None) -> None:
        """The ``with`` block of the connection is left, with this exception or without one."""
        if isinstance(error, GeneratorExit):
            self._left = _CLOSED, error
        elif error is not None:
            self._left = (_CANCELLED if is_cancellation(error) else _RAISED), error

    @guarded
    def end(self, ending: Ending | None = None) -> None:
        """The session is over; a second end does nothing. Safe in a finalizer."""
        left, error = self._left
        self._end(left if ending is None else ending, error)

    def abandon(self) -> None:
        """The process ends while the connection is open."""
        self.end(Ending.COLLECTED)

    def _end(self, ending: Ending, error: BaseException | None = None) -> None:
        if self._ended:
            return
        self._ended = True
        self.span.pipeline.unfinished.discard(self)
        self._let_go()
        end_ns = None
        if self._cut is not None and ending is not _CANCELLED:
            end_ns, lost = self._cut
            ending, error = (ending, error) if lost is None or ending is _RAISED else (_RAISED, lost)
        self._cut, self._left = None, (_RETURNED, None)  # exceptions keep the frames that they passed alive
        # Responses that still run end with the session. They did not fail, so they do not end as failed.
        self._end_turns(_CLOSED if ending in (_RETURNED, _RAISED, _EXHAUSTED) else ending)
        attributes = self._counts()
        attributes.update({key: value for key, value in self._server.items() if key.startswith("tracer.")})
        if self._room < 0:
            attributes[sc.TRUNCATED] = {"chunks": -self._room}
        error = error if ending is _RAISED else None
        self.span.finish(ending, end_ns=end_ns, error=error, http=self._http, streamed=True, attributes=attributes)

    def _counts(self) -> dict[str, Any]:
        counts = {
            sc.WEBSOCKET_EVENTS_SENT: self._sent,
            sc.WEBSOCKET_EVENTS_RECEIVED: self._received,
            sc.WEBSOCKET_RESPONSES: self._responses,
            sc.WEBSOCKET_RECONNECTS: self._reconnects,
            sc.AUDIO_INPUT_BYTES: self._audio_in,
            sc.AUDIO_OUTPUT_BYTES: self._audio_out,
        }
        return {key: count for key, count in counts.items() if count}

    def _end_turns(self, ending: Ending, error: BaseException | None = None) -> None:
        turns = [turn for lane in list(self._waiting.values()) for turn in list(lane)]
        turns += list(self._running.values())
        self._waiting.clear()
        self._running.clear()
        for turn in turns:
            turn.end(ending, error)

    # --- events that go out ---------------------------------------------------------------------------------------

    def sent(self, message: object) -> Turn | None:
        """See an event before its bytes are sent; returns the response that the event asks for."""
        try:
            data = as_bytes(message)
            if data is None or self._ended or not self._records:
                return None
            self._sent += 1
            size = spoken(data)
            if size is None:
                head = read_head(data)
                size = measured(head, data)
                if size is None:
                    return self._give(head, data if self._keeps_audio else without_audio(data))
            self._heard += size
            self._audio_in += size
            if self._keeps_audio:
                self._keep(self.span.now_ns(), data)
        except Exception:
            report("Session.sent")
        return None

    def _give(self, head: Head, data: bytes) -> Turn | None:
        if head.type == "response.create":
            return self._ask(head, data)
        if head.type in INPUT_SENT:
            self._say(data)
        self._keep(self.span.now_ns(), data)
        return None

    @guarded
    def unsent(self, turn: Turn | None, error: BaseException) -> None:
        """The event that `sent` saw was not sent."""
        if turn is not None and not is_cancellation(error):
            for lane in list(self._waiting.values()):
                if turn in lane:
                    lane.remove(turn)
            turn.end(_RAISED, error)

    def _ask(self, head: Head, data: bytes) -> Turn:
        turn = self._open_turn(data)
        turn.event_id = head.event_id
        lane = self._waiting.setdefault(head.stream_id, deque())
        lane.append(turn)
        if len(lane) > MAX_OPEN:
            lane.popleft().end(_CLOSED)
        return turn

    def _say(self, data: bytes) -> None:
        """Keep an event that is part of the next response's input."""
        if not self.kind.by_lane and len(data) <= self._said_room:
            self._said_room -= len(data)
            self._said.append(data)

    def _open_turn(self, request: bytes | None) -> Turn:
        said, self._said, self._said_room = self._said, [], INPUT_ROOM
        heard, self._heard = self._heard, 0
        self._unanswered = set()
        span = open_span(self._name, SpanType.CHAT_MODEL, self.span)
        self._responses += 1
        inputs = request if self.kind.by_lane else self._compose(request, said)
        span.begin(
            inputs=None if inputs is None else span.pipeline.wire_payload(inputs),
            attributes={**self._attributes(self.kind.operation), sc.OPERATION_NAME: "chat"},
            operation=self.kind.operation,
            capture=self._capture,
        )
        return Turn(span, heard)

    def _compose(self, request: bytes | None, said: list[bytes]) -> bytes:
        """Join the request for a response with what was said before it; `interpret.realtime` takes this apart again."""
        return b'{"model":%s,"create":%s,"events":[%s]}' % (
            msgspec.json.encode(self._model),
            request or b"null",
            b",".join(said),
        )

    # --- events that come in --------------------------------------------------------------------------------------

    def received(self, message: object) -> None:
        """See an event that came in, before the user does. It is called for each event, so it is quick with audio."""
        try:
            data = as_bytes(message)
            if data is None or self._ended or not self._records:
                return
            self._received += 1
            size = heard(data)
            if size is None:
                head = read_head(data)
                size = measured(head, data)
                if size is None:
                    self._get(head, data if self._keeps_audio else without_audio(data))
                    return
            self._hear(size, data)
        except Exception:
            report("Session.received")

    def _get(self, head: Head, data: bytes) -> None:
        now_ns = self.span.now_ns()
        turn = self._turn_of(head)
        if turn is None:
            self._take(now_ns, head, data)
            return
        turn.take(now_ns, data)
        if head.type in TERMINAL or head.type == "error":
            self._forget(turn)
            turn.end(_EXHAUSTED)

    def _hear(self, size: int, data: bytes) -> None:
        self._audio_out += size
        for turn in list(self._running.values()):
            # The audio events of Responses do not name their response.
            if self.kind.by_lane or data.find(turn.marker, 0, EDGE) >= 0:
                turn.take_audio(size)
                if self._keeps_audio:
                    turn.take(self.span.now_ns(), data)
                return
        if self._keeps_audio:
            self._keep(self.span.now_ns(), data)

    def _take(self, now_ns: int, head: Head, data: bytes) -> None:
        """Take an event of the session itself."""
        if head.session is not None and head.session.model:
            self._model = head.session.model
        if head.type == COMMITTED:
            self._commit(head, data)
        elif head.type == TRANSCRIBED:
            self._transcribe(now_ns, head, data)
        self._keep(now_ns, data)

    def _commit(self, head: Head, data: bytes) -> None:
        """Take speech. It belongs to the response that was requested already, or else to the next one."""
        if not self._waiting.get(None) and len(self._unanswered) < MAX_OPEN:
            self._unanswered.add(head.item_id or "")
            self._say(data)

    def _transcribe(self, now_ns: int, head: Head, data: bytes) -> None:
        """Take the transcript of some speech, which may come before, during or after the answer to that speech."""
        if (head.item_id or "") in self._unanswered:
            self._say(data)
            return
        open_turns = [*list(self._running.values()), *list(self._waiting.get(None, ()))]
        if open_turns:
            open_turns[-1].take(now_ns, data)

    def _turn_of(self, head: Head) -> Turn | None:
        """Return the response that an event is part of. If nobody requested it, its first event begins it."""
        named = head.response.id if head.response is not None else None
        key = head.stream_id if self.kind.by_lane else head.response_id or named
        if head.type == "response.created":
            turn = self._start(key, head.stream_id)
            turn.marker = b'"%s"' % (named or "").encode()
            return turn
        if head.type == "error":
            return self._refused(head)
        return self._running.get(key) if head is not NO_HEAD else None

    def _start(self, key: str | None, lane: str | None) -> Turn:
        waiting = self._waiting.get(lane)
        turn = waiting.popleft() if waiting else self._open_turn(None)
        before = self._running.pop(key, None)
        if before is None and len(self._running) >= MAX_OPEN:
            before = self._running.pop(next(iter(self._running)))
        if before is not None:  # its terminal event never came
            before.end(_EXHAUSTED)
        self._running[key] = turn
        return turn

    def _refused(self, head: Head) -> Turn | None:
        """Return the response that an error is about; None if it is about the session, which most errors don't end."""
        if self.kind.by_lane and head.stream_id in self._running:
            return self._running[head.stream_id]
        waiting = self._waiting.get(head.stream_id)
        if not waiting:
            return None
        code, event_id = (head.error.code, head.error.event_id) if head.error is not None else (None, None)
        named = next((turn for turn in list(waiting) if event_id and turn.event_id == event_id), None)
        if named is not None:
            waiting.remove(named)
            return named
        return waiting.popleft() if self.kind.by_lane or code == BUSY else None

    def _forget(self, turn: Turn) -> None:
        for key, running in list(self._running.items()):
            if running is turn:
                self._running.pop(key, None)

    def _keep(self, now_ns: int, data: bytes) -> None:
        """Keep an event of the session, as long as there is room."""
        span, event = self.span, framed(data)
        self._room -= len(event)
        if self._room < 0 or not span.pipeline.push(SpanChunk(span.span_id, now_ns, event), Rank.CHUNK):
            span.lose("chunks")
