"""Tells whether the running code is tracer's own work, or a block that the user wants unrecorded.

The worker calls the user's code: ``redact=`` hooks and ``prices``. If such a hook calls a model through openai,
recording that call would call the hook again, which would call the model again, without end.
"""

from __future__ import annotations

from contextvars import ContextVar

__all__ = ["own_work"]

own_work: ContextVar[bool] = ContextVar("tracer_own_work", default=False)
"""True in the worker's thread, in a hook that is called elsewhere, in the tasks that either of them starts, and in a
``with tracer.context(enabled=False)`` block."""
