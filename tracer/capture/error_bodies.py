"""The body of a response that made a call fail: what the server said, beyond the first line of the exception."""

from __future__ import annotations

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
        body = error.response.content  # type: ignore[attr-defined]  # ResponseNotRead if it was closed unread
        if not isinstance(body, bytes) or not body:
            return None
        start = hide_in_body(body[: ERROR_BODY_BYTES + _MARGIN], sent_secrets(error))[:ERROR_BODY_BYTES]
    except Exception:
        return None
    return Payload(Codec.WIRE, start, max(0, len(body) - ERROR_BODY_BYTES))
