"""Texts of users' objects, safe for any store: bounded, and without lone surrogates. Never raises."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["clean_text", "safe_repr", "safe_str"]


REPR_CHARS = 1_000


def safe_repr(value: object) -> str:
    """Return ``repr(value)``, bounded. If it raises, return a text that says so."""
    return _bounded(repr, value)


def safe_str(value: object) -> str:
    """Return ``str(value)``, bounded. If it raises, return a text that says so."""
    return _bounded(str, value)


def clean_text(text: str) -> str:
    """Return the text in a form that UTF-8 can hold: lone surrogates become escapes. The type is exactly `str`."""
    try:
        str.encode(text)
    except UnicodeEncodeError:
        return str.encode(text, "utf-8", "backslashreplace").decode()
    return str.__str__(text)


def _bounded(render: Callable[[object], str], value: object) -> str:
    try:
        text = clean_text(render(value))
    except Exception as error:
        return f"<{type(value).__name__}: {render.__name__}() raised {type(error).__name__}>"
    return text if len(text) <= REPR_CHARS else f"{text[:REPR_CHARS]}… [{len(text) - REPR_CHARS} more characters]"
