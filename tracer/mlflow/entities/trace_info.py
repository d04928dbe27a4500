"""MLflow's view of what a list shows about a trace."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from tracer._models import Span as StoredSpan
from tracer._models import TraceInfo as StoredInfo
from tracer._models import TraceState
from tracer.mlflow._refusing import refuse_making, refuse_members
from tracer.mlflow.entities.assessment import Assessment, read_assessment
from tracer.mlflow.entities.span import Span, mlflow_usage
from tracer.mlflow.tracing.constant import CostKey, TraceMetadataKey, TraceTagKey

__all__ = ["TraceInfo", "TraceState"]

PREVIEW_CHARS = 1_000
REQUEST_GIVEN, RESPONSE_GIVEN = "tracer.mlflow.request_preview", "tracer.mlflow.response_preview"
"""In a trace's metadata: the user gave this preview, so it is not made of the root's inputs."""


@refuse_making(StoredInfo)
@refuse_members
class TraceInfo:
    """What MLflow shows of a trace. ``stored`` is tracer's own `tracer.TraceInfo`, which has more."""

    def __init__(self, stored: StoredInfo, root: Span | None, spans: Iterable[StoredSpan]) -> None:
        self.stored = stored
        self._root = root
        self._spans = list(spans)

    trace_id = property(lambda self: self.stored.trace_id, doc="32 hex digits.")
    request_id = property(lambda self: self.stored.trace_id, doc="MLflow's old name of `trace_id`.")
    experiment_id = property(lambda self: self.stored.experiment, doc="The experiment's name: it has no other id here.")
    state = property(lambda self: self.stored.state, doc="`TraceState`.")
    status = property(lambda self: self.stored.state, doc="MLflow's old name of `state`.")
    request_time = property(lambda self: self.stored.start_time_ns // 1_000_000, doc="Milliseconds since the epoch.")
    timestamp_ms = property(lambda self: self.request_time, doc="MLflow's old name of `request_time`.")
    execution_time_ms = property(lambda self: self.execution_duration, doc="Old name of `execution_duration`.")
    client_request_id = property(lambda self: self.stored.client_request_id, doc="As `update_current_trace` set it.")
    request_metadata = property(lambda self: self.trace_metadata, doc="MLflow's old name of `trace_metadata`.")
    token_usage = property(lambda self: mlflow_usage(self.stored.token_usage), doc="Summed over the model calls.")

    @property
    def execution_duration(self) -> int | None:
        """Milliseconds; None while the trace runs."""
        return None if self.stored.duration_ns is None else self.stored.duration_ns // 1_000_000

    @property
    def tags(self) -> dict[str, str]:
        """The tags, and the trace's name under MLflow's key."""
        name = {} if self.stored.name is None else {TraceTagKey.TRACE_NAME: self.stored.name}
        return {**name, **self.stored.tags}

    @property
    def request_preview(self) -> str | None:
        """The root's inputs as JSON, cut; or what `update_current_trace` set."""
        given = self.stored.metadata.get(REQUEST_GIVEN)
        return self.stored.request_preview if given or self._root is None else _preview(self._root.inputs)

    @property
    def response_preview(self) -> str | None:
        """The root's outputs as JSON, cut; or what `update_current_trace` set."""
        given = self.stored.metadata.get(RESPONSE_GIVEN)
        return self.stored.response_preview if given or self._root is None else _preview(self._root.outputs)

    @property
    def cost(self) -> dict[str, float] | None:
        """US dollars by MLflow's keys; None when unknown."""
        if self.stored.cost is None:
            return None
        parts = [parts for span in self._spans if (parts := span.cost_parts) is not None]
        known = {
            key: sum(one[key] for one in parts)
            for key in (CostKey.INPUT_COST, CostKey.OUTPUT_COST)
            if parts and all(key in one for one in parts)
        }
        return {**known, CostKey.TOTAL_COST: self.stored.cost}

    @property
    def trace_metadata(self) -> dict[str, str]:
        """The metadata, and under MLflow's keys what tracer keeps elsewhere; all texts."""
        info = self.stored
        own = {
            TraceMetadataKey.INPUTS: self.request_preview,
            TraceMetadataKey.OUTPUTS: self.response_preview,
            TraceMetadataKey.TRACE_SESSION: info.session_id,
            TraceMetadataKey.TRACE_USER: info.user_id,
            TraceMetadataKey.TOKEN_USAGE: _json(self.token_usage),
            TraceMetadataKey.COST: _json(self.cost),
        }
        given = {key: value for key, value in info.metadata.items() if not key.startswith("tracer.")}
        return {**{key: value for key, value in own.items() if value is not None}, **given}

    @property
    def assessments(self) -> list[Assessment]:
        """What was logged about the trace and its spans."""
        return [read_assessment(feedback) for feedback in self.stored.feedback]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "trace_id": self.trace_id,
            "experiment_id": self.experiment_id,
            "request_time": self.request_time,
            "execution_duration_ms": self.execution_duration,
            "state": str(self.state),
            "request_preview": self.request_preview,
            "response_preview": self.response_preview,
            "client_request_id": self.client_request_id,
            "trace_metadata": self.trace_metadata,
            "tags": self.tags,
            "assessments": [assessment.to_dictionary() for assessment in self.assessments],
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TraceInfo) and self.stored == other.stored

    __hash__ = None  # type: ignore[assignment]  # it holds dicts

    def __repr__(self) -> str:
        return f"TraceInfo(trace_id={self.trace_id!r}, state={str(self.state)!r}, experiment_id={self.experiment_id!r})"


def _preview(value: Any) -> str | None:
    if value is None:
        return None
    text = json.dumps(value)
    return text if len(text) <= PREVIEW_CHARS else f"{text[: PREVIEW_CHARS - 3]}..."


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value)
