"""The public functions for set-up, the running trace and the pipeline; `tracer._stored` has those for stored traces."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from tracer._exceptions import ConfigurationError, StoreError
from tracer._runtime import EXIT_TIMEOUT, runtime
from tracer.capture.argument_checks import check_bool, check_seconds, check_strings, optional_text
from tracer.pipeline.bridge import wait
from tracer.pipeline.pipeline import Stats
from tracer.spans.context import open_current
from tracer.spans.executors import propagate_to_threads
from tracer.spans.live_span import LiveSpan

__all__ = [
    "autolog",
    "configure",
    "flush",
    "get_current_active_span",
    "get_last_active_trace_id",
    "get_tracking_uri",
    "set_experiment",
    "set_tracking_uri",
    "shutdown",
    "stats",
    "update_current_trace",
]

logger = logging.getLogger("tracer")

MLFLOW_NAME, MLFLOW_SESSION, MLFLOW_USER = "mlflow.traceName", "mlflow.trace.session", "mlflow.trace.user"

# --- set-up -----------------------------------------------------------------------------------------------------------


def autolog(disable: bool = False) -> None:
    """Trace every supported library that is importable (now: ``openai``), or stop with ``disable=True``.

    Clients and bound methods that exist already are traced too. Calling it again changes nothing. Disabling puts
    the classes back as they were. Options: `tracer.openai.autolog`.

    A database file that can't be used raises no error here: the service runs, and the log says what happens to its
    traces.

    Raises:
        ConfigurationError: A ``TRACER_…`` variable in the environment can't be understood.
    """
    from tracer import openai as instrumentor  # imports the real openai when called, not before

    instrumentor.autolog(disable=disable)


def set_tracking_uri(uri: str) -> None:
    """Say where traces go: ``sqlite:///tracer.db`` (default; four slashes for an absolute path) or ``memory://``.

    Traces that have already begun stay in the store where they began. After `shutdown`, this call opens tracer again.
    Environment: ``TRACER_TRACKING_URI``.

    Raises:
        ConfigurationError: The URI is malformed, or its file is a directory, read-only, not an SQLite database,
            damaged, made by another program, or made by a newer version of tracer. Nothing is changed on the disk.
    """
    runtime.set_tracking_uri(uri)


def get_tracking_uri() -> str:
    """Return where traces go."""
    return runtime.tracking_uri


def set_experiment(name: str) -> None:
    """Put the traces that begin from now on into a named experiment. Environment: ``TRACER_EXPERIMENT``.

    Raises:
        ConfigurationError: `name` is not a string, or empty.
    """
    runtime.set_experiment(name)


def configure(**limits: Any) -> None:
    """Change limits and content settings, at any time; `tracer.Settings` lists and explains them.

    Each setting is also read from the environment as ``TRACER_<NAME>``.

    Raises:
        ConfigurationError: Unknown name, wrong type or value out of range. Then nothing is changed.
    """
    runtime.configure(limits)
    if "propagate_to_threads" in limits:
        propagate_to_threads(runtime.settings.propagate_to_threads)


# --- the running trace ------------------------------------------------------------------------------------------------


def get_current_active_span() -> LiveSpan | None:
    """Return the innermost open span of this task or thread, or None. Never one that has ended."""
    return open_current()


def get_last_active_trace_id(thread_local: bool = False) -> str | None:
    """Return the id of the trace whose root span ended last in this process; None if no root span has ended yet.

    Args:
        thread_local: Only look at traces that ended in the calling thread. In an asyncio service all traces end in the
            same thread, so this does not help there: keep ``span.trace_id`` instead.
    """
    source = runtime.of_thread if check_bool("thread_local", thread_local) else runtime
    return getattr(source, "last_trace_id", None)


def update_current_trace(
    tags: Mapping[str, str] | None = None,
    metadata: Mapping[str, str] | None = None,
    session_id: str | None = None,
    user_id: str | None = None,
    name: str | None = None,
) -> None:
    """Set tags, metadata, session, user or name of the current trace. If no trace is current, a warning is logged.

    Tags and metadata are merged key by key. MLflow's ``mlflow.trace.session`` and ``mlflow.trace.user`` in `metadata`
    also set session and user, and MLflow's ``mlflow.traceName`` in `tags` also sets the name. Never blocks.

    Raises:
        ConfigurationError: A key or value is not a string.
    """
    changes: dict[str, Any] = {
        "tags": check_strings("tags", tags),
        "metadata": check_strings("metadata", metadata),
        "session_id": optional_text("session_id", session_id),
        "user_id": optional_text("user_id", user_id),
        "name": optional_text("name", name),
    }
    given = changes["metadata"] or {}
    changes["session_id"] = changes["session_id"] or given.get(MLFLOW_SESSION)
    changes["user_id"] = changes["user_id"] or given.get(MLFLOW_USER)
    changes["name"] = changes["name"] or (changes["tags"] or {}).get(MLFLOW_NAME)
    span = open_current()
    if span is None:
        logger.warning("update_current_trace() did nothing: no trace is current here")
        return
    span.update_trace(**changes)


# --- the pipeline -----------------------------------------------------------------------------------------------------


async def flush(timeout: float | None = None) -> bool:
    """Wait until everything that was recorded before the call is stored.

    The functions that read do this by themselves. Call it before you look at the database with other tools.

    Args:
        timeout: Seconds to wait at most.

    Returns:
        False if something is still unwritten when time is up, or if the store refused to take it.

    Raises:
        ConfigurationError: `timeout` is not a number of seconds.
        ClosedError: After `shutdown`.
    """
    seconds = check_seconds("timeout", timeout)
    lost = stats().dropped["lost"]
    try:
        await wait(runtime.pipeline.settle(), seconds)
    except (TimeoutError, StoreError) as error:
        logger.debug("flush() did not finish: %s", error)
        return False
    return stats().dropped["lost"] == lost


async def shutdown(timeout: float = EXIT_TIMEOUT) -> int:
    """Write what is queued and close the store. `set_tracking_uri` opens tracer again.

    Not needed at the end of a program: the same happens at exit. Spans that end later are counted as dropped.
    If this call is cancelled, the shutdown still continues.

    Args:
        timeout: Seconds to wait at most.

    Returns:
        How many records could not be kept in time. Records that a locked database did not take are put aside in files
        beside it; the next process that opens the database writes them to it (`Stats.batches_put_aside`).

    Raises:
        ConfigurationError: `timeout` is not a finite number of seconds.
    """
    seconds = check_seconds("timeout", timeout)
    if seconds is None:
        raise ConfigurationError(f"timeout must be a finite number of seconds, got {timeout!r}")
    return await wait(runtime.shut_down(seconds), withdraw=False)


def stats() -> Stats:
    """Return what happened to every record so far: accepted, written, or dropped (by reason). See `Stats`.

    If the environment's tracking URI or limits can't be understood, or if eventlet has replaced threads, nothing is
    recorded. Records are then counted as ``closed``, and `last_error` says why.
    """
    return runtime.stats()
