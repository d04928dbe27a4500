"""Calls that only start something: background responses, videos, runs of assistants.

The call that starts a job has its own span, which ends with the job's first status (``queued``). The caller then polls:
it asks for the job's status again and again. The first poll that sees the job ended (or waiting for the caller) is
recorded as a span of its own. That span carries the answer and the usage, so the usage counts once. It also says which
span started the job, how many polls there were, and how long the job took. The other polls leave nothing.

Only this process knows which jobs it started, whatever the server echoes of the request. A job that was started
elsewhere is recorded when its end is first seen here, without the facts about its start.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import msgspec

from tracer import _semconv as sc
from tracer.openai._calls import Call, Options, current_call
from tracer.spans.context import current_span, open_current
from tracer.spans.guard import guarded
from tracer.spans.live_span import LiveSpan

__all__ = ["JobCall", "Poll", "jobs"]

MAX_JOBS = 4_096  # remembered; the oldest are forgotten
_RUNNING = frozenset({"queued", "in_progress", "cancelling", "pending", "processing", "running"})


class Job:
    """A job that this process started, until its end is seen.

    Attributes:
        span: The span of the call that started the job.
        polls: How many times its status was asked for.
        running_ns: When it was first seen running; None if it never was.
    """

    __slots__ = ("polls", "running_ns", "span")

    def __init__(self, span: LiveSpan) -> None:
        self.span = span
        self.polls = 0
        self.running_ns: int | None = None

    def saw(self, status: str | None) -> None:
        """Note a status: the first one, or one that a poll returned."""
        if self.running_ns is None and status == "in_progress":
            self.running_ns = self.span.now_ns()

    def facts(self) -> tuple[tuple[str, str | int | float], ...]:
        """Return what is known of the job as attributes."""
        span, start = self.span, self.span.start_time_ns
        facts: list[tuple[str, str | int | float]] = [
            (sc.JOB_TRACE_ID, span.trace_id),
            (sc.JOB_SPAN_ID, span.span_id),
            (sc.JOB_POLLS, self.polls),
            (sc.JOB_ELAPSED, (span.now_ns() - start) / 1e9),
        ]
        if self.running_ns is not None:
            facts.append((sc.JOB_QUEUE_TIME, (self.running_ns - start) / 1e9))
        return tuple(facts)


class Jobs:
    """The jobs of this process. Takes no lock: each step is one operation on a dict."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, Job] = OrderedDict()
        self._ended: OrderedDict[str, None] = OrderedDict()

    def start(self, job_id: str, span: LiveSpan, status: str | None) -> None:
        """Remember a job. A job that waited for its caller and goes on counts as a new one."""
        job = Job(span)
        job.saw(status)
        self._ended.pop(job_id, None)
        _put(self._open, job_id, job)

    def find(self, job_id: str) -> Job | None:
        """Return a running job, if it was started here."""
        return self._open.get(job_id)

    def end(self, job_id: str) -> bool:
        """Note that a job's end was seen; return whether that is news."""
        self._open.pop(job_id, None)
        if job_id in self._ended:
            return False
        _put(self._ended, job_id, None)
        return True

    def clear(self) -> None:
        """Forget all."""
        self._open.clear()
        self._ended.clear()


def _put(known: OrderedDict[str, Any], key: str, value: Any) -> None:
    known[key] = value
    if len(known) > MAX_JOBS:
        known.popitem(last=False)


jobs = Jobs()


class _Head(msgspec.Struct):
    id: Any = None
    status: Any = None
    background: Any = None


_decode_head = msgspec.json.Decoder(_Head).decode


def _head_of(response: Any) -> _Head:
    try:
        return _decode_head(response.content)
    except Exception:  # not read yet (ResponseNotRead of httpx2 or httpx), or not JSON
        return _Head()


class JobCall(Call):
    """A call that starts a job: remembers it."""

    __slots__ = ()

    @guarded
    def response_came(self, response: Any) -> None:
        """See a successful response, and remember the job that it names."""
        super().response_came(response)
        head = _head_of(response)  # empty for a stream, which brings the end of the job itself
        if isinstance(head.id, str) and head.status in _RUNNING:
            jobs.start(head.id, self.span, head.status)


class Poll(Call):
    """A poll of a job's status. It is recorded if it is the first to see that the job has ended, and otherwise not.

    If no span is current, the poll's parent is the call that started the job.
    """

    __slots__ = ("_is_wanted", "_job", "_job_id", "_request")

    def __init__(self, client: Any, operation: Any, request_options: Any, options: Options, is_async: bool) -> None:
        self._job_id: str = dict(operation.attributes)[sc.RESPONSE_ID]
        self._job = jobs.find(self._job_id)
        self._is_wanted = False
        self._request: Any = None
        parent = open_current()
        if parent is None and self._job is not None:
            parent = self._job.span  # the span has usually ended, but the job that it started has not
        super().__init__(client, operation, request_options, options, is_async, parent)

    def enter(self) -> None:
        """Make this the current call. Its span does not become current before it is known to be wanted."""
        self._around = current_call.get(), current_span.get()
        current_call.set(self)

    def leave(self, error: BaseException | None = None) -> None:
        """Leave; nothing is recorded of a poll that is not wanted."""
        if not self._is_wanted:
            self._begun = self._tapped = True  # so that nothing is recorded
            error = None
        super().leave(error)

    def request_built(self, request: Any) -> None:
        """Keep the request until it is known whether this poll is wanted."""
        self._request = request

    def attempt_failed(self, response: Any, started_ns: int, error: BaseException | None) -> None:
        """Ignore failed attempts: most polls are not recorded."""

    @guarded
    def response_came(self, response: Any) -> None:
        """See the job's status; if the job has ended, record this call after all."""
        head = _head_of(response)  # empty if the caller reads the body (``with_streaming_response``)
        status = head.status if isinstance(head.status, str) else None
        if self._job is not None:
            self._job.polls += 1
            self._job.saw(status)
        if status is None or status in _RUNNING:
            return
        is_job = self._operation.key != "retrieved" or head.background or self._job is not None
        if not is_job:  # a response that was made at once, and is merely read again
            return
        if jobs.end(self._job_id):
            self._is_wanted = True
            self._record(response, status)

    def _record(self, response: Any, status: str) -> None:
        if self._job is not None:
            known = (*self._operation.attributes, (sc.RESPONSE_STATUS, status), *self._job.facts())
            self._operation = msgspec.structs.replace(self._operation, attributes=known)
        self._begin(None, self._request.url)
        super().response_came(response)
