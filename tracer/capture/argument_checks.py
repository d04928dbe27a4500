"""Checks of arguments: each returns the argument in the form to use, or raises ConfigurationError."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tracer._exceptions import ConfigurationError
from tracer.capture.text import clean_text, safe_str

__all__ = [
    "as_text",
    "as_texts",
    "check_bool",
    "check_mapping",
    "check_seconds",
    "check_strings",
    "check_text",
    "optional_moment",
    "optional_share",
    "optional_text",
]


def check_text(parameter: str, value: object) -> str:
    """Return a string that is not empty, without lone surrogates."""
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{parameter} must be a non-empty string, got {value!r}")
    return clean_text(value)


def optional_text(parameter: str, value: object) -> str | None:
    """Return None, or a string that is not empty."""
    return None if value is None else check_text(parameter, value)


def optional_moment(parameter: str, value: object) -> int | None:
    """Return None, or nanoseconds since the epoch."""
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63):
        raise ConfigurationError(f"{parameter} must be nanoseconds since the epoch, a whole number, got {value!r}")
    return value


def optional_share(parameter: str, value: object) -> float | None:
    """Return None, or a number from 0 to 1."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ConfigurationError(f"{parameter} must be a number from 0 to 1, got {value!r}")
    return float(value)


def check_bool(parameter: str, value: object) -> bool:
    """Return True or False. Nothing else is accepted, because ``"false"`` would count as True."""
    if not isinstance(value, bool):
        raise ConfigurationError(f"{parameter} must be True or False, got {value!r}")
    return value


def check_mapping(parameter: str, value: object) -> dict[str, Any]:
    """Return a mapping with string keys as a new dict; an empty dict for None."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{parameter} must be a mapping with string keys, got {value!r}")
    for key in value:
        if not isinstance(key, str):
            raise ConfigurationError(f"{parameter} must have strings as keys, got {key!r}")
    return dict(value)


def check_strings(parameter: str, value: object) -> dict[str, str] | None:
    """Return a mapping of strings to strings as a new dict; None for None."""
    if value is None:
        return None
    strings = check_mapping(parameter, value)
    for key, item in strings.items():
        if not isinstance(item, str):
            raise ConfigurationError(f"{parameter} must map strings to strings, got {key!r}: {item!r}; use str(…)")
    return {clean_text(key): clean_text(item) for key, item in strings.items()}


def as_text(parameter: str, value: object) -> str | None:
    """Return None for None, and the text of any other value, which must not be empty."""
    return None if value is None else check_text(parameter, _text_of(value))


def as_texts(parameter: str, value: object) -> dict[str, str] | None:
    """Return a mapping as a new dict with the texts of its keys and values; None for None."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{parameter} must be a mapping of names to texts, got {value!r}")
    return {_text_of(key): _text_of(item) for key, item in value.items()}


def _text_of(value: object) -> str:
    return clean_text(value) if isinstance(value, str) else safe_str(value)


def check_seconds(parameter: str, value: object) -> float | None:
    """Return seconds, zero or more; None (no limit) for None and for infinity."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise ConfigurationError(f"{parameter} must be a number of seconds, 0 or more, or None; got {value!r}")
    return None if math.isinf(value) else float(value)
