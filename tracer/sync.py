"""The same functions for code without an event loop: ``tracer.sync.get_trace(…)`` blocks until the answer is there.

This module is thin on purpose: each function runs the one async implementation, which awaits only the worker's answer.
In a thread that runs an event loop these functions would block that loop, so use the async ones there.
"""

from __future__ import annotations

from tracer import _api, _stored
from tracer.pipeline.bridge import blocking

__all__ = [
    "delete_feedback",
    "delete_trace_tag",
    "delete_traces",
    "flush",
    "get_media",
    "get_trace",
    "list_feedback",
    "log_feedback",
    "search_traces",
    "set_trace_tag",
    "shutdown",
]

delete_feedback = blocking(_stored.delete_feedback)
delete_trace_tag = blocking(_stored.delete_trace_tag)
delete_traces = blocking(_stored.delete_traces)
flush = blocking(_api.flush)
get_media = blocking(_stored.get_media)
get_trace = blocking(_stored.get_trace)
list_feedback = blocking(_stored.list_feedback)
log_feedback = blocking(_stored.log_feedback)
search_traces = blocking(_stored.search_traces)
set_trace_tag = blocking(_stored.set_trace_tag)
shutdown = blocking(_api.shutdown)
