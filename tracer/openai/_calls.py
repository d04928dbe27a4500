"""One call through the seam: from ``request`` to the end of its body.

Every method is called from inside the SDK, so each is guarded: an error in here is logged, and the user's call goes on
as if we were not there. The methods that run for each call or each chunk have their own ``try``, because a decorator
would add a tenth to their time.
"""

from __future__ import annotations

import functools
import re
from contextvars import ContextVar
from typing import Any

import msgspec

from tracer import _semconv as sc
from tracer.capture.error_bodies import error_body
from tracer.capture.failures import is_cancellation
from tracer.capture.records import EncodedAttributes, Ending, HttpFacts, Payload
from tracer.capture.response_heads import kept_head
from tracer.interpret import encode_value
from tracer.openai._model_call import running_model_call
from tracer.openai._multipart import form_of
from tracer.openai._operations import Operation
from tracer.openai._stream import Reads, tap
from tracer.spans.context import current_span, format_traceparent, leave
from tracer.spans.guard import guarded, report
from tracer.spans.live_span import LiveSpan
from tracer.spans.opening import CURRENT, open_span

__all__ = ["Call", "Options", "current_call", "facts_of", "running_call"]

# Members of an enum are slow to look up on Python 3.11 (0.25 µs).
_RETURNED, _RAISED, _CANCELLED = Ending.RETURNED, Ending.RAISED, Ending.CANCELLED

TRACEPARENT = "traceparent"
AZURE = "azure.ai.openai"
DEPLOYMENT = re.compile(r"/deployments/([^/]+)/")
EVENT_STREAM_STARTS = (b"data:", b"event:", b":")
UNSEEN_NOTE = "the response was not seen: tracing was switched off, or failed, while the call ran"


class Options(msgspec.Struct, frozen=True):
    """What `tracer.openai.autolog` was told."""

    capture_content: bool | None = None
    stream_usage: bool = False
    propagate: bool = False
    capture_audio: bool = False


