"""The body of a response that made a call fail: what the server said, beyond the first line of the exception."""

from __future__ import annotations

import codecs
import json
from typing import Any

from tracer.capture.limits import ERROR_BODY_BYTES
from tracer.capture.records import Codec, Payload
from tracer.redact.sent_credentials import hide_in_body, sent_secrets

__all__ = ["error_body"]

_MARGIN = 4_096  # bytes beyond the limit in which credentials are looked for, so that the cut leaves no half of one


def error_body(error: BaseException) -> Payload | None:
    """Return the body of the response that an exception refers to, without credentials that the request had sent.

    None if there is no such body. The SDK has read the body before it raises (`openai.APIStatusError.response`), so
    this waits for nothing; a body that nobody has read is left alone. Never raises: ``response`` may be anything.
    """
    try:
        response: Any = error.response  # type: ignore[attr-defined]
        body = response.content  # ResponseNotRead if it was closed unread
        if not isinstance(body, bytes) or not body:
            return None
        start = _as_utf8(body[: ERROR_BODY_BYTES + _MARGIN], response)
        left_out = len(body) - min(len(body), ERROR_BODY_BYTES + _MARGIN) + max(0, len(start) - ERROR_BODY_BYTES)
        kept = hide_in_body(start, sent_secrets(error))[:ERROR_BODY_BYTES]
    except Exception:
        return None
    return Payload(Codec.WIRE, kept, left_out)


def _as_utf8(data: bytes, response: Any) -> bytes:
    """Return a body in UTF-8, in which credentials are looked for: its header or its first bytes tell its charset."""
    charset: Any = getattr(response, "charset_encoding", None)
    if _is_utf8(charset):
        charset = json.detect_encoding(data)  # what JSON decoders go by, the worker's too
    if _is_utf8(charset):
        return data
    return data.decode(charset, "replace").lstrip("\ufeff").encode() or data


def _is_utf8(charset: Any) -> bool:
    """Tell whether a charset is UTF-8, or not known."""
    try:
        return codecs.lookup(charset).name in ("utf-8", "ascii")
    except (LookupError, TypeError, ValueError):
        return True
