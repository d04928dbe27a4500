"""The head of a response as span attributes: status, request id, rate limits, a few headers."""

from __future__ import annotations

from typing import Any

from tracer import _semconv as sc
from tracer.capture.records import HttpFacts
from tracer.capture.response_heads import CONTENT_ENCODING, CONTENT_TYPE, HEADER_KEYS

__all__ = ["http_attributes"]


def http_attributes(facts: HttpFacts) -> tuple[dict[str, Any], str | None, str | None]:
    """Return the attributes of a response's head, its content type and its content encoding."""
    attributes: dict[str, Any] = {sc.HTTP_STATUS_CODE: facts.status_code}
    limits: dict[str, str] = {}
    keys = HEADER_KEYS
    for name, value in facts.headers:
        if (kept := keys[name]) is not None:
            is_limit, key = kept
            (limits if is_limit else attributes)[key] = value.decode("latin-1")
    if limits:
        attributes[sc.RATE_LIMIT] = limits
    return attributes, attributes.pop(CONTENT_TYPE, None), attributes.pop(CONTENT_ENCODING, None)
