"""Which headers of a response are recorded. The others (cookies, unknown ones) are left out before anything is kept."""

from __future__ import annotations

from tracer import _semconv as sc
from tracer.capture.records import HttpFacts

__all__ = ["CONTENT_ENCODING", "CONTENT_TYPE", "HEADER_KEYS", "kept_head"]

KEPT_HEADERS = {"openai-processing-ms", "retry-after", "retry-after-ms", "apim-request-id", "cf-ray"}
RATE_LIMIT_PREFIX = "x-ratelimit-"
REQUEST_ID_HEADER = "x-request-id"
CONTENT_TYPE = "content-type"
CONTENT_ENCODING = "content-encoding"
MAX_HEADER_NAMES = 512


def kept_head(status_code: int, headers: list[tuple[bytes, bytes]]) -> HttpFacts:
    """Return a response's head with the headers that are recorded."""
    keys = HEADER_KEYS
    return HttpFacts(status_code, [header for header in headers if keys[header[0]] is not None])


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


HEADER_KEYS = _HeaderKeys()


def _header_key(name: str) -> tuple[bool, str] | None:
    if name in (CONTENT_TYPE, CONTENT_ENCODING):
        return False, name
    if name == REQUEST_ID_HEADER:
        return False, sc.REQUEST_ID
    if name.startswith(RATE_LIMIT_PREFIX):
        return True, name[len(RATE_LIMIT_PREFIX) :]
    return (False, sc.HEADERS_PREFIX + name) if name in KEPT_HEADERS else None
