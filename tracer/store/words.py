"""What counts as a word: how texts are prepared for a full-text index, and what a search asks it for.

A word ends at whatever is no letter and no digit, so a Chinese or Japanese sentence would be one word, and a Korean
word would have its particles on it. Such a run is indexed as its pairs of characters: ``天気は`` as ``天気 気は
は``. A search for a part of a run asks for its pairs in a row, which finds just that part; the single character at the
end is there so that a search for one character finds it as well.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any, NamedTuple

import msgspec

from tracer import _semconv as sc

__all__ = ["Term", "cut", "folded", "searchable", "spaced", "terms", "trace_id_range"]

_WORD = re.compile(r"[^\W_]+")
_DIACRITICS = re.compile("[\u0300-\u036f]+")

# Scripts that have no blanks between words, or put particles on them: Thai, Lao, Burmese, Khmer, Hangul, kana, bopomofo
# and Han. The dot and the double hyphen between kana are no part of a word.
_RUN = (
    r"[\u0e00-\u0eff\u1000-\u11ff\u1780-\u17ff\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3041-\u309f\u30a1-\u30fa"
    r"\u30fc-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff"
    r"\U00020000-\U0003ffff]+"
)
_RUNS = re.compile(_RUN)
_LAST_RUN = re.compile(_RUN + "$")
_TERM = re.compile(r'"([^"]*)"|([^\s"]+)')
_TRACE_ID = re.compile(r"(?:[0-9a-f]{2}-)?([0-9a-f]{32})(?:-[0-9a-f]{16}-[0-9a-f]{2})?|([0-9a-f]{8,31})")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ID = re.compile(r"[0-9a-f]{8,}$|(?=[0-9]*[a-z])(?=[a-z]*[0-9])[0-9a-z]{8,}$", re.IGNORECASE | re.ASCII)


class Term(NamedTuple):
    """What a text must have: words in a row, prepared as `spaced` prepares texts.

    Attributes:
        is_prefix: The last word may be the beginning of a longer one.
    """

    words: str
    is_prefix: bool


def folded(text: str) -> str:
    """Return a text without case, whatever its letters, and with accents written in one way.

    Unlike the index, it knows forms of one letter apart: ``％`` must not become a ``%``.
    """
    return unicodedata.normalize("NFC", text).casefold()


def spaced(text: str) -> str:
    """Return a text as it is indexed: without case and forms of one letter (É, ｶ, ﬁ), its runs as pairs.

    Whoever cuts it into words ignores the case of ASCII.
    """
    return text if text.isascii() else _RUNS.sub(_pairs, _folded(text))


class _FoundBy(msgspec.Struct):
    """Attributes by which a span is found."""

    error_type: Any = msgspec.field(name=sc.ERROR_TYPE, default=None)
    tool_name: Any = msgspec.field(name=sc.TOOL_NAME, default=None)
    tool_call: Any = msgspec.field(name=sc.TOOL_CALL_ID, default=None)
    response: Any = msgspec.field(name=sc.RESPONSE_ID, default=None)
    request: Any = msgspec.field(name=sc.REQUEST_ID, default=None)


_found_by = msgspec.json.Decoder(_FoundBy).decode


def searchable(
    text: str | None, name: str, span_id: str, status_description: str | None, attributes: str | bytes | None
) -> str:
    """Return all of a span by which it is found, `spaced`; for stores that cut words themselves (`cut`)."""
    told = [text, name, span_id, status_description, *_told_by(attributes)]
    return spaced(" ".join([each for each in told if each]))


def _told_by(attributes: str | bytes | None) -> list[str]:
    if not attributes:
        return []
    try:
        found = _found_by(attributes)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):  # a user's own attributes can be anything
        return []
    values = (found.error_type, found.tool_name, found.tool_call, found.response, found.request)
    return [str(value) for value in values if isinstance(value, (str, int, float))]


def cut(text: str) -> list[str]:
    """Return the words of a `spaced` text in order, without case and accents."""
    if text.isascii():
        return _WORD.findall(text.lower())
    bare = _DIACRITICS.sub("", unicodedata.normalize("NFD", text))
    return _WORD.findall(unicodedata.normalize("NFC", bare).lower())


def terms(text: str, *, prefixes: bool = False) -> list[Term]:
    """Read what a user typed: all words, ``"a phrase"``, and ``prefix*``; a text must have all of them.

    A word of punctuation alone asks for nothing. What looks like an id may be its beginning.

    Args:
        text: What the user typed; it holds a letter or a digit.
        prefixes: Each word may be the beginning of a longer one.
    """
    found = []
    for phrase, word in _TERM.findall(text.replace("\0", " ")):
        if re.search(r"[^\W_]", phrase or word):
            is_prefix = bool(word) and (prefixes or word.endswith("*") or _ID.search(word) is not None)
            found.append(_term(phrase or word, is_prefix))
    return found


def trace_id_range(text: str) -> tuple[str, str] | None:
    """Return between which ids a trace's id must lie, if the text is one (also in a traceparent) or its beginning."""
    told = text.strip().strip('"*').lower()
    match = _TRACE_ID.fullmatch(told.replace("-", "") if _UUID.fullmatch(told) else told)
    if match is None:
        return None
    begun = match[1] or match[2]
    return begun, f"{begun}g"  # the letter behind the greatest hex digit


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _pairs(run: re.Match[str]) -> str:
    return f" {' '.join(run[0][at : at + 2] for at in range(len(run[0])))} "


def _term(words: str, is_prefix: bool) -> Term:
    words = re.sub(r"[\W_]+$", "", _folded(words))
    last = _LAST_RUN.search(words)
    if last is None:
        return Term(spaced(words), is_prefix)
    # The text may go on behind it, so its last character begins a pair there.
    run = last[0]
    pairs = " ".join(run[at : at + 2] for at in range(max(1, len(run) - 1)))
    return Term(f"{spaced(words[: last.start()])} {pairs}", len(run) == 1)
