"""The seam for WebSockets: ``realtime.connect``, ``responses.connect`` and the like.

=================================================  ===========================================================
``…ConnectionManager.__enter__``, ``enter``        begins a session; sees a connection that fails
``…ConnectionManager.__exit__``                    sees the exception that leaves the block
``…Connection.__init__``                           gets the WebSocket, and a function that makes another
``…Connection.close``                              ends the session
``recv`` and ``send`` of that one WebSocket        see each event as the bytes on the wire, once
=================================================  ===========================================================

All but the last are patched on the class, and so are their async twins. The WebSocket itself is tapped as an object. A
connection takes it as the argument ``connection``; a connection that can reconnect also takes a function that makes
another WebSocket, as ``make_ws``. Both arguments are public (looked at: 1.109, 2.8, 2.54, 3.0, 3.20, 3.40, 3.54). The
code between the connection and its WebSocket differs from version to version (``send`` calls ``_connection.send``, then
``send_raw``, then a class-bound ``_send``; a lane of `ResponsesWebSocketSession` writes past all of them; a queue is
flushed after a reconnect), and none of it is touched. Two private names of a manager are read where they exist:
``__client`` for the provider, and ``__model`` for a connection that fails.

The modules are heavy to import, so they are patched only once the user has imported them (`seam`).
"""

from __future__ import annotations

import functools
import sys
import weakref
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from typing import Any

from tracer.capture.records import Ending
from tracer.openai._calls import Options
from tracer.openai._redirect import Patch
from tracer.openai._websocket_session import Kind, Session
from tracer.process.imports import imported
from tracer.spans.context import current_span, is_generator, leave
from tracer.spans.guard import guarded
from tracer.spans.live_span import LiveSpan

__all__ = ["has_news", "seam"]

GetOptions = Callable[[], "Options | None"]

KINDS = {
    "openai.resources.realtime.realtime": Kind("Realtime", "realtime"),
    "openai.resources.beta.realtime.realtime": Kind("Realtime", "realtime"),
    "openai.resources.responses.responses": Kind("Responses", "responses", by_lane=True),
    "openai.resources.beta.responses.responses": Kind("Responses", "responses", by_lane=True),
    # Translations have no responses, only one session. Their transcripts are in the session's span.
    "openai.resources.realtime.translations.translations": Kind("Translations", "realtime"),
    "openai.resources.live.live": Kind("Live", "realtime"),
    "openai.resources.live.sideband": Kind("Sideband", "realtime"),
    "openai.resources.live.forks": Kind("Forks", "realtime"),
}
ATTRIBUTE = "_tracer_session"  # set on a manager and on a connection

_entering: ContextVar[Session | None] = ContextVar("tracer_entering_session", default=None)
"""The session whose manager is connecting. A connection that is made meanwhile belongs to this session."""

_seen: set[str] = set()


def has_news() -> bool:
    """Tell whether a module with sessions was imported since `seam` was last called."""
    return any(name not in _seen and imported(name) is not None for name in KINDS)


def seam(options: GetOptions) -> Iterator[Patch]:
    """Yield what has to be patched in the modules that are imported by now."""
    for name, kind in KINDS.items():
        module = imported(name)
        if module is not None:
            _seen.add(name)
            yield from _patches(module, kind, options, is_async=False)
            yield from _patches(module, kind, options, is_async=True)


def _patches(module: Any, kind: Kind, options: GetOptions, *, is_async: bool) -> Iterator[Patch]:
    resource = f"Async{kind.resource}" if is_async else kind.resource
    manager = getattr(module, f"{resource}ConnectionManager", None)
    connection = getattr(module, f"{resource}Connection", None)
    if manager is None or connection is None:  # a version that lacks them
        return
    begin = functools.partial(_begin, kind, options, manager, is_async=is_async)
    wrap_enter, wrap_exit, wrap_close = (
        (_wrap_async_enter, _wrap_async_exit, _wrap_async_close)
        if is_async
        else (_wrap_sync_enter, _wrap_sync_exit, _wrap_sync_close)
    )
    yield manager, "__aenter__" if is_async else "__enter__", functools.partial(wrap_enter, begin, makes_current=True)
    yield manager, "enter", functools.partial(wrap_enter, begin, makes_current=False)
    yield manager, "__aexit__" if is_async else "__exit__", wrap_exit
    yield connection, "__init__", _wrap_init
    yield _owner(connection, "close"), "close", wrap_close


