"""MLflow's tracing API with MLflow's meanings, over tracer: for code that was written for MLflow.

>>> import tracer.mlflow as mlflow
>>> mlflow.openai.autolog()

Thin on purpose: each function calls one of `tracer`'s. Reading blocks, as in MLflow; the async functions are in
`tracer`. What is not here raises, with a sentence that says what to use (docs/mlflow.md).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NamedTuple

import tracer
from tracer.mlflow import entities, exceptions, openai, tracing
from tracer.mlflow._fluent import (
    get_active_trace_id,
    get_current_active_span,
    start_span,
    start_span_no_context,
    trace,
    update_current_trace,
)
from tracer.mlflow._missing import missing
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
from tracer.mlflow.exceptions import MlflowException, raises_mlflow
from tracer.store.uri import redact_uri

__all__ = [
    "MlflowException",
    "autolog",
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

logger = logging.getLogger("tracer")

get_last_active_trace_id = raises_mlflow(tracer.get_last_active_trace_id)
get_tracking_uri = tracer.get_tracking_uri


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
    if extra_tags is not None:
        raise exceptions.UnsupportedError("autolog(extra_tags=…) is not supported: use tracing.context(tags=…)")
    if "openai" not in (exclude_flavors or ()):
        openai.autolog(disable=disable, silent=silent, log_traces=log_traces)


class Experiment(NamedTuple):
    """An experiment. Its name is its id."""

    name: str
    experiment_id: str


@raises_mlflow
def set_experiment(experiment_name: str | None = None, experiment_id: str | None = None) -> Experiment:
    """Put the traces that begin from now on into an experiment: `tracer.set_experiment`. Its name is its id."""
    name = experiment_id if experiment_name is None else experiment_name
    tracer.set_experiment(name)  # type: ignore[arg-type]  # raises for None
    return Experiment(str(name), str(name))


@raises_mlflow
def set_tracking_uri(uri: str | Path) -> None:
    """Say where traces go: `tracer.set_tracking_uri`.

    What MLflow code names is an MLflow server, which tracer does not write to. So for anything but ``sqlite:…`` and
    ``memory://`` (``http://…``, ``databricks``, a directory) a warning is logged, and traces go on to where they went.
    `tracer.set_tracking_uri` names a tracking server of tracer's own.
    """
    if not str(uri).startswith(("sqlite:", "memory:")):
        logger.warning(
            "tracer.mlflow.set_tracking_uri(%r): taken for MLflow's, which tracer does not write to; traces go to %s, "
            "and `tracer ui` shows them (tracer.set_tracking_uri names a server of `tracer serve`)",
            redact_uri(str(uri)),
            redact_uri(tracer.get_tracking_uri()),
        )
        return
    tracer.set_tracking_uri(str(uri))


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    missing(name)
