"""The public functions: each checks its arguments and passes the work to the runtime."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from tracer._exceptions import ConfigurationError, MediaNotFoundError, StoreError
from tracer._models import Feedback, Media, Trace, TracePage
from tracer._runtime import EXIT_TIMEOUT, runtime
from tracer.capture.argument_checks import check_bool, check_seconds, check_strings, check_text, optional_text
from tracer.capture.feedback_checks import FeedbackValue, make_feedback
from tracer.capture.text import clean_text
from tracer.interpret.media import media_hash
from tracer.pipeline.bridge import wait
from tracer.pipeline.pipeline import Stats
from tracer.spans.context import open_current
from tracer.spans.live_span import LiveSpan
from tracer.store.base import Store, TraceQuery

__all__ = [
    "autolog",
    "configure",
    "delete_feedback",
    "delete_trace_tag",
    "delete_traces",
    "flush",
    "get_current_active_span",
    "get_last_active_trace_id",
    "get_media",
    "get_trace",
    "get_tracking_uri",
    "list_feedback",
    "log_feedback",
    "search_traces",
    "set_experiment",
    "set_trace_tag",
    "set_tracking_uri",
    "shutdown",
    "stats",
    "update_current_trace",
]

logger = logging.getLogger("tracer")

MLFLOW_NAME, MLFLOW_SESSION, MLFLOW_USER = "mlflow.traceName", "mlflow.trace.session", "mlflow.trace.user"
Moment = datetime | timedelta | float | str

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


# --- reading ----------------------------------------------------------------------------------------------------------


async def get_trace(trace_id: str) -> Trace:
    """Return one trace: its root span first, then the other spans by start time.

    Reads your writes: every span that ended (or started) before the call is in the answer. Runs on any event loop;
    safe to cancel, which stops the query.

    Args:
        trace_id: 32 lower-case hex digits.

    Raises:
        TraceNotFoundError: No such trace was ever stored.
        ReadTimeoutError: It took longer than the setting `read_timeout`, a minute unless configured otherwise.
        StoreError: The database can't be read, or has refused writes for half a minute.
        ClosedError: After `shutdown`.
    """
    wanted = check_text("trace_id", trace_id)
    return await wait(runtime.pipeline.submit(lambda store: store.get_trace(wanted), barrier=True))


async def get_media(reference: str) -> Media:
    """Return an image, a recording or a file that was part of a call.

    Base64 of a kilobyte or more is stored once, however often it was sent. In inputs, outputs, attributes and events
    it is replaced by a reference: ``media://sha256/<hash>?type=image/png&bytes=12345``. If it was a data URL, the
    reference ends with ``&form=data``.

    Args:
        reference: That text, or the hash alone.

    Raises:
        MediaNotFoundError: Nothing with this hash is stored, or `reference` is not a media reference.
        StoreError: The database can't be read, or has refused writes for half a minute.
        ClosedError: After `shutdown`.
    """
    wanted = media_hash(check_text("reference", reference))
    if wanted is None:
        raise MediaNotFoundError(f"{reference[:200]!r} is no reference to media, and no SHA-256 in hex")
    return await wait(runtime.pipeline.submit(lambda store: store.get_media(wanted), barrier=True))


async def search_traces(
    experiment: str | None = None,
    filter_string: str | None = None,
    *,
    status: str | None = None,
    name: str | None = None,
    model: str | None = None,
    text: str | None = None,
    tags: Mapping[str, str] | None = None,
    session_id: str | None = None,
    user_id: str | None = None,
    linked_to: str | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    min_duration: float | None = None,
    order_by: str | Sequence[str] | None = "start_time desc",
    max_results: int = 100,
    page_token: str | None = None,
    include_spans: bool = True,
) -> TracePage:
    """Return the traces that meet every condition given, a page at a time.

    Reads your writes, as `get_trace` does. Pages stay correct while traces arrive: traces that come after the first
    page was read do not appear on later pages. A search that is cancelled (``anyio.fail_after``, Ctrl-C) is stopped.

    Args:
        experiment: The experiment's name; None for all.
        filter_string: MLflow's grammar with OR, NOT and parentheses, for example
            ``"status = 'ERROR' AND (duration > 2 OR total_tokens > 1000) AND tags.env = 'prod'"``. Needs the extra
            ``search``.
        status: ``OK``, ``ERROR``, ``IN_PROGRESS`` or ``INTERRUPTED``.
        name: The trace's exact name.
        model: A model that one of the trace's calls asked for or got.
        text: Words that occur in the trace's inputs or outputs.
        tags: Tags the trace must have, with these values.
        session_id: The trace's session.
        user_id: The trace's user.
        linked_to: A trace's id. Returns that trace, the traces it continues and the traces that continue it (through
            Responses' ``previous_response_id`` and ``conversation``), as in ``trace.info.chain``.
        since: The trace started at or after this: a datetime, seconds since the epoch, an ISO 8601 string, or a
            timedelta, counted back from now.
        until: The trace started before this; takes the same forms as `since`.
        min_duration: The shortest duration, in seconds.
        order_by: ``start_time``, ``duration``, ``time_to_first_token``, ``total_tokens``, ``input_tokens``,
            ``output_tokens``, ``cache_read_input_tokens``, ``cost``, ``name`` or ``status``, with ``asc`` or ``desc``;
            or a list of these. MLflow's names work too: ``["status ASC", "timestamp_ms DESC"]``.
        max_results: Traces on a page, 1 to 10,000.
        page_token: ``next_page_token`` of the page before; the other arguments must be the same.
        include_spans: False leaves ``trace.data.spans`` empty, which is faster.

    Returns:
        A list of traces with the attribute ``next_page_token``, which is None on the last page.

    Raises:
        ConfigurationError: A bad argument. For `filter_string` the message gives the position of the error.
        MissingDependencyError: `filter_string` was given, but the extra ``search`` is not installed.
        ReadTimeoutError: It took longer than the setting `read_timeout`. Give it fewer conditions, a shorter range of
            time, or more time.
        StoreError: The database can't be read.
        ClosedError: After `shutdown`.
    """
    query = TraceQuery(
        experiment=experiment,
        filter_string=filter_string,
        status=status,
        name=name,
        model=model,
        text=text,
        tags=check_strings("tags", tags),
        session_id=session_id,
        user_id=user_id,
        linked_to=linked_to,
        since=since,
        until=until,
        min_duration=min_duration,
        order_by=order_by,
        max_results=max_results,
        page_token=page_token,
        include_spans=include_spans,
    )
    return await wait(runtime.pipeline.submit(lambda store: store.search_traces(query), barrier=True))


# --- changing what is stored ------------------------------------------------------------------------------------------


async def set_trace_tag(trace_id: str, key: str, value: str) -> None:
    """Set one tag of a stored trace. If this call is cancelled, the tag may or may not be set.

    Raises:
        TraceNotFoundError: No such trace.
        ConfigurationError: `key` or `value` is not a string.
        StoreError: The database could not be written.
    """
    wanted, tag = check_text("trace_id", trace_id), check_text("key", key)
    if not isinstance(value, str):
        raise ConfigurationError(f"value must be a string, got {value!r}; use str(…)")
    text = clean_text(value)
    pipeline = runtime.pipeline
    await wait(pipeline.submit(lambda store: store.set_trace_tag(wanted, tag, pipeline.redact(text)), barrier=True))


async def delete_trace_tag(trace_id: str, key: str) -> None:
    """Delete one tag of a stored trace; it is no error if the trace does not have the tag.

    Raises:
        TraceNotFoundError: No such trace.
        StoreError: The database could not be written.
    """
    wanted, tag = check_text("trace_id", trace_id), check_text("key", key)
    await wait(runtime.pipeline.submit(lambda store: store.delete_trace_tag(wanted, tag), barrier=True))


async def log_feedback(
    trace_id: str,
    name: str,
    value: FeedbackValue,
    *,
    span_id: str | None = None,
    comment: str | None = None,
    source: str | None = None,
) -> Feedback:
    """Store what a person, a model or a check thought of a trace, or of one of its spans.

    It is read back as ``trace.info.feedback`` and ``span.feedback``, and found by ``filter_string``:
    ``feedback.helpful = true``, ``feedback.score > 0.5``. Each call adds one feedback, even if the name is already in
    use. The ``redact`` hooks are applied to `comment`, and to `value` if it is a label. If this call is cancelled, the
    feedback may or may not be stored.

    Args:
        trace_id: 32 lower-case hex digits.
        name: What is judged, for example ``helpful``.
        value: A thumb (True or False), a score (a finite number) or a label (text).
        span_id: The span that the feedback is about; None for the trace as a whole.
        comment: The reason for the feedback (MLflow's ``rationale``).
        source: ``human``, ``llm`` or ``code`` (the default). A colon and a name say who exactly: ``human:ann``.

    Raises:
        TraceNotFoundError: No such trace, or it has no such span.
        ConfigurationError: A bad argument.
        StoreError: The database could not be written.
    """
    pipeline = runtime.pipeline
    created_ns = runtime.clock.time_ns()

    async def add(store: Store) -> Feedback:
        feedback = make_feedback(
            trace_id,
            name,
            value,
            created_ns=created_ns,
            span_id=span_id,
            comment=comment,
            source=source,
            redact=pipeline.redact,
        )
        await store.add_feedback(feedback)
        return feedback

    return await wait(pipeline.submit(add, barrier=True))


async def delete_feedback(feedback_id: str) -> bool:
    """Delete one feedback by its id and return whether it was there.

    Raises:
        ConfigurationError: `feedback_id` is not a string.
        StoreError: The database could not be written.
    """
    wanted = check_text("feedback_id", feedback_id)
    return await wait(runtime.pipeline.submit(lambda store: store.delete_feedback(wanted), barrier=True))


async def list_feedback(
    trace_id: str | None = None, *, name: str | None = None, max_results: int = 100
) -> list[Feedback]:
    """Return feedback, the newest first. The feedback on one trace is also in ``trace.info.feedback``.

    Args:
        trace_id: Only feedback on this trace or its spans. For a trace that is not stored the list is empty.
        name: Only feedback with this name.
        max_results: The largest number of feedback to return.

    Raises:
        ConfigurationError: A bad argument.
        StoreError: The database can't be read.
    """
    wanted, named = optional_text("trace_id", trace_id), optional_text("name", name)
    _check_whole("max_results", max_results, 1)
    return await wait(
        runtime.pipeline.submit(
            lambda store: store.list_feedback(trace_id=wanted, name=named, max_results=max_results), barrier=True
        )
    )


async def delete_traces(
    trace_ids: Sequence[str] | None = None,
    *,
    experiment: str | None = None,
    max_timestamp_ms: int | None = None,
    max_traces: int | None = None,
) -> int:
    """Delete the traces that meet every condition given, with all their spans, for good.

    Args:
        trace_ids: Only these.
        experiment: Only in this experiment.
        max_timestamp_ms: Only those that started at or before this, in milliseconds since the epoch.
        max_traces: Delete at most this many, the oldest first.

    Returns:
        How many were deleted.

    Raises:
        ConfigurationError: No condition was given, or one of them is wrong.
        StoreError: The database could not be written.
    """
    if trace_ids is None and experiment is None and max_timestamp_ms is None and max_traces is None:
        raise ConfigurationError("delete_traces needs trace_ids, experiment, max_timestamp_ms or max_traces")
    if trace_ids is not None and not isinstance(trace_ids, (str, list, tuple, set, frozenset)):
        raise ConfigurationError(f"trace_ids must be a list of trace ids, got {trace_ids!r}")
    ids = [trace_ids] if isinstance(trace_ids, str) else trace_ids
    ids = None if ids is None else [check_text("trace_ids", trace_id) for trace_id in ids]
    optional_text("experiment", experiment)
    _check_whole("max_timestamp_ms", max_timestamp_ms, 0)
    _check_whole("max_traces", max_traces, 1)

    def delete(store: Store) -> Any:
        return store.delete_traces(
            trace_ids=ids, experiment=experiment, max_timestamp_ms=max_timestamp_ms, max_traces=max_traces
        )

    deleted: int = await wait(runtime.pipeline.submit(delete, barrier=True))
    return deleted


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


def _check_whole(parameter: str, value: object, minimum: int) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < minimum):
        raise ConfigurationError(f"{parameter} must be a whole number, at least {minimum}, got {value!r}")
