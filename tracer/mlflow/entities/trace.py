"""MLflow's trace over one of tracer's."""

from __future__ import annotations

import json
import re
from typing import Any

from tracer import _semconv as sc
from tracer._models import Trace as StoredTrace
from tracer.mlflow._refusing import refuse_making, refuse_members
from tracer.mlflow.entities.assessment import Assessment, Expectation, Feedback
from tracer.mlflow.entities.span import Span, is_hosted_tool
from tracer.mlflow.entities.trace_info import TraceInfo
from tracer.mlflow.exceptions import MlflowException

__all__ = ["Trace", "TraceData"]


_COLUMNS = (
    "trace_id",
    "trace",
    "client_request_id",
    "state",
    "request_time",
    "execution_duration",
    "request",
    "response",
    "trace_metadata",
    "tags",
    "spans",
    "assessments",
)


@refuse_members
class TraceData:
    """The spans of a trace, the root first."""

    def __init__(self, spans: list[Span]) -> None:
        self.spans = spans

    @property
    def request(self) -> str | None:
        """The root's inputs as JSON."""
        return json.dumps(self.spans[0].inputs) if self.spans and self.spans[0].inputs is not None else None

    @property
    def response(self) -> str | None:
        """The root's outputs as JSON."""
        return json.dumps(self.spans[0].outputs) if self.spans and self.spans[0].outputs is not None else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"spans": [span.to_dict() for span in self.spans]}


@refuse_making(StoredTrace)
@refuse_members
class Trace:
    """One trace as MLflow shows it. ``stored`` is tracer's own `tracer.Trace`, with its tree and its page.

    The tools that OpenAI ran inside a call (web search, …) are spans in ``stored``, and not here, as in MLflow.
    """

    def __init__(self, stored: StoredTrace) -> None:
        self.stored = stored
        calls = {span.span_id for span in stored.data.spans if sc.OPERATION in span.attributes}
        self.data = TraceData([Span(span) for span in stored.data.spans if not is_hosted_tool(span, calls)])
        self.info = TraceInfo(stored.info, self.data.spans[0] if self.data.spans else None, stored.data.spans)

    trace_id = property(lambda self: self.info.trace_id, doc="32 hex digits.")

    def search_spans(
        self, span_type: str | None = None, name: str | re.Pattern[str] | None = None, span_id: str | None = None
    ) -> list[Span]:
        """Return the spans that meet every condition given; `name` may be a regular expression."""
        if name is not None and not isinstance(name, (str, re.Pattern)):
            raise MlflowException(f"name must be a text or a compiled regular expression, got {name!r}")
        return [
            span
            for span in self.data.spans
            if (span_type is None or span.span_type == span_type)
            and (span_id is None or span.span_id == span_id)
            and (name is None or (span.name == name if isinstance(name, str) else name.search(span.name)))
        ]

    def search_assessments(
        self,
        name: str | None = None,
        *,
        span_id: str | None = None,
        type: str | None = None,  # noqa: A002  MLflow's
    ) -> list[Assessment]:
        """Return the assessments that meet every condition given; `type` is ``feedback`` or ``expectation``."""
        kind = {None: Assessment, "feedback": Feedback, "expectation": Expectation}.get(type)
        if kind is None:
            raise MlflowException(f"type must be 'feedback', 'expectation' or None, got {type!r}")
        return [
            one
            for one in self.info.assessments
            if isinstance(one, kind)
            and (name is None or one.name == name)
            and (span_id is None or one.span_id == span_id)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"info": self.info.to_dict(), "data": self.data.to_dict()}

    def to_json(self, pretty: bool = False) -> str:
        """Return `to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=2 if pretty else None)

    @staticmethod
    def pandas_dataframe_columns() -> list[str]:
        """Return the columns of what `tracer.mlflow.search_traces` returns."""
        return list(_COLUMNS)

    def to_pandas_dataframe_row(self) -> dict[str, Any]:
        """Return the row that `tracer.mlflow.search_traces` has for it."""
        root = self.data.spans[0] if self.data.spans else None
        return {
            "trace_id": self.info.trace_id,
            "trace": self.to_json(),
            "client_request_id": self.info.client_request_id,
            "state": str(self.info.state),
            "request_time": self.info.request_time,
            "execution_duration": self.info.execution_duration,
            "request": None if root is None else root.inputs,
            "response": None if root is None else root.outputs,
            "trace_metadata": self.info.trace_metadata,
            "tags": self.info.tags,
            "spans": self.data.to_dict()["spans"],
            "assessments": [assessment.to_dictionary() for assessment in self.info.assessments],
        }

    def _repr_html_(self) -> str:
        """Show the trace's page in a notebook."""
        return self.stored._repr_html_()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Trace) and self.stored == other.stored

    __hash__ = None  # type: ignore[assignment]  # it holds dicts

    def __repr__(self) -> str:
        return f"Trace(trace_id={self.trace_id!r})"
