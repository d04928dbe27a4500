"""What traces that begin in some part of the code have from their start: `tracer.context`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

import msgspec

from tracer.capture.argument_checks import check_bool
from tracer.capture.own_work import own_work
from tracer.capture.trace_changes import trace_changes

__all__ = ["context", "trace_defaults"]


class TraceDefaults(msgspec.Struct, frozen=True):
    """What the blocks around the running code say.

    Attributes:
        changes: Fields of `TraceUpdated` for each trace that begins.
        is_off: Nothing is to be recorded.
    """

    changes: dict[str, Any] = {}
    is_off: bool = False


_NOTHING = TraceDefaults()
trace_defaults: ContextVar[TraceDefaults] = ContextVar("tracer_trace_defaults", default=_NOTHING)


@contextlib.contextmanager
def context(
    *,
    tags: Mapping[str, object] | None = None,
    metadata: Mapping[str, object] | None = None,
    session_id: str | None = None,
    user_id: str | None = None,
    enabled: bool | None = None,
) -> Iterator[None]:
    """Give tags, metadata, session and user to every trace that begins in this block; or record nothing in it.

    For traces of calls that no span of yours is around, and for requests of a service: the block makes no span itself.
    It holds in the tasks that are started inside, and in no other. Blocks may be nested; then the inner one wins, key
    by key. A trace that runs already is not changed: see `tracer.update_current_trace`.

    ::

        with tracer.context(session_id="s-1", user_id="ada", tags={"route": "/ask"}):
            await client.responses.create(model="gpt-5", input="Hello")  # a trace of that session

    Args:
        tags: As in `tracer.update_current_trace`.
        metadata: Likewise.
        session_id: Likewise.
        user_id: Likewise.
        enabled: False records nothing of what begins in the block, True undoes an outer False, None changes nothing.

    Raises:
        ConfigurationError: An argument has the wrong type.
    """
    around = trace_defaults.get()
    given = trace_changes(tags=tags, metadata=metadata, session_id=session_id, user_id=user_id)
    is_off = around.is_off if enabled is None else not check_bool("enabled", enabled)
    defaults = trace_defaults.set(TraceDefaults(_merged(around.changes, given), is_off))
    # Inside tracer's own work, nothing is recorded whatever the block says.
    hidden = own_work.set(is_off or (own_work.get() and not around.is_off))
    try:
        yield
    finally:
        own_work.reset(hidden)
        trace_defaults.reset(defaults)


def _merged(outer: dict[str, Any], inner: dict[str, Any]) -> dict[str, Any]:
    both = dict(outer)
    for key, value in inner.items():
        if value is not None:
            both[key] = {**(outer.get(key) or {}), **value} if isinstance(value, dict) else value
    return both