def _owner(cls: type, name: str) -> type:
    """Return the class that defines a method: later versions have one base class for all connections."""
    return next((base for base in cls.__mro__ if name in base.__dict__), cls)


# --- the manager ----------------------------------------------------------------------------------------------------


@guarded
def _begin(kind: Kind, get_options: GetOptions, owner: type, manager: Any, *, is_async: bool) -> Session | None:
    options = get_options()
    if options is None:
        return None
    client = getattr(manager, f"_{owner.__name__}__client", None)
    model = getattr(manager, f"_{owner.__name__}__model", None)
    return Session(kind, options, type(client), model if isinstance(model, str) else None, is_async=is_async)


@guarded
def _entered(manager: Any, session: Session, *, makes_current: bool) -> None:
    """Attach the session to its manager, and make it current for the block, as `tracer.start_span` does."""
    before = current_span.get()
    setattr(manager, ATTRIBUTE, (session, before))
    if makes_current:
        current_span.set(session.span)


def _not_entered(session: Session, before: LiveSpan | None) -> None:
    """The manager raises the current exception, so nobody calls its ``__exit__``. A second call does nothing."""
    _connecting_is_over(session)
    leave(session.span, before)
    error = sys.exc_info()[1]
    if error is not None:
        session.not_entered(error)


def _connecting_is_over(session: Session) -> None:
    if _entering.get() is session:
        _entering.set(None)


@guarded
def _leave(manager: Any, error: BaseException | None) -> Session | None:
    session, before = vars(manager).pop(ATTRIBUTE, (None, None))
    if session is not None:
        leave(session.span, before)
        session.leaving(error)
    return session if isinstance(session, Session) else None


def _wrap_sync_enter(begin: Callable[[Any], Session | None], original: Any, *, makes_current: bool) -> Any:
    @functools.wraps(original)
    def enter(self: Any) -> Any:
        session = begin(self)
        if session is None:
            return original(self)
        before = current_span.get()
        is_entered = False
        try:  # Ctrl-C can come anywhere: so all is inside the try, and the clean-up runs twice
            _entering.set(session)
            connection = original(self)
            _connecting_is_over(session)
            _entered(self, session, makes_current=makes_current and not is_generator(sys._getframe(1)))
            is_entered = True
            return connection
        finally:
            try:
                if not is_entered:
                    _not_entered(session, before)
            finally:
                if not is_entered:
                    _not_entered(session, before)

    return enter


def _wrap_async_enter(begin: Callable[[Any], Session | None], original: Any, *, makes_current: bool) -> Any:
    @functools.wraps(original)
    async def enter(self: Any) -> Any:
        session = begin(self)
        if session is None:
            return await original(self)
        before = current_span.get()
        is_entered = False
        try:  # Ctrl-C can come anywhere: so all is inside the try, and the clean-up runs twice
            _entering.set(session)
            connection = await original(self)
            _connecting_is_over(session)
            _entered(self, session, makes_current=makes_current and not is_generator(sys._getframe(1)))
            is_entered = True
            return connection
        finally:
            try:
                if not is_entered:
                    _not_entered(session, before)
            finally:
                if not is_entered:
                    _not_entered(session, before)

    return enter


def _wrap_sync_exit(original: Any) -> Any:
    @functools.wraps(original)
    def leave(self: Any, kind: Any, error: BaseException | None, traceback: Any) -> Any:
        session = _leave(self, error)
        try:
            return original(self, kind, error, traceback)
        finally:
            if session is not None:
                session.end()

    return leave


def _wrap_async_exit(original: Any) -> Any:
    @functools.wraps(original)
    async def leave(self: Any, kind: Any, error: BaseException | None, traceback: Any) -> Any:
        session = _leave(self, error)
        try:
            return await original(self, kind, error, traceback)
        finally:
            if session is not None:
                session.end()

    return leave


# --- the connection -------------------------------------------------------------------------------------------------


def _wrap_init(original: Any) -> Any:
    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        session = _entering.get()
        if session is None:
            original(self, *args, **kwargs)
            return
        if kwargs.get("make_ws") is not None:
            kwargs["make_ws"] = _remaking(session, kwargs["make_ws"])
        original(self, *args, **kwargs)
        _made(self, session, args[0] if args else kwargs.get("connection"))

    return init


