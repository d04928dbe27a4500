"""What recorded bytes mean. Pure functions: no clock, no storage, no openai; they raise nothing.

One module for each kind of call (`chat`, `responses`, `completions`, `embeddings`; `raw` for the rest), joined by the
table in `dispatch`. They read JSON as it came over the wire, not the SDK's objects, and take nothing for granted:
fields may be missing, unknown or of another type.
"""

from __future__ import annotations

from tracer.interpret._json import decode_json, encode_value
from tracer.interpret._views import ChildView, Finish, RequestView, ResponseView
from tracer.interpret.previews import plain_text
from tracer.interpret.privacy import REDACTION_FAILED, WITHHELD, redact, withhold
from tracer.interpret.sse import stream_events

__all__ = [
    "REDACTION_FAILED",
    "WITHHELD",
    "ChildView",
    "Finish",
    "RequestView",
    "ResponseView",
    "decode_json",
    "encode_value",
    "plain_text",
    "redact",
    "stream_events",
    "withhold",
]
