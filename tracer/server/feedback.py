"""What people think of a trace: given on its page, with or without scripts, or through the API."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from tracer._exceptions import ConfigurationError
from tracer._models import Feedback, Trace
from tracer._runtime import runtime
from tracer.capture.feedback_checks import make_feedback
from tracer.interpret import redact
from tracer.server._source import store_of
from tracer.server._templates import environment, render

__all__ = ["ROUTES", "NewFeedback", "feedback_box", "read_body", "store_feedback"]

THUMB = "helpful"
"""What a thumb on the page is called, as in the README's ``feedback.helpful = true``."""
_MOST_BODY = 64 * 1024
_THUMBS: dict[str, bool] = {"up": True, "down": False}
_WORDS: dict[str, bool] = {"yes": True, "no": False}


class NewFeedback(msgspec.Struct, forbid_unknown_fields=True):
    """What `tracer.log_feedback` takes. `source` is ``human`` unless told otherwise: it comes from a page."""

    name: str
    value: bool | int | float | str
    span_id: str | None = None
    comment: str | None = None
    source: str = "human"


async def store_feedback(request: Request, trace_id: str, given: NewFeedback) -> Feedback:
    """Store feedback like `tracer.log_feedback`: checked, and its texts put through this process's ``redact`` hooks.

    If the server runs inside a user's program, the hooks are those of `tracer.configure`. Under ``tracer ui``, they are
    those that ``TRACER_REDACT`` names. Raises ConfigurationError or TraceNotFoundError.
    """
    told = {name: getattr(given, name) for name in ("span_id", "comment", "source")}
    made = make_feedback(trace_id, given.name, given.value, created_ns=time.time_ns(), redact=_redacted, **told)
    await (await store_of(request)).add_feedback(made)
    return made


def _redacted(text: str) -> str:
    return str(redact(text, runtime.settings.redact)[0])


async def read_body(request: Request) -> bytes:
    """Return the request's body, of 64 KiB at most. It is not decompressed: a few KiB could become gigabytes."""
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding != "identity":
        raise HTTPException(415, f"send the body without Content-Encoding, got {coding[:40]!r}")
    content = b""
    async for piece in request.stream():
        content += piece
        if len(content) > _MOST_BODY:
            raise HTTPException(413, f"a body must have at most {_MOST_BODY:,} bytes")
    return content


async def add(request: Request) -> Response:
    """Store the feedback in the page's form, and redirect back to the page."""
    form, trace_id = await _form(request), request.path_params["trace_id"]
    made = await store_feedback(request, trace_id, _read(form))
    return await _answer(request, form, made.span_id)


async def remove(request: Request) -> Response:
    """Delete one feedback, and redirect back to the page. It is not an error if the feedback is gone already."""
    form = await _form(request)
    await (await store_of(request)).delete_feedback(request.path_params["feedback_id"])
    return await _answer(request, form, form.get("span_id") or None)


async def _form(request: Request) -> dict[str, str]:
    """Read a form as browsers send it: ``application/x-www-form-urlencoded``."""
    text = (await read_body(request)).decode("utf-8", "replace")
    try:
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=20))
    except ValueError as error:
        raise ConfigurationError(f"this is no form of the page: {error}") from None


def _read(form: dict[str, str]) -> NewFeedback:
    """Return what a form says. Raises ConfigurationError naming the field that is wrong."""
    span_id = form.get("span_id") or None
    if "thumb" in form:
        if form["thumb"] not in _THUMBS:
            raise ConfigurationError(f"thumb must be up or down, got {form['thumb'][:40]!r}")
        return NewFeedback(THUMB, _THUMBS[form["thumb"]], span_id)
    name, comment = form.get("name", "").strip(), form.get("comment", "").strip() or None
    if not name:
        raise ConfigurationError("name must not be blank: it says what was judged, as in helpful or correctness")
    return NewFeedback(name, _value(form.get("kind", ""), form.get("value", "").strip()), span_id, comment)


def _value(kind: str, text: str) -> bool | float | str:
    if kind in _WORDS:
        return _WORDS[kind]
    if kind == "label" and text:
        return text
    if kind == "score":
        try:
            return float(text)
        except ValueError:
            raise ConfigurationError(f"a score must be a number, got {text[:60]!r}") from None
    raise ConfigurationError("a label must not be blank" if kind == "label" else f"kind {kind[:40]!r} is not known")


async def _answer(request: Request, form: dict[str, str], span_id: str | None) -> Response:
    """Redirect back to the page; a script gets the current HTML of the box instead."""
    trace_id = request.path_params["trace_id"]
    if form.get("fragment"):
        trace = await (await store_of(request)).get_trace(trace_id)
        return render(request, "_feedback.html", **box_values(trace, span_id))
    query = _asked_from(request, trace_id) or (urlencode({"span": span_id}) if span_id else "")
    anchor = f"feedback-{span_id}" if span_id else "feedback"
    return RedirectResponse(f"/traces/{trace_id}{f'?{query}' if query else ''}#{anchor}", 303)


def _asked_from(request: Request, trace_id: str) -> str:
    """Return the query string of the trace's page that contained the form: its span, its tab, its list."""
    asked = urlsplit(request.headers.get("referer", ""))
    return asked.query if asked.path == f"/traces/{trace_id}" else ""


def feedback_box(trace: Trace, span_id: str | None = None) -> str:
    """Return what was said about a trace, or a span of it, and the forms to say more, as HTML."""
    return environment().get_template("_feedback.html").render(**box_values(trace, span_id))


def box_values(trace: Trace, span_id: str | None) -> dict[str, Any]:
    """Return the values of the box's template."""
    said = [each for each in trace.info.feedback if each.span_id == span_id]
    return {
        "trace_id": trace.info.trace_id,
        "span_id": span_id,
        "said": [(each, f"/?{urlencode({'filter': _comparison(each)})}") for each in said],
    }


def _comparison(said: Feedback) -> str:
    """Return the filter that finds the traces with the same feedback."""
    name = said.name if said.name.isidentifier() and said.name.isascii() else f"`{said.name}`"
    if isinstance(said.value, str):
        quoted = said.value.replace("\\", "\\\\").replace("'", "''")
        return f"feedback.{name} = '{quoted}'"
    return f"feedback.{name} = {str(said.value).lower()}"


ROUTES = (
    Route("/traces/{trace_id}/feedback", add, methods=["POST"]),
    Route("/traces/{trace_id}/feedback/{feedback_id}/delete", remove, methods=["POST"]),
)
