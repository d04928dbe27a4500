"""The Jinja environment, and the files that go with the pages."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from tracer._exceptions import MissingDependencyError

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

__all__ = ["STATIC", "asset", "environment"]

STATIC = Path(__file__).parent / "static"
"""The folder with ``trace.css`` and ``trace.js``, which a server serves and a standalone file contains."""


@functools.cache
def environment() -> Environment:
    """Return the environment that every template is rendered in. Everything that is not `Markup` is escaped.

    Raises:
        MissingDependencyError: The extra `ui` is not installed.
    """
    try:
        import markdown_it  # noqa: F401  all are imported here, so that one message names the extra
        import nh3  # noqa: F401
        import pygments  # noqa: F401
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise MissingDependencyError("HTML", package=error.name or "jinja2", extra="ui") from error
    from tracer.render import _format
    from tracer.render._json_tree import one_line
    from tracer.render.addresses import session_url

    made = Environment(
        loader=PackageLoader("tracer.render"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        breaks=_visible_breaks,
        bytes=_format.format_bytes,
        cost=_format.format_cost,
        count=_format.format_count,
        duration=_format.format_duration,
        one_line=one_line,
        session_url=session_url,
        time=_format.format_time,
        tokens=_format.format_tokens,
    )
    return made


def _visible_breaks(text: str) -> Markup:
    """Mark line breaks, so that the style sheet shows them on one line; they stay in the text for the replay."""
    from markupsafe import Markup, escape

    return Markup(str(escape(text)).replace("\n", "<i>\n</i>"))


@functools.cache
def asset(name: str) -> str:
    """Return the text of a file in `STATIC`."""
    return (STATIC / name).read_text(encoding="utf-8")
