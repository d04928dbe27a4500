"""Words of a span as ClickHouse's full-text index has them: cut here, and put apart by blanks.

So a search finds what SQLite's store finds, in all scripts (`tracer.store.words`).
"""

from __future__ import annotations

from collections.abc import Callable

from tracer.store.clickhouse._connection import Connection, is_stop
from tracer.store.clickhouse._sql import Clause, joined
from tracer.store.words import cut, searchable, terms

__all__ = ["Begins", "search_clause", "span_words", "words_that_begin"]

Begins = Callable[[str], list[str] | None]
_MOST = 1_000  # words; with more, texts are looked through
_WORDS_THAT_BEGIN = """
SELECT DISTINCT token FROM mergeTreeTextIndex(currentDatabase(), 'spans', 'by_words') WHERE token LIKE ?:String
LIMIT ?:Int64
"""


def span_words(
    text: str | None, name: str, span_id: str, status_description: str | None, attributes: str | bytes | None
) -> str:
    """Return the words of a span, with a blank before and behind each."""
    return f" {' '.join(cut(searchable(text, name, span_id, status_description, attributes)))} "


def search_clause(text: str, begins: Begins, *, prefixes: bool = False) -> tuple[Clause, Clause] | None:
    """Turn what a user typed into conditions on ``words``, with and without the index; None if no text can meet it.

    Args:
        text: What the user typed.
        begins: Returns all words of the index that begin so; None if there are too many.
        prefixes: Each word may be the beginning of a longer one.
    """
    indexed: list[Clause] = []
    tests: list[Clause] = []
    whole: set[str] = set()
    for term in terms(text, prefixes=prefixes):
        words = cut(term.words)
        if not words:
            return None
        whole.update(words[:-1] if term.is_prefix else words)
        if term.is_prefix:
            known = begins(words[-1])
            test = _contains(f" {' '.join(words)}")
            tests.append(test)
            if known is not None:
                indexed.append(Clause("hasAnyTokens(words, ?:Array(String))", (known,)))
            if known is None or len(words) > 1:
                indexed.append(test)
        else:
            test = _contains(f" {' '.join(words)} ")
            tests.append(test)
            if len(words) > 1:
                indexed.append(test)
    if whole:
        indexed.insert(0, Clause("hasAllTokens(words, ?:Array(String))", (sorted(whole),)))
    return joined(indexed), joined(tests)


def _contains(part: str) -> Clause:
    return Clause("position(words, ?:String) > 0", (part,))


def words_that_begin(connection: Connection, begun: str) -> list[str] | None:
    """Return the words of the index that begin so; None if there are too many, or this server can't tell."""
    pattern = begun + "%"  # a word has no character that means something to LIKE
    try:
        found = connection.fetch(_WORDS_THAT_BEGIN, (pattern, _MOST + 1))
    except Exception as error:
        if is_stop(error):
            raise
        return None
    return None if len(found) > _MOST else [word for (word,) in found]
