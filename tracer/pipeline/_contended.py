"""A record that found the ring's lock taken: it is in the queue at once, and in the ring a little later."""

from __future__ import annotations

__all__ = ["Contended"]


class Contended:
    """Such a record's place in the ring, which may be behind records that are behind it in the queue.

    Attributes:
        data: What the ring gets of it.
        sequence: Its sequence there; 0 if the ring did not get it; None until that is known.
    """

    __slots__ = ("data", "sequence")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.sequence: int | None = None
