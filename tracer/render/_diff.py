"""What differs between two texts, word by word."""

from __future__ import annotations

import difflib
import re
from itertools import groupby

from tracer.render.comparison import Piece

__all__ = ["word_diff"]

MAX_TOKENS = 4_000
_WORD = re.compile(r"\w+\s*|[^\w\s]\s*|\s+")  # with the space behind each word, so that it does not count as a word
_LEAST_ALIKE = 0.2


def word_diff(left: str, right: str) -> list[Piece]:
    """Return the pieces of two texts in order.

    All pieces except the ``added`` ones make up the first text, all except the ``removed`` ones the second.

    Long texts are compared line by line. In even longer texts, everything between the equal beginning and end counts as
    one change. Texts that have almost nothing in common are shown as wholly different, because words that they share by
    chance would only confuse.

    ::

        >>> [(piece.kind, piece.text) for piece in word_diff("a red car", "a blue car")]
        [('same', 'a '), ('removed', 'red'), ('added', 'blue'), ('same', ' car')]
    """
    if left == right:
        return _pieces(("same", left))
    a, b = _tokens(left, right)
    start = _common(a, b)
    end = _common(a[start:][::-1], b[start:][::-1])
    middle = _middle(a[start : len(a) - end], b[start : len(b) - end])
    found = _pieces(("same", "".join(a[:start])), *middle, ("same", "".join(a[len(a) - end :])))
    same = sum(len(piece.text) for piece in found if piece.kind == "same")
    if same < _LEAST_ALIKE * min(len(left), len(right)):
        return _pieces(("removed", left), ("added", right))
    return found


def _tokens(left: str, right: str) -> tuple[list[str], list[str]]:
    a, b = _WORD.findall(left), _WORD.findall(right)
    if max(len(a), len(b)) <= MAX_TOKENS:
        return a, b
    return left.splitlines(keepends=True), right.splitlines(keepends=True)


def _common(a: list[str], b: list[str]) -> int:
    """Return how many tokens both begin with."""
    return next((at for at, (one, other) in enumerate(zip(a, b, strict=False)) if one != other), min(len(a), len(b)))


def _middle(a: list[str], b: list[str]) -> list[tuple[str, str]]:
    if max(len(a), len(b)) > MAX_TOKENS:
        return [("removed", "".join(a)), ("added", "".join(b))]
    found = []
    # "autojunk" stays on: without it, a text of one repeated word would take time cubic in its length.
    for kind, i, j, k, m in difflib.SequenceMatcher(None, a, b).get_opcodes():
        if kind == "equal":
            found.append(("same", "".join(a[i:j])))
        else:
            found += _replaced("".join(a[i:j]), "".join(b[k:m]))
    return found


def _replaced(old: str, new: str) -> list[tuple[str, str]]:
    """Return a change; trailing space that both texts share is not part of it."""
    space = old[len(old.rstrip()) :]
    if not space or not new.endswith(space):
        return [("removed", old), ("added", new)]
    return [("removed", old[: -len(space)]), ("added", new[: -len(space)]), ("same", space)]


def _pieces(*found: tuple[str, str]) -> list[Piece]:
    grouped = groupby((pair for pair in found if pair[1]), key=lambda pair: pair[0])
    return [Piece(kind, "".join(text for _, text in group)) for kind, group in grouped]
