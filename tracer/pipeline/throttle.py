"""Limits log messages to one a minute for each kind: an error that comes with every call must not fill the log."""

from __future__ import annotations

import time

__all__ = ["Throttle"]

INTERVAL = 60.0
MAX_KINDS = 1_000


class Throttle:
    """Tells whether something may be logged again. Safe in any thread: at worst two log at the same moment."""

    def __init__(self) -> None:
        self._logged_at: dict[str, float] = {}

    def allows(self, kind: str) -> bool:
        """Return True if `kind` was not logged within the last minute. From then on it counts as logged."""
        now = time.monotonic()
        if now - self._logged_at.get(kind, -INTERVAL) < INTERVAL:
            return False
        if len(self._logged_at) >= MAX_KINDS:  # functions may be made, and named, at run time
            self._logged_at.clear()
        self._logged_at[kind] = now
        return True
