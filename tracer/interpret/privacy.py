"""Keeping content out of the record: withholding all of it, redacting what the user's hooks find, and credentials."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tracer.interpret._json import TOO_DEEP, encode_value, read_body

__all__ = [
    "CREDENTIAL",
    "REDACTION_FAILED",
    "WITHHELD",
    "hide_credentials",
    "mentions_credentials",
    "redact",
    "withhold",
    "without_credentials",
]

WITHHELD = "[withheld]"
REDACTION_FAILED = "[redaction failed]"
CREDENTIAL = "[credential]"

MAX_DEPTH = 200
_MAX_LABEL = 200  # a longer text under a label's key is not a label
# Names of fields. Any other key of an object is the user's data. "" counts as a name, since it holds no data.
_NAME = re.compile(r"(?:[A-Za-z_$][\w.$-]{0,63})?", re.ASCII)
_FIELD = re.compile(r"[a-z_][a-z0-9_.]{0,47}")  # OpenAI's fields, and attributes; no address or key matches
_TEXT_FILE = re.compile(r"data:(?:text/|application/(?:json|xml|x-ndjson))[^,]*;base64,", re.IGNORECASE)
_LONG_NUMBER = 10**11  # has as many digits as the shortest card number; counts and times in seconds have fewer

# Fields of OpenAI's objects whose text says what a thing is, not what somebody wrote.
_LABELS = frozenset(
    {
        "call_id",
        "effort",
        "encoding_format",
        "finish_reason",
        "id",
        "item_id",
        "model",
        "object",
        "output_format",
        "previous_response_id",
        "quality",
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
# Fields that are labels in one place only: elsewhere "code" is a program, and "reason" may be anyone's text.
_LABELS_AT = {"error": frozenset({"code"}), "incomplete_details": frozenset({"reason"})}
# Where OpenAI's objects are, by the step that leads there from another one of them: a key, "[]" for the elements of
# that key's list, "" for the body itself. An object anywhere else is the user's own data, and so is everything in it.
_OBJECTS = frozenset(
    {
        "",
        "[]",
        "choices[]",
        "conversation",
        "custom",
        "delta",
        "error",
        "function",
        "function_call",
        "functions[]",
        "incomplete_details",
        "message",
        "prompt",
        "reasoning",
        "text",
        "tool_calls[]",
        "tools[]",
    }
)
# … and where an object is OpenAI's only if it has a field that says what it is: a careless server or caller may put
# data there, too.
_MARKED_OBJECTS = frozenset(
    {
        "action",
        "annotations[]",
        "content[]",
        "data[]",
        "format",
        "input[]",
        "item",
        "messages[]",
        "operation",
        "output[]",
        "outputs[]",
        "part",
        "response",
        "response_format",
        "summary[]",
        "tool_choice",
    }
)
_MARKS = ("object", "type", "role", "finish_reason")
# Objects whose "name" is a tool's, by step, role and type; a message's "name" is the speaker's.
_TOOL_STEPS = frozenset(
    {"custom", "function", "function_call", "functions[]", "tool_calls[]", "tool_choice", "tools[]"}
)
_TOOL_ROLES = ("function", "tool")
_TOOL_TYPES = ("custom_tool_call", "function_call", "mcp_approval_request", "mcp_call")
# Lists of numbers that reveal a text: tokens, their bytes, and vectors from which the text can be estimated.
_NUMBERS = frozenset({"bytes", "embedding", "input", "prompt", "prompt_token_ids", "token_ids", "tokens"})


def withhold(value: Any, *, labels: bool = True) -> Any:
    """Return the same JSON structure with every text replaced by `WITHHELD`.

    Kept are numbers, booleans, null, keys that may be names of fields and, in OpenAI's own objects, labels: model,
    role, type, ids, status, finish reasons, error codes, the names of tools. Numbers that spell out content (token
    numbers, a token's bytes, embeddings) are withheld too.

    Args:
        value: Decoded JSON.
        labels: `value` is a body in OpenAI's format. False for a user's value, where no key says that a text is safe.
    """
    return _withhold(value, step="", ours=labels, depth=0)


def _withhold(value: Any, *, step: str, ours: bool, depth: int) -> Any:
    """Withhold the value at `step` of an object, which is OpenAI's (`ours`) or the user's."""
    if isinstance(value, str):
        return WITHHELD
    if not isinstance(value, (dict, list, tuple)):
        return value
    if depth >= MAX_DEPTH:
        return TOO_DEEP
    if isinstance(value, dict):
        kept = _labels_of(value, step) if ours and _is_known(value, step) else None
        return {
            name: inner
            if kept is not None and key in kept and isinstance(inner, str) and len(inner) <= _MAX_LABEL
            else _withhold(inner, step=key, ours=kept is not None, depth=depth + 1)
            for key, name, inner in _renamed(value, _withhold_key)
        }
    if step.rstrip("[]") in _NUMBERS and value and all(type(item) in (int, float) for item in value):
        return WITHHELD
    return [_withhold(item, step=f"{step}[]", ours=ours, depth=depth + 1) for item in value]


def _withhold_key(key: str) -> str:
    return key if _NAME.fullmatch(key) else WITHHELD


def _renamed(value: dict[Any, Any], rename: Callable[[str], str]) -> Iterator[tuple[Any, Any, Any]]:
    """Yield each key, its new name, and its value. New names that would be the same are numbered."""
    used: set[Any] = set()
    for key, inner in value.items():
        name = wanted = rename(key) if isinstance(key, str) else key
        while name in used:
            name = f"{wanted} ({len(used) + 1})"
        used.add(name)
        yield key, name, inner


def _is_known(value: dict[str, Any], step: str) -> bool:
    return step in _OBJECTS or (step in _MARKED_OBJECTS and any(isinstance(value.get(mark), str) for mark in _MARKS))


def _labels_of(value: dict[str, Any], step: str) -> frozenset[str]:
    """Return the keys under which one of OpenAI's objects has labels."""
    labels = _LABELS | _LABELS_AT.get(step, frozenset())
    is_tool = step in _TOOL_STEPS or value.get("role") in _TOOL_ROLES or value.get("type") in _TOOL_TYPES
    return labels | {"name"} if is_tool else labels


# --- credentials ---------------------------------------------------------------------------------------------------

# Keys under which credentials for third parties are found. Most bodies have none of them, and are then not even
# decoded.
_SIGNS = re.compile(rb'"(?:mcp|domain_secrets|api_key)"')
_GIVEN = re.compile(
    rb'"(?:authorization|headers)\\?"\s*:\s*(?!null|\{\s*\})\S'
    rb'|"server_url\\?"\s*:\s*\\?"(?:[^"/]*//|(?![^"/]*//))[^"/?#]*(?:[@?#]|/[^"]*(?:[?#]|[^/"]{20}))'
    rb'|"domain_secrets\\?"\s*:\s*(?!null|\[\s*\])\S'
    rb'|"api_key\\?"\s*:\s*\\?"[^"]'
)
_LONG_STEP = 20  # a step of a URL's path with this many characters may be a key: https://mcp.example/s/<key>/sse


def without_credentials(data: bytes, *, truncated: int = 0) -> bytes:
    """Return a body without its credentials for third parties; the same bytes if there are none.

    These credentials are an MCP tool's ``authorization``, ``headers`` and the secret parts of its ``server_url``, the
    values of ``domain_secrets``, and a gateway's ``api_key``. A body that seems to have credentials but can't be read
    is dropped.

    Args:
        data: JSON text, or its beginning.
        truncated: How many bytes of it were left out. The field that says "mcp" may be in that part.
    """
    if not truncated and not _SIGNS.search(data):
        return data
    body = read_body(data, truncated=truncated)
    if not body.readable:
        return encode_value(CREDENTIAL) if _GIVEN.search(data) or b"authorization" in data else data
    return encode_value(body.value) if hide_credentials(body.value, cut=truncated > 0) else data


def mentions_credentials(data: bytes) -> bool:
    """Tell whether a part of a stream seems to hold credentials for a third party; its JSON may be incomplete."""
    return _SIGNS.search(data) is not None and _GIVEN.search(data) is not None


def hide_credentials(value: Any, *, cut: bool = False) -> bool:
    """Replace credentials for third parties in decoded JSON, in place; return whether there were any.

    Args:
        value: Any decoded JSON. Tools appear in requests, in responses that repeat them, and in the results of tool
            searches.
        cut: The end is missing, and with it perhaps the ``type`` of the last tool.
    """
    found, pending = False, [value]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            kind = node.get("type", "" if cut else None)
            if kind == "mcp" or (cut and isinstance(kind, str) and "mcp".startswith(kind)):
                found = _hide_in_tool(node) or found
            found = _hide_secrets(node) or found
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)
    return found


