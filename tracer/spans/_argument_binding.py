"""Which argument went to which parameter: what `@trace` records as inputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

__all__ = ["Binder", "variable_names"]

RECEIVERS = ("self", "cls")
_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_SIMPLE = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)

Arguments = dict[str, Any]


class Binder:
    """Binds the arguments of calls of one function to its parameters, with defaults, without ``self`` or ``cls``."""

    def __init__(self, func: Callable[..., Any]) -> None:
        try:
            self._signature: inspect.Signature | None = inspect.signature(func)
        except (TypeError, ValueError):  # a builtin without a signature
            self._signature = None
        parameters = list(self._signature.parameters.values()) if self._signature is not None else []
        self._is_simple = all(parameter.kind in _SIMPLE for parameter in parameters)
        self._names = [parameter.name for parameter in parameters]
        self._positional = [parameter.name for parameter in parameters if parameter.kind is _SIMPLE[0]]
        self._defaults = {
            parameter.name: parameter.default for parameter in parameters if parameter.default is not parameter.empty
        }
        self._receiver = _receiver(func, self._names)

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        """Return the arguments by name; if they don't fit the signature, as they came. Never raises."""
        arguments = self._bind_simply(args, kwargs) if self._is_simple else None
        if arguments is None:
            arguments = self._bind_any(args, kwargs)
        if self._receiver is not None:
            arguments.pop(self._receiver, None)
        return arguments

    def _bind_simply(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
        """Do what `inspect.Signature.bind` does, in a tenth of its time. Only for functions without ``*`` and ``/``."""
        if self._signature is None or len(args) > len(self._positional):
            return None
        arguments = dict(zip(self._positional, args, strict=False))
        named = 0
        for name in self._names[len(args) :]:
            if name in kwargs:
                arguments[name] = kwargs[name]
                named += 1
            elif name in self._defaults:
                arguments[name] = self._defaults[name]
            else:
                return None
        return arguments if named == len(kwargs) else None

    def _bind_any(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        as_they_came = {"args": list(args), **kwargs}
        if self._signature is None:
            return as_they_came
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError:  # the user's call itself will raise the same error
            return as_they_came
        bound.apply_defaults()
        return dict(bound.arguments)


def variable_names(func: Callable[..., Any]) -> list[str]:
    """Return the names of the parameters that take any number of arguments: of ``*parts``, of ``**options``."""
    try:
        parameters = inspect.signature(func).parameters
    except (TypeError, ValueError):
        return []
    return [parameter.name for parameter in parameters.values() if parameter.kind in _VARIABLE]


def _receiver(func: Callable[..., Any], names: list[str]) -> str | None:
    """Return the name of the parameter that takes a method's object or class (``self`` or ``cls``), if there is one.

    The qualified name shows whether a plain function will be a method: then it begins with the name of the class.
    """
    if not inspect.isfunction(func) or not names:
        return None
    owner = func.__qualname__.rpartition(".")[0]
    return names[0] if owner and not owner.endswith("<locals>") and names[0] in RECEIVERS else None