@guarded
def _made(connection: Any, session: Session, websocket: Any) -> None:
    session.connected(websocket)
    _tap(websocket, session)
    setattr(connection, ATTRIBUTE, session)
    # For a connection that is dropped without a close. The session must not keep the connection alive, so it refers to
    # the WebSocket only.
    weakref.finalize(connection, session.end, Ending.COLLECTED).atexit = False


def _remaking(session: Session, make: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that makes the next WebSocket, after one was lost, and taps it."""
    session.can_reconnect = True

    def remake(*args: Any, **kwargs: Any) -> Any:
        try:
            websocket = make(*args, **kwargs)
        except BaseException as error:
            session.refused(error)
            raise
        _remade(session, websocket)
        return websocket

    async def async_remake(*args: Any, **kwargs: Any) -> Any:
        try:
            websocket = await make(*args, **kwargs)
        except BaseException as error:
            session.refused(error)
            raise
        _remade(session, websocket)
        return websocket

    return async_remake if session.is_async else remake


@guarded
def _remade(session: Session, websocket: Any) -> None:
    session.connected(websocket)
    _tap(websocket, session)


def _wrap_sync_close(original: Any) -> Any:
    @functools.wraps(original)
    def close(self: Any, *args: Any, **kwargs: Any) -> Any:
        session: Session | None = getattr(self, ATTRIBUTE, None)
        if session is None:
            return original(self, *args, **kwargs)
        session.closing()
        try:
            return original(self, *args, **kwargs)
        finally:
            session.end()

    return close


def _wrap_async_close(original: Any) -> Any:
    @functools.wraps(original)
    async def close(self: Any, *args: Any, **kwargs: Any) -> Any:
        session: Session | None = getattr(self, ATTRIBUTE, None)
        if session is None:
            return await original(self, *args, **kwargs)
        session.closing()
        try:
            return await original(self, *args, **kwargs)
        finally:
            session.end()

    return close


# --- the WebSocket --------------------------------------------------------------------------------------------------


def _tap(websocket: Any, session: Session) -> None:
    """Wrap ``recv`` and ``send`` of one WebSocket, until the session ends or gets another WebSocket.

    The wrappers add no ``await`` and no lock.
    """
    before = {name: vars(websocket).get(name) for name in ("recv", "send")}
    make_taps = _async_taps if session.is_async else _sync_taps
    websocket.recv, websocket.send = taps = make_taps(websocket.recv, websocket.send, session)
    session.tapped(functools.partial(_untap, websocket, before, dict(zip(before, taps, strict=True))))


def _untap(websocket: Any, before: dict[str, Any], taps: dict[str, Any]) -> None:
    """Take our taps out of a WebSocket, unless somebody has put something over them."""
    for name, tap in taps.items():
        if vars(websocket).get(name) is tap:
            if before[name] is None:
                delattr(websocket, name)
            else:
                setattr(websocket, name, before[name])


def _sync_taps(recv: Callable[..., Any], send: Callable[..., Any], session: Session) -> tuple[Any, Any]:
    @functools.wraps(recv)
    def tapped_recv(*args: Any, **kwargs: Any) -> Any:
        try:
            data = recv(*args, **kwargs)
        except BaseException as error:
            session.failed(error)
            raise
        session.received(data)
        return data

    @functools.wraps(send)
    def tapped_send(message: Any, *args: Any, **kwargs: Any) -> Any:
        turn = session.sent(message)
        try:
            return send(message, *args, **kwargs)
        except BaseException as error:
            session.unsent(turn, error)
            session.failed(error)
            raise

    return tapped_recv, tapped_send


def _async_taps(
    recv: Callable[..., Awaitable[Any]], send: Callable[..., Awaitable[Any]], session: Session
) -> tuple[Any, Any]:
    @functools.wraps(recv)
    async def tapped_recv(*args: Any, **kwargs: Any) -> Any:
        try:
            data = await recv(*args, **kwargs)
        except BaseException as error:
            session.failed(error)
            raise
        session.received(data)  # no await between here and the caller: a cancelled wait loses no event
        return data

    @functools.wraps(send)
    async def tapped_send(message: Any, *args: Any, **kwargs: Any) -> Any:
        turn = session.sent(message)
        try:
            return await send(message, *args, **kwargs)
        except BaseException as error:
            session.unsent(turn, error)
            session.failed(error)
            raise

    return tapped_recv, tapped_send
