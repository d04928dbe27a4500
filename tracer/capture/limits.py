"""How much is kept of one value, exception or span, and how many spans may be open: all limits that are no settings.

`max_payload_bytes` and the queue's settings bound bytes. These bound what bytes alone do not: the time that a value
costs the calling thread (goal: below 50 ms), and the memory of spans that are still open.
"""

from __future__ import annotations

__all__ = [
    "ATTRIBUTES",
    "CAUSES",
    "COPIED_ITEMS",
    "DEPTH",
    "ERROR_BODY_BYTES",
    "EVENTS",
    "EXCEPTIONS",
    "FRAMES",
    "LIVE_BYTES",
    "LIVE_MAX_BYTES",
    "MANY_OPEN_SPANS",
    "MEMBERS",
    "OPEN_SPANS",
    "REPR_CHARS",
    "SMALL",
    "VALUE_ITEMS",
]

# --- one value ----------------------------------------------------------------------------------------------------
VALUE_ITEMS = 100_000  # items of containers that one call of C encodes: up to 0.3 µs each, with looking at them first
COPIED_ITEMS = 10_000  # items that are copied in Python, 2 to 4 µs each, if C can't encode a value or it is too large
DEPTH = 100  # containers inside one another, where Python copies; a thread of the user's may have little stack left
REPR_CHARS = 1_000  # of a ``repr()`` or ``str()``

# --- one exception ------------------------------------------------------------------------------------------------
EXCEPTIONS = 64  # in all: with its causes, and with the members of groups of groups
CAUSES = 8  # in a chain
MEMBERS = 8  # of one group
FRAMES = 64  # of one traceback
ERROR_BODY_BYTES = 32 * 1024  # of the body of a failed call: errors are short, and pages of proxies say little

# --- spans --------------------------------------------------------------------------------------------------------
EVENTS = 10_000  # of one span: they are held in memory until the span ends
ATTRIBUTES = 10_000  # of one span whose attributes have `max_payload_bytes` already
SMALL = 1_024  # bytes of an event or attribute that is kept although the others have `max_payload_bytes` already
LIVE_BYTES = 64 * 1024  # of a running span's events, or attributes; more are written anew only when they have doubled
LIVE_MAX_BYTES = 1024 * 1024  # of a running span's events; more are written only when the span ends
OPEN_SPANS = 10_000  # in one process; beyond, the oldest is closed as abandoned
MANY_OPEN_SPANS = 1_000  # from which on the texts for search that they hold are compressed
