"""One call through the seam: from ``request`` to the end of its body.

Every method is called from inside the SDK, so each is guarded: what fails in here is logged, and the user's call goes
on as if we were not there.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

import msgspec

from tracer import _semconv as sc
from tracer._context import format_traceparent
from tracer._failures import is_cancellation
from tracer._records import Codec, Ending, HttpFacts, Payload
from tracer._spans import LiveSpan, open_span
from tracer._values import safe_str
from tracer.openai._operations import Operation
from tracer.openai._stream import tap

__all__ = ["Call", "Options", "current_call", "guarded"]

P = ParamSpec("P")
R = TypeVar("R")
logger = logging.getLogger("tracer")

TRACEPARENT = "traceparent"


class Options(msgspec.Struct, frozen=True):
    """What `tracer.openai.autolog` was told."""

    capture_content: bool | None = None
    stream_usage: bool = False
    propagate: bool = False


def guarded(method: Callable[P, R]) -> Callable[P, R | None]:
    """The guard at the seam: nothing of ours raises into the user's call."""

    @functools.wraps(method)
    def guard(*args: P.args, **kwargs: P.kwargs) -> R | None:
        try:
            return method(*args, **kwargs)
        except Exception:
            logger.exception("%s failed; the call goes on untraced", method.__qualname__)
            return None

    return guard


class Call:
    """The span of one logical call: retries included, and for a stream until its body ends."""

    __slots__ = ("_begun", "_body", "_http", "_last_read_ns", "_operation", "_options", "_retries", "_streams", "span")

    def __init__(self, client: Any, operation: Operation, options: Options, *, is_async: bool) -> None:
        self.span: LiveSpan = open_span(
            operation.async_resource if is_async else operation.resource, operation.span_type
        )
        self._operation = operation
        self._options = options
        self._begun = False
        self._streams = False
        self._body: bytes | None = None
        self._http: HttpFacts | None = None
        self._last_read_ns: int | None = None
        self._retries = 0

    # --- the request ----------------------------------------------------------------------------------------------

    @guarded
    def request_built(self, client: Any, request: Any) -> None:
        """See the request as it goes out, once for each attempt. The first one begins the span."""
        if not self._begun:
            self._begin(client, _body_of(request), request.url)
        if self._options.propagate and TRACEPARENT not in request.headers:
            span = self.span
            request.headers[TRACEPARENT] = format_traceparent(span.trace_id, span.span_id, sampled=span.is_recording)

    def _begin(self, client: Any, body: bytes | None, url: Any) -> None:
        self._begun = True
        span = self.span
        if not span.is_recording:
            return
        attributes: dict[str, Any] = {sc.PROVIDER_NAME: _provider(type(client)), sc.OPERATION: self._operation.key}
        if self._operation.name is not None:
            attributes[sc.OPERATION_NAME] = self._operation.name
        if url is not None:
            attributes[sc.SERVER_ADDRESS] = url.host
            attributes[sc.SERVER_PORT] = url.port or (443 if url.scheme == "https" else 80)
        payload = span.pipeline.wire_payload(body) if body is not None else None
        capture = self._options.capture_content
        span.begin(
            inputs=payload,
            attributes=attributes,
            operation=self._operation.key,
            capture=span.settings.capture_content if capture is None else capture,
            body_dropped=body is not None and payload is None,
        )

    @guarded
    def attempt_failed(self, response: Any, started_ns: int, error: BaseException | None) -> None:
        """Note an attempt that the SDK gave up and, after a pause, tried again."""
        self._retries += 1
        ended_ns = self.span.now_ns()
        attributes: dict[str, Any] = {
            "tracer.retry.attempt": self._retries,
            "tracer.retry.delay": (ended_ns - started_ns) / 1e9,
        }
        if response is not None:
            attributes[sc.HTTP_STATUS_CODE] = response.status_code
            request_id = response.headers.get("x-request-id")
            if request_id:
                attributes[sc.REQUEST_ID] = request_id
        if error is not None:
            attributes[sc.ERROR_TYPE] = type(error).__name__
        self.span.note(sc.EVENT_RETRY, attributes, started_ns)

    # --- the response ---------------------------------------------------------------------------------------------

    @guarded
    def response_came(self, response: Any) -> None:
        """See a successful response: its body if it was read, else put a tap on it."""
        self._http = _facts_of(response)
        try:
            self._body = response.content
        except Exception:  # ResponseNotRead of httpx2 or httpx: the body is the caller's to read
            if self.span.is_recording:
                self._streams = True
                tap(response, self)

    @guarded
    def returned(self) -> None:
        """The call is over for the caller, unless a body is still to be read."""
        if not self._streams:
            self._finish(Ending.RETURNED)

    @guarded
    def raised(self, client: Any, options: Any, error: BaseException) -> None:
        """The call raised, or was cancelled."""
        if not self._begun:  # it never got as far as a request: a bad argument, an auth hook that failed
            self._begin(client, _encode_json(options.json_data), None)
        response = getattr(error, "response", None)
        if self._http is None and response is not None:
            self._http = _facts_of(response)
        self._finish(Ending.CANCELLED if is_cancellation(error) else Ending.RAISED, error)

    # --- the body of a stream -------------------------------------------------------------------------------------

    def stream_read(self, data: bytes) -> None:
        """Keep one read of the body; called for each, so it does nothing else."""
        try:
            span = self.span
            self._last_read_ns = now = span.now_ns()
            if not span.pipeline.push_chunk(span.span_id, now, data):
                span.lose("chunks")
        except Exception:
            logger.exception("a chunk was not recorded")

    @guarded
    def stream_ended(self, ending: Ending, error: BaseException | None = None) -> None:
        """The body is over. Whoever sees it first says how; the span ends with the last byte, not with the close."""
        end_ns = self._last_read_ns if ending is not Ending.RAISED else None
        self._finish(ending, None if ending is Ending.CANCELLED else error, end_ns=end_ns)

    def _finish(self, ending: Ending, error: BaseException | None = None, end_ns: int | None = None) -> None:
        span = self.span
        payload = None
        if span.is_recording and self._body is not None:
            payload = span.pipeline.wire_payload(self._body)
            if payload is None:
                span.lose("bodies")
        self._body = None
        span.finish(
            ending,
            end_ns=end_ns,
            outputs=payload,
            error=error if ending is Ending.RAISED else None,
            http=self._http,
            streamed=self._streams,
            attributes={sc.RETRIES: self._retries} if self._retries else None,
        )


current_call: ContextVar[Call | None] = ContextVar("tracer_current_call", default=None)
"""The call whose ``request`` is running in this task or thread."""


@functools.cache
def _provider(client_class: type) -> str:
    """Return ``gen_ai.provider.name``. Azure's client is known by its base class, wherever a user subclassed it."""
    is_azure = any(base.__name__ == "BaseAzureClient" for base in client_class.__mro__)
    return "azure.ai.openai" if is_azure else "openai"


def _body_of(request: Any) -> bytes | None:
    """Return the body as it goes over the wire; None for multipart, which is the user's file to read."""
    try:
        body: bytes = request.content
    except Exception:  # RequestNotRead
        return None
    return body


def _facts_of(response: Any) -> HttpFacts:
    return HttpFacts(response.status_code, response.headers.raw)


def _encode_json(data: object) -> bytes | None:
    try:
        return msgspec.json.encode(data, enc_hook=safe_str)
    except Exception:  # what could not be sent either
        return None
