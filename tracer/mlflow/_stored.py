"""Stored traces, and what is said of them: MLflow's arguments and answers for `tracer.sync`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import tracer
from tracer._runtime import runtime
from tracer.capture.argument_checks import as_text
from tracer.mlflow._refusing import refuse_given
from tracer.mlflow.entities.assessment import (
    EXPECTED,
    Assessment,
    AssessmentSource,
    Expectation,
    read_assessment,
    write_value,
)
from tracer.mlflow.entities.trace import Trace
from tracer.mlflow.exceptions import MlflowException, raises_mlflow

if TYPE_CHECKING:
    import pandas

__all__ = [
    "delete_assessment",
    "delete_trace_tag",
    "flush_trace_async_logging",
    "get_assessment",
    "get_trace",
    "log_assessment",
    "log_expectation",
    "log_feedback",
    "search_traces",
    "set_trace_tag",
]

logger = logging.getLogger("tracer")

PAGE = 1_000


@raises_mlflow
def get_trace(
    trace_id: str | None = None, silent: bool = False, flush: bool = False, *, request_id: str | None = None
) -> Trace | None:
    """Return one trace; None where it is not stored. Blocks; reads your writes.

    Args:
        trace_id: 32 hex digits, also with MLflow's ``tr-`` before them.
        request_id: MLflow's old name of `trace_id`.
        silent: Don't log a warning where there is no such trace.
        flush: Of no effect: what ended before the call is always in the answer.
    """
    wanted = trace_id or request_id
    try:
        return Trace(tracer.sync.get_trace(_own_id(wanted)))
    except tracer.TraceNotFoundError:
        if not silent:
            logger.warning("tracer.mlflow.get_trace() returns None: no trace %s is stored", wanted)
        return None


def _own_id(trace_id: str | None) -> str:
    if not isinstance(trace_id, str):
        raise tracer.TraceNotFoundError(f"{trace_id!r} is no id of a trace")
    return trace_id.removeprefix("tr-")


@overload
def search_traces(
    experiment_ids: Sequence[str] | None = None,
    filter_string: str | None = None,
    max_results: int | None = None,
    order_by: Sequence[str] | None = None,
    extract_fields: None = None,
    run_id: None = None,
    return_type: Literal["pandas"] | None = None,
    model_id: None = None,
    sql_warehouse_id: None = None,
    include_spans: bool = True,
    locations: Sequence[str] | None = None,
    flush: bool = False,
) -> pandas.DataFrame: ...
@overload
def search_traces(
    experiment_ids: Sequence[str] | None = None,
    filter_string: str | None = None,
    max_results: int | None = None,
    order_by: Sequence[str] | None = None,
    extract_fields: None = None,
    run_id: None = None,
    *,
    return_type: Literal["list"],
    model_id: None = None,
    sql_warehouse_id: None = None,
    include_spans: bool = True,
    locations: Sequence[str] | None = None,
    flush: bool = False,
) -> list[Trace]: ...
@raises_mlflow
def search_traces(
    experiment_ids: Sequence[str] | None = None,
    filter_string: str | None = None,
    max_results: int | None = None,
    order_by: Sequence[str] | None = None,
    extract_fields: None = None,
    run_id: None = None,
    return_type: Literal["pandas", "list"] | None = None,
    model_id: None = None,
    sql_warehouse_id: None = None,
    include_spans: bool = True,
    locations: Sequence[str] | None = None,
    flush: bool = False,
) -> Any:
    """Return the traces that meet the filter, the newest first: a DataFrame, or with ``return_type="list"`` a list.

    Blocks; reads your writes. All of them are in memory at once: `tracer.search_traces` reads a page at a time.

    Args:
        experiment_ids: Names of experiments, as `set_experiment` takes them; `locations` is the same. None: the
            current experiment.
        filter_string: As for `tracer.search_traces`.
        max_results: None for all.
        order_by: As for `tracer.search_traces`.
        extract_fields: Not supported, like `run_id`, `model_id` and `sql_warehouse_id`.
        run_id: Not supported.
        return_type: ``pandas``, the default, or ``list``.
        model_id: Not supported.
        sql_warehouse_id: Not supported.
        include_spans: False leaves the spans out, which is faster.
        locations: See `experiment_ids`.
        flush: Of no effect: what ended before the call is always in the answer.

    Raises:
        MissingDependencyError: pandas is not installed (extra ``pandas``), or a filter needs the extra ``search``.
    """
    refuse_given(
        "search_traces",
        extract_fields=extract_fields,
        run_id=run_id,
        model_id=model_id,
        sql_warehouse_id=sql_warehouse_id,
    )
    if return_type not in (None, "pandas", "list"):
        raise MlflowException(f"return_type must be 'pandas' or 'list', got {return_type!r}")
    make_frame = None if return_type == "list" else _frame_maker()
    names = [str(name) for name in experiment_ids or locations or [runtime.experiment]]
    found = list(_find(names, filter_string, order_by, max_results, include_spans))
    return found if make_frame is None else make_frame([trace.to_pandas_dataframe_row() for trace in found])


def _frame_maker() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise tracer.MissingDependencyError(
            'search_traces() as a DataFrame (return_type="list" does without)', package="pandas", extra="pandas"
        ) from error
    return lambda rows: pandas.DataFrame(rows, columns=None if rows else Trace.pandas_dataframe_columns())


def _find(
    experiments: list[str],
    filter_string: str | None,
    order_by: Sequence[str] | None,
    max_results: int | None,
    include_spans: bool,
) -> Iterator[Trace]:
    experiment = experiments[0] if len(experiments) == 1 else None
    if experiment is None:
        quoted = ", ".join("'" + name.replace("'", "''") + "'" for name in experiments)
        within = f"experiment IN ({quoted})"
        filter_string = within if not filter_string else f"{within} AND ({filter_string})"
    left, token = max_results, None
    while left is None or left > 0:
        page = tracer.sync.search_traces(
            experiment,
            filter_string or None,
            order_by=order_by or "start_time desc",
            max_results=PAGE if left is None else min(PAGE, left),
            page_token=token,
            include_spans=include_spans,
        )
        yield from map(Trace, page)
        left, token = None if left is None else left - len(page), page.next_page_token
        if token is None:
            return


@raises_mlflow
def set_trace_tag(trace_id: str, key: str, value: Any) -> None:
    """Set one tag of a stored trace; a value that is not text becomes text. Blocks."""
    tracer.sync.set_trace_tag(_own_id(trace_id), key, as_text("value", value) or "None")


@raises_mlflow
def delete_trace_tag(trace_id: str, key: str) -> None:
    """Delete one tag of a stored trace. Blocks."""
    tracer.sync.delete_trace_tag(_own_id(trace_id), key)


@raises_mlflow
def log_feedback(
    *,
    trace_id: str,
    name: str = "feedback",
    value: Any = None,
    source: AssessmentSource | None = None,
    error: None = None,
    rationale: str | None = None,
    metadata: None = None,
    span_id: str | None = None,
) -> Assessment:
    """Store what somebody thought of a trace or a span: `tracer.log_feedback`. Blocks.

    Args:
        trace_id: Of which trace.
        name: What is judged.
        value: True, False, a number or text; a list or a dict is stored as JSON text.
        source: Who judges; code, if nobody is named.
        error: Not supported, like `metadata`.
        rationale: The reason (tracer's ``comment``).
        metadata: Not supported.
        span_id: Of which span; None: of the trace.
    """
    refuse_given("log_feedback", error=error, metadata=metadata)
    return _log(trace_id, name, value, source or AssessmentSource("CODE"), rationale, span_id)


@raises_mlflow
def log_expectation(
    *,
    trace_id: str,
    name: str,
    value: Any,
    source: AssessmentSource | None = None,
    metadata: None = None,
    span_id: str | None = None,
) -> Assessment:
    """Store what would have been right: feedback named ``expected.<name>``. Blocks. Arguments: see `log_feedback`."""
    refuse_given("log_expectation", metadata=metadata)
    return _log(trace_id, f"{EXPECTED}{name}", value, source or AssessmentSource("HUMAN"), None, span_id)


@raises_mlflow
def log_assessment(trace_id: str, assessment: Assessment) -> Assessment:
    """Store a `Feedback` or an `Expectation`. Blocks."""
    if not isinstance(assessment, Assessment):
        raise MlflowException(f"assessment must be a Feedback or an Expectation, got {assessment!r}")
    name = f"{EXPECTED}{assessment.name}" if isinstance(assessment, Expectation) else assessment.name
    return _log(trace_id, name, assessment.value, assessment.source, assessment.rationale, assessment.span_id)


def _log(
    trace_id: str, name: str, value: Any, source: AssessmentSource, rationale: str | None, span_id: str | None
) -> Assessment:
    stored = tracer.sync.log_feedback(
        _own_id(trace_id), name, write_value(value), span_id=span_id, comment=rationale, source=source.stored
    )
    return read_assessment(stored)


@raises_mlflow
def get_assessment(trace_id: str, assessment_id: str) -> Assessment:
    """Return one assessment. Blocks."""
    info = tracer.sync.get_trace(_own_id(trace_id)).info
    for feedback in info.feedback:
        if feedback.id == assessment_id:
            return read_assessment(feedback)
    raise MlflowException(f"trace {trace_id} has no assessment {assessment_id}") from LookupError(assessment_id)


@raises_mlflow
def delete_assessment(trace_id: str, assessment_id: str) -> None:
    """Delete one assessment. Blocks."""
    get_assessment(trace_id, assessment_id)
    tracer.sync.delete_feedback(assessment_id)


@raises_mlflow
def flush_trace_async_logging(terminate: bool = False) -> None:
    """Wait until everything that was recorded is stored. `terminate` has no effect: `tracer.shutdown` ends tracer."""
    tracer.sync.flush()
