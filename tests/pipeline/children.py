"""Processes that die of what they do."""

from __future__ import annotations

import os
from collections.abc import Callable

__all__ = ["in_a_child"]


def in_a_child(work: Callable[[], object]) -> None:
    """Do something in a forked process that then dies without any clean-up."""
    if not (child := os.fork()):
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
