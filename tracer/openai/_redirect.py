"""Two ways to patch a method of the SDK, each of which can be undone.

Other instrumentors wrap `request`, too. OpenInference and ``logfire.instrument_openai()`` put their wrapper on
``openai.OpenAI``, or on one client; it calls the function that they found on the base class. If we put another function
in its place there, their wrapper would never reach ours, not even after they are gone: ``OpenAI.request`` then still is
the function that they found. So the function stays where it is and gets other code (`Redirect`). Whoever holds it
reaches us: subclasses, clients, bound methods, wrappers of others.

``function.__code__`` may be set, see "Callable types" in Python's data model. A call that runs goes on with its code.
"""

from __future__ import annotations

import functools
import inspect
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

__all__ = ["Patch", "Redirect", "Replacement", "find_function", "held_by", "leads_to"]

Patch = tuple[type, str, Callable[[Any], Any]]
"""The class, the method's name, and a function that makes the new method from the old one."""

MAX_OBJECTS = 200  # that are looked at in search of a function; wrappers hold few
_WRAPPER = "_tracer_wrapper"


def _call(*args: Any, _tracer_wrapper: Callable[..., Any], **kwargs: Any) -> Any:
    return _tracer_wrapper(*args, **kwargs)


async def _call_async(*args: Any, _tracer_wrapper: Callable[..., Any], **kwargs: Any) -> Any:
    return await _tracer_wrapper(*args, **kwargs)


class Redirect:
    """Has a function call our wrapper, which may call a copy of what the function was.

    Args:
        function: A plain function without free variables.
        wrap: Makes the wrapper from that copy.
    """

    def __init__(self, function: FunctionType, wrap: Callable[[Any], Any]) -> None:
        self.function = function
        self._code, self._defaults = function.__code__, function.__kwdefaults__
        wrapper = wrap(_copy(function))
        code = (_call_async if inspect.iscoroutinefunction(function) else _call).__code__
        self._our_code: CodeType = code.replace(co_name=function.__name__)
        # Other threads may call it meanwhile. So the defaults of both codes are there while the code changes.
        function.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
        function.__kwdefaults__ = {**(self._defaults or {}), _WRAPPER: wrapper}
        function.__code__ = self._our_code

    @property
    def is_in_place(self) -> bool:
        """The function still has our code."""
        return self.function.__code__ is self._our_code

    def undo(self) -> bool:
        """Give the function its own code back; False if somebody else has given it another one meanwhile."""
        if not self.is_in_place:
            return False
        self.function.__code__ = self._code
        self.function.__kwdefaults__ = self._defaults
        del self.function.__signature__  # type: ignore[attr-defined]
        return True


class Replacement:
    """Puts a new function on a class, in the place of the one that is there.

    If another library wraps it later, `undo` leaves that wrapper where it is.
    """

    def __init__(self, owner: type, name: str, wrap: Callable[[Any], Any]) -> None:
        self._owner = owner
        self._name = name
        self._original = owner.__dict__[name]
        self.function = wrap(self._original)
        setattr(owner, name, self.function)

    @property
    def is_in_place(self) -> bool:
        """The class has our function, or another library's wrapper around it."""
        return leads_to(self._owner.__dict__.get(self._name), self.function)

    def undo(self) -> bool:
        """Put the original back; False if something else is in its place."""
        if self._owner.__dict__.get(self._name) is not self.function:
            return False
        setattr(self._owner, self._name, self._original)
        return True


def find_function(owner: type, name: str) -> FunctionType | None:
    """Return the SDK's own function behind a method, also if other libraries have wrapped it; None if there is none."""
    package = owner.__module__.partition(".")[0]
    for found in held_by(owner.__dict__.get(name)):
        if type(found) is not FunctionType or found.__code__.co_freevars:
            continue
        if found.__code__.co_name != name or found.__qualname__ != f"{owner.__qualname__}.{name}":
            continue
        if str(found.__globals__.get("__name__")).partition(".")[0] == package:  # `functools.wraps` copies `__module__`
            return found
    return None


def leads_to(method: Any, function: Any) -> bool:
    """Tell whether a method is this function, or a wrapper that holds it."""
    return any(held is function for held in held_by(method))


def held_by(method: Any) -> Iterator[Any]:
    """Yield a callable and what it holds, the nearest first: what it wraps, its closure, defaults and attributes."""
    waiting, seen = deque([method]), set[int]()
    while waiting and len(seen) < MAX_OBJECTS:
        held = waiting.popleft()
        if held is None or id(held) in seen:
            continue
        seen.add(id(held))
        yield held
        waiting.extend(_parts(held))


def _parts(held: Any) -> Iterator[Any]:
    if type(held) is FunctionType:  # wrapt's objects claim to be functions, too
        yield held.__dict__.get("__wrapped__")
        yield from (_content(cell) for cell in held.__closure__ or ())
        yield from held.__defaults__ or ()
        yield from (held.__kwdefaults__ or {}).values()
        yield from _named(held)
    elif isinstance(held, (classmethod, staticmethod)):
        yield held.__func__
    elif type(held) is MethodType:
        yield from (held.__func__, *getattr(held.__self__, "__dict__", {}).values())
    elif isinstance(held, (functools.partial, functools.partialmethod)):
        yield from (held.func, *held.args, *held.keywords.values())
    elif callable(held) and not isinstance(held, type):  # an object with `__call__`, as those of wrapt
        yield from (getattr(held, "__wrapped__", None), *getattr(held, "__dict__", {}).values())


def _named(function: FunctionType) -> Iterator[Any]:
    """Yield the globals that a function names, and what it may take from those that are classes, modules and dicts."""
    names = function.__code__.co_names
    for name in names:
        found = function.__globals__.get(name)
        yield found
        if isinstance(found, dict):
            yield from islice(found.values(), MAX_OBJECTS)
        elif isinstance(found, (type, ModuleType)):
            yield from (vars(found).get(other) for other in names)


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty
        return None


def _copy(function: FunctionType) -> FunctionType:
    copy = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
    copy.__kwdefaults__ = function.__kwdefaults__
    functools.update_wrapper(copy, function)
    del copy.__wrapped__  # type: ignore[attr-defined]  # it is the function that will lead here
    return copy
