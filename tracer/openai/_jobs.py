"""Calls that only start something: background responses, videos, runs of assistants.

The call that starts a job has its own span, which ends with the job's first status (``queued``). The caller then polls:
it asks for the job's status again and again. The first poll that sees the job ended (or waiting for the caller) is
recorded as a span of its own. That span carries the answer and the usage, so the usage counts once. It also says which
span started the job, how many polls there were, and how long the job took. The other polls leave nothing.

Only this process knows which jobs it started, whatever the server echoes of the request. A job that was started
elsewhere is recorded when its end is first seen here, without the facts about its start. A stream that is read to its
end mark has the job's end itself. If it was cut off before, the job goes on, and a poll may see its end.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import msgspec

from tracer import _semconv as sc
from tracer.capture.records import Ending, HttpFacts, Payload
from tracer.capture.response_heads import CONTENT_ENCODING
from tracer.interpret._decompress import decompress
from tracer.interpret.sse import Chunks
from tracer.openai._calls import Call, Options, current_call, facts_of
from tracer.openai._job_heads import JobHead, has_end_mark, head_of, head_of_stream
from tracer.openai._stream import Reads, tap
from tracer.spans.context import current_span, open_current
from tracer.spans.guard import guarded, report
from tracer.spans.live_span import LiveSpan

__all__ = ["JobCall", "Poll", "jobs"]

MAX_JOBS = 4_096  # remembered; the oldest are forgotten
_HEAD_BYTES = 1024 * 1024  # of a body that names a job: it repeats the request's instructions and tools
_CONTENT_ENCODING = CONTENT_ENCODING.encode()
_SEAM_BYTES = 64  # an end mark may be split across two reads


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


class _JobReads(Reads):
    """Keeps the reads of a body that names a job, and looks for the event that ends the job."""

    __slots__ = ("_room", "_seam", "has_end", "head")

    def __init__(self, span: LiveSpan) -> None:
        super().__init__(span)
        self._room = _HEAD_BYTES
        self._seam = b""
        self.head: list[tuple[int, bytes]] = []
        self.has_end = False

    def keep(self, data: bytes) -> None:
        """Keep one read."""
        super().keep(data)
        try:
            if self._room > 0:
                self._room -= len(data)
                self.head.append((self.last_ns, data))
            if not self.has_end:
                data = self._seam + data
                self.has_end = has_end_mark(data)
                self._seam = data[-_SEAM_BYTES:]
        except Exception:
            report("_JobReads.keep")


class JobCall(Call):
    """A call that starts a job: remembers it. Also one that takes up the stream of a job."""

    __slots__ = ()

    @guarded
    def response_came(self, response: Any) -> None:
        """See a successful response, and remember the job that it names."""
        super().response_came(response)
        if self.reads is None:
            self._note(head_of(_content_of(response) or b""))

    def _new_reads(self) -> Reads:
        return _JobReads(self.span)

    def _finish(
        self,
        ending: Ending,
        error: BaseException | None = None,
        end_ns: int | None = None,
        outputs: Payload | None = None,
    ) -> None:
        super()._finish(ending, error, end_ns, outputs)
        try:
            reads = self.reads
            if isinstance(reads, _JobReads) and reads.head:
                plain, compressed = _decompressed(reads.head, self._http)
                has_end = has_end_mark(b"".join([data for _, data in plain])) if compressed else reads.has_end
                self._note(head_of_stream(plain), is_stream=True, has_end=has_end)
        except Exception:
            report("JobCall._finish")

    def _note(self, head: JobHead, *, is_stream: bool = False, has_end: bool = False) -> None:
        if not isinstance(head.id, str):
            return
        if has_end or head.has_ended:
            jobs.end(head.id)
        elif self._operation.kind != "poll":
            jobs.start(head.id, self.span, None if is_stream else head.word)


def _decompressed(reads: Chunks, http: HttpFacts | None) -> tuple[Chunks, bool]:
    """Return reads without the encoding that the response's head names, and whether it names one."""
    headers = [] if http is None else http.headers
    encoding = b",".join([value for name, value in headers if name.lower() == _CONTENT_ENCODING]).decode("latin-1")
    return decompress(reads, encoding).reads, bool(encoding)


def _content_of(response: Any) -> bytes | None:
    try:
        content: bytes = response.content
    except Exception:  # ResponseNotRead of httpx2 or httpx
        return None
    return content


class _HeldReads(Reads):
    """Holds a body that the caller reads, until its end tells whether the call is recorded."""

    __slots__ = ("held",)

    def __init__(self, span: LiveSpan) -> None:
        super().__init__(span)
        self.held: list[tuple[int, bytes]] = []

    def keep(self, data: bytes) -> None:
        """Hold one read, unless there is no room."""
        try:
            self.last_ns = self._span.now_ns()
            if self.room >= 0:
                self.room -= len(data)
                self.held.append((self.last_ns, data))
        except Exception:
            report("_HeldReads.keep")


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
        body = _content_of(response)
        if body is None:  # the caller reads it (``with_streaming_response``)
            self._http = facts_of(response)
            self.reads = _HeldReads(self.span)
            tap(response, self)
        elif self._sees_end(head := head_of(body)):
            self._is_wanted = True
            self._begin_at_end(head)
            super().response_came(response)

    @guarded
    def stream_ended(self, ending: Ending, error: BaseException | None = None) -> None:
        """See the job's status in a body that the caller has read, as far as it was read."""
        reads, self.reads = self.reads, None
        if isinstance(reads, _HeldReads):
            plain, _ = _decompressed(reads.held, self._http)
            body = b"".join([data for _, data in plain])
            head = head_of(body) if reads.room >= 0 else JobHead(completed_at=msgspec.Raw(b"0"))  # no job that runs
            if self._sees_end(head):
                self._begin_at_end(head)
                self._body = body
                self._finish(Ending.RETURNED, end_ns=reads.last_ns)

    def _sees_end(self, head: JobHead) -> bool:
        """Tell whether this poll is the first to see the job's end."""
        if self._job is not None:
            self._job.polls += 1
            self._job.saw(head.word)
        is_job = self._operation.key != "retrieved" or head.background or self._job is not None
        # Otherwise it is a response that was made at once, and is merely read again.
        return bool(is_job) and head.has_ended and jobs.end(self._job_id)

    def _begin_at_end(self, head: JobHead) -> None:
        if self._job is not None:
            known = (*self._operation.attributes, *self._job.facts())
            if head.word is not None:
                known = (*known, (sc.RESPONSE_STATUS, head.status))
            self._operation = msgspec.structs.replace(self._operation, attributes=known)
        self._begin(None, self._request.url)
