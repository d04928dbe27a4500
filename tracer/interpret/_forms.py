"""Requests that may be multipart forms: JSON as `tracer.openai._multipart` writes it, where each value is a string."""

from __future__ import annotations

from typing import Any

from tracer.interpret._json import as_dict, as_text, decode_json
from tracer.interpret._params import read_params
from tracer.interpret._views import RequestView

__all__ = ["file_names", "read_form_params"]

_TYPED = ("n", "stream", "temperature")  # parameters whose values are not strings


def read_form_params(body: dict[str, Any], view: RequestView) -> None:
    """Fill in the parameters that a request gives. Those of a form get the types that they have in JSON."""
    typed = {key: _typed(text) for key in _TYPED if (text := as_text(body.get(key)))}
    read_params({**body, **typed}, view)


def _typed(text: str) -> Any:
    try:
        return decode_json(text.encode("utf-8", "replace"))
    except ValueError:
        return text


def file_names(body: dict[str, Any]) -> list[str]:
    """Return the names of a form's files, in the order of its fields."""
    values = [value for field in body.values() for value in (field if type(field) is list else [field])]
    return [name for value in values if (name := as_text(as_dict(value).get("filename")))]
