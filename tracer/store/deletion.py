"""Which traces are to be deleted: checked alike for every store."""

from __future__ import annotations

from typing import Any

from tracer._exceptions import ConfigurationError

__all__ = ["deletion_conditions"]


def deletion_conditions(
    trace_ids: list[str] | None, experiment: str | None, max_timestamp_ms: int | None, max_traces: int | None
) -> dict[str, Any]:
    """Return the conditions that are given, by name.

    Raises:
        ConfigurationError: Nothing is given, which would delete everything.
    """
    conditions = {"trace_ids": trace_ids, "experiment": experiment, "max_timestamp_ms": max_timestamp_ms}
    given = {name: value for name, value in conditions.items() if value is not None}
    if not given and max_traces is None:
        names = "trace_ids, experiment, max_timestamp_ms or max_traces"
        raise ConfigurationError(f"delete_traces needs {names}, got none of them")
    return given
