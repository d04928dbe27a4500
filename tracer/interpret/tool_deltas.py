"""Which tool call each fragment in a chat stream belongs to.

By the API, ``index`` says it. Compatible servers leave it out (Google's endpoint, openai/openai-python#2806), give all
calls the same one (Ollama, apache/maka#1976), or give the parts of one call different ones (mudler/LocalAI#9722,
agno-agi/agno#8880); some leave out the id, too. So an id that is known wins; then a new id together with a name begins
a call; and without ids, a new name begins one as soon as the arguments of the call before are whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from tracer.interpret._json import as_dict, as_text, decode_json

__all__ = ["CallKey", "call_keys"]

CallKey = tuple[int, int]
"""The call's index, and how many calls had this index before it. Keys sort in the order of the calls."""


class _Call(msgspec.Struct, gc=False):
    key: CallKey
    chunk: int
    call_id: str | None = None
    name: str = ""
    arguments: list[str] = msgspec.field(default_factory=list)

    def is_whole(self) -> bool:
        """Tell whether the arguments are complete JSON."""
        try:
            decode_json("".join(self.arguments).encode("utf-8", "replace"))
        except ValueError:
            return False
        return True


class _Fragment(msgspec.Struct, gc=False):
    chunk: int
    position: int | None  # in its chunk, if that has several
    index: int | None
    call_id: str | None
    name: str
    arguments: Any


def call_keys(chunks: Iterable[Sequence[dict[str, Any]]]) -> list[CallKey]:
    """Return for each fragment of each chunk's ``tool_calls``, in their order, the key of its call."""
    calls = _Calls()
    return [
        calls.take(_read(entry, number, position if len(entries) > 1 else None))
        for number, entries in enumerate(chunks)
        for position, entry in enumerate(entries)
    ]


def _read(entry: dict[str, Any], chunk: int, position: int | None) -> _Fragment:
    tool, arguments = as_dict(entry.get("function")), "arguments"
    if not tool and "custom" in entry:
        tool, arguments = as_dict(entry["custom"]), "input"
    index = entry.get("index")
    return _Fragment(
        chunk=chunk,
        position=position,
        index=index if type(index) is int else None,
        call_id=as_text(entry.get("id")),
        name=as_text(tool.get("name")) or "",
        arguments=tool.get(arguments),
    )


class _Calls:
    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._by_id: dict[str, _Call] = {}
        self._by_position: dict[int, _Call] = {}
        self._last: _Call | None = None

    def take(self, fragment: _Fragment) -> CallKey:
        call = self._find(fragment) or self._begin(fragment)
        call.call_id = call.call_id or fragment.call_id
        if fragment.call_id is not None:
            self._by_id[fragment.call_id] = call
        if fragment.name != call.name:
            call.name += fragment.name
        if type(fragment.arguments) is str:
            call.arguments.append(fragment.arguments)
        if fragment.position is not None:
            self._by_position[fragment.position] = call
        self._last = call
        return call.key

    def _find(self, fragment: _Fragment) -> _Call | None:
        """Return the call that a fragment goes on with; None if it begins one."""
        here = self._last_at(fragment)
        if fragment.call_id is None:
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
        call = _Call((index, sum(call.key[0] == index for call in self._calls)), fragment.chunk)
        self._calls.append(call)
        return call


def _begins_another(fragment: _Fragment, call: _Call) -> bool:
    """Tell whether a fragment names a tool although this call has its name already.

    Some servers repeat the name in each fragment, others send it in pieces. So a name counts as another's if the
    arguments so far are whole. Without an index, it also does if the two names came in one chunk.
    """
    if not fragment.name or not call.name:
        return False
    if fragment.index is None and fragment.chunk == call.chunk and fragment.call_id is None:
        return True
    is_new = fragment.name != call.name or (fragment.index is None and fragment.call_id is None)
    return is_new and bool(fragment.name != call.name or fragment.arguments) and call.is_whole()
