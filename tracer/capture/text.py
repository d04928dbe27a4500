"""Texts of users' objects that any store takes: bounded, without lone surrogates, whatever a class raises."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["clean_text", "safe_repr", "safe_str"]


REPR_CHARS = 1_000


def safe_repr(value: object) -> str:
    """Return ``repr(value)``, bounded, whatever it raises."""
    return _bounded(repr, value)


def safe_str(value: object) -> str:
    """Return ``str(value)``, bounded, whatever it raises."""
    return _bounded(str, value)


def clean_text(text: str) -> str:
    """Return the text as UTF-8 can hold it, of the very type `str`: lone surrogates as their escapes."""
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
