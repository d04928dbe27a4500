"""What `Trace` and `TracePage` do beyond their own data: read media from the store, draw a page.

Everything imports `tracer._models`, so that module can import neither the store nor the pages. Importing this module
gives it both.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tracer import _models, sync
from tracer._exceptions import TracerError
from tracer._models import Media, Trace, TracePage, TraceServices
from tracer._stored import get_media

__all__ = ["StoreAndPages"]

NOTEBOOK_MEDIA_BYTES = 8 * 1024 * 1024
FILE_MEDIA_BYTES = 32 * 1024 * 1024


class StoreAndPages(TraceServices):
    """Reads media from the current store, and has `tracer.render` (extra `ui`) draw when it is asked to."""

    async def get_media(self, reference: str) -> Media:
        """Read the medium that a reference stands for."""
        return await get_media(reference)

    def save_page(self, trace: Trace, path: str | Path | None) -> str:
        """Return a trace's page as one file, its media included, and write it if there is a path."""
        from tracer import render  # imported here, so that only a page loads the templates

        return render.trace_file(trace, path, media=_read_media(render.references(trace, max_bytes=FILE_MEDIA_BYTES)))

    def show_trace(self, trace: Trace) -> str:
        """Return a trace as HTML for a notebook, its media included."""
        from tracer import render

        return render.show_trace(trace, media=_read_media(render.references(trace, max_bytes=NOTEBOOK_MEDIA_BYTES)))

    def show_list(self, traces: TracePage) -> str:
        """Return a list of traces as HTML for a notebook."""
        from tracer import render

        return render.show_list(traces)


def _read_media(references: Iterator[str]) -> Iterator[Media]:
    """Yield the media that are referred to, read from the store; media that can't be read are left out."""
    for reference in references:
        with contextlib.suppress(TracerError, OSError):
            yield sync.get_media(reference)


_models.services = StoreAndPages()
