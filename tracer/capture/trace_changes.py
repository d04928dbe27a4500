"""What a user says of a trace, as the fields of `tracer.capture.records.TraceUpdated`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tracer import _semconv as sc
from tracer._exceptions import ConfigurationError
from tracer._models import TraceState
from tracer.capture.argument_checks import as_text, as_texts

__all__ = ["trace_changes"]

MLFLOW_NAME, MLFLOW_SESSION, MLFLOW_USER = "mlflow.traceName", "mlflow.trace.session", "mlflow.trace.user"


def trace_changes(
    *,
    tags: Mapping[str, object] | None = None,
    metadata: Mapping[str, object] | None = None,
    session_id: str | None = None,
    user_id: str | None = None,
    name: str | None = None,
    state: str | None = None,
    request_preview: str | None = None,
    response_preview: str | None = None,
    client_request_id: str | None = None,
) -> dict[str, Any]:
    """Return the arguments of `tracer.update_current_trace`, checked; None leaves a field as it is.

    Values that are not text become text. MLflow's keys for name, session and user also set those.

    Raises:
        ConfigurationError: `tags` or `metadata` is not a mapping, `state` is neither ``OK`` nor ``ERROR``, or a text is
            empty.
    """
    texts, facts = as_texts("tags", tags), as_texts("metadata", metadata)
    if (request_id := as_text("client_request_id", client_request_id)) is not None:
        facts = {**(facts or {}), sc.CLIENT_REQUEST_ID: request_id}
    if (wanted := as_text("state", state)) not in (None, TraceState.OK, TraceState.ERROR):
        raise ConfigurationError(f"state must be 'OK' or 'ERROR', got {state!r}")
    return {
        "tags": texts,
        "metadata": facts,
        "session_id": as_text("session_id", session_id) or (facts or {}).get(MLFLOW_SESSION),
        "user_id": as_text("user_id", user_id) or (facts or {}).get(MLFLOW_USER),
        "name": as_text("name", name) or (texts or {}).get(MLFLOW_NAME),
        "request_preview": as_text("request_preview", request_preview),
        "response_preview": as_text("response_preview", response_preview),
        "state": wanted,
    }
