"""The bodies of a model call that did not come through the seam, in the wire form that interpretation reads.

Such calls come from custom model providers, LiteLLM, the SDK's WebSocket transport, or models in tests. Only the SDK's
span knows anything of them. Its data is put into the shape of a request and a response, so it is read like any other
call.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from tracer.capture.records import Codec, Payload
from tracer.capture.snapshots import snapshot
from tracer.spans.guard import report

__all__ = ["Bodies", "bodies_of", "usage_bodies"]

LEFT_OUT = frozenset({"base_url", "model_impl"})  # fields of a model's configuration that are not request parameters


class Bodies(NamedTuple):
    """A call's request and response as JSON; None where the SDK does not know it."""

    operation: str
    request: Payload | None
    response: Payload | None


def bodies_of(data: Any, limit: int) -> Bodies:
    """Return the bodies of an ended ``response`` or ``generation`` span, each of at most about `limit` bytes.

    Data of an unexpected shape gives no bodies.
    """
    try:
        return _response_bodies(data, limit) if data.type == "response" else _generation_bodies(data, limit)
    except Exception:
        report("bodies_of")
        return Bodies("responses", None, None)


def usage_bodies(usage: Any, limit: int) -> Bodies:
    """Return the bodies of a call of which only the usage is known."""
    return Bodies("responses", None, _wire({"object": "response", "usage": usage}, limit))


def _response_bodies(data: Any, limit: int) -> Bodies:
    response = data.response
    if response is None:
        known = {"object": "response", "id": getattr(data, "_response_id", None), "usage": getattr(data, "usage", None)}
        said = {key: value for key, value in known.items() if value is not None}
        return Bodies("responses", None, _wire(said, limit) if len(said) > 1 else None)
    names = ("model", "instructions", "temperature", "top_p", "max_output_tokens", "previous_response_id")
    request = {name: value for name in names if (value := getattr(response, name, None)) is not None}
    return Bodies("responses", _wire({**request, "input": data.input}, limit), _wire(response, limit))


def _generation_bodies(data: Any, limit: int) -> Bodies:
    config = data.model_config or {}
    request = {key: value for key, value in config.items() if value is not None and key not in LEFT_OUT}
    output = list(data.output or ())
    first = output[0] if output else None
    usage = {"usage": data.usage} if data.usage else {}
    model = {"model": data.model} if data.model else {}
    if isinstance(first, dict) and first.get("object") == "response":  # a stream, which the SDK has converted
        sent, operation, body = "input", "responses", {**first, **usage}
    else:
        choices = [{"index": index, "message": message} for index, message in enumerate(output)]
        sent, operation, body = "messages", "chat", {"object": "chat.completion", **model, "choices": choices, **usage}
    told = None if data.input is None else _wire({**request, **model, sent: data.input}, limit)
    return Bodies(operation, told, _wire(body, limit) if output or usage else None)


def _wire(value: Any, limit: int) -> Payload | None:
    """Return a value as a JSON body. It goes through a snapshot, which accepts any value of a user's and is bounded."""
    copied = snapshot(value, limit)
    return Payload(Codec.WIRE, msgspec.json.encode(msgspec.msgpack.decode(copied.data, strict=False)))
