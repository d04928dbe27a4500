"""Images: ``POST /images/generations``, ``/images/edits``, ``/images/variations``."""

from __future__ import annotations

from typing import Any

from tracer import _semconv as sc
from tracer.interpret._forms import file_names, read_form_params
from tracer.interpret._json import as_dict, as_dicts, as_text
from tracer.interpret._typed_events import TypedEvent, TypedEvents
from tracer.interpret._views import RequestView, ResponseView
from tracer.interpret.choices import read_head
from tracer.interpret.previews import join_texts, one_line
from tracer.interpret.sse import Event
from tracer.interpret.usage import find_usage

__all__ = ["picture_preview", "read_request", "read_response", "read_stream"]

_LOOKS = ("background", "output_format", "quality", "safety_identifier", "size", "svg_usage", "usage")
_IMAGE = ("b64_json", "url", "revised_prompt")


def read_request(body: dict[str, Any], view: RequestView) -> None:
    """Fill in parameters, preview and text of a request, which is JSON or a form."""
    read_form_params(body, view)
    view.attributes[sc.OUTPUT_TYPE] = "image"
    prompt, names = as_text(body.get("prompt")), file_names(body)
    view.preview = one_line(prompt or ", ".join(names))
    view.text = join_texts([prompt, *names])


def read_response(body: dict[str, Any], view: ResponseView) -> None:
    """Fill in what a response says: usage, how many images of which kind, the revised prompt."""
    read_head(body, view)
    _read_image_usage(body, view)
    images = as_dicts(body.get("data"))
    prompts = [prompt for image in images if (prompt := as_text(image.get("revised_prompt")))]
    if images:
        view.preview = picture_preview(len(images), prompts, body)
        view.finish = view.finish or "completed"
    view.text = join_texts(prompts)


def picture_preview(count: int, prompts: list[str], look: dict[str, Any]) -> str | None:
    """Return the preview of pictures: what was drawn, if the API says so, otherwise how many of which kind.

    Args:
        count: How many there are.
        prompts: The revised prompts.
        look: Has ``size``, ``quality`` and ``output_format``, where known.
    """
    kind = [text for key in ("size", "quality", "output_format") if (text := as_text(look.get(key)))]
    return one_line(prompts[0] if prompts else " ".join(["1 image" if count == 1 else f"{count} images", *kind]))


def _read_image_usage(body: dict[str, Any], view: ResponseView) -> None:
    usage = find_usage(body)
    found = {
        sc.INPUT_IMAGE_TOKENS: as_dict(usage.get("input_tokens_details")).get("image_tokens"),
        sc.OUTPUT_IMAGE_TOKENS: as_dict(usage.get("output_tokens_details")).get("image_tokens"),
        sc.SVG_USAGE: as_dict(body.get("svg_usage")),
    }
    view.attributes.update({key: value for key, value in found.items() if value})


def read_stream(events: list[Event], view: ResponseView) -> Any:
    """Rebuild a stream to the plain response's shape.

    Its events are ``image_generation.*`` and ``image_edit.*``: partial images, and complete ones. If there is no
    complete image, the last partial one is used.
    """
    stream = TypedEvents(events)
    whole = [event for event in stream.events if event.kind.endswith(".completed")]
    shown = whole or [event for event in stream.events if event.kind.endswith(".partial_image")][-1:]
    body = _rebuild(shown) if shown else None
    if body is not None:
        read_response(body, view)
    view.first_token_ns = stream.events[0].time_ns if stream.events else None
    stream.conclude(view, ended=bool(whole))
    if body is None and stream.error is not None:
        return {"error": stream.error}
    return body


def _rebuild(shown: list[TypedEvent]) -> dict[str, Any]:
    last = shown[-1].body
    data = [{key: body[key] for key in _IMAGE if key in body} for _, _, body in shown]
    body: dict[str, Any] = {"created": last.get("created_at"), "data": data}
    body.update({key: last[key] for key in _LOOKS if key in last})
    if "partial_image_index" in last:
        data[-1]["partial_image_index"] = last["partial_image_index"]
    return body
