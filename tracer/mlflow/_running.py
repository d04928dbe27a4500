"""MLflow's members of a running span.

A running span is tracer's own `tracer.LiveSpan`, wherever it was begun, so these members are put on that class when
`tracer.mlflow` is imported.
"""

from __future__ import annotations

from typing import Any

from tracer.mlflow._refusing import refuse_members
from tracer.mlflow.entities.span import SpanLogLevel
from tracer.mlflow.exceptions import raises_mlflow
from tracer.mlflow.tracing.constant import SpanAttributeKey
from tracer.spans.live_span import LiveSpan

__all__ = ["complete_live_spans"]


def complete_live_spans() -> None:
    """Give running spans what MLflow's have, and have them refuse the rest."""
    for name, member in vars(_Members).items():
        if not name.startswith("_"):
            setattr(LiveSpan, name, member)
    refuse_members(LiveSpan)


class _Members:
    request_id = property(lambda self: self.trace_id, doc="MLflow's old name of `trace_id`.")
    description = property(lambda self: self.get_attribute(SpanAttributeKey.DESCRIPTION), doc="If one was given.")

    @property
    def log_level(self: Any) -> SpanLogLevel | None:
        """The level that was given, or None."""
        given = self.get_attribute(SpanAttributeKey.LOG_LEVEL)
        return None if given is None else SpanLogLevel(given)

    @raises_mlflow
    def set_log_level(self: Any, level: SpanLogLevel | str) -> None:
        """Set the severity."""
        self.set_attribute(SpanAttributeKey.LOG_LEVEL, SpanLogLevel.from_value(level).value)

    @raises_mlflow
    def set_description(self: Any, description: str) -> None:
        """Set the description."""
        self.set_attribute(SpanAttributeKey.DESCRIPTION, description)
