"""Videos: ``POST /videos``, ``/videos/edits``, ``/videos/extensions``, ``/videos/{id}/remix``, ``GET /videos/{id}``."""

from __future__ import annotations

from typing import Any

from tracer.interpret._forms import file_names, read_form_params
from tracer.interpret._json import as_dict, as_text
from tracer.interpret._views import RequestView, ResponseView
from tracer.interpret.choices import read_head
from tracer.interpret.jobs import read_job
from tracer.interpret.previews import join_texts, one_line

__all__ = ["read_request", "read_response"]


def read_request(body: dict[str, Any], view: RequestView) -> None:
    """Fill in parameters, preview and text of a request, which is JSON or a form."""
    read_form_params(body, view)
    prompt = as_text(body.get("prompt"))
    view.preview = one_line(prompt or ", ".join(file_names(body)))
    view.text = join_texts([prompt])


def read_response(body: dict[str, Any], view: ResponseView) -> None:
    """Fill in the video's status. A video that is only queued is a successful result of the call."""
    read_head(body, view)
    read_job(body, view)
    status = as_text(body.get("status"))
    if status is None:
        return
    words = [status, *(text for key in ("size", "seconds") if (text := as_text(body.get(key))))]
    view.preview = one_line(f"{' '.join(words)} s" if as_text(body.get("seconds")) else " ".join(words))
    if status == "failed":
        view.finish = "failed"
        view.error = view.error or as_text(as_dict(body.get("error")).get("message")) or "the video failed"
    view.finish = view.finish or "completed"
