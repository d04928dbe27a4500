"""Operations that no module interprets: kept whole, with the fields that any OpenAI payload may have."""

from __future__ import annotations

from typing import Any

from tracer.interpret._json import decode_json
from tracer.interpret._params import read_params
from tracer.interpret._views import RequestView, ResponseView
from tracer.interpret.choices import read_error, read_head
from tracer.interpret.previews import join_texts, one_line
from tracer.interpret.sse import DONE, Event

__all__ = ["read_request", "read_response", "read_stream", "read_text"]


def read_request(body: dict[str, Any], view: RequestView) -> None:
    """Fill in model and parameters."""
    read_params(body, view)


def read_response(body: dict[str, Any], view: ResponseView) -> None:
    """Fill in id, model, usage, error."""
    read_head(body, view)
    view.finish = view.finish or "completed"


def read_text(text: str, view: ResponseView) -> None:
    """Fill in preview and text of an answer that is only a text: an agent's final answer, a file's content."""
    view.preview, view.text = one_line(text), join_texts([text])
    view.finish = view.finish or "completed"


def read_stream(events: list[Event], view: ResponseView) -> Any:
    """Return the events' data in a list: how they belong together is not known."""
    values: list[Any] = []
    for _, _, data in events:
        if data.startswith(DONE):
            view.finish = view.finish or "completed"
            break
        try:
            value = decode_json(data)
        except ValueError:
            value = data.decode("utf-8", "replace")
        if type(value) is dict:
            read_error(value, view)
        values.append(value)
    return values or None