class Call:
    """The span of one logical call: retries included, and for a stream until its body ends.

    From `enter` to `leave`, while the SDK's ``request`` runs, this call is the `running_call` and its span is current.

    Attributes:
        request_options: What ``request`` was called with; None once ``request`` is over.
    """

    __slots__ = (
        "_around", "_attempts", "_begun", "_body", "_client_class", "_http", "_operation", "_options", "_tapped",
        "reads", "request_options", "span",
    )  # fmt: skip

    def __init__(
        self,
        client: Any,
        operation: Operation,
        request_options: Any,
        options: Options,
        is_async: bool,
        parent: LiveSpan | None = CURRENT,
    ) -> None:
        self.span: LiveSpan = open_span(
            f"Async{operation.resource}" if is_async else operation.resource, operation.span_type, parent
        )
        around = running_model_call()
        if around is not None:
            around.saw(operation.span_type)
            options = msgspec.structs.replace(options, capture_content=False) if around.withholds else options
        self.request_options = request_options
        self._around: tuple[Call | None, LiveSpan | None] | None = None
        self._client_class: type = type(client)
        self._operation = operation
        self._options = options
        self._attempts = 0
        self._begun = self._tapped = False
        self._body: bytes | None = None
        self._http: HttpFacts | None = None
        self.reads: Reads | None = None

    def enter(self) -> None:
        """Make this call current. Must be called inside a ``try`` that calls `leave` at its end."""
        self._around = current_call.get(), current_span.get()
        current_call.set(self)
        current_span.set(self.span)

    def leave(self, error: BaseException | None = None) -> None:
        """``request`` has returned, or raised `error`. If an interrupt cut this short, a second call does the rest."""
        if self.request_options is None:
            return
        span = self.span
        if self._around is not None:
            call_around, span_around = self._around
            if current_call.get() is self:
                is_over = call_around is not None and call_around.request_options is None
                current_call.set(None if is_over else call_around)
            if current_span.get() is span:
                current_span.set(span_around)
            else:
                leave(span, span_around)
        try:
            if error is not None:
                self._raised(error)
            elif not self._tapped:
                self._finish(_RETURNED)
        except Exception:
            report("Call.leave")
        self._around = self.request_options = None

    # --- the request ----------------------------------------------------------------------------------------------

    def request_built(self, request: Any) -> None:
        """See the request as it goes out, once for each attempt. The first attempt begins the span."""
        try:
            self._attempts += 1
            if not self._begun:
                try:
                    body = request.content
                except Exception:  # RequestNotRead of httpx2 or httpx
                    body = form_of(request)
                self._begin(None if body is None else self.span.pipeline.wire_payload(body), request.url)
            if self._options.propagate and TRACEPARENT not in request.headers:
                span = self.span
                sampled = span.is_recording
                request.headers[TRACEPARENT] = format_traceparent(span.trace_id, span.span_id, sampled=sampled)
        except Exception:
            report("Call.request_built")

    def _begin(self, inputs: Payload | None, url: Any = None) -> None:
        span, operation = self.span, self._operation
        if not span.is_recording:
            span.begin()  # this counts the span if there was no room to record it
        else:
            host, scheme, port = (None, "", None) if url is None else (url.host, url.scheme, url.port)
            known = _start_attributes(self._client_class, operation.key, operation.name, host, scheme, port)
            if operation.attributes:
                known = EncodedAttributes({**known.values, **dict(operation.attributes)})
            if known.values[sc.PROVIDER_NAME] == AZURE and (deployment := _deployment_in(url)) is not None:
                known = EncodedAttributes({**known.values, sc.REQUEST_MODEL: deployment})
            capture = self._options.capture_content
            if capture is None:
                capture = span.pipeline.settings.capture_content
            span.begin(inputs, known, operation.key, capture)
        self._begun = True

    def _begin_unseen(self) -> None:
        """Begin without the request, which was not seen: only a span that has begun may be recorded."""
        self._begin(None)

    @guarded
    def attempt_failed(self, response: Any, started_ns: int, error: BaseException | None) -> None:
        """Note an attempt that failed, and how long the SDK paused after it."""
        if not self._begun:
            self._begin_unseen()
        delay_ns = self.span.now_ns() - started_ns
        attributes: dict[str, Any] = {"tracer.retry.attempt": self._attempts, "tracer.retry.delay": delay_ns / 1e9}
        if response is not None:
            attributes[sc.HTTP_STATUS_CODE] = response.status_code
            request_id = response.headers.get("x-request-id")
            if request_id:
                attributes[sc.REQUEST_ID] = request_id
        elif error is not None:
            attributes[sc.ERROR_TYPE] = type(error).__name__
        self.span.note(sc.EVENT_RETRY, attributes, started_ns)

    # --- the response ---------------------------------------------------------------------------------------------

    def response_came(self, response: Any) -> None:
        """See a successful response: take its body if it was read already, otherwise put a tap on it."""
        try:
            if not self._begun:
                self._begin_unseen()
            self._http = facts_of(response)
            if not self.span.is_recording:
                return
            try:
                body: bytes = response.content
            except Exception:  # ResponseNotRead of httpx2 or httpx
                reads = self._new_reads()
                tap(response, self)
                self.reads, self._tapped = reads, True
                return
            if body.startswith(EVENT_STREAM_STARTS):  # a transport or a hook has read the whole stream already
                self.reads = self._new_reads()
                self.reads.keep(body)
            else:
                self._body = body
        except Exception:
            report("Call.response_came")

    def _new_reads(self) -> Reads:
        return Reads(self.span)

    def _raised(self, error: BaseException) -> None:
        if not self._begun:  # no request was built: a bad argument, or an auth hook that failed
            self._begin(_unsent(self.span, getattr(self.request_options, "json_data", None)))
        response, outputs = getattr(error, "response", None), None
        if self._http is None and response is not None:
            self._http, outputs = facts_of(response), error_body(error)
        self._finish(_CANCELLED if is_cancellation(error) else _RAISED, error, outputs=outputs)

    # --- the body of a stream -------------------------------------------------------------------------------------

    @guarded
    def stream_ended(self, ending: Ending, error: BaseException | None = None) -> None:
        """The body has ended. The first caller of this method decides how.

        The span ends with the last byte, not with the close, which the caller may do at any later time. If the reader
        failed or was cancelled, it waited until now, so the span ends now.
        """
        reads = self.reads
        if reads is not None:
            reads.keep_last()
        waited = ending in (_RAISED, _CANCELLED)
        self._finish(ending, error, end_ns=None if waited or reads is None else reads.last_ns)

    def _finish(
        self,
        ending: Ending,
        error: BaseException | None = None,
        end_ns: int | None = None,
        outputs: Payload | None = None,
    ) -> None:
        if not self._begun:
            self._begin_unseen()
        body, self._body = self._body, None
        if body is not None:
            outputs = self._payload_of(body)
        reads, http = self.reads, self._http
        attributes: dict[str, Any] = {}
        if reads is not None and reads.room < 0:
            attributes[sc.TRUNCATED] = {"chunks": -reads.room}
        if self._attempts > 1:
            attributes[sc.RETRIES] = self._attempts - 1
        if http is None and ending is _RETURNED:
            attributes[sc.NOTE] = UNSEEN_NOTE
        if ending is not _RAISED:
            error = None
        # Arguments are passed by position: by name, the interpreter takes a slower path and twice the time.
        self.span.finish(ending, outputs, attributes or None, error, http, reads is not None, end_ns)

    def _payload_of(self, body: bytes) -> Payload:
        return self.span.pipeline.wire_payload(body)


