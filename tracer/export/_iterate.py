"""All traces of a search, with one page in memory at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec

from tracer._exceptions import ConfigurationError
from tracer._models import Trace, TracePage
from tracer._stored import search_traces
from tracer.store.base import Store, TraceQuery

__all__ = ["iterate_query", "iterate_traces"]

_PAGE = 100  # traces, each with all its spans


def iterate_traces(
    experiment: str | None = None,
    filter_string: str | None = None,
    *,
    max_results: int | None = None,
    **conditions: Any,
) -> AsyncIterator[Trace]:
    """Return the traces that meet every given condition, for ``async for``.

    One page is in memory at a time. Traces that begin after the first trace was read are left out.

    Args:
        experiment: As in `tracer.search_traces`.
        filter_string: As in `tracer.search_traces`.
        **conditions: The other keywords of `tracer.search_traces`.
        max_results: At most this many traces; None for all.

    Raises:
        ConfigurationError: An argument is wrong. This and the errors of `tracer.search_traces` are raised at the first
            step.
    """

    def page(count: int, token: str | None) -> Awaitable[TracePage]:
        return search_traces(experiment, filter_string, max_results=count, page_token=token, **conditions)

    return _iterate(page, max_results)


def iterate_query(store: Store, query: TraceQuery, *, max_results: int | None = None) -> AsyncIterator[Trace]:
    """Return the traces that a query selects in a store of your own; the query's page and page size are ignored."""

    def page(count: int, token: str | None) -> Awaitable[TracePage]:
        return store.search_traces(msgspec.structs.replace(query, max_results=count, page_token=token))

    return _iterate(page, max_results)


async def _iterate(
    page: Callable[[int, str | None], Awaitable[TracePage]], max_results: int | None
) -> AsyncIterator[Trace]:
    if max_results is not None and (
        isinstance(max_results, bool) or not isinstance(max_results, int) or max_results < 1
    ):
        raise ConfigurationError(f"max_results must be a whole number, at least 1, or None; got {max_results!r}")
    token, left = None, max_results
    while left is None or left > 0:
        traces = await page(_PAGE if left is None else min(_PAGE, left), token)
        for trace in traces:
            yield trace
        left = None if left is None else left - len(traces)
        if (token := traces.next_page_token) is None:
            return
