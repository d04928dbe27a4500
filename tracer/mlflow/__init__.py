"""MLflow's tracing API with MLflow's meanings, over tracer: for code that was written for MLflow.

>>> import tracer.mlflow as mlflow
>>> mlflow.openai.autolog()

Thin on purpose: each function calls one of `tracer`'s. Reading blocks, as in MLflow; the async functions are in
`tracer`. What is not here raises, with a sentence that says what to use (docs/mlflow.md).
"""

from __future__ import annotations

from typing import NamedTuple

import tracer
from tracer.mlflow import config, entities, exceptions, openai, tracing
from tracer.mlflow._fluent import (
    get_active_trace_id,
    get_current_active_span,
    start_span,
    start_span_no_context,
    trace,
    update_current_trace,
)
from tracer.mlflow._refusing import refuse_given, refuse_members, refuse_missing_names
from tracer.mlflow._running import complete_live_spans
from tracer.mlflow._stored import (
    delete_assessment,
    delete_trace_tag,
    flush_trace_async_logging,
    get_assessment,
    get_trace,
    log_assessment,
    log_expectation,
    log_feedback,
    search_traces,
    set_trace_tag,
)
from tracer.mlflow.config import get_tracking_uri, set_tracking_uri
from tracer.mlflow.exceptions import MlflowException, raises_mlflow
from tracer.mlflow.tracing import context

__all__ = [
    "MlflowException",
    "autolog",
    "config",
    "context",
    "delete_assessment",
    "delete_trace_tag",
    "entities",
    "exceptions",
    "flush_trace_async_logging",
    "get_active_trace_id",
    "get_assessment",
    "get_current_active_span",
    "get_last_active_trace_id",
    "get_trace",
    "get_tracking_uri",
    "log_assessment",
    "log_expectation",
    "log_feedback",
    "openai",
    "search_traces",
    "set_experiment",
    "set_trace_tag",
    "set_tracking_uri",
    "start_span",
    "start_span_no_context",
    "trace",
    "tracing",
    "update_current_trace",
]

get_last_active_trace_id = raises_mlflow(tracer.get_last_active_trace_id)


@raises_mlflow
def autolog(
    log_input_examples: bool = False,
    log_model_signatures: bool = True,
    log_models: bool = True,
    log_datasets: bool = True,
    log_traces: bool = True,
    disable: bool = False,
    exclusive: bool = False,
    disable_for_unsupported_versions: bool = False,
    silent: bool = False,
    extra_tags: None = None,
    exclude_flavors: list[str] | None = None,
) -> None:
    """Trace every supported library (now: ``openai``), as `tracer.mlflow.openai.autolog` does.

    Arguments about models and data sets have no effect: there are none here.

    Args:
        log_input_examples: Of no effect, like the other three arguments about models and data sets.
        log_model_signatures: Of no effect.
        log_models: Of no effect.
        log_datasets: Of no effect.
        log_traces: False is the same as ``disable=True``.
        disable: Stop tracing.
        exclusive: Of no effect.
        disable_for_unsupported_versions: Of no effect.
        silent: Log no warnings, only errors.
        extra_tags: Not supported: `tracing.context` gives tags to traces.
        exclude_flavors: ``["openai"]`` leaves everything as it is.
    """
    refuse_given("autolog", extra_tags=extra_tags)
    if "openai" not in (exclude_flavors or ()):
        openai.autolog(disable=disable, silent=silent, log_traces=log_traces)


class Experiment(NamedTuple):
    """An experiment. Its name is its id."""

    name: str
    experiment_id: str


@raises_mlflow
def set_experiment(
    experiment_name: str | None = None, experiment_id: str | None = None, trace_location: None = None
) -> Experiment:
    """Put the traces that begin from now on into an experiment: `tracer.set_experiment`. Its name is its id."""
    refuse_given("set_experiment", trace_location=trace_location)
    name = experiment_id if experiment_name is None else experiment_name
    tracer.set_experiment(name)  # type: ignore[arg-type]  # raises for None
    return Experiment(str(name), str(name))


complete_live_spans()
refuse_members(MlflowException)
refuse_missing_names()