current_call: ContextVar[Call | None] = ContextVar("tracer_current_call", default=None)
"""The call that was entered last in this task or thread. It may be over: see `running_call`."""


def running_call() -> Call | None:
    """Return the call whose ``request`` is running in this task or thread.

    None if that call is over: this task was started inside the call and outlives it. What the task sends now is not an
    attempt of that call.
    """
    call = current_call.get()
    return None if call is None or call.request_options is None else call


@functools.lru_cache(maxsize=256)
def _start_attributes(
    client_class: type, operation: str, name: str | None, host: str | None, scheme: str, port: int | None
) -> EncodedAttributes:
    """Return what is known of a call before it is made. Shared by all such calls."""
    attributes: dict[str, Any] = {sc.PROVIDER_NAME: _provider(client_class), sc.OPERATION: operation}
    if name is not None:
        attributes[sc.OPERATION_NAME] = name
    if host is not None:
        attributes[sc.SERVER_ADDRESS] = host
        attributes[sc.SERVER_PORT] = port or (443 if scheme == "https" else 80)
    return EncodedAttributes(attributes)


def _provider(client_class: type) -> str:
    """Return ``gen_ai.provider.name``. Azure's clients, subclassed or not, are recognised by their base class."""
    is_azure = any(base.__name__ == "BaseAzureClient" for base in client_class.__mro__)
    return AZURE if is_azure else "openai"


def _deployment_in(url: Any) -> str | None:
    """Return the deployment that an Azure URL names; the body may name no model then.

    ::

        >>> _deployment_in(httpx2.URL("https://x.openai.azure.com/openai/deployments/gpt-5/chat/completions"))
        'gpt-5'
    """
    found = None if url is None else DEPLOYMENT.search(url.path)
    return None if found is None else found[1]


def facts_of(response: Any) -> HttpFacts | None:
    """Return a response's head; None if it is not an httpx response (an exception's attribute can be anything)."""
    try:
        return kept_head(response.status_code, response.headers.raw)
    except AttributeError:
        return None


def _unsent(span: LiveSpan, data: object) -> Payload | None:
    """Return a body that the SDK could not encode, as JSON in which values that JSON does not know become text."""
    value = span.snapshot(data)
    if value is None or value.truncated:
        return value
    return span.pipeline.wire_payload(encode_value(msgspec.msgpack.decode(value.data)))
