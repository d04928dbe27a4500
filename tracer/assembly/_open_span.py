"""A span that has started and not ended, as the assembler holds it."""

from __future__ import annotations

from typing import Any

from tracer.assembly._privacy import Privacy
from tracer.capture.records import Payload, SpanStarted

__all__ = ["OpenSpan"]


class OpenSpan:
    """A span that has started and not ended, with what is known of it so far."""

    __slots__ = (
        "attributes", "chunks", "chunks_written", "events", "inputs", "items", "model", "outputs", "preview",
        "privacy", "started", "status", "text",
    )  # fmt: skip

    def __init__(self, started: SpanStarted, privacy: Privacy) -> None:
        self.started = started
        self.privacy = privacy
        self.inputs = started.inputs
        self.outputs: Payload | None = None
        # Instrumentation sets only labels, which need no cleaning; a user's attributes may hold anything.
        attributes = started.attributes or {}
        self.attributes: dict[str, Any] = attributes if started.operation is not None else privacy.clean(attributes)
        if started.operation is None:
            started.name = privacy.redact(started.name)
        self.events: list[tuple[str, int, dict[str, Any]]] = []
        self.items: list[Any] = []
        self.chunks: list[tuple[int, bytes]] = []
        self.chunks_written = 0
        self.status: tuple[str, str] | None = None
        self.model: str | None = None
        self.preview: str | None = None
        self.text = ""
