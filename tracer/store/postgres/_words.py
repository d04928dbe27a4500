"""Words of a span as PostgreSQL's full-text search has them: cut and prepared here, not by its own parsers.

So a search finds what SQLite's store finds, in all scripts (`tracer.store.words`). Words have their places, for
phrases.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from tracer.store.words import cut, searchable, terms

__all__ = ["search_expression", "span_words"]

_PLACES = 16_383  # PostgreSQL counts no further; what comes behind begins again at 1
_PLACES_OF_WORD = 255
_LONGEST_WORD = 500  # characters: PostgreSQL takes 2,046 bytes
_SHORT = 30_000  # characters of a text that fits in any case: it has at most half as many words
_NUMBERS = [str(number) for number in range(1, _PLACES + 1)]
_MOST_BYTES = 900_000  # in all words of a span with their places: PostgreSQL takes 1 MiB


def span_words(
    text: str | None, name: str, span_id: str, status_description: str | None, attributes: str | bytes | None
) -> str:
    """Return the words of a span as the text of a ``tsvector``."""
    prepared = searchable(text, name, span_id, status_description, attributes)
    words = cut(prepared)
    if len(prepared) > _SHORT or len(max(words, key=len, default="")) > _LONGEST_WORD:
        return _bounded(words)
    places: dict[str, str] = {}
    for word, place in zip(words, _NUMBERS, strict=False):
        places[word] = f"{places[word]},{place}" if word in places else place
    return " ".join([f"'{word}':{found}" for word, found in places.items()])


def _bounded(words: Sequence[str]) -> str:
    """Do the same for a text that may have more words, or longer ones, than PostgreSQL takes."""
    places: dict[str, list[int]] = defaultdict(list)
    size = 0
    for at, word in enumerate(words):
        found = places[word[:_LONGEST_WORD]]
        if not found:
            size += 4 * len(word) + 4
        if len(found) < _PLACES_OF_WORD:
            found.append(at % _PLACES + 1)
            size += 2
        if size > _MOST_BYTES:
            break
    return " ".join([f"'{word}':{','.join(map(str, found))}" for word, found in places.items()])


def search_expression(text: str, *, prefixes: bool = False) -> str | None:
    """Turn what a user typed into the text of a ``tsquery``; None if no text can have it."""
    parts = [_phrase(cut(term.words), term.is_prefix) for term in terms(text, prefixes=prefixes)]
    return " & ".join(parts) if all(parts) else None


def _phrase(words: Sequence[str], is_prefix: bool) -> str:
    quoted = [f"'{word[:_LONGEST_WORD]}'" for word in words]
    if quoted and is_prefix:
        quoted[-1] += ":*"
    return f"({' <-> '.join(quoted)})" if quoted else ""
