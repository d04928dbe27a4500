"""JSON in and out for wire bytes of unknown quality: strict and fast first, tolerant second, never an exception."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec

__all__ = [
    "CIRCULAR",
    "TOO_DEEP",
    "Body",
    "as_dict",
    "as_dicts",
    "as_index",
    "as_text",
    "decode_json",
    "encode_value",
    "is_shallow",
    "read_body",
]

MAX_DEPTH = 200
MAX_STORED_DEPTH = 900  # SQLite's JSON functions refuse more than 1,000 levels (JSON_MAX_DEPTH)
TOO_DEEP = "[nested too deep]"
CIRCULAR = "[circular reference]"

# JSON values carry no type worth checking: each reader asks for the shape that it can use.
Json = Any

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class Body(msgspec.Struct, frozen=True, gc=False):
    """A body that was read as far as it could be.

    Attributes:
        value: The decoded JSON; None if nothing could be made of the bytes.
        text: JSON text that any reader accepts: the bytes exactly as they came if they are strict JSON.
        note: Why `text` differs from the bytes that came; None if it does not.
        readable: The bytes are JSON, or a part of some.
    """

    value: Json
    text: bytes
    note: str | None = None
    readable: bool = True


def decode_json(data: bytes) -> Json:
    """Decode JSON, including JSON that violates RFC 8259 (lone surrogates, NaN, numbers beyond a double).

    Returns only values that `encode_value` keeps as they are. Values that strict JSON can't hold become text.

    Raises:
        ValueError: The bytes are not JSON.
    """
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _decode_loosely(data)


def _decode_loosely(data: bytes) -> Json:
    try:
        return _decode(encode_value(json.loads(data)))
    except RecursionError as exc:
        raise ValueError("nested too deep") from exc


def _decode_part(data: bytes) -> Json:
    """Decode the beginning of a JSON text as far as it goes (pydantic is what openai itself depends on)."""
    try:
        from pydantic_core import from_json
    except ImportError as exc:  # openai with pydantic v1
        raise ValueError("truncated, and pydantic_core is not there to read a part") from exc
    whole_characters = data.decode("utf-8", "ignore").encode()
    return _decode(encode_value(from_json(whole_characters, allow_partial="trailing-strings")))


def read_body(data: bytes, *, truncated: int = 0) -> Body:
    """Read a request's or response's bytes. Whatever the bytes are, the result can be stored."""
    if not data:
        return Body(None, b"null", None if not truncated else "nothing was kept of the body", not truncated)
    try:
        value = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _read_odd_body(data, truncated)
    if not is_shallow(data) and _deeper_than(value, MAX_STORED_DEPTH):
        return Body(value, encode_value(value), f"nested deeper than {MAX_DEPTH} levels: the inner ones are left out")
    return Body(value, data)


def _read_odd_body(data: bytes, truncated: int) -> Body:
    try:
        value = _decode_part(data) if truncated else _decode_loosely(data)
    except ValueError as exc:
        kind = "no readable part of JSON" if truncated else "no JSON"
        return Body(None, encode_value(data.decode("utf-8", "replace")), f"{kind}, kept as text: {exc}"[:300], False)
    return Body(value, encode_value(value), None if truncated else "not strict JSON: encoded anew")


def is_shallow(data: bytes) -> bool:
    """Tell whether a JSON text has too few brackets to nest deeper than may be stored. Few are counted at all."""
    return len(data) < 2 * MAX_STORED_DEPTH or data.count(b"[") + data.count(b"{") <= MAX_STORED_DEPTH


def _deeper_than(value: Json, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [inner for outer in level for inner in _children(outer) if type(inner) is dict or type(inner) is list]
        if not level:
            return False
    return True


def _children(value: Json) -> Any:
    if type(value) is dict:
        return value.values()
    return value if type(value) is list else ()


def encode_value(value: Json) -> bytes:
    r"""Encode any JSON-like value as strict UTF-8 JSON text, which SQLite's JSON functions accept.

    What JSON can't hold becomes text: a lone surrogate becomes its escape (``\ud800``), a number that is not finite
    becomes its name (``"NaN"``), and anything nested deeper than 200 levels or within itself becomes a marker. Integers
    keep all their digits. Raises nothing.
    """
    try:
        encoded = _encode(value)
        # msgspec writes null for NaN and the infinities, so each null must be checked.
        is_exact = b"null" not in encoded or not _has_odd_number(value)
        if is_exact and (is_shallow(encoded) or not _deeper_than(value, MAX_STORED_DEPTH)):
            return encoded
    except Exception:
        pass  # whatever failed, the tolerant code below can encode the value
    return _encode(_clean(value, (), 0))


def _has_odd_number(value: Json) -> bool:
    pending = [value]
    while pending:
        value = pending.pop()
        if type(value) is float:
            if not math.isfinite(value):
                return True
        elif isinstance(value, dict):
            pending.extend(value.values())
        elif isinstance(value, (list, tuple, set, frozenset)):
            pending.extend(value)
        elif isinstance(value, float):  # a subclass, for example numpy's
            return True
    return False


def _clean(value: Json, above: tuple[int, ...], depth: int) -> Json:
    """Copy `value`, with everything that msgspec refuses or changes replaced by text."""
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, int):
        return _clean_int(int(value))
    if isinstance(value, float):
        return _clean_float(float(value))
    if not isinstance(value, (dict, list, tuple, set, frozenset)):
        return _clean_object(value)
    if id(value) in above:
        return CIRCULAR
    if depth >= MAX_DEPTH:
        return TOO_DEEP
    above = (*above, id(value))
    if isinstance(value, dict):
        return {_clean_key(key): _clean(inner, above, depth + 1) for key, inner in value.items()}
    return [_clean(inner, above, depth + 1) for inner in value]


def _clean_int(value: int) -> Json:
    try:
        str(value)
    except ValueError:  # beyond sys.get_int_max_str_digits()
        return hex(value)
    return value


def _clean_float(value: float) -> Json:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _clean_key(key: Json) -> str:
    text = key if isinstance(key, str) else _clean_object(key)
    return str(text).encode("utf-8", "backslashreplace").decode()


def _clean_object(value: Json) -> Json:
    """Encode types that msgspec knows (dates, UUIDs, dataclasses, …) as it does, anything else as its ``str()``."""
    try:
        return _decode(_encode(value))
    except Exception:
        pass
    try:
        return str(value).encode("utf-8", "backslashreplace").decode()
    except Exception:  # a __str__ of the user's may raise anything
        return f"[{type(value).__name__}]"


def as_dict(value: Json) -> dict[str, Any]:
    """Return `value` if it is an object, else an empty one."""
    return value if type(value) is dict else {}


def as_dicts(value: Json) -> list[dict[str, Any]]:
    """Return the objects of a list; an empty list for anything else."""
    return [item for item in value if type(item) is dict] if type(value) is list else []


def as_text(value: Json) -> str | None:
    """Return `value` if it is a string that is not empty."""
    return value if type(value) is str and value else None


def as_index(value: Json) -> int | None:
    """Return `value` if it is an index; some servers send it as a text or as a float."""
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer():
        return int(value)
    return int(value) if type(value) is str and value.isdecimal() and len(value) <= _INDEX_DIGITS else None


_INDEX_DIGITS = 9


def is_silent(value: Json) -> bool:
    """Tell whether a field says nothing. Zero and false say something."""
    return value is None or value == "" or value == [] or value == {}
