"""Answers as the SDK's own models show them: with the fields that the server left out, as None."""

from __future__ import annotations

import functools
from typing import Any

__all__ = ["with_all_fields"]


def with_all_fields(operation: str | None, body: Any) -> Any:
    """Return a plain answer with all the fields that the SDK's model of it has; unchanged if it has none."""
    if type(body) is not dict:
        return body
    try:
        model = _model(operation)
        return body if model is None else model.construct(**body).model_dump(mode="json", warnings=False)
    except Exception:  # an SDK without that model, or a server that bends the format
        return body


@functools.lru_cache(maxsize=16)
def _model(operation: str | None) -> Any:
    if operation == "chat":
        from openai.types.chat import ChatCompletion

        return ChatCompletion
    if operation == "completions":
        from openai.types import Completion

        return Completion
    if operation in ("responses", "retrieved"):
        from openai.types.responses import Response

        return Response
    return None
