"""Modules of other libraries that may be imported at any moment, by any thread."""

from __future__ import annotations

import sys
from types import ModuleType

__all__ = ["imported"]


def imported(name: str) -> ModuleType | None:
    """Return a module if it is imported; None also while another thread is importing it, as half of it is missing."""
    module = sys.modules.get(name)
    if module is None or getattr(module.__spec__, "_initializing", False):
        return None
    return module
