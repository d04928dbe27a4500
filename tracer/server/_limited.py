"""A store as somebody sees it whose token allows some experiments only."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tracer._exceptions import TraceNotFoundError
from tracer._models import Feedback, Media, Trace, TraceInfo, TracePage
from tracer.server._errors import ForbiddenError, RefusedError
from tracer.store.base import Store, StoreOptions, TraceQuery
from tracer.store.batch import Batch, Export, ExportCounts, StoredTrace
from tracer.store.summaries import (
    ExperimentSummary,
    Facets,
    Histogram,
    LossSummary,
    Neighbours,
    Overview,
    SessionPage,
    StorageSummary,
)

__all__ = ["LimitedStore"]

_AT_ONCE = 100  # traces that are looked up by one search


class LimitedStore:
    """A `Store` of some experiments: other traces are not there, and lists and sums are without them.

    What can't be told apart by experiment (sessions, sizes, losses) is refused.

    Args:
        store: The whole.
        experiments: Those that may be seen and written.
    """

    def __init__(self, store: Store, experiments: tuple[str, ...]) -> None:
        self._store = store
        self._experiments = experiments

    uri = property(lambda self: self._store.uri)
    expired = property(lambda self: self._store.expired)

    @property
    def options(self) -> StoreOptions:
        """Of the whole store."""
        return self._store.options

    @options.setter
    def options(self, _: StoreOptions) -> None:
        raise AttributeError("the options are the whole store's")

    @property
    def beside(self) -> Path | None:
        """Nothing lies beside this view of a store."""
        return None

    @property
    def files_moved_aside(self) -> int:
        """Of the whole store."""
        return self._store.files_moved_aside

    @property
    def may_open(self) -> bool:
        """Of the whole store."""
        return self._store.may_open

    needs_signs_of_life = False
    only_sends = False
    export_counts: ExportCounts | None = None

    async def sign_of_life(self) -> None:
        """Do nothing."""

    async def take_exports(self, taker: str, most: int) -> list[Export]:
        """Return nothing: what ends is sent by whoever serves the whole store."""
        return []

    async def end_exports(self, keys: list[int]) -> None:
        """Do nothing."""

    async def return_exports(self, taker: str) -> None:
        """Do nothing."""

    # --- what the limits change ---------------------------------------------------------------------------------------

    async def write(self, batch: Batch) -> None:
        """Write the batch if all its traces are of the experiments. Raises RefusedError with the place of another."""
        for index, patch in enumerate(batch.traces):
            if patch.experiment is not None and patch.experiment not in self._experiments:
                raise self._foreign(index, patch.experiment)
        others = [
            *(row.trace_id for row in batch.spans),
            *(row.trace_id for row in batch.chunks),
            *(row.trace_id for row in batch.media),
        ]
        stored = await self._experiments_of({patch.trace_id for patch in batch.traces} | set(others))
        for index, patch in enumerate(batch.traces):
            experiment = stored.get(patch.trace_id, patch.experiment or "Default")
            if experiment not in self._experiments:
                raise self._foreign(index, experiment)
        known = stored | {patch.trace_id: self._experiments[0] for patch in batch.traces}
        for index, trace_id in enumerate(others):
            if known.get(trace_id) not in self._experiments:
                message = f"row {index} of spans, chunks and media is of a trace that this token may not write to"
                raise RefusedError(403, "forbidden", message, index=index)
        await self._store.write(batch)

    def _foreign(self, index: int, experiment: str) -> RefusedError:
        allowed = ", ".join(map(repr, self._experiments))
        message = f"traces[{index}] is of the experiment {experiment!r}; this token may write to {allowed}"
        return RefusedError(403, "forbidden", message, index=index)

    async def _experiments_of(self, trace_ids: set[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        wanted = sorted(trace_ids)
        for start in range(0, len(wanted), _AT_ONCE):
            ids = " OR ".join(f"trace_id = '{each}'" for each in wanted[start : start + _AT_ONCE])
            query = TraceQuery(filter_string=ids, max_results=_AT_ONCE, include_spans=False)
            found |= {trace.info.trace_id: trace.info.experiment for trace in await self._store.search_traces(query)}
        return found

    def _allowed(self, info: TraceInfo) -> bool:
        return info.experiment in self._experiments

    def _limited(self, query: TraceQuery) -> TraceQuery:
        """Return the query for the traces that may be seen."""
        if query.experiment in self._experiments:
            return query
        from tracer.store.filter import parse_filter  # lark is an extra

        if query.filter_string is not None and query.filter_string.strip():
            parse_filter(query.filter_string)  # alone, so that none reaches beyond the parentheses around it
        names = (each.replace("\\", "\\\\").replace("'", "''") for each in self._experiments)
        ours = " OR ".join(f"experiment = '{name}'" for name in names)
        theirs = f" AND ({query.filter_string})" if query.filter_string and query.filter_string.strip() else ""
        return msgspec.structs.replace(query, filter_string=f"({ours}){theirs}")

    async def get_trace(self, trace_id: str) -> Trace:
        """Return one trace. Raises TraceNotFoundError, also for one of another experiment."""
        trace = await self._store.get_trace(trace_id)
        if not self._allowed(trace.info):
            raise TraceNotFoundError(f"no trace {trace_id!r} is stored")
        return trace

    async def stored_traces(self, trace_ids: list[str], *, bodies: bool = True) -> list[StoredTrace]:
        """Return those of these traces that may be seen."""
        found = await self._store.stored_traces(trace_ids, bodies=bodies)
        return [trace for trace in found if trace.patch.experiment in self._experiments]

    async def live_chunks(self, trace_id: str, span_id: str) -> list[tuple[int, bytes]]:
        """Return the raw reads of a stream that has not ended."""
        await self.get_trace(trace_id)
        return await self._store.live_chunks(trace_id, span_id)

    async def search_traces(self, query: TraceQuery) -> TracePage:
        """Return one page."""
        return await self._store.search_traces(self._limited(query))

    async def neighbours(self, query: TraceQuery, trace_id: str) -> Neighbours:
        """Return the traces before and after a trace."""
        await self.get_trace(trace_id)
        return await self._store.neighbours(self._limited(query), trace_id)

    async def set_trace_tag(self, trace_id: str, key: str, value: str) -> None:
        """Set one tag."""
        await self.get_trace(trace_id)
        await self._store.set_trace_tag(trace_id, key, value)

    async def delete_trace_tag(self, trace_id: str, key: str) -> None:
        """Delete one tag."""
        await self.get_trace(trace_id)
        await self._store.delete_trace_tag(trace_id, key)

    async def delete_traces(
        self,
        *,
        trace_ids: list[str] | None = None,
        experiment: str | None = None,
        max_timestamp_ms: int | None = None,
        max_traces: int | None = None,
    ) -> int:
        """Delete traces of one experiment, which must be named."""
        if experiment not in self._experiments:
            raise ForbiddenError("with this token, name one of its experiments whose traces are to be deleted")
        return await self._store.delete_traces(
            trace_ids=trace_ids, experiment=experiment, max_timestamp_ms=max_timestamp_ms, max_traces=max_traces
        )

    async def add_feedback(self, feedback: Feedback) -> None:
        """Store feedback."""
        await self.get_trace(feedback.trace_id)
        await self._store.add_feedback(feedback)

    async def delete_feedback(self, feedback_id: str) -> bool:
        """Refuse: an id does not tell its experiment."""
        raise ForbiddenError("a token of some experiments can't delete feedback")

    async def list_feedback(
        self, *, trace_id: str | None = None, name: str | None = None, max_results: int = 100
    ) -> list[Feedback]:
        """Return the feedback of one trace."""
        if trace_id is None:
            raise ForbiddenError("with a token of some experiments, name the trace whose feedback is asked for")
        await self.get_trace(trace_id)
        return await self._store.list_feedback(trace_id=trace_id, name=name, max_results=max_results)

    async def facets(self, query: TraceQuery, *, limit: int = 10) -> Facets:
        """Return the most frequent values of each field."""
        return await self._store.facets(self._limited(query), limit=limit)

    async def histogram(self, query: TraceQuery, *, buckets: int = 60) -> Histogram:
        """Return calls, errors and latency over time."""
        return await self._store.histogram(self._limited(query), buckets=buckets)

    async def overview(self, query: TraceQuery, *, buckets: int = 60, limit: int = 10) -> Overview:
        """Return totals."""
        return await self._store.overview(self._limited(query), buckets=buckets, limit=limit)

    async def experiments(self) -> list[ExperimentSummary]:
        """Return the experiments that may be seen."""
        return [each for each in await self._store.experiments() if each.name in self._experiments]

    async def sessions(self, query: TraceQuery) -> SessionPage:
        """Refuse: a session is summed up over all experiments."""
        raise ForbiddenError("a token of some experiments can't read sessions, which may reach over others")

    async def storage(self) -> StorageSummary:
        """Refuse: sizes are those of the whole."""
        raise ForbiddenError("a token of some experiments can't read how large the whole store is")

    async def losses(self, *, since_ns: int = 0) -> list[LossSummary]:
        """Return nothing: losses as a whole belong to no experiment."""
        return []

    # --- what they don't change ---------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open the whole store."""
        await self._store.open()

    async def aclose(self) -> None:
        """Do nothing: the whole store is somebody else's."""

    async def taken_over(self, source: str) -> int:
        """Return how far a file was taken over."""
        return await self._store.taken_over(source)

    async def forget_source(self, source: str) -> None:
        """Forget a file, which is gone."""
        await self._store.forget_source(source)

    async def end_process(self, process_id: str, sources: list[str]) -> None:
        """Note that a process has ended."""
        await self._store.end_process(process_id, sources)

    async def get_media(self, media_hash: str) -> Media:
        """Return one medium. Whoever knows the hash of its content may read it."""
        return await self._store.get_media(media_hash)

    async def change_marker(self) -> object:
        """Return a value that stays equal as long as nothing new is stored."""
        return await self._store.change_marker()

    async def tidy(self) -> bool:
        """Do nothing."""
        return False

    async def expire(self) -> bool:
        """Do nothing."""
        return False
