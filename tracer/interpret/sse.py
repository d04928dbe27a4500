"""Server-sent events out of raw socket reads, however these were cut and compressed.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

from collections.abc import Sequence

from tracer.interpret._decompress import decompress

__all__ = ["DONE", "Chunks", "Event", "split_events", "stream_events", "unreadable_end"]

Chunks = Sequence[tuple[int, bytes]]
"""(time_ns, the bytes as read from the socket)."""

Event = tuple[int, "str | None", bytes]
"""(time_ns of the read that completed the event, its name, its data)."""

DONE = b"[DONE]"
_BOM = b"\xef\xbb\xbf"


def stream_events(chunks: Chunks, *, content_encoding: str | None = None) -> list[tuple[int, str | None, str]]:
    """Return the server-sent events of a recorded stream. Of broken input, as much as possible is returned.

    Args:
        chunks: The reads in their order, each with its time in nanoseconds.
        content_encoding: The HTTP header, if the bytes are as they came over the wire.

    Returns:
        (time_ns of the read that completed the event, event name or None, data) for each event that has data.
    """
    try:
        reads = decompress(chunks, content_encoding).reads
        return [(time_ns, name, data.decode("utf-8", "replace")) for time_ns, name, data in split_events(reads)]
    except Exception:  # the rule of this package: no input may raise
        return []


def split_events(reads: Chunks) -> list[Event]:
    """Split decompressed reads into events.

    A last event without its blank line counts too: the connection may have been cut there, and a trace shows what came.
    """
    events: list[Event] = []
    pending: list[bytes] = []  # pieces of an event that is not complete yet
    time_ns = 0
    for time_ns, data in _with_newlines_only(reads):
        if not pending and data[-2:] == b"\n\n":
            # Nearly every read is one event, since servers flush each: of chat, then of Responses.
            lines = data.count(b"\n")
            if lines == 2 and data.startswith(b"data: "):
                events.append((time_ns, None, data[6:-2]))
                continue
            if lines == 3 and data.startswith(b"event: "):
                name, separator, value = data[7:-2].partition(b"\ndata: ")
                if separator:
                    events.append((time_ns, name.decode("utf-8", "replace"), value))
                    continue
            blocks = data[:-2].split(b"\n\n")
        elif data:
            pending.append(data)
            if b"\n\n" not in data and not _closes(pending):
                continue
            whole, _, rest = b"".join(pending).rpartition(b"\n\n")
            pending = [rest] if rest else []
            blocks = whole.split(b"\n\n")
        else:
            continue
        events.extend([(time_ns, *event) for block in blocks if (event := _parse(block))])
    if event := _parse(b"".join(pending)):
        events.append((time_ns, *event))
    return events


def unreadable_end(reads: Chunks) -> str | None:
    """Return what the decoder says of an event at the end of a stream that is no UTF-8; None if all is.

    A body that ends within a character is an error for the SDK's reader, and it finds it after the last read.
    """
    parts: list[bytes] = []
    for _, data in reversed(reads):
        seam = data[-3:] + (parts[-1][:3] if parts else b"")
        parts.append(data)
        if _last_blank_line(data) >= 0 or _last_blank_line(seam) >= 0:
            break
    rest = b"".join(reversed(parts))
    try:
        for line in rest[max(0, _last_blank_line(rest)) :].splitlines():
            line.decode()
    except UnicodeDecodeError as error:
        return str(error)
    return None


def _last_blank_line(data: bytes) -> int:
    return max(data.rfind(line) for line in (b"\n\n", b"\r\n\r\n", b"\r\r"))


def _closes(pieces: list[bytes]) -> bool:
    """Tell whether a blank line is split across the last two pieces."""
    return len(pieces) > 1 and pieces[-1].startswith(b"\n") and pieces[-2].endswith(b"\n")


def _with_newlines_only(reads: Chunks) -> Chunks:
    """Replace CR LF and lone CR by LF, also where a read ended between the two."""
    if not any(b"\r" in data for _, data in reads):
        return reads
    unified, after_cr = [], False
    for time_ns, data in reads:
        ends_in_cr = data.endswith(b"\r") if data else after_cr
        if after_cr and data.startswith(b"\n"):
            data = data[1:]
        unified.append((time_ns, data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")))
        after_cr = ends_in_cr
    return unified


def _parse(block: bytes) -> tuple[str | None, bytes] | None:
    """Return (name, data) of one event; None if it has no data (comments, keep-alives, blank lines)."""
    if block.startswith(b"event: "):  # nearly every event of a Responses stream
        head, separator, rest = block.partition(b"\ndata: ")
        if separator and b"\n" not in head and b"\n" not in rest:
            return head[7:].decode("utf-8", "replace"), rest
    return _parse_lines(block.removeprefix(_BOM))


def _parse_lines(block: bytes) -> tuple[str | None, bytes] | None:
    name, data = None, []
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ").decode("utf-8", "replace")
    return (name, b"\n".join(data)) if data else None