def _hide_in_tool(tool: dict[str, Any]) -> bool:
    held = [key for key in ("authorization", "headers") if tool.get(key)]
    for key in held:
        value = tool[key]
        tool[key] = dict.fromkeys(value, CREDENTIAL) if isinstance(value, dict) else CREDENTIAL
    url = tool.get("server_url")
    if isinstance(url, str) and (shown := _without_secrets(url)) != url:
        tool["server_url"] = shown
        return True
    return bool(held)


def _without_secrets(url: str) -> str:
    """Return a URL without what may be secret in it: user, query, fragment, and long steps of its path."""
    address, separator, _ = re.match(r"([^?#]*)([?#]?)(.*)", url, re.DOTALL).groups()  # type: ignore[union-attr]  # matches any text
    scheme, slashes, rest = address.rpartition("//")
    host, *steps = rest.split("/")
    host = f"{CREDENTIAL}@{host.rpartition('@')[2]}" if "@" in host else host
    steps = [CREDENTIAL if len(step) >= _LONG_STEP else step for step in steps]
    return f"{scheme}{slashes}{'/'.join([host, *steps])}{separator}{CREDENTIAL if separator else ''}"


def _hide_secrets(node: dict[str, Any]) -> bool:
    """Hide the secrets that a container's network policy sends to its domains, and the key for a gateway."""
    found = False
    secrets = node.get("domain_secrets")
    for secret in secrets if isinstance(secrets, list) else ():
        if isinstance(secret, dict) and secret.get("value"):
            secret["value"], found = CREDENTIAL, True
    if isinstance(node.get("api_key"), str) and node["api_key"]:
        node["api_key"], found = CREDENTIAL, True
    return found


