"""The seam: methods of the SDK's base clients, patched where they are.

==========================================  ==========================================================
``SyncAPIClient.request``, async too        sees each logical call once, retries included
``…._process_response``                     sees the response before anybody reads its body
``…._sleep_for_retry``                      sees the attempts that failed
``BaseClient._build_request``               sees the bytes as they go out
``SyncAPIResource.__init__``, async too     notices imports of WebSocket modules (`tracer.openai._websocket`)
==========================================  ==========================================================

That reaches clients, resources and bound methods that exist already, also where other tools have put wrappers around
them (`tracer.openai._redirect`), and leaves users the SDK's own return values.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from openai import _base_client as sdk
from openai._compat import model_copy
from openai._resource import AsyncAPIResource, SyncAPIResource

from tracer.openai import _older, _websocket
from tracer.openai._bypasses import do_not_suspect, find_bypasses, notice_bypass, tell_of_bypasses
from tracer.openai._calls import Call, Options, current_call, running_call
from tracer.openai._kinds import call_class
from tracer.openai._operations import find_operation
from tracer.openai._redirect import Patch, Redirect, Replacement, find_function
from tracer.spans.guard import guarded, report

__all__ = ["Options", "instrument", "uninstrument"]

_lock = threading.Lock()
_patched: dict[tuple[type, str], Redirect | Replacement] = {}  # by class and name of the method
_options: Options | None = None  # None: switched off


def instrument(options: Options) -> None:
    """Patch the SDK. If it is patched already, only take the new options."""
    global _options
    with _lock:
        _options = options
        _apply(_SEAM)
        _apply(_older.seam(_pause))
        _apply_to_websockets()
    tell_of_bypasses(find_bypasses())


def _apply(seam: Iterable[Patch]) -> None:
    for owner, name, wrap in seam:
        if not _is_in_place(owner, name):
            function = find_function(owner, name)
            if function is not None:
                _patched[owner, name] = Redirect(function, wrap)
            elif name in owner.__dict__:  # older versions of the SDK lack some
                _patched[owner, name] = Replacement(owner, name, wrap)


def _apply_to_websockets() -> None:
    for owner, name, wrap in _websocket.seam(_get_options):  # a function may have two names here, with two wrappers
        if name in owner.__dict__ and not _is_in_place(owner, name):
            _patched[owner, name] = Replacement(owner, name, wrap)


def _is_in_place(owner: type, name: str) -> bool:
    patched = _patched.get((owner, name))
    return patched is not None and patched.is_in_place


def _get_options() -> Options | None:
    return _options


def uninstrument() -> None:
    """Give the SDK's methods back what they were. Wrappers that other libraries have put around them stay."""
    global _options
    with _lock:
        _options = None
        for key, patched in list(_patched.items()):
            if patched.undo():
                del _patched[key]


# --- calls ----------------------------------------------------------------------------------------------------------


class _Scope(Protocol):
    """What is entered before a request and left after it."""

    def enter(self) -> None: ...

    def leave(self, error: BaseException | None = None) -> None: ...


def _scope(client: Any, request_options: Any, kwargs: Mapping[str, Any], is_async: bool) -> _Scope | None:
    """Return the scope for a request: its call if it is traced; otherwise None, or what hides the call around it."""
    options = _options
    if options is None:
        return None
    try:
        around = current_call.get()
        if around is not None and around.request_options is request_options:
            return None  # wrapped twice, for example by a library that puts our wrapper back over another of ours
        operation = find_operation(request_options.method, request_options.url)
        if operation is None:
            return None if around is None else _Hidden()
        watch = Call
        if operation.kind != "call":  # most are plain calls and need no further look
            watch = call_class(operation, request_options, streamed=bool(kwargs.get("stream")))
        return watch(client, operation, request_options, options, is_async)
    except Exception:
        report("_scope")
        do_not_suspect(client)
        return None


class _Hidden:
    """Hides the current call from an untraced request that is made inside it, for example by a user's HTTP hook."""

    def __init__(self) -> None:
        self._around = current_call.get()

    def enter(self) -> None:
        current_call.set(None)

    def leave(self, error: BaseException | None = None) -> None:
        if current_call.get() is None:
            current_call.set(self._around)


@guarded
def _with_usage(options: Any, kwargs: Mapping[str, Any]) -> Any:
    """Add ``stream_options.include_usage``, only if the user asked for it (``autolog(stream_usage=True)``)."""
    operation, body = find_operation(options.method, options.url), options.json_data
    if not kwargs.get("stream") or operation is None or operation.key not in ("chat", "completions"):
        return options
    if not isinstance(body, Mapping) or not isinstance(wanted := body.get("stream_options") or {}, Mapping):
        return options
    options = model_copy(options)  # the caller may reuse the original
    options.json_data = {**body, "stream_options": {"include_usage": True, **wanted}}
    return options


