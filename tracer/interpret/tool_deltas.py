"""Which tool call each fragment in a chat stream belongs to.

By the API, ``index`` says it. Compatible servers leave it out (Google's endpoint, openai/openai-python#2806), give all
calls the same one (Ollama, apache/maka#1976), or give the parts of one call different ones (mudler/LocalAI#9722,
agno-agi/agno#8880); some leave out the id, too. So an id that is known wins; then a new id together with a name begins
a call; and without ids, a name begins one as soon as the call before can't go on: its arguments are whole, or the name
is another one. Arguments without a name that can't be the last call's belong to those that have none yet, in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import msgspec

from tracer.interpret._json import as_dict, as_index, as_text, decode_json

__all__ = ["CallKey", "call_keys"]

CallKey = tuple[int, int]
"""The call's index, and how many calls had this index before it. Keys sort in the order of the calls."""


class _Fragment(msgspec.Struct, gc=False):
    number: int
    chunk: int
    position: int | None  # in its chunk, if that has several
    index: int | None
    call_id: str | None
    name: str
    arguments: Any
    has_field: bool  # for arguments, though it may be empty

    @property
    def says_arguments(self) -> bool:
        """Some servers send an object where the API sends its text."""
        return bool(self.arguments.strip()) if type(self.arguments) is str else self.arguments is not None

    @property
    def begins_arguments(self) -> bool:
        """Tell whether its arguments may be the beginning of a call's, not only the middle."""
        if type(self.arguments) is not str:
            return self.arguments is not None
        return self.arguments.lstrip().startswith(("{", "[", "null"))


class _Call(msgspec.Struct, gc=False):
    """A call, as far as its fragments came.

    Attributes:
        pieces: The numbers of fragments that brought nothing but arguments.
        renamed: The number of a fragment that brought the name again, and no arguments, when they were whole.
    """

    key: CallKey
    chunk: int
    has_field: bool
    call_id: str | None = None
    name: str = ""
    arguments: list[Any] = msgspec.field(default_factory=list)
    pieces: list[int] = msgspec.field(default_factory=list)
    renamed: int | None = None

    def take(self, fragment: _Fragment) -> None:
        self.call_id = self.call_id or fragment.call_id
        if fragment.says_arguments:
            self.renamed = None
            self.arguments.append(fragment.arguments)
            if not fragment.name:
                self.pieces.append(fragment.number)
        elif fragment.name and fragment.name == self.name and self.is_whole():
            self.renamed = fragment.number
        if fragment.name != self.name:
            self.name += fragment.name

    def is_whole(self) -> bool:
        """Tell whether the arguments are complete JSON. Looks at their end first, as they may be long."""
        last = self.arguments[-1] if self.arguments else ""
        if type(last) is not str:
            return True
        if not last.rstrip().endswith(("}", "]", "null")) or not all(type(piece) is str for piece in self.arguments):
            return False
        try:
            decode_json("".join(self.arguments).encode("utf-8", "replace"))
        except ValueError:
            return False
        return True


def call_keys(chunks: Iterable[Sequence[dict[str, Any]]]) -> list[CallKey]:
    """Return for each fragment of each chunk's ``tool_calls``, in their order, the key of its call."""
    calls = _Calls()
    for chunk, entries in enumerate(chunks):
        for position, entry in enumerate(entries):
            calls.take(_read(entry, len(calls.taken), chunk, position if len(entries) > 1 else None))
    return [call.key for call in calls.taken]


def _read(entry: dict[str, Any], number: int, chunk: int, position: int | None) -> _Fragment:
    tool, arguments = as_dict(entry.get("function")), "arguments"
    if not tool and "custom" in entry:
        tool, arguments = as_dict(entry["custom"]), "input"
    return _Fragment(
        number=number,
        chunk=chunk,
        position=position,
        index=as_index(entry.get("index")),
        call_id=as_text(entry.get("id")),
        name=as_text(tool.get("name")) or "",
        arguments=tool.get(arguments),
        has_field=arguments in tool,
    )