# --- hooks ---------------------------------------------------------------------------------------------------------


def _text_of_file(url: str) -> str | None:
    """Return the content of a text file in a data URL; None for anything else."""
    file = _TEXT_FILE.match(url)
    try:
        return None if file is None else base64.b64decode(url[file.end() :], validate=True).decode("utf-8", "replace")
    except ValueError:  # it claims to be base64, but is not
        return None


def redact(value: Any, hooks: Sequence[Callable[[str], str]]) -> tuple[Any, int]:
    """Return `value` with each text put through the hooks, and how often one failed.

    Keys that may be fields of OpenAI's objects (``tool_calls``) stay as they are; other keys go through the hooks like
    any text. Long numbers are passed to the hooks as texts, and stay numbers if no hook changes them. A text file in a
    data URL is passed to the hooks as its decoded text; pictures, recordings and documents in other formats are not.

    It fails closed: if a hook raises, or returns something other than a string, the text becomes `REDACTION_FAILED`.

    Args:
        value: Decoded JSON.
        hooks: Applied in their order, each to the result of the one before.
    """
    failures = 0

    def redact_text(text: str) -> str:
        nonlocal failures
        try:
            if (inside := _text_of_file(text)) is not None:
                shown = redact_text(inside)
                head = text[: text.index(",") + 1]
                return text if shown == inside else head + base64.b64encode(shown.encode()).decode()
            for hook in hooks:
                text = hook(text)
                if not isinstance(text, str):
                    raise TypeError
        except BaseException:  # the hook is the user's code: `sys.exit()` in it must not let the text through
            failures += 1
            return REDACTION_FAILED
        return text

    def redact_key(key: str) -> str:
        return key if _FIELD.fullmatch(key) else redact_text(key)

    def redact_number(number: int) -> Any:
        text = redact_text(digits := str(number))
        return number if text == digits else text

    def walk(node: Any, depth: int) -> Any:
        nonlocal failures
        if isinstance(node, str):
            return redact_text(node)
        if not isinstance(node, (dict, list, tuple)):
            return redact_number(node) if type(node) is int and abs(node) >= _LONG_NUMBER else node
        if depth >= MAX_DEPTH:
            failures += 1
            return REDACTION_FAILED
        if isinstance(node, dict):
            return {name: walk(inner, depth + 1) for _, name, inner in _renamed(node, redact_key)}
        return [walk(inner, depth + 1) for inner in node]

    return walk(value, 0), failures