# A `KeyboardInterrupt` can come in the middle of anything that the wrappers call. So a scope is entered and left inside
# one ``try`` (a ``with`` would call ``__exit__`` outside of it). Where something was raised, the scope is left twice:
# if the first time was interrupted, the second does the rest. This is in a ``finally`` that begins with a ``try``,
# because Python 3.10 also looks for signals on its way into any other handler.


def _wrap_sync_request(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def request(self: Any, cast_to: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
        wanted = _options
        if wanted is not None and wanted.stream_usage:
            options = _with_usage(options, kwargs) or options
        scope = _scope(self, options, kwargs, False)
        if scope is None:
            return original(self, cast_to, options, *args, **kwargs)
        is_over = False
        try:
            scope.enter()
            result = original(self, cast_to, options, *args, **kwargs)
            scope.leave()
            is_over = True
            return result
        finally:
            try:
                if not is_over:
                    scope.leave(sys.exc_info()[1])
            finally:
                if not is_over:
                    scope.leave(sys.exc_info()[1])

    return request


def _wrap_async_request(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def request(self: Any, cast_to: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
        wanted = _options
        if wanted is not None and wanted.stream_usage:
            options = _with_usage(options, kwargs) or options
        scope = _scope(self, options, kwargs, True)
        if scope is None:
            return await original(self, cast_to, options, *args, **kwargs)
        is_over = False
        try:
            scope.enter()
            result = await original(self, cast_to, options, *args, **kwargs)
            scope.leave()
            is_over = True
            return result
        finally:
            try:
                if not is_over:
                    scope.leave(sys.exc_info()[1])
            finally:
                if not is_over:
                    scope.leave(sys.exc_info()[1])

    return request


def _wrap_build_request(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def _build_request(self: Any, *args: Any, **kwargs: Any) -> Any:
        request = original(self, *args, **kwargs)
        call = running_call()
        if call is not None:
            call.request_built(request)
        elif _options is not None and not kwargs.get("retries_taken"):
            notice_bypass(self, args[0] if args else kwargs.get("options"))
        return request

    return _build_request


def _wrap_process_response(original: Callable[..., Any]) -> Callable[..., Any]:
    # Serves sync and async: the coroutine of the async method is returned as it is.
    @functools.wraps(original)
    def _process_response(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = running_call()
        if call is not None:
            call.response_came(kwargs.get("response"))
        return original(self, *args, **kwargs)

    return _process_response


# --- attempts -------------------------------------------------------------------------------------------------------


class _Pause:
    """Times the pause after an attempt that failed."""

    def __init__(self, call: Call, response: Any) -> None:
        self._call = call
        self._response = response
        self._error = sys.exc_info()[1]
        self._started_ns = call.span.now_ns()

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        self._call.attempt_failed(self._response, self._started_ns, self._error)


@guarded
def _pause(response: Any) -> _Pause | None:
    call = running_call()
    return None if call is None else _Pause(call, response)


def _wrap_sync_sleep(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def _sleep_for_retry(self: Any, *args: Any, **kwargs: Any) -> Any:
        pause = _pause(kwargs.get("response"))
        if pause is None:
            return original(self, *args, **kwargs)
        with pause:
            return original(self, *args, **kwargs)

    return _sleep_for_retry


def _wrap_async_sleep(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def _sleep_for_retry(self: Any, *args: Any, **kwargs: Any) -> Any:
        pause = _pause(kwargs.get("response"))
        if pause is None:
            return await original(self, *args, **kwargs)
        with pause:
            return await original(self, *args, **kwargs)

    return _sleep_for_retry


# --- resources ------------------------------------------------------------------------------------------------------


def _wrap_resource(original: Callable[..., Any]) -> Callable[..., Any]:
    # A client creates each resource at its first use, and imports the resource's module then.
    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if _options is not None and _websocket.has_news():
            _patch_news()

    return init


@guarded
def _patch_news() -> None:
    with _lock:
        if _options is not None:
            _apply_to_websockets()


_SEAM: list[Patch] = [
    (sdk.SyncAPIClient, "request", _wrap_sync_request),
    (sdk.AsyncAPIClient, "request", _wrap_async_request),
    (sdk.SyncAPIClient, "_process_response", _wrap_process_response),
    (sdk.AsyncAPIClient, "_process_response", _wrap_process_response),
    (sdk.SyncAPIClient, "_sleep_for_retry", _wrap_sync_sleep),
    (sdk.AsyncAPIClient, "_sleep_for_retry", _wrap_async_sleep),
    (sdk.BaseClient, "_build_request", _wrap_build_request),
    (SyncAPIResource, "__init__", _wrap_resource),
    (AsyncAPIResource, "__init__", _wrap_resource),
]
