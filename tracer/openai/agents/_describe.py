"""What each kind of the Agents SDK's spans is in a trace: its name, type, attributes, inputs and outputs.

Pure functions of the SDK's span data (``agents/tracing/span_data.py``), which are plain objects with a ``type``;
duck-typed, so nothing is imported. Fields that a version of the SDK lacks are left out; fields that it adds are kept as
it exports them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from tracer import _semconv as sc
from tracer._models import SpanType
from tracer.capture.text import safe_repr, safe_str

__all__ = ["OPERATION", "Ended", "Kind", "describe_error", "end_of", "kind_of", "name_of", "run_attributes", "spoken"]

OPERATION = "agents"  # has no interpreter: marks attributes as labels, kept even without `capture_content`
CALL_TYPES = frozenset({SpanType.CHAT_MODEL, SpanType.LLM})
AUDIO_TYPES = frozenset({SpanType.TOOL})


class Ended(NamedTuple):
    """What a span's data says when it has ended. This includes the inputs, because most are set after the start."""

    attributes: dict[str, Any]
    inputs: Any = None
    outputs: Any = None


class Kind(NamedTuple):
    """One of the SDK's span types.

    Attributes:
        name: The name of spans that the SDK gives no name.
        operation: ``gen_ai.operation.name``; None where the conventions have none.
        read_end: Reads the data of an ended span.
        gives_way_to: Types of the seam's spans. If one of these was recorded inside, it replaces this span.
    """

    name: str
    span_type: str
    operation: str | None = None
    read_end: Callable[[Any], Ended] = lambda data: Ended({})
    gives_way_to: frozenset[str] | None = None


def _agent(data: Any) -> Ended:
    return Ended(
        _known(
            {
                sc.AGENT_TOOLS: _list(data, "tools"),
                sc.AGENT_HANDOFFS: _list(data, "handoffs"),
                sc.AGENT_OUTPUT_TYPE: getattr(data, "output_type", None),
            }
        )
    )


def _turn(data: Any) -> Ended:
    return Ended({sc.AGENT_TURN: getattr(data, "turn", None), sc.AGENT_NAME: getattr(data, "agent_name", None)})


def _function(data: Any) -> Ended:
    mcp = getattr(data, "mcp_data", None)
    server = mcp.get("server") if isinstance(mcp, dict) else None
    return Ended(_known({sc.MCP_SERVER_LABEL: server}), _decoded(data.input), data.output)


def _handoff(data: Any) -> Ended:
    labels = _known({sc.HANDOFF_FROM: data.from_agent, sc.HANDOFF_TO: data.to_agent})
    return Ended(labels, {"from_agent": data.from_agent}, {"to_agent": data.to_agent})


def _guardrail(data: Any) -> Ended:
    return Ended({sc.GUARDRAIL_TRIGGERED: data.triggered}, outputs={"triggered": data.triggered})


def _custom(data: Any) -> Ended:
    return Ended({}, outputs=data.data or None)


def _transcription(data: Any) -> Ended:
    return Ended(_known({sc.REQUEST_MODEL: data.model}), _audio(data.input, data.input_format), data.output)


def _speech(data: Any) -> Ended:
    return Ended(_known({sc.REQUEST_MODEL: data.model}), data.input, _audio(data.output, data.output_format))


def _mcp_tools(data: Any) -> Ended:
    return Ended(_known({sc.MCP_SERVER_LABEL: data.server}), outputs=data.result)


_KINDS = {
    "task": Kind("Task", SpanType.TASK),
    "agent": Kind("Agent", SpanType.AGENT, "invoke_agent", _agent),
    "turn": Kind("Turn", SpanType.CHAIN, None, _turn),
    "function": Kind("Function", SpanType.TOOL, "execute_tool", _function),
    "generation": Kind("Generation", SpanType.CHAT_MODEL, "chat", gives_way_to=CALL_TYPES),
    "response": Kind("Response", SpanType.CHAT_MODEL, "chat", gives_way_to=CALL_TYPES),
    "handoff": Kind("Handoff", SpanType.CHAIN, None, _handoff),
    "guardrail": Kind("Guardrail", SpanType.GUARDRAIL, None, _guardrail),
    "custom": Kind("Custom", SpanType.CHAIN, None, _custom),
    "transcription": Kind("Transcription", SpanType.TOOL, "transcription", _transcription, AUDIO_TYPES),
    "speech": Kind("Speech", SpanType.TOOL, "speech", _speech, AUDIO_TYPES),
    "speech_group": Kind("Speech group", SpanType.CHAIN, None, lambda data: Ended({}, data.input)),
    "mcp_tools": Kind("MCP list tools", SpanType.TOOL, None, _mcp_tools),
}


