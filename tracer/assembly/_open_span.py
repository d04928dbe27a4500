"""A span that has started and not ended, as the assembler holds it."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from tracer import _semconv as sc
from tracer.assembly._privacy import Privacy
from tracer.capture.limits import ATTRIBUTES, EVENTS, LIVE_BYTES, LIVE_MAX_BYTES, SMALL
from tracer.capture.records import Payload, SpanStarted
from tracer.interpret import encode_value
from tracer.store.raw import SpanState

__all__ = ["Event", "OpenSpan", "root_of"]

T = TypeVar("T")
Event = tuple[str, int, dict[str, Any]]

ROOT_STEPS = 100  # parents that are looked at on the way to the root
_NO_TEXT = zlib.compress(b"")
MIN_PACKED = 1_000  # characters from which on it is worth to compress a text


class _Rewriting(msgspec.Struct, gc=False):
    """Decides when a growing part of a running span's row is written anew.

    While it is small, that is with each batch in which it changed; later, when as much has come as was written last.
    """

    _written: int = 0
    _fresh: int = 0

    def add(self, size: int) -> None:
        """Something of this size was added or changed."""
        self._fresh += size

    def written_now(self, encode: Callable[[], bytes | None]) -> bytes | None:
        """Return what `encode` returns; None, without a call, if nothing is to be written now."""
        if not self._fresh or (self._written > LIVE_BYTES and self._fresh < self._written):
            return None
        encoded = encode()
        self._written, self._fresh = len(encoded or b""), 0
        return encoded


class OpenSpan(msgspec.Struct, gc=False):
    """A span that has started and not ended, with what is known of it so far.

    There may be 10,000 of them, and Python's garbage collector stops the process for as long as it looks at each
    container. So it does not see this one (nothing in it refers back to it), and lists are made when they get an item.

    Attributes:
        attributes: The record's at first; `privacy` is applied to what a user set.
        events: Encoded once, when they come.
        variable_parameters: Names of the traced function's parameters that take any number of arguments.
        items: What a generator yielded; `items_left_out` counts what was not kept of them.
        outputs_changed: The outputs were set since the last row was made.
        preview_sent: The preview that the trace got. It gets none twice, because the user may have replaced it.
        held_inputs: Inputs that were read, and are stored only if the span turns out to keep its body.
        keeps_body: Its inputs and outputs are stored. Known once it has ended.
        asked: When the first model call below it began, and what was asked there; for a root without a preview.
    """

    started: SpanStarted
    privacy: Privacy
    inputs: Payload | None = None
    outputs: Payload | None = None
    outputs_changed: bool = False
    held_inputs: bytes | None = None
    keeps_body: bool = True
    attributes: dict[str, Any] = msgspec.field(default_factory=dict)
    events: list[bytes] | tuple[()] = ()
    variable_parameters: list[str] | tuple[()] = ()
    items: list[Any] | tuple[()] = ()
    items_left_out: int = 0
    chunks: list[tuple[int, bytes]] | tuple[()] = ()
    chunks_written: int = 0
    status: tuple[str, str] | None = None
    model: str | None = None
    preview: str | None = None
    preview_sent: str | None = None
    asked: tuple[int, str] | None = None
    text: str = ""
    _packed_text: bytes | None = None
    _event_bytes: int = 0
    _attribute_bytes: int = 0
    _is_full: bool = False
    _event_rows: _Rewriting = msgspec.field(default_factory=_Rewriting)
    _attribute_rows: _Rewriting = msgspec.field(default_factory=_Rewriting)

    def __post_init__(self) -> None:
        started, privacy = self.started, self.privacy
        self.inputs = started.inputs
        # Instrumentation sets only labels, which need no cleaning; a user's attributes may hold anything.
        attributes = started.attributes or {}
        if sc.VARIABLE_PARAMETERS in attributes:
            attributes = dict(attributes)
            self.variable_parameters = attributes.pop(sc.VARIABLE_PARAMETERS)
        self.attributes = attributes if started.operation is not None else privacy.clean(attributes)
        if started.operation is None:
            started.name = privacy.redact(started.name)
            if (function := attributes.get(sc.CODE_FUNCTION_NAME)) is not None and not privacy.capture:
                self.attributes[sc.CODE_FUNCTION_NAME] = privacy.redact(function)  # a label, as the name is
        self.touch_attributes()

    def is_stored(self, state: SpanState | None) -> None:
        """Note that rows have all that is known so far; and what interpreting its beginning had shown."""
        self._event_rows.written_now(lambda: None)
        self._attribute_rows.written_now(lambda: None)
        self.chunks_written = len(self.chunks)
        self.outputs_changed = False
        if state is not None:
            self.preview, self.preview_sent, self.asked = state.preview, state.preview_sent, state.asked
        if not self.text:
            self._packed_text = _NO_TEXT

    def state(self) -> SpanState | None:
        """Return what interpreting its beginning has shown; None if that is nothing."""
        if self.preview is None and self.preview_sent is None and self.asked is None:
            return None
        return SpanState(self.preview, self.preview_sent, self.asked)

    def add_chunk(self, time_ns: int, data: bytes) -> None:
        """Keep a read of a stream."""
        chunks = self.chunks
        if isinstance(chunks, list):  # not `_with`: there may be hundreds of reads
            chunks.append((time_ns, data))
        else:
            self.chunks = [(time_ns, data)]

    def add_item(self, item: Any) -> None:
        """Keep what a generator yielded."""
        self.items = _with(self.items, item)

    # --- events ---------------------------------------------------------------------------------------------------

    @property
    def has_all_events(self) -> bool:
        """True if no more events are kept."""
        return len(self.events) >= EVENTS

    def add_event(self, event: Event, limit: int) -> bool:
        """Keep an event; False if it is not small and the others have `limit` bytes already."""
        encoded = encode_value(event)
        if self._event_bytes >= limit and len(encoded) > SMALL:
            return False
        self.events = _with(self.events, encoded)
        self._event_bytes += len(encoded)
        self._event_rows.add(len(encoded))
        return True

    def all_events(self, *more: Event) -> bytes | None:
        """Return all events, and `more`, as a JSON array; None if there are none."""
        events = [*self.events, *map(encode_value, more)]
        return b"[" + b",".join(events) + b"]" if events else None

    def new_events(self) -> bytes | None:
        """Return the events for the row of a running span; None if they are not written anew now."""
        return self._event_rows.written_now(self.all_events) if self._event_bytes <= LIVE_MAX_BYTES else None

    # --- attributes -----------------------------------------------------------------------------------------------

    def touch_attributes(self, size: int = 1) -> None:
        """Note that attributes of about `size` bytes were set."""
        self._attribute_rows.add(size)

    def set_attributes(self, changes: dict[str, Any], size: int, limit: int) -> bool:
        """Set attributes of about `size` bytes; False if there are about `limit` bytes of them already.

        Small ones are refused only if there are very many, too.
        """
        # The bytes are overestimated, because an attribute may be set again and again. So they are counted anew first.
        if self._attribute_bytes >= limit and not self._is_full:
            self._attribute_bytes = len(encode_value(self.attributes))
            self._is_full = self._attribute_bytes >= limit
        if self._is_full and (size > SMALL or len(self.attributes) >= ATTRIBUTES):
            return False
        self._attribute_bytes += size
        self.attributes.update(changes)
        self.touch_attributes(size)
        return True

    def new_attributes(self) -> bytes | None:
        """Return the attributes for the row of a running span; None if they are not written anew now."""
        return self._attribute_rows.written_now(lambda: encode_value(self.attributes))

    def cut(self, what: str, size: int) -> None:
        """Mark that so much was cut off `what`. Inputs and outputs are cut only once, the others may be cut again."""
        known = self.attributes.get(sc.TRUNCATED, {})
        before = 0 if what in ("inputs", "outputs") else known.get(what, 0)
        self.attributes[sc.TRUNCATED] = {**known, what: before + size}
        self.touch_attributes()

    # --- text -----------------------------------------------------------------------------------------------------

    def pack_text(self) -> None:
        """Compress the text until `unpack_text` is called. Its row must have been made."""
        if len(self.text) >= MIN_PACKED:
            self._packed_text = zlib.compress(self.text.encode("utf-8", "surrogatepass"), 1)
            self.text = ""

    def unpack_text(self) -> None:
        """Undo `pack_text`."""
        if self._packed_text is not None:
            self.text = zlib.decompress(self._packed_text).decode("utf-8", "surrogatepass")
            self._packed_text = None

    @property
    def new_text(self) -> str | None:
        """The text for a row; None if it is compressed, because then an earlier row has it."""
        return self.text if self._packed_text is None else None


def _with(some: list[T] | tuple[()], item: T) -> list[T]:
    if isinstance(some, tuple):
        return [item]
    some.append(item)
    return some


def root_of(span: OpenSpan, open_spans: Mapping[str, OpenSpan]) -> OpenSpan | None:
    """Return the open span that stands for the trace of a span below it; None if there is none."""
    for _ in range(ROOT_STEPS):
        above = open_spans.get(span.started.parent_id or "")
        if above is None or above.started.experiment is not None:
            return above
        span = above
    return None
