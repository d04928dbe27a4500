"""Spans and the running trace: MLflow's arguments for tracer's functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar, overload

import tracer
from tracer.mlflow._refusing import refuse_given
from tracer.mlflow.entities.span import SpanLogLevel
from tracer.mlflow.entities.trace_info import REQUEST_GIVEN, RESPONSE_GIVEN
from tracer.mlflow.exceptions import raises_mlflow
from tracer.mlflow.tracing.constant import SpanAttributeKey, TraceMetadataKey
from tracer.spans.live_span import LiveSpan
from tracer.spans.opening import SpanScope

__all__ = ["get_active_trace_id", "get_current_active_span", "start_span", "start_span_no_context", "trace"]

P = ParamSpec("P")
R = TypeVar("R")


@overload
def trace(func: Callable[P, R]) -> Callable[P, R]: ...
@overload
def trace(
    func: None = None,
    name: str | None = None,
    span_type: str | None = None,
    attributes: Mapping[str, Any] | None = None,
    output_reducer: Callable[[list[Any]], Any] | None = None,
    trace_destination: None = None,
    sampling_ratio_override: float | None = None,
    log_level: SpanLogLevel | str | None = None,
    links: None = None,
    description: str | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
@raises_mlflow
def trace(
    func: Any = None,
    name: str | None = None,
    span_type: str | None = None,
    attributes: Mapping[str, Any] | None = None,
    output_reducer: Callable[[list[Any]], Any] | None = None,
    trace_destination: None = None,
    sampling_ratio_override: float | None = None,
    log_level: SpanLogLevel | str | None = None,
    links: None = None,
    description: str | None = None,
) -> Any:
    """Trace every call of a function: `tracer.trace`, with ``sample_rate`` as `sampling_ratio_override`."""
    refuse_given("trace", trace_destination=trace_destination, links=links)
    return tracer.trace(
        func,
        name=name,
        span_type=span_type or tracer.SpanType.UNKNOWN,
        attributes=_with_labels(attributes, log_level, description),
        output_reducer=output_reducer,
        sample_rate=sampling_ratio_override,
    )


@raises_mlflow
def start_span(
    name: str = "span",
    span_type: str | None = None,
    attributes: Mapping[str, Any] | None = None,
    trace_destination: None = None,
    log_level: SpanLogLevel | str | None = None,
    run_id: None = None,
    links: None = None,
    description: str | None = None,
) -> SpanScope:
    """Open a span for a ``with`` block: `tracer.start_span`."""
    refuse_given("start_span", trace_destination=trace_destination, run_id=run_id, links=links)
    return tracer.start_span(
        name, span_type or tracer.SpanType.UNKNOWN, _with_labels(attributes, log_level, description)
    )


@raises_mlflow
def start_span_no_context(
    name: str,
    span_type: str | None = None,
    parent_span: LiveSpan | None = None,
    inputs: Any = None,
    attributes: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    experiment_id: None = None,
    start_time_ns: int | None = None,
    log_level: SpanLogLevel | str | None = None,
    links: None = None,
    description: str | None = None,
) -> LiveSpan:
    """Open a span that is current nowhere and that you end: `tracer.start_span_no_context`."""
    refuse_given("start_span_no_context", experiment_id=experiment_id, links=links)
    return tracer.start_span_no_context(
        name,
        span_type or tracer.SpanType.UNKNOWN,
        parent_span,
        inputs,
        _with_labels(attributes, log_level, description),
        tags,
        metadata,
        start_time_ns=start_time_ns,
    )


def _with_labels(
    attributes: Mapping[str, Any] | None, log_level: SpanLogLevel | str | None, description: str | None
) -> Mapping[str, Any] | None:
    labels: dict[str, Any] = {}
    if log_level is not None:
        labels[SpanAttributeKey.LOG_LEVEL] = SpanLogLevel.from_value(log_level).value
    if description is not None:
        labels[SpanAttributeKey.DESCRIPTION] = description
    return {**(attributes or {}), **labels} if labels else attributes


def get_current_active_span() -> LiveSpan | None:
    """Return the innermost open span that is recorded, or None."""
    span = tracer.get_current_active_span()
    return span if span is not None and span.is_recording else None


def get_active_trace_id() -> str | None:
    """Return the id of the current trace, or None."""
    span = get_current_active_span()
    return None if span is None else span.trace_id


@raises_mlflow
def update_current_trace(
    tags: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    client_request_id: str | None = None,
    request_preview: str | None = None,
    response_preview: str | None = None,
    state: str | None = None,
    model_id: str | None = None,
    session_id: str | None = None,
    user: str | None = None,
) -> None:
    """Say something of the current trace: `tracer.update_current_trace`."""
    own = {
        TraceMetadataKey.MODEL_ID: model_id,
        REQUEST_GIVEN: None if request_preview is None else "given",
        RESPONSE_GIVEN: None if response_preview is None else "given",
    }
    tracer.update_current_trace(
        tags=tags,
        metadata={**(metadata or {}), **{key: value for key, value in own.items() if value is not None}},
        client_request_id=client_request_id,
        request_preview=request_preview,
        response_preview=response_preview,
        state=state,
        session_id=session_id,
        user_id=user,
    )
