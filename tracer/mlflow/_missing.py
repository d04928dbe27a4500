"""What MLflow has and tracer has not, each with what to use."""

from __future__ import annotations

from typing import NoReturn

from tracer.mlflow.exceptions import UnsupportedError

__all__ = ["missing", "refuse_missing"]

_RUNS = (
    "tracer has no runs: put traces into experiments (set_experiment) and mark them with tags (update_current_trace)"
)
_MODELS = "tracer stores traces and no models; keep MLflow beside it for those"
_SERVER = "tracer has no tracking client: call get_trace, search_traces, set_trace_tag, … of tracer.mlflow itself"
_MISSING = {
    **dict.fromkeys(("start_run", "end_run", "active_run", "last_active_run", "log_param", "log_params"), _RUNS),
    **dict.fromkeys(("log_metric", "log_metrics", "set_tag", "set_tags", "log_artifact", "search_runs"), _RUNS),
    **dict.fromkeys(("log_model", "load_model", "register_model", "pyfunc", "models", "set_active_model"), _MODELS),
    **dict.fromkeys(("create_external_model", "get_active_model_id", "langchain", "anthropic", "litellm"), _MODELS),
    **dict.fromkeys(("MlflowClient", "client", "tracking"), _SERVER),
    "add_trace": "tracer can't merge a trace from elsewhere; get_trace of the process that recorded it has it",
    "log_trace": "use start_span_no_context(name, inputs=…, start_time_ns=…) and span.end(outputs=…, end_time_ns=…)",
    "genai": "tracer has no evaluation and no prompt registry; log_feedback stores what your own checks say",
    "evaluate": "tracer has no evaluation; log_feedback stores what your own checks say",
    "load_prompt": "tracer has no prompt registry; keep prompts in your code and name them in a tag",
    "search_sessions": "use search_traces(filter_string=\"session_id = '…'\"), or the page (tracer ui)",
    "update_assessment": "log a new one and delete the old one (log_feedback, delete_assessment)",
    "override_feedback": "log a new one; the newest counts",
    "log_issue": "use log_feedback with a label as its value",
}
_PARAMETERS = {
    "trace_destination": "choose the experiment with set_experiment",
    "run_id": _RUNS,
    "model_id": _MODELS,
    "links": "a span has one parent: start_span_no_context(name, parent_span=…)",
    "sql_warehouse_id": "tracer reads its own database",
    "extract_fields": "take them from span.inputs and span.outputs of search_traces(return_type='list')",
    "error": "put the error into the rationale, and give a value",
    "metadata": "put it into the rationale",
    "experiment_id": "choose the experiment with set_experiment",
    "location": "tracer keeps traces in the database of set_tracking_uri",
}


def missing(name: str) -> NoReturn:
    """Raise for a name that this package has not."""
    what = _MISSING.get(
        name, "only MLflow's tracing is here; docs/mlflow.md lists it. For the rest, keep MLflow beside it"
    )
    raise UnsupportedError(f"tracer.mlflow has no {name!r}: {what}")


def refuse_missing(function: str, **given: object) -> None:
    """Raise for an argument that can't be honoured; None was not given."""
    for name, value in given.items():
        if value is not None:
            raise UnsupportedError(f"{function}({name}=…) is not supported: {_PARAMETERS[name]}")
