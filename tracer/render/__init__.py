"""Traces as HTML: the page of one trace, a file to send to someone, the view in a notebook.

Pure functions from what was read to text; nothing here reads a store or needs a server. Needs the extra `ui`.

::

    from tracer.render import render_trace

    trace = await tracer.get_trace(trace_id)
    html = render_trace(trace, standalone=True)     # one file that loads nothing
"""

from tracer.render._compare import compare
from tracer.render._document import render_list, render_sides, render_span, render_trace, render_turn
from tracer.render._find import find_in_trace
from tracer.render._format import format_cost, format_time, format_tokens
from tracer.render._media import playable, references
from tracer.render._notebook import show_list, show_trace, trace_file
from tracer.render._page import STATIC

__all__ = [
    "STATIC",
    "compare",
    "find_in_trace",
    "format_cost",
    "format_time",
    "format_tokens",
    "playable",
    "references",
    "render_list",
    "render_sides",
    "render_span",
    "render_trace",
    "render_turn",
    "show_list",
    "show_trace",
    "trace_file",
]
