"""The rows of the span tree as HTML.

Written by hand and not by a template: of a trace of 500 spans its rows took nine tenths of the time to render, most of
it in looking up attributes and in escaping numbers. What comes from a trace, names and types, is escaped here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from html import escape
from itertools import islice

from tracer.render._format import format_cost, format_duration, format_tokens
from tracer.render._tree import Row

__all__ = ["tree_groups"]

_GROUP = 20
"""Rows of one box, which the browser neither styles nor lays out while it is far from being seen."""


def tree_groups(
    rows: Sequence[Row], *, link: str, id_length: int | None, chosen_id: str | None, found: Collection[str]
) -> list[str]:
    """Return boxes of rows.

    Args:
        rows: Of `tracer.render._tree.rows`.
        link: What stands before a span's id in the address of its row.
        id_length: How much of each id its address takes; None for all of it.
        chosen_id: Of the span that is shown.
        found: The ids of the spans that hold what was looked for.
    """
    written = (_row(row, link, id_length, row.span.span_id == chosen_id, row.span.span_id in found) for row in rows)
    return [f'<div role="presentation">\n{"".join(group)}</div>\n' for group in _batched(written)]


def _batched(written: Iterator[str]) -> Iterator[list[str]]:
    while group := list(islice(written, _GROUP)):
        yield group


def _row(row: Row, link: str, id_length: int | None, chosen: bool, hit: bool) -> str:
    span = row.span
    failed, address = row.failed, f"{link}{escape(span.span_id[:id_length])}"
    kind = escape(span.span_type.lower().replace(" ", ""))
    states = (failed, "bad"), (row.on_path, "path"), (span.end_time_ns is None, "open"), (hit, "hit")
    classes = " ".join([kind, *(word for holds, word in states if holds)])
    expanded, twist = (' aria-expanded="true"', '<i class="tw"></i>') if row.has_children else ("", "")
    first = "" if row.first_token is None else f'<rect class="ft" x="{row.first_token}%"/>'
    return (
        f'<a role="treeitem" class="r {classes}" href="{address}" aria-level="{row.level}"'
        f'{expanded} aria-selected="{"true" if chosen else "false"}"><span class="n">{twist}'
        f"<span>{escape(span.name)}</span>{_FAILED if failed else ''}</span>"
        f'<svg aria-hidden="true"><rect x="{row.left}%" width="{row.width}%"/>{first}</svg>'
        f'<span class="d">{format_duration(span.duration_ns)}</span>{_numbers(row)}</a>\n'
    )


_FAILED = '<span class="vh">, failed</span>'


def _numbers(row: Row) -> str:
    span = row.span
    tokens = f'<span class="k">{format_tokens(span.token_usage)}</span>' if span.token_usage else ""
    cost = "" if span.cost is None else f'<span class="c">{format_cost(span.cost)}</span>'
    return tokens + cost
