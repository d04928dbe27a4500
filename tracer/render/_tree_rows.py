"""The rows of the span tree as HTML.

This is Python and not a template: for a trace of 500 spans, a template's rows took nine tenths of the time to render,
most of it for looking up attributes and escaping numbers. Names and types, which come from the trace, are escaped here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from html import escape
from itertools import islice

from tracer.render._format import format_cost, format_duration, format_tokens
from tracer.render._tree import Row

__all__ = ["tree_groups"]

_GROUP = 20
"""Rows of one box. The browser does not style or lay out a box while it is far from the visible part."""


def tree_groups(
    rows: Sequence[Row], *, link: str, id_length: int | None, chosen_id: str | None, found: Collection[str]
) -> list[str]:
    """Return boxes of rows.

    Args:
        rows: The rows from `tracer.render._tree.rows`.
        link: The part of a row's address before the span's id.
        id_length: How many digits of the id the address has; None for all.
        chosen_id: The id of the span that is shown.
        found: The ids of the spans that contain the text that was searched for.
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
