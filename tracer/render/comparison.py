"""What a comparison of two traces, or two calls, consists of. Made by `tracer.render.compare`, sent by the API."""

from __future__ import annotations

import msgspec

__all__ = ["Comparison", "Figure", "Piece", "Side", "SpanPair", "SpanSide", "Turn"]


class Piece(msgspec.Struct, frozen=True):
    """A stretch of text.

    Attributes:
        kind: ``same``, ``removed`` (only in the first text) or ``added`` (only in the second).
    """

    kind: str
    text: str


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One figure, of both sides.

    Attributes:
        unit: ``seconds``, ``tokens``, ``dollars``, ``count``, or ``text`` for a figure without a unit.
        difference: The second minus the first; None unless both are numbers.
    """

    name: str
    unit: str = "text"
    a: float | str | None = None
    b: float | str | None = None
    difference: float | None = None
    differs: bool = False


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One message of both, or of one of them, as text.

    Attributes:
        where: ``both``, ``a`` or ``b``.
        cut: How many characters are left out.
    """

    role: str
    title: str = ""
    where: str = "both"
    pieces: list[Piece]
    cut: int = 0

    @property
    def differs(self) -> bool:
        """Whether a part of it is in only one of the two."""
        return self.where != "both" or any(piece.kind != "same" for piece in self.pieces)


class SpanSide(msgspec.Struct, frozen=True, kw_only=True):
    """A span of one of the trees. `left` and `width` are percent of the longer trace."""

    span_id: str
    name: str
    span_type: str
    level: int
    failed: bool
    duration_ns: int | None = None
    total_tokens: int | None = None
    cost: float | None = None
    left: float
    width: float


class SpanPair(msgspec.Struct, frozen=True, kw_only=True):
    """Two spans that correspond to each other in the two trees; None if one tree has no such span."""

    a: SpanSide | None = None
    b: SpanSide | None = None


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """What is compared: a trace, or one of its spans."""

    trace_id: str
    span_id: str | None = None
    name: str
    state: str
    start_time_ns: int


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two traces, or two spans, side by side.

    Attributes:
        parameters: The parameters of the requests, without their messages.
        inputs: Messages, or the whole input as one text. For a trace, those of its root.
        spans: Both trees in order; empty when spans are compared.
        spans_left_out: How many more the trees have.
    """

    a: Side
    b: Side
    figures: list[Figure]
    parameters: list[Figure]
    inputs: list[Turn]
    outputs: list[Turn]
    spans: list[SpanPair]
    spans_left_out: int = 0
