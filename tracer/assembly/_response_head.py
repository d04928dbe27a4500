"""The head of a response as span attributes: status, request id, rate limits, a few headers."""

from __future__ import annotations

from typing import Any

from tracer import _semconv as sc
from tracer.capture.records import HttpFacts

__all__ = ["http_attributes"]

KEPT_HEADERS = {"openai-processing-ms", "retry-after", "retry-after-ms", "apim-request-id", "cf-ray"}
RATE_LIMIT_PREFIX = "x-ratelimit-"
REQUEST_ID_HEADER = "x-request-id"
CONTENT_TYPE = "content-type"
CONTENT_ENCODING = "content-encoding"
MAX_HEADER_NAMES = 512


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
    """For each header name: whether it is a rate limit, and under which key it is kept. None if it is not kept.

    Cookies and unknown headers are not kept. The results are remembered, because a server sends the same names in every
    answer.
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
