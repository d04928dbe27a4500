"""Streams whose events say what they are: by their ``type``, or by the name of the server-sent event."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from tracer import _semconv as sc
from tracer.interpret._json import as_text, decode_json
from tracer.interpret._views import ResponseView
from tracer.interpret.choices import describe_error
from tracer.interpret.sse import DONE, Event

__all__ = ["TypedEvent", "TypedEvents"]


class TypedEvent(NamedTuple):
    """One event: when it came, what it is, what it says."""

    time_ns: int
    kind: str
    body: dict[str, Any]


class TypedEvents:
    """The events of one stream, decoded.

    Attributes:
        events: The events that are JSON objects, except errors.
        done: The stream has its ``[DONE]``.
        error: What an error event said.
        unreadable: How many events were not JSON objects.
    """

    def __init__(self, events: Iterable[Event]) -> None:
        self.events: list[TypedEvent] = []
        self.done = False
        self.error: Any = None
        self.unreadable = 0
        for time_ns, name, data in events:
            if data.startswith(DONE):
                self.done = True
                break
            self._take(time_ns, name, data)

    def _take(self, time_ns: int, name: str | None, data: bytes) -> None:
        try:
            body = decode_json(data)
        except ValueError:
            body = None
        if type(body) is not dict:
            self.unreadable += 1
            return
        kind = as_text(body.get("type")) or ""
        if name and "." in name:  # the ``type`` inside the Assistants' events means something else
            kind = name
        if name == "error" or kind == "error" or (body.get("error") and not kind.startswith("thread.")):
            self.error = body.get("error") or body
        else:
            self.events.append(TypedEvent(time_ns, kind, body))

    def first(self, ending: str) -> int | None:
        """Return when the first event came whose kind ends with `ending`."""
        return next((event.time_ns for event in self.events if event.kind.endswith(ending)), None)

    def conclude(self, view: ResponseView, *, ended: bool) -> None:
        """Fill in how the stream ended; `ended` says that the event that ends it by the API's rules came."""
        if self.error is not None:
            view.finish = "failed"
            view.error, view.error_type = describe_error(self.error)
        elif not (ended or self.done):
            view.finish = view.error = None
        else:
            view.finish = view.finish or "completed"
        if self.unreadable:
            view.attributes[sc.NOTE] = f"{self.unreadable} stream events were not JSON objects"
