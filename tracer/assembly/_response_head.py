"""What a span's attributes say beside its payloads: the response's head, failures, moments, links to other traces."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tracer import _semconv as sc
from tracer._failures import format_failure
from tracer._privacy import Privacy
from tracer._records import Failure, HttpFacts
from tracer.interpret import ResponseView
from tracer.redact import api_keys

__all__ = [
    "describe_failure",
    "exception_attributes",
    "http_attributes",
    "link_ids",
    "seconds_after",
    "stream_error_attributes",
]

KEPT_HEADERS = {"openai-processing-ms", "retry-after", "retry-after-ms", "apim-request-id", "cf-ray"}
RATE_LIMIT_PREFIX = "x-ratelimit-"
REQUEST_ID_HEADER = "x-request-id"
CONTENT_TYPE = "content-type"
CONTENT_ENCODING = "content-encoding"
MAX_HEADER_NAMES = 512
LINKS = {
    sc.RESPONSE_ID: "response",
    sc.PREVIOUS_RESPONSE_ID: "previous_response",
    sc.CONVERSATION_ID: "conversation",
}


def http_attributes(facts: HttpFacts) -> tuple[dict[str, Any], str | None, str | None]:
    """Return the attributes of a response's head, its content type and its content encoding."""
    attributes: dict[str, Any] = {sc.HTTP_STATUS_CODE: facts.status_code}
    limits: dict[str, str] = {}
    keys = _HEADER_KEYS
    for name, value in facts.headers:
        if (kept := keys[name]) is not None:
            is_limit, key = kept
            (limits if is_limit else attributes)[key] = value.decode("latin-1")
    if limits:
        attributes[sc.RATE_LIMIT] = limits
    return attributes, attributes.pop(CONTENT_TYPE, None), attributes.pop(CONTENT_ENCODING, None)


class _HeaderKeys(dict[bytes, "tuple[bool, str] | None"]):
    """Where a header is kept: among the rate limits or not, and as what. None for cookies and whatever else comes.

    Remembered, as a server sends the same names in every answer.
    """

    def __missing__(self, raw_name: bytes) -> tuple[bool, str] | None:
        if len(self) >= MAX_HEADER_NAMES:
            self.clear()
        kept = self[raw_name] = _header_key(raw_name.decode("latin-1").lower())
        return kept


_HEADER_KEYS = _HeaderKeys()


def _header_key(name: str) -> tuple[bool, str] | None:
    if name in (CONTENT_TYPE, CONTENT_ENCODING):
        return False, name
    if name == REQUEST_ID_HEADER:
        return False, sc.REQUEST_ID
    if name.startswith(RATE_LIMIT_PREFIX):
        return True, name[len(RATE_LIMIT_PREFIX) :]
    return (False, sc.HEADERS_PREFIX + name) if name in KEPT_HEADERS else None


def link_ids(operation: str | None, attributes: dict[str, Any]) -> dict[str, str] | None:
    """Return the ids by which traces continue one another; only Responses has any that can be continued."""
    if operation not in ("responses", "retrieved"):
        return None
    return {kind: value for key, kind in LINKS.items() if type(value := attributes.get(key)) is str} or None


def exception_attributes(failure: Failure, privacy: Privacy) -> dict[str, Any]:
    """Return an ``exception`` event's attributes (OpenTelemetry's exception conventions; the bare class name)."""
    # A stack trace quotes source code, and so may a key that somebody wrote there.
    stacktrace = privacy.redact(api_keys(format_failure(failure))) if privacy.capture else ""
    return {
        sc.EXCEPTION_TYPE: failure.type,
        sc.EXCEPTION_MESSAGE: privacy.clean_note(failure.message),
        sc.EXCEPTION_STACKTRACE: stacktrace,
    }


def describe_failure(failure: Failure, privacy: Privacy) -> str:
    """Return a status description: the exception's class and message, or the class alone."""
    if not privacy.capture or not failure.message:
        return failure.type
    return f"{failure.type}: {privacy.redact(api_keys(failure.message))}"


def stream_error_attributes(view: ResponseView) -> dict[str, Any]:
    """Return the ``exception`` event's attributes for an error that came inside a stream.

    The SDK raises it above the byte tap, as `openai.APIError` (``openai/_streaming.py``).
    """
    return {sc.EXCEPTION_TYPE: "APIError", sc.EXCEPTION_MESSAGE: view.error or "", sc.EXCEPTION_STACKTRACE: ""}


def seconds_after(start_ns: int, moments: Iterable[tuple[str, int | None]]) -> dict[str, float]:
    """Return each moment that is known as seconds from the start."""
    return {key: max(0, moment - start_ns) / 1e9 for key, moment in moments if moment is not None}
