"""The public functions for traces that are stored: read them, search them, tag them, judge them, delete them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from tracer._exceptions import ConfigurationError, MediaNotFoundError
from tracer._models import Feedback, Media, Trace, TracePage
from tracer._runtime import runtime
from tracer.capture.argument_checks import check_strings, check_text, optional_text
from tracer.capture.feedback_checks import FeedbackValue, make_feedback
from tracer.capture.text import clean_text
from tracer.interpret.media import media_hash
from tracer.pipeline.bridge import wait
from tracer.store.base import Store, TraceQuery

__all__ = [
    "delete_feedback",
    "delete_trace_tag",
    "delete_traces",
    "get_media",
    "get_trace",
    "list_feedback",
    "log_feedback",
    "search_traces",
    "set_trace_tag",
]

Moment = datetime | timedelta | float | str

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
    return await wait(runtime.pipeline.question(lambda store: store.get_trace(wanted), barrier=True))


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
    return await wait(runtime.pipeline.question(lambda store: store.get_media(wanted), barrier=True))


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
    return await wait(runtime.pipeline.question(lambda store: store.search_traces(query), barrier=True))


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
    await wait(pipeline.question(lambda store: store.set_trace_tag(wanted, tag, pipeline.redact(text)), barrier=True))


async def delete_trace_tag(trace_id: str, key: str) -> None:
    """Delete one tag of a stored trace; it is no error if the trace does not have the tag.

    Raises:
        TraceNotFoundError: No such trace.
        StoreError: The database could not be written.
    """
    wanted, tag = check_text("trace_id", trace_id), check_text("key", key)
    await wait(runtime.pipeline.question(lambda store: store.delete_trace_tag(wanted, tag), barrier=True))


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

    return await wait(pipeline.question(add, barrier=True))


async def delete_feedback(feedback_id: str) -> bool:
    """Delete one feedback by its id and return whether it was there.

    Raises:
        ConfigurationError: `feedback_id` is not a string.
        StoreError: The database could not be written.
    """
    wanted = check_text("feedback_id", feedback_id)
    return await wait(runtime.pipeline.question(lambda store: store.delete_feedback(wanted), barrier=True))


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
        runtime.pipeline.question(
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

    deleted: int = await wait(runtime.pipeline.question(delete, barrier=True))
    return deleted


def _check_whole(parameter: str, value: object, minimum: int) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < minimum):
        raise ConfigurationError(f"{parameter} must be a whole number, at least {minimum}, got {value!r}")
