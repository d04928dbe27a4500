"""What a search asks for, as a tree that knows nothing of any database. Each store has a compiler for it.

`tracer.store.filter` makes such trees of filter strings, `tracer.store.search` of the other arguments of a search. All
values are checked, and as they are stored: times and durations are in nanoseconds, states are `TraceState`'s words.

How the compilers must read it:

- What a comparison needs and a trace lacks (NULL) makes the comparison false, and its `Not` true.
- A trace can have many values of a field: those of its spans, say. A comparison is true if it is true of one of them.
- Texts are compared with texts and numbers with numbers; see `Field.mixed`.
"""

from __future__ import annotations

import msgspec

__all__ = ["And", "Comparison", "Condition", "Field", "Linked", "Not", "Or", "Text", "Unit", "Value"]

Value = str | int | float


class Unit(msgspec.Struct, frozen=True):
    """What a number of a field counts.

    Attributes:
        factor: A number in a filter is multiplied by this before it is compared with stored values.
        words: Its name in messages.
    """

    factor: int
    words: str


class Field(msgspec.Struct, frozen=True):
    """What a name stands for.

    Attributes:
        of: What has it: ``trace``, ``span``, or what is looked up by its key: ``attribute`` (of a span), ``tag``,
            ``metadata``, ``feedback`` and ``dropped`` (of a trace).
        name: Which one; the key itself where there is one.
        unit: What a number counts; None for text.
        words: The only values that the field can have.
        each: ``!=`` means that some value is another one, as in MLflow. If False, it means that no value is this one;
            such a comparison is then never ``!=`` or ``NOT IN``, but a `Not`.
        mixed: Values may be of any type. Then numbers are compared with numbers only; as text, any value is as it is
            written, with ``true`` and ``false``.
    """

    of: str
    name: str
    unit: Unit | None = None
    words: tuple[str, ...] = ()
    each: bool = True
    mixed: bool = False


class Comparison(msgspec.Struct, frozen=True):
    """A field compared with values.

    Attributes:
        comparator: ``=  !=  <  <=  >  >=``, ``IN`` or ``NOT IN`` (of many values), ``LIKE`` (minds case; ``%`` stands
            for any text and ``_`` for any character), ``ILIKE`` (does not mind case), ``RLIKE`` (a regular expression
            of `re` that is found somewhere), ``IS NOT NULL`` (of no value).
        values: One value, except as said above.
    """

    field: Field
    comparator: str
    values: tuple[Value, ...] = ()


class Text(msgspec.Struct, frozen=True):
    """One span of the trace has all these words, or the trace has this id, or an id that begins so.

    Attributes:
        words: As typed, with ``"phrases"`` and ``prefix*``; holds at least one letter or digit.
        prefixes: Each word may be the beginning of a longer one.
    """

    words: str
    prefixes: bool = False


class Linked(msgspec.Struct, frozen=True):
    """The trace continues this one, directly or not, or is continued by it; or it is this one."""

    trace_id: str


class And(msgspec.Struct, frozen=True):
    """All of these, at least one."""

    parts: tuple[Condition, ...]


class Or(msgspec.Struct, frozen=True):
    """One of these, at least one."""

    parts: tuple[Condition, ...]


class Not(msgspec.Struct, frozen=True):
    """Not this."""

    part: Condition


Condition = Comparison | Text | Linked | And | Or | Not
