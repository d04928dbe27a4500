"""Keeping content out of the record: withholding all of it, or redacting what the user's hooks find."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tracer.interpret._json import TOO_DEEP

__all__ = ["REDACTION_FAILED", "WITHHELD", "redact", "withhold"]

WITHHELD = "[withheld]"
REDACTION_FAILED = "[redaction failed]"

MAX_DEPTH = 200
_MAX_LABEL = 200  # a longer text under a structural key is no label

# Fields whose text says what a thing is, not what somebody wrote.
_STRUCTURAL = frozenset(
    {
        "call_id",
        "code",
        "effort",
        "encoding_format",
        "finish_reason",
        "id",
        "index",
        "item_id",
        "model",
        "object",
        "output_format",
        "previous_response_id",
        "quality",
        "reason",
        "reasoning_effort",
        "role",
        "service_tier",
        "size",
        "status",
        "system_fingerprint",
        "tool_call_id",
        "tool_choice",
        "type",
    }
)
# Objects whose keys are the user's own: an "id" or a "name" in there is content.
_OPAQUE = frozenset(
    {"attributes", "const", "default", "enum", "env", "example", "examples", "headers", "metadata", "variables"}
)
# Lists of numbers that spell out a text: tokens, their bytes, and vectors it can be estimated from.
_NUMBERS = frozenset({"bytes", "embedding", "input", "prompt", "prompt_token_ids", "token_ids", "tokens"})


def withhold(value: Any) -> Any:
    """Return the same JSON structure with every text replaced by `WITHHELD`.

    Kept are numbers, booleans, null, keys, and labels: model, role, type, ids, status, finish reasons, the names of
    tools. Numbers that spell out content (token numbers, a token's bytes, embeddings) are withheld too.
    """
    return _withhold(value, key="", labels=True, depth=0)


def _withhold(value: Any, *, key: str, labels: bool, depth: int) -> Any:
    if isinstance(value, str):
        return value if labels and key in _STRUCTURAL and len(value) <= _MAX_LABEL else WITHHELD
    if not isinstance(value, (dict, list, tuple)):
        return value
    if depth >= MAX_DEPTH:
        return TOO_DEEP
    if isinstance(value, dict):
        return _withhold_object(value, labels=labels, depth=depth + 1)
    if key in _NUMBERS and value and all(type(item) in (int, float) for item in value):
        return WITHHELD
    return [_withhold(item, key=key, labels=labels, depth=depth + 1) for item in value]


def _withhold_object(value: dict[str, Any], *, labels: bool, depth: int) -> dict[str, Any]:
    kept = {}
    for key, inner in value.items():
        if key == "name" and labels and isinstance(inner, str) and _is_tool(value):
            kept[key] = inner
        else:
            kept[key] = _withhold(inner, key=key, labels=labels and key not in _OPAQUE, depth=depth)
    return kept


def _is_tool(value: dict[str, Any]) -> bool:
    """Tell whether an object's ``name`` is a tool's; a message's is the name of who speaks."""
    return value.get("role") in (None, "tool", "function")


def redact(value: Any, hooks: Sequence[Callable[[str], str]]) -> tuple[Any, int]:
    """Return `value` with each text put through the hooks, and how often one failed. Keys stay as they are.

    It fails closed: where a hook raises, or returns something else than a text, `REDACTION_FAILED` stands.

    Args:
        value: Decoded JSON.
        hooks: Applied in their order, each to the one before's result.
    """
    failures = 0

    def redact_text(text: str) -> str:
        nonlocal failures
        try:
            for hook in hooks:
                text = hook(text)
                if not isinstance(text, str):
                    raise TypeError
        except Exception:  # the hook is the user's code
            failures += 1
            return REDACTION_FAILED
        return text

    def walk(node: Any, depth: int) -> Any:
        nonlocal failures
        if isinstance(node, str):
            return redact_text(node)
        if not isinstance(node, (dict, list, tuple)):
            return node
        if depth >= MAX_DEPTH:
            failures += 1
            return REDACTION_FAILED
        if isinstance(node, dict):
            return {key: walk(inner, depth + 1) for key, inner in node.items()}
        return [walk(inner, depth + 1) for inner in node]

    return walk(value, 0), failures
