"""How what tracer has not is refused: a name of a module, an argument of a function, a member of a class."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NoReturn, TypeVar

from tracer.mlflow._missing import MEMBERS, NAMES, OTHERWISE, PARAMETERS, RECORDED
from tracer.mlflow.exceptions import MissingNameError, UnsupportedError

__all__ = ["refuse_given", "refuse_making", "refuse_members", "refuse_missing_names"]

T = TypeVar("T")

_PACKAGE = "tracer.mlflow"


def refuse_given(function: str, **given: object) -> None:
    """Raise for an argument that can't be honoured; None was not given."""
    for name, value in given.items():
        if value is not None:
            raise UnsupportedError(f"{function}({name}=…) is not supported: {PARAMETERS[name]}")


# --- names of modules -------------------------------------------------------------------------------------------------


def refuse_missing_names() -> None:
    """Have every public module of this package refuse the names that it lacks, as an attribute and in an import.

    An attribute that is missing must raise an `AttributeError`, so that ``hasattr`` is False. But ``from … import``
    makes a plain `ImportError` of that, and no exception can be both. So `_Refuser` raises one of its own: where a
    module is a package (it has a ``__path__``), Python looks for a submodule before it gives up.
    """
    for name, module in list(sys.modules.items()):
        if f"{name}.".startswith(f"{_PACKAGE}.") and "._" not in name:
            module.__dict__.setdefault("__path__", [])
            module.__dict__["__getattr__"] = _attribute_of(name)
    if not any(type(finder).__qualname__ == _Refuser.__qualname__ for finder in sys.meta_path):
        sys.meta_path.append(_Refuser())


def _attribute_of(module: str) -> Callable[[str], NoReturn]:
    def missing(name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        raise UnsupportedError(_sentence(module, name))

    return missing


class _Refuser:
    """A finder (PEP 451) behind all others: it is asked for what they did not find."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        """Raise for a submodule of this package."""
        parent, _, wanted = name.rpartition(".")
        if not parent.startswith("_") and not wanted.startswith("_"):
            # The module's own name, for it may stand in `sys.modules` as ``mlflow``, too.
            module = getattr(sys.modules.get(parent), "__name__", "")
            if f"{module}.".startswith(f"{_PACKAGE}."):
                raise MissingNameError(_sentence(module, wanted), name=name)


def _sentence(module: str, name: str) -> str:
    remedies = NAMES.get(module.removeprefix(_PACKAGE).lstrip("."), {})
    return f"{module} has no {name!r}: {remedies.get(name, OTHERWISE)}"


# --- members of classes -----------------------------------------------------------------------------------------------


class _Refused:
    """A member that raises, on the class and on its objects; so for ``hasattr`` there is none."""

    def __init__(self, sentence: str) -> None:
        self._sentence = sentence

    def __get__(self, instance: object, owner: type) -> NoReturn:
        raise UnsupportedError(self._sentence)


def refuse_making(stored: type) -> Callable[[type[T]], type[T]]:
    """Decorate a class whose objects are views of what tracer stored: nobody else can make one."""

    def decorate(cls: type[T]) -> type[T]:
        make = cls.__init__

        @functools.wraps(make)
        def init(self: T, /, *args: Any, **kwargs: Any) -> None:
            if not (args and isinstance(args[0], stored)):
                raise UnsupportedError(f"{cls.__name__}(…) is not supported: {RECORDED}")
            make(self, *args, **kwargs)

        cls.__init__ = init  # type: ignore[assignment]
        return cls

    return decorate


def refuse_members(cls: type[T]) -> type[T]:
    """Have a class refuse what MLflow's class of that name has and it lacks."""
    for name, remedy in MEMBERS[cls.__name__].items():
        setattr(cls, name, _Refused(f"{cls.__name__} has no {name!r}: {remedy}"))
    return cls
