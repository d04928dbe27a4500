"""``mlflow.openai.autolog``."""

from __future__ import annotations

import logging

from tracer import openai as instrumentor
from tracer.mlflow.exceptions import raises_mlflow

__all__ = ["autolog"]


@raises_mlflow
def autolog(
    disable: bool = False,
    exclusive: bool = False,
    disable_for_unsupported_versions: bool = False,
    silent: bool = False,
    log_traces: bool = True,
    disable_openai_agent_tracer: bool = True,
) -> None:
    """Trace every call of the ``openai`` package, as `tracer.openai.autolog` does, which has more options.

    As in MLflow, a ``traceparent`` header is sent along, unless the caller set one. Some gateways reject unknown
    headers: ``tracer.openai.autolog(propagate=False)`` afterwards stops that.

    Args:
        disable: Stop tracing.
        exclusive: Of no effect: there are no runs that traces could be kept out of.
        disable_for_unsupported_versions: Of no effect: each version from openai 1.40 on is supported.
        silent: Log no warnings, only errors, from now on; False logs them again.
        log_traces: False is the same as ``disable=True``.
        disable_openai_agent_tracer: Remove the Agents SDK's own exporter to OpenAI while tracing is on.
    """
    logging.getLogger("tracer").setLevel(logging.ERROR if silent else logging.NOTSET)
    instrumentor.autolog(
        disable=disable or not log_traces,
        propagate=True,
        disable_openai_agent_tracer=disable_openai_agent_tracer,
    )