class _Calls:
    """The calls of one message.

    Attributes:
        taken: For each fragment its call. Later fragments may tell better where an earlier one belongs.
    """

    def __init__(self) -> None:
        self.taken: list[_Call] = []
        self._calls: list[_Call] = []
        self._by_id: dict[str, _Call] = {}
        self._by_position: dict[int, _Call] = {}
        self._last: _Call | None = None

    def take(self, fragment: _Fragment) -> None:
        call = self._find(fragment) or self._begin(fragment)
        if not fragment.name and fragment.call_id is None and fragment.begins_arguments and call.is_whole():
            call = self._next(call, fragment)
        call.take(fragment)
        self.taken.append(call)
        if fragment.call_id is not None:
            self._by_id[fragment.call_id] = call
        if fragment.position is not None:
            self._by_position[fragment.position] = call
        self._last = call

    def _next(self, call: _Call, fragment: _Fragment) -> _Call:
        """Return the call whose arguments begin here, since those of `call` are whole.

        That is one of the same name if this was repeated. Otherwise several names came before their arguments: those
        that came so far are of the calls before.
        """
        if call.renamed is not None:
            another = self._begin(fragment)
            another.name, self.taken[call.renamed], call.renamed = call.name, another, None
            return another
        same = [one for one in self._calls if fragment.index in (None, one.key[0])]
        end = same.index(call) if call in same else 0
        start = next((at for at in range(end - 1, -1, -1) if not same[at].arguments), None)
        if start is None or not all(len(one.pieces) == len(one.arguments) for one in same[start : end + 1]):
            return call
        for left, right in pairwise(same[start : end + 1]):
            left.arguments, left.pieces = right.arguments, right.pieces
            for number in left.pieces:
                self.taken[number] = left
        call.arguments, call.pieces = [], []
        return call

    def _find(self, fragment: _Fragment) -> _Call | None:
        """Return the call that a fragment goes on with; None if it begins one."""
        here = self._last_at(fragment)
        if fragment.call_id is None:
            if (named := self._of_this_name(fragment)) is not None:
                return named
            return None if here is None or _begins_another(fragment, here) else here
        known = self._by_id.get(fragment.call_id)
        if known is not None:
            is_elsewhere = fragment.index is not None and here is None and fragment.index != known.key[0]
            is_another = _begins_another(fragment, known) or (
                is_elsewhere and bool(fragment.name) and (fragment.name != known.name or known.is_whole())
            )
            return None if is_another else known
        if here is None or _begins_another(fragment, here):
            return None
        if here.call_id is None:  # its id comes late
            return here
        return here if fragment.index is not None and not fragment.name else None

    def _of_this_name(self, fragment: _Fragment) -> _Call | None:
        """Return the first unfinished call of a fragment's name, if nothing but the name tells calls apart."""
        if not fragment.name or not fragment.says_arguments or (fragment.index, fragment.position) != (None, None):
            return None
        same = (call for call in self._calls if call.name == fragment.name and call.call_id is None)
        return next((call for call in same if not call.is_whole()), None)

    def _last_at(self, fragment: _Fragment) -> _Call | None:
        """Return the call that began last at a fragment's index; without an index, at its position, or at all."""
        if fragment.index is not None:
            return next((call for call in reversed(self._calls) if call.key[0] == fragment.index), None)
        if fragment.position is None:
            return self._last
        call = self._by_position.get(fragment.position, self._last)
        return self._last if call is not None and self._last is not None and call.chunk < self._last.chunk else call

    def _begin(self, fragment: _Fragment) -> _Call:
        index = fragment.index
        if index is None:
            index = max((call.key[0] for call in self._calls), default=-1) + 1
        call = _Call((index, sum(call.key[0] == index for call in self._calls)), fragment.chunk, fragment.has_field)
        self._calls.append(call)
        return call


def _begins_another(fragment: _Fragment, call: _Call) -> bool:
    """Tell whether a fragment names a tool although this call has its name already.

    Some servers repeat the name in each fragment, others send it in pieces. So a name counts as another's if the
    arguments so far are whole, or if it differs and the other's arguments have begun. Without index and id, it also
    does if the two names came in one chunk, or each with a field for its arguments.
    """
    if not fragment.name or not call.name:
        return False
    is_bare = fragment.index is None and fragment.call_id is None
    if is_bare and fragment.chunk == call.chunk:
        return True
    is_same_call = fragment.call_id is not None and fragment.call_id == call.call_id
    if fragment.name == call.name:
        return not is_same_call and fragment.begins_arguments and call.is_whole()
    if is_same_call:
        return call.is_whole()
    return bool(call.arguments) or (is_bare and call.call_id is None and call.has_field and fragment.has_field)
