"""Durations, prices, sizes and texts in a form for people: for the tree, the terminal, the page and messages."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

__all__ = ["clean", "did_you_mean", "format_bytes", "format_cost", "format_duration"]

NANOSECONDS = 1_000_000_000
_UNITS = ("bytes", "KB", "MB", "GB")
# C0 except tab and newline, C1, line separators, and characters that reorder text (bidirectional controls): a model's
# answer must not move the cursor, set the window's title, or look like a different text.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def format_duration(nanoseconds: int | None) -> str:
    """Return a duration: ``850 µs``, ``35.2 ms``, ``1.24 s``, ``2 m 05 s``, ``3 h 12 m``; ``running`` for None."""
    if nanoseconds is None:
        return "running"
    if nanoseconds < 999_500:
        return f"{nanoseconds / 1e3:.0f} µs"
    if nanoseconds < 999_500_000:
        return f"{nanoseconds / 1e6:.3g} ms" if nanoseconds < 99_500_000 else f"{nanoseconds / 1e6:.0f} ms"
    seconds = nanoseconds / NANOSECONDS
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes:02} m" if hours else f"{minutes} m {rest:02} s"


def format_cost(dollars: float | None) -> str:
    """Return US dollars with at least two significant digits, so that a small price never shows as zero.

    None gives an empty text.

    ::

        >>> format_cost(0.000085), format_cost(12.4), format_cost(None)
        ('$0.000085', '$12.40', '')
    """
    if dollars is None:
        return ""
    if dollars == 0 or abs(dollars) >= 0.1:
        return f"${dollars:,.2f}"
    return f"${float(f'{dollars:.2g}'):.12f}".rstrip("0")


def format_bytes(size: int) -> str:
    """Return a size with its unit: ``12.3 KB``."""
    scaled = float(size)
    for unit in _UNITS:
        if scaled < 1024 or unit == _UNITS[-1]:
            break
        scaled /= 1024
    return f"{size} bytes" if unit == "bytes" else f"{scaled:.1f} {unit}"


def clean(text: str, *, keep_lines: bool = False) -> str:
    """Return text that a terminal shows as it is; on one line unless `keep_lines` is set."""
    safe = _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))
    return safe if keep_lines else re.sub(r"[\t\n ]+", " ", safe).strip()


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
