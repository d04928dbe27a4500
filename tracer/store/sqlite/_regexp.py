"""SQLite's REGEXP operator, for ``RLIKE``."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from tracer.store.patterns import MAX_SUBJECT, compiled_pattern

__all__ = ["install"]


def install(connection: sqlite3.Connection, must_stop: Callable[[], bool]) -> None:
    """Define ``subject REGEXP pattern`` on a connection: a search in the first 1,000 characters.

    `must_stop` is asked before each search, because SQLite itself notices a request to stop only between two rows.

    `re` holds the GIL until it has searched a whole text, for up to some seconds. So a pattern that can be slow is
    tried at each place separately, which takes milliseconds and finds the same. In between, other threads can run.
    """

    def regexp(pattern: str, subject: object) -> bool:
        if must_stop():
            raise InterruptedError
        if subject is None:
            return False
        compiled, is_slow = compiled_pattern(pattern)
        text = str(subject)[:MAX_SUBJECT]
        if not is_slow:
            return compiled.search(text) is not None
        for start in range(len(text) + 1):
            if must_stop():
                raise InterruptedError
            if compiled.match(text, start):
                return True
        return False

    connection.create_function("regexp", 2, regexp, deterministic=True)
