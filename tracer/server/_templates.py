"""Jinja2 with autoescape, and what every page needs to know."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from tracer.server import _format

__all__ = ["STATIC_FOLDERS", "environment", "render", "static_url", "static_version"]

_NAVIGATION = (
    ("Traces", "/"),
    ("Sessions", "/sessions"),
    ("Overview", "/overview"),
    ("Experiments", "/experiments"),
    ("Storage", "/storage"),
)
STATIC_FOLDERS = {"": Path(__file__).parent / "static", "render": Path(__file__).parent.parent / "render" / "static"}
"""The folders of the files below ``/static``, by the first part of their name."""


def render(
    request: Request, template: str, *, status: int = 200, headers: dict[str, str] | None = None, **values: Any
) -> HTMLResponse:
    """Answer with a page (or a piece of one). `values` are the template's; all text in them is escaped."""
    page = environment().get_template(template).render(request=request, **values)
    return HTMLResponse(page, status, headers)


@functools.cache
def environment() -> Environment:
    """Return the templates; they are compiled when they are first used."""
    made = Environment(
        loader=PackageLoader("tracer.server"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.globals.update(static=static_url, navigation=_NAVIGATION)
    made.globals.update(state_words=_format.STATE_WORDS, loss_words=_format.LOSS_WORDS)
    made.filters.update(_format.FILTERS)
    return made


def static_url(name: str) -> str:
    """Return the URL of a file of ours, ``app.css`` or ``render/trace.js``."""
    return f"/static/{static_version()}/{name}"


@functools.cache
def static_version() -> str:
    """Return a word that changes with the content of any static file, so that browsers may cache the files for ever.

    The word is part of the path: modules import one another by relative names, which must lead to the same URL as a
    page's ``<script>``. Otherwise a module would run twice.
    """
    digest = hashlib.blake2b(digest_size=6)
    for folder in STATIC_FOLDERS.values():
        for file in sorted(folder.glob("*")):
            digest.update(file.read_bytes())
    return digest.hexdigest()
