"""``mlflow.config``: where traces go."""

from __future__ import annotations

import logging
from pathlib import Path

import tracer
from tracer.mlflow._refusing import refuse_given
from tracer.mlflow.exceptions import raises_mlflow
from tracer.store.uri import redact_uri

__all__ = ["enable_async_logging", "get_tracking_uri", "set_tracking_uri"]

logger = logging.getLogger("tracer")

_OURS = ("http:", "https:", "memory:", "sqlite:")

get_tracking_uri = tracer.get_tracking_uri


@raises_mlflow
def set_tracking_uri(uri: str | Path) -> None:
    """Say where traces go: `tracer.set_tracking_uri`.

    At ``http://…`` a server of tracer's own (`tracer serve`) must listen. If it is MLflow's, the log says so, and what
    is recorded waits. What only MLflow can write to (``databricks``, a directory) is left alone: a warning is logged,
    and traces go on to where they went.
    """
    if not str(uri).startswith(_OURS):
        logger.warning(
            "tracer.mlflow.set_tracking_uri(%r): tracer can't write there; traces go to %s, and `tracer ui` shows them",
            redact_uri(str(uri)),
            redact_uri(tracer.get_tracking_uri()),
        )
        return
    tracer.set_tracking_uri(str(uri))


def enable_async_logging(enable: bool = True) -> None:
    """Do nothing: tracer always writes in the background. False is refused."""
    refuse_given("enable_async_logging", enable=None if enable else False)
