"""The public functions for set-up, the running trace and the pipeline; `tracer._stored` has those for stored traces."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from tracer._exceptions import ConfigurationError, StoreError
from tracer._runtime import EXIT_TIMEOUT, runtime
from tracer.capture.argument_checks import check_bool, check_seconds
from tracer.capture.own_work import own_work
from tracer.capture.trace_changes import trace_changes
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

    Or to a tracking server (`tracer serve`): ``http(s)://[token@]host:port``. A token that is not in the URI comes from
    ``TRACER_TOKEN``. The server is not asked for anything now: while it is away, records wait on this machine.

    Or to a receiver of OpenTelemetry's protocol, ``otlp+http(s)://host:port`` or ``otlp+grpc(s)://host:port``. Spans
    are sent when they end, with `Settings.otlp_headers`, and can't be read here.

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
    tags: Mapping[str, object] | None = None,
    metadata: Mapping[str, object] | None = None,
    session_id: str | None = None,
    user_id: str | None = None,
    name: str | None = None,
    *,
    state: str | None = None,
    request_preview: str | None = None,
    response_preview: str | None = None,
    client_request_id: str | None = None,
) -> None:
    """Say something of the current trace; None leaves it as it is. If no trace is current, a warning is logged.

    Values that are not text (numbers, UUIDs, …) become text, ``str(value)``. Never blocks.

    Args:
        tags: Merged key by key. MLflow's ``mlflow.traceName`` also sets the name.
        metadata: Merged key by key. MLflow's ``mlflow.trace.session`` and ``mlflow.trace.user`` also set session and
            user.
        session_id: The conversation that the trace belongs to.
        user_id: For whom the work is done.
        name: The name of the trace, instead of its root's.
        state: ``OK`` or ``ERROR``: the state that the trace gets when its root ends, instead of its root's status.
        request_preview: One line for lists, instead of the root's inputs. Not stored with ``capture_content=False``.
        response_preview: Likewise, instead of the root's outputs.
        client_request_id: What the client calls the request; ``trace.info.client_request_id``, and a field in filters.

    Raises:
        ConfigurationError: `tags` or `metadata` is not a mapping, `state` is neither ``OK`` nor ``ERROR``, or a text is
            empty.
    """
    changes = trace_changes(
        tags=tags,
        metadata=metadata,
        session_id=session_id,
        user_id=user_id,
        name=name,
        state=state,
        request_preview=request_preview,
        response_preview=response_preview,
        client_request_id=client_request_id,
    )
    span = open_current()
    if span is None and own_work.get():  # recording is off here
        return
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
        beside it; the next process that opens the database writes them to it (`Stats.spooled`).

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
