"""What MLflow calls entities: ``from tracer.mlflow.entities import SpanType``."""

from __future__ import annotations

from tracer.mlflow.entities.assessment import (
    Assessment,
    AssessmentSource,
    AssessmentSourceType,
    Expectation,
    Feedback,
)
from tracer.mlflow.entities.document import Document
from tracer.mlflow.entities.span import LiveSpan, Span, SpanEvent, SpanLogLevel, SpanStatus, SpanStatusCode, SpanType
from tracer.mlflow.entities.trace import Trace, TraceData
from tracer.mlflow.entities.trace_info import TraceInfo, TraceState

__all__ = [
    "Assessment",
    "AssessmentSource",
    "AssessmentSourceType",
    "Document",
    "Expectation",
    "Feedback",
    "LiveSpan",
    "Span",
    "SpanEvent",
    "SpanLogLevel",
    "SpanStatus",
    "SpanStatusCode",
    "SpanType",
    "Trace",
    "TraceData",
    "TraceInfo",
    "TraceState",
]
