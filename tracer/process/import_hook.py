"""A function that is called once a certain module has been imported, without importing it.

This file imports nothing of tracer: `tracer/_autorun/sitecustomize.py` loads it by its path, before it is known whether
the program needs tracer at all.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from importlib.abc import Loader  # which imports importlib.resources and tempfile

__all__ = ["ImportHook"]


class ImportHook:
    """A finder (PEP 451) that finds nothing itself: it lets the other finders find the module, and watches its import.

    The import of any other module costs one comparison of names more. The hook is removed after the module's import.
    The function must not raise.
    """

    def __init__(self, name: str, imported: Callable[[], None]) -> None:
        self._name = name
        self._imported = imported
        self._asking: set[int] = set()  # threads in which the other finders are being asked

    def add(self) -> None:
        """Begin to watch."""
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def remove(self) -> None:
        """Watch no more."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Let the other finders find the module, and arrange that we are told when it has been executed."""
        # Another finder may ask all others, too, as wrapt's does, and a second one of ours: that must end somewhere.
        if name != self._name or (thread := threading.get_ident()) in self._asking:
            return None
        self._asking.add(thread)
        try:
            spec = self._ask_others(name, path, target)
        except Exception:  # of another finder: the import system asks it next, and raises the same
            return None
        finally:
            self._asking.discard(thread)
        if spec is not None and spec.loader is not None:
            spec.loader = cast("Loader", _Loader(spec.loader, self))
        return spec

    def _ask_others(self, name: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
        for finder in list(sys.meta_path):
            find_spec = None if finder is self else getattr(finder, "find_spec", None)  # very old ones have none
            spec: ModuleSpec | None = None if find_spec is None else find_spec(name, path, target)
            if spec is not None:
                return spec
        return None

    def executed(self) -> None:
        """The module can be used."""
        self.remove()
        self._imported()


class _Loader:
    """Stands in for a module's loader until the module has been executed: passes everything on to that loader."""

    def __init__(self, loader: Any, hook: ImportHook) -> None:
        self._loader = loader
        self._hook = hook

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._hook.executed()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
