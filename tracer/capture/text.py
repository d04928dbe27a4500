"""Texts of users' objects, safe for any store: bounded, and without lone surrogates. Never raises."""

from __future__ import annotations

from collections.abc import Callable

from tracer.capture.limits import REPR_CHARS
from tracer.capture.weight import may_be_rendered

__all__ = ["clean_text", "render_bounded", "safe_repr", "safe_str"]


def safe_repr(value: object) -> str:
    """Return ``repr(value)``, bounded. If it raises, return a text that says so."""
    return render_bounded(repr, value)[0]


def safe_str(value: object) -> str:
    """Return ``str(value)``, bounded. If it raises, return a text that says so."""
    return render_bounded(str, value)[0]


def clean_text(text: str) -> str:
    """Return the text in a form that UTF-8 can hold: lone surrogates become escapes. The type is exactly `str`."""
    try:
        if not str.isascii(text):
            str.encode(text)
    except UnicodeEncodeError:
        return str.encode(text, "utf-8", "backslashreplace").decode()
    return str.__str__(text)


def render_bounded(render: Callable[[object], str], value: object) -> tuple[str, int]:
    """Return what `safe_repr` or `safe_str` returns, and how many characters (or 1, if unknown) were left out."""
    more = 0
    if type(value) is str:
        value, more = value[:REPR_CHARS], max(0, len(value) - REPR_CHARS)
    elif not may_be_rendered(value):
        return f"<{type(value).__name__}: too large for {render.__name__}()>", 1
    try:
        text = render(value)
        more += max(0, len(text) - REPR_CHARS)
        text = clean_text(text[:REPR_CHARS] if more else text)
    except Exception as error:
        return f"<{type(value).__name__}: {render.__name__}() raised {type(error).__name__}>", 0
    return (f"{text}… [{more} more characters]" if more else text), more
