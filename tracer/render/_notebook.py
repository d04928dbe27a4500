"""The view in a notebook: a frame with a document of its own, so that neither disturbs the other's style.

The frame is a sandbox without origin: its script can't reach the notebook, and its policy loads nothing. Without
scripts, the page still opens and closes its parts. If a notebook that isn't trusted drops the frame, the tree below it
as plain text remains.

A frame knows the browser's theme but not the notebook's, so a script beside the frame, the same for any trace, tells
it. Seen in VS Code 1.100 (npm's code-server: a notebook with saved outputs, `--disable-workspace-trust`), in its light
and its dark theme, each in a browser of the other, and in JupyterLab's dark theme in a light browser.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from pathlib import Path

from tracer._models import Media, Trace, TracePage
from tracer.render._document import render_list, render_trace

__all__ = ["show_list", "show_trace", "trace_file"]

MAX_CHARS = 4_000_000
_ROW_PX = 28
_LEAST_PX, _MOST_PX = 420, 760
# A notebook may run this script anywhere and at any time, before or after a frame has loaded. Light text means a dark
# theme.
_TELL_THEME = """<script>
for (const frame of document.querySelectorAll("iframe[data-tracer]")) {
  const tell = () => {
    const text = /^rgba?\\((\\d+), (\\d+), (\\d+)/.exec(getComputedStyle(frame.parentElement).color);
    const light = text && Number(text[1]) + Number(text[2]) + Number(text[3]) > 382;
    if (text) frame.contentWindow.postMessage(light ? "dark" : "light", "*");
  };
  frame.removeAttribute("data-tracer");
  frame.addEventListener("load", tell);
  tell();
}
</script>"""


def show_trace(trace: Trace, *, media: Iterable[Media] = ()) -> str:
    """Return a trace as HTML for a notebook's output, with the media that are given.

    Raises:
        MissingDependencyError: The extra `ui` is not installed.
    """
    page = render_trace(trace, standalone=True, media=media, max_chars=MAX_CHARS)
    height = min(_MOST_PX, max(_LEAST_PX, 260 + _ROW_PX * len(trace.data.spans)))
    return _frame(page, f"Trace {trace.info.name or trace.info.trace_id}", height, trace.format_tree())


def show_list(traces: TracePage) -> str:
    """Return a list of traces as HTML for a notebook's output: a row for each, for the first hundred at most.

    Raises:
        MissingDependencyError: The extra `ui` is not installed.
    """
    height = min(_MOST_PX, 80 + 44 * len(traces))
    return _frame(render_list(traces), f"{len(traces)} traces", height, traces.format_list())


def trace_file(trace: Trace, path: str | Path | None = None, *, media: Iterable[Media] = ()) -> str:
    """Return a trace's page as one file with the media that are given, and write it if there is a path.

    Raises:
        MissingDependencyError: The extra `ui` is not installed.
    """
    page = render_trace(trace, standalone=True, media=media)
    if path is not None:
        path = Path(path)
        path.touch(mode=0o600)
        path.write_text(page, encoding="utf-8")
    return page


def _frame(page: str, title: str, height: int, text: str) -> str:
    """Return the frame, and plain text in case the frame is dropped."""
    return (
        f'<iframe srcdoc="{html.escape(page)}" title="{html.escape(title)}" sandbox="allow-scripts" data-tracer '
        f'allow="clipboard-write" style="width:100%;height:{height}px;border:0;resize:vertical"></iframe>'
        f"<details><summary>As text</summary><pre>{html.escape(text)}</pre></details>{_TELL_THEME}"
    )