def kind_of(data: Any) -> Kind:
    """Return the kind of a span. A type that is unknown here (from a later version) is kept as it exports itself."""
    kind_name = getattr(data, "type", None)
    kind = _KINDS.get(kind_name) if isinstance(kind_name, str) else None
    return kind or Kind(
        safe_str(kind_name or "Span"), SpanType.CHAIN, None, lambda data: Ended({}, None, data.export())
    )


def name_of(data: Any, kind: Kind) -> str:
    """Return a span's name: the SDK's, or that of its kind (for a turn, with its number)."""
    name = getattr(data, "name", None)
    if isinstance(name, str) and name:
        return name
    turn = getattr(data, "turn", None)
    return kind.name if turn is None else f"{kind.name} {turn}"


def start_attributes(data: Any, kind: Kind, name: str) -> dict[str, Any]:
    """Return what is known of a span before it has ended."""
    attributes: dict[str, Any] = {}
    if kind.operation is not None:
        attributes[sc.OPERATION_NAME] = kind.operation
    if kind.operation == "invoke_agent":
        attributes[sc.AGENT_NAME] = name
    elif kind.operation == "execute_tool":
        attributes[sc.TOOL_NAME] = name
        attributes[sc.TOOL_TYPE] = "function"
    elif kind.read_end is _turn:
        attributes.update(_turn(data).attributes)
    return attributes


def end_of(data: Any, kind: Kind) -> Ended:
    """Return what a span's data says at its end. Data that can't be read leaves a note, and the span ends anyway."""
    try:
        return kind.read_end(data)
    except Exception as error:
        return Ended({sc.NOTE: f"the span's data could not be read: {type(error).__name__}"})


def run_attributes(agent: Any, *, resumed: bool) -> dict[str, Any]:
    """Return the attributes of a run: the agent that it begins with, and whether it goes on from a saved state."""
    attributes: dict[str, Any] = {sc.OPERATION_NAME: "invoke_agent"}
    name = getattr(agent, "name", None)
    if isinstance(name, str):
        attributes[sc.AGENT_NAME] = name
    return {**attributes, sc.RUN_RESUMED: True} if resumed else attributes


def describe_error(error: Any) -> str:
    """Return the SDK's ``SpanError`` in words: its message, and the error in its data where there is one."""
    if not isinstance(error, dict):
        return safe_repr(error)
    message, data = safe_str(error.get("message") or ""), error.get("data")
    detail = data.get("error") if isinstance(data, dict) else data
    return f"{message}: {safe_str(detail)}" if detail else message


def spoken(output: Any) -> Any:
    """Return what a model said: its text if there is any, otherwise its messages or items as they are."""
    if isinstance(output, (list, tuple)) and output:
        last = output[-1]
        return (last.get("content") if isinstance(last, dict) else None) or output
    return getattr(output, "output_text", None) or getattr(output, "output", None)


def _known(attributes: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in attributes.items() if value is not None}


def _list(data: Any, name: str) -> list[Any] | None:
    value = getattr(data, name, None)
    return list(value) if isinstance(value, (list, tuple)) and value else None


def _decoded(text: Any) -> Any:
    """Return a tool's arguments, which travel as JSON; any other text as it is."""
    if isinstance(text, str) and text[:1] in ("{", "["):
        try:
            return msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError):
            pass
    return text or None


def _audio(data: Any, form: Any) -> dict[str, Any] | None:
    """Return how much audio there was: base64 is counted, not stored."""
    return {"format": form, "bytes": len(data) * 3 // 4} if isinstance(data, str) and data else None
