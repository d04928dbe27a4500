"""Request parameters that several operations share."""

from __future__ import annotations

from typing import Any

from tracer import _semconv as sc
from tracer.interpret._json import as_dict, as_text
from tracer.interpret._views import RequestView
from tracer.interpret.tools import tool_definitions

__all__ = ["read_format", "read_params", "read_tools"]

_PARAMS = (
    ("model", sc.REQUEST_MODEL),
    ("temperature", sc.REQUEST_TEMPERATURE),
    ("top_p", sc.REQUEST_TOP_P),
    ("top_k", sc.REQUEST_TOP_K),
    ("max_tokens", sc.REQUEST_MAX_TOKENS),
    ("max_completion_tokens", sc.REQUEST_MAX_TOKENS),
    ("max_output_tokens", sc.REQUEST_MAX_TOKENS),
    ("frequency_penalty", sc.REQUEST_FREQUENCY_PENALTY),
    ("presence_penalty", sc.REQUEST_PRESENCE_PENALTY),
    ("seed", sc.REQUEST_SEED),
    ("service_tier", sc.REQUEST_SERVICE_TIER),
    ("reasoning_effort", sc.REQUEST_REASONING_EFFORT),
    ("dimensions", sc.EMBEDDINGS_DIMENSION_COUNT),
    ("previous_response_id", sc.PREVIOUS_RESPONSE_ID),
    ("stream", sc.STREAM),
)


def read_params(body: dict[str, Any], view: RequestView) -> None:
    """Fill in the parameters that a request gives. Parameters that it leaves out or sets to null are left out."""
    attributes = view.attributes
    for key, name in _PARAMS:
        if key in body and (value := body[key]) is not None:
            attributes[name] = value
    if stop := body.get("stop"):
        attributes[sc.REQUEST_STOP_SEQUENCES] = [stop] if type(stop) is str else stop
    if (choices := body.get("n")) not in (None, 1):
        attributes[sc.REQUEST_CHOICE_COUNT] = choices
    view.model = as_text(body.get("model"))


def read_tools(body: dict[str, Any], view: RequestView) -> None:
    """Fill in the tool definitions, in chat form."""
    if definitions := tool_definitions(body.get("tools"), body.get("functions")):
        view.attributes[sc.TOOL_DEFINITIONS] = definitions


def read_format(form: Any, view: RequestView) -> None:
    """Fill in the wanted output type and its schema.

    Args:
        form: Chat's ``response_format`` (schema under ``json_schema``) or Responses' ``text.format`` (flat).
        view: Filled in.
    """
    form = as_dict(form)
    kind = form.get("type")
    if type(kind) is not str:
        return
    view.attributes[sc.OUTPUT_TYPE] = "json" if kind.startswith("json") else kind
    schema = as_dict(form.get("json_schema") or form).get("schema")
    if schema is not None:
        view.attributes[sc.OUTPUT_SCHEMA] = schema
