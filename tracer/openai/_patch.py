"""The seam: seven methods of the SDK's base clients, patched on the class.

==========================================  ==========================================================
``SyncAPIClient.request``, async alike      sees each logical call once, retries included
``…._process_response``                     sees the response before anybody reads its body
``…._sleep_for_retry``                      sees the attempts that failed
``BaseClient._build_request``               sees the bytes as they go out
==========================================  ==========================================================

Patching the class reaches clients, resources and bound methods that exist already (openai-sdk-notes, 2), and leaves
users the SDK's own return values.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable
from typing import Any

from openai import _base_client as sdk

from tracer._context import current_span
from tracer.openai._calls import Call, Options, current_call, guarded
from tracer.openai._operations import find_operation

__all__ = ["Options", "instrument", "uninstrument"]

_lock = threading.Lock()
_originals: dict[tuple[type, str], Any] = {}
_options = Options()


def instrument(options: Options) -> None:
    """Patch the SDK; patched already, take the new options."""
    global _options
    with _lock:
        _options = options
        if _originals:
            return
        for owner, name, wrap in _PATCHES:
            original = owner.__dict__.get(name)
            if original is not None:
                _originals[owner, name] = original
                setattr(owner, name, wrap(original))


def uninstrument() -> None:
    """Put the SDK's own methods back."""
    with _lock:
        for (owner, name), original in _originals.items():
            setattr(owner, name, original)
        _originals.clear()


@guarded
def _open_call(client: Any, options: Any, streams: bool, *, is_async: bool) -> Call | None:
    operation = find_operation(options.method, options.url)
    if operation is None or (operation.only_streamed and not streams):
        return None
    if _options.stream_usage and streams and operation.key in ("chat", "completions"):
        _ask_for_usage(options)
    return Call(client, operation, _options, is_async=is_async)


def _ask_for_usage(options: Any) -> None:
    """Add ``stream_options.include_usage``, on request of the user only (``autolog(stream_usage=True)``)."""
    body = options.json_data
    if isinstance(body, dict):
        wanted = body.get("stream_options") or {}
        options.json_data = {**body, "stream_options": {"include_usage": True, **wanted}}


class _Running:
    """Makes a call and its span current while ``request`` runs; an untraced request hides the call around it."""

    __slots__ = ("_call", "_call_token", "_span_token")

    def __init__(self, call: Call | None) -> None:
        self._call = call

    def __enter__(self) -> None:
        self._call_token = current_call.set(self._call)
        self._span_token = current_span.set(self._call.span if self._call is not None else current_span.get())

    def __exit__(self, *_: object) -> None:
        try:
            current_span.reset(self._span_token)
            current_call.reset(self._call_token)
        except ValueError:
            pass  # a coroutine that the garbage collector closes, in another context


def _wrap_sync_request(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def request(self: Any, cast_to: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
        call = _open_call(self, options, bool(kwargs.get("stream")), is_async=False)
        if call is None:
            with _Running(None):
                return original(self, cast_to, options, *args, **kwargs)
        with _Running(call):
            try:
                result = original(self, cast_to, options, *args, **kwargs)
            except BaseException as error:
                call.raised(self, options, error)
                raise
        call.returned()
        return result

    return request


def _wrap_async_request(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def request(self: Any, cast_to: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
        call = _open_call(self, options, bool(kwargs.get("stream")), is_async=True)
        if call is None:
            with _Running(None):
                return await original(self, cast_to, options, *args, **kwargs)
        with _Running(call):
            try:
                result = await original(self, cast_to, options, *args, **kwargs)
            except BaseException as error:
                call.raised(self, options, error)
                raise
        call.returned()
        return result

    return request


def _wrap_build_request(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def _build_request(self: Any, *args: Any, **kwargs: Any) -> Any:
        request = original(self, *args, **kwargs)
        call = current_call.get()
        if call is not None:
            call.request_built(self, request)
        return request

    return _build_request


def _wrap_process_response(original: Callable[..., Any]) -> Callable[..., Any]:
    # Serves both: the async one hands its coroutine through.
    @functools.wraps(original)
    def _process_response(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = current_call.get()
        if call is not None:
            call.response_came(kwargs.get("response"))
        return original(self, *args, **kwargs)

    return _process_response


def _wrap_sync_sleep(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def _sleep_for_retry(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = current_call.get()
        if call is None:
            return original(self, *args, **kwargs)
        error, started_ns = sys.exc_info()[1], call.span.now_ns()
        try:
            return original(self, *args, **kwargs)
        finally:
            call.attempt_failed(kwargs.get("response"), started_ns, error)

    return _sleep_for_retry


def _wrap_async_sleep(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def _sleep_for_retry(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = current_call.get()
        if call is None:
            return await original(self, *args, **kwargs)
        error, started_ns = sys.exc_info()[1], call.span.now_ns()
        try:
            return await original(self, *args, **kwargs)
        finally:
            call.attempt_failed(kwargs.get("response"), started_ns, error)

    return _sleep_for_retry


_PATCHES: list[tuple[type, str, Callable[[Any], Any]]] = [
    (sdk.SyncAPIClient, "request", _wrap_sync_request),
    (sdk.AsyncAPIClient, "request", _wrap_async_request),
    (sdk.SyncAPIClient, "_process_response", _wrap_process_response),
    (sdk.AsyncAPIClient, "_process_response", _wrap_process_response),
    (sdk.SyncAPIClient, "_sleep_for_retry", _wrap_sync_sleep),
    (sdk.AsyncAPIClient, "_sleep_for_retry", _wrap_async_sleep),
    (sdk.BaseClient, "_build_request", _wrap_build_request),
]
