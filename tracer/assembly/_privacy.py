"""Which of a span's texts may be stored: ``capture_content=False`` and ``redact=`` are applied before rows are made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from tracer import _semconv as sc
from tracer.capture.records import Payload
from tracer.interpret import RequestView, ResponseView, decode_json, encode_value, redact, withhold
from tracer.interpret._charsets import decode_text
from tracer.interpret._json import read_body
from tracer.interpret.privacy import mentions_credentials, without_credentials
from tracer.redact import api_keys

__all__ = [
    "Privacy",
    "withhold_request",
    "withhold_response",
]

WITHHELD_NOTE = "content not captured"
# Attributes that hold content, each with the body field that has the same form ("": none, it is somebody's data).
CONTENT_ATTRIBUTES = {
    sc.TOOL_CALLS: "tool_calls",
    sc.TOOL_DEFINITIONS: "tools",
    sc.OUTPUT_SCHEMA: "",
    sc.REQUEST_STOP_SEQUENCES: "",
    sc.RETRIEVAL_DOCUMENTS: "",
    sc.CITATIONS: "",
    sc.REASONING: "",
    sc.MCP_APPROVAL_REQUESTS: "tool_calls",
    sc.INPUT_TRANSCRIPT: "",
    sc.NOTE: "",
}


class Privacy(msgspec.Struct, gc=False):
    """Decides which of a span's texts may be stored.

    Attributes:
        capture: False keeps structure, model, usage and times, but no text.
        hooks: Functions from text to text that are applied to every text first.
        failures: How many texts were withheld because a hook raised. Such a text is never stored.
        has_credentials: A body of the span held credentials for a third party. They were removed from everything that
            is read, but may still be in the stream's raw bytes.
    """

    capture: bool = True
    hooks: tuple[Callable[[str], str], ...] = ()
    failures: int = 0
    has_credentials: bool = False

    @property
    def keeps_texts(self) -> bool:
        """True if texts are stored as they are."""
        return self.capture and not self.hooks

    @property
    def is_open(self) -> bool:
        """True if there is nothing to hide, so that bytes can be stored as they are."""
        return self.keeps_texts and not self.has_credentials

    def redact(self, value: Any) -> Any:
        """Return a JSON-like value with the hooks applied to its texts."""
        if not self.hooks:
            return value
        value, failures = redact(value, self.hooks)
        self.failures += failures
        return value

    def clean(self, value: Any) -> Any:
        """Return a user's value with the hooks applied to its texts, or with all its texts withheld."""
        if self.keeps_texts:
            return value
        value = self.redact(_bytes_as_text(value))
        return value if self.capture else withhold(value, labels=False)

    def clean_note(self, text: str) -> str:
        """Return a status description or an error message as it may be stored. Some servers quote the API key in it."""
        text = self.redact(api_keys(text))
        return text if self.capture or not text else WITHHELD_NOTE

    def keeps_reads(self, reads: Sequence[tuple[int, bytes]]) -> bool:
        """Tell whether a stream's raw reads can be stored. A response may repeat credentials of an earlier request."""
        if self.is_open and mentions_credentials(b"".join([data for _, data in reads])):
            self.has_credentials = True
        return self.is_open

    def clean_body(self, payload: Payload, content_type: str | None = None) -> bytes:
        """Return a wire body without credentials and with the hooks applied. `content_type` tells a text's charset.

        If there were no credentials and there are no hooks, this returns the same bytes object.
        """
        data = without_credentials(payload.data, truncated=payload.truncated)
        if data is not payload.data:
            self.has_credentials = True
        if not self.hooks or not data:
            return data
        body = read_body(data, truncated=payload.truncated)
        value = body.value
        if not body.readable:
            value, _ = decode_text(data, content_type, is_whole=not payload.truncated)
        return encode_value(self.redact(value))


def _bytes_as_text(value: Any) -> Any:
    """Return a value with its bytes as text, so that hooks see the content and not its base64."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, dict):
        return {key: _bytes_as_text(item) for key, item in value.items()}
    return [_bytes_as_text(item) for item in value] if isinstance(value, list) else value


def withhold_request(view: RequestView, *, labels: bool) -> None:
    """Take the texts out of a request's view. `labels` keeps texts that only say what kind of thing a value is."""
    view.inputs = encode_value(withhold(decode_json(view.inputs), labels=labels))
    _withhold_texts(view)


def withhold_response(view: ResponseView, *, labels: bool = True) -> ResponseView:
    """Take the texts out of a response's view, and return it."""
    if view.outputs is not None:
        view.outputs = encode_value(withhold(decode_json(view.outputs), labels=labels))
    _withhold_texts(view)
    if view.error and view.finish != "incomplete":  # the reason of "incomplete" is a label, not content
        view.error = WITHHELD_NOTE
    for child in view.children:
        child.inputs, child.outputs = withhold([child.inputs, child.outputs], labels=False)
        child.error = WITHHELD_NOTE if child.error else None
    return view


def _withhold_texts(view: RequestView | ResponseView) -> None:
    view.preview, view.text = None, ""
    for key, field in CONTENT_ATTRIBUTES.items():
        if key in view.attributes:
            view.attributes[key] = withhold({field: view.attributes[key]}, labels=bool(field))[field]
