"""What counts as a word: how texts are prepared for a full-text index, and what a search asks it for.

A word ends at whatever is no letter and no digit, so a Chinese or Japanese sentence would be one word, and a Korean
word would have its particles on it. Such a run is indexed as its pairs of characters: ``天気は`` as ``天気 気は
は``. A search for a part of a run asks for its pairs in a row, which finds just that part; the single character at the
end is there so that a search for one character finds it as well.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

__all__ = ["Term", "folded", "spaced", "terms", "trace_id_range"]

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
