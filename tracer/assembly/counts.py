"""What the assembler counts. A module of its own: who shows the counts need not import all of interpretation."""

from __future__ import annotations

import msgspec

__all__ = ["AssemblyCounts"]


class AssemblyCounts(msgspec.Struct):
    """What happened to records on the way into rows."""

    undecodable: int = 0
    orphaned: int = 0
    truncated: int = 0
    events: int = 0  # events that were too many for a span
    given_up: int = 0  # spans that were closed because too many were open
    redaction_failed: int = 0
    bodies_left_out: int = 0  # spans whose inputs and outputs keep_bodies did not choose
