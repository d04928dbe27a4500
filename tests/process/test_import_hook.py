"""The hook that waits for an import, beside others of its kind, which ask all finders as it does."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tracer.process.import_hook import ImportHook

NAME = "module_of_the_import_hooks_test"


class Asks:
    """A finder that asks all finders, but not while it is being asked itself: as that of wrapt, which others use."""

    def __init__(self) -> None:
        self.is_asking = False

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != NAME or self.is_asking:
            return None
        self.is_asking = True
        try:
            return importlib.util.find_spec(name)
        finally:
            self.is_asking = False


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / f"{NAME}.py").write_text("VALUE = 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = list(sys.meta_path)
    yield
    sys.meta_path[:] = before
    sys.modules.pop(NAME, None)


def test_it_is_told_once_the_module_can_be_used_and_is_gone_then() -> None:
    values: list[int] = []
    hook = ImportHook(NAME, lambda: values.append(sys.modules[NAME].VALUE))
    hook.add()
    hook.add()
    module = importlib.import_module(NAME)
    importlib.reload(module)
    assert values == [7]
    assert hook not in sys.meta_path
    assert type(module.__loader__).__name__ != "_Loader"


def test_several_hooks_for_one_module_are_all_told() -> None:
    told: list[int] = []
    for number in range(3):
        ImportHook(NAME, lambda number=number: told.append(number)).add()  # type: ignore[misc]
    importlib.import_module(NAME)
    assert sorted(told) == [0, 1, 2]


@pytest.mark.parametrize("first", [True, False], ids=["before us", "behind us"])
def test_beside_a_finder_that_asks_all_others(first: bool) -> None:
    told: list[str] = []
    ImportHook(NAME, lambda: told.append(NAME)).add()
    sys.meta_path.insert(0 if first else 1, Asks())
    assert importlib.import_module(NAME).VALUE == 7
    assert told == [NAME]


class Proud:
    """A finder that asks all finders but itself, and can't bear to be asked by one of these."""

    def __init__(self) -> None:
        self.is_asking = False

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != NAME:
            return None
        if self.is_asking:
            raise RuntimeError("asked twice")
        self.is_asking = True
        try:
            others = [finder for finder in sys.meta_path if finder is not self]
            return next(filter(None, (finder.find_spec(name, path, target) for finder in others)), None)
        finally:
            self.is_asking = False


def test_a_finder_that_fails_only_because_we_ask_it_does_not_stop_the_import() -> None:
    ImportHook(NAME, lambda: None).add()
    sys.meta_path.insert(0, Proud())
    assert importlib.import_module(NAME).VALUE == 7


class Old:
    """A finder from before PEP 451, as some libraries still carry along; Python passes over it."""

    def find_module(self, name: str, path: Any = None) -> Any: ...


class Broken:
    """A finder that fails, as it does without us."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name == NAME:
            raise RuntimeError("broken")


def test_a_finder_that_can_not_be_asked_is_passed_over() -> None:
    told: list[str] = []
    ImportHook(NAME, lambda: told.append(NAME)).add()
    sys.meta_path.insert(1, Old())  # type: ignore[arg-type]
    assert importlib.import_module(NAME).VALUE == 7
    assert told == [NAME]


def test_a_finder_that_fails_does_so_as_without_us() -> None:
    ImportHook(NAME, lambda: None).add()
    sys.meta_path.insert(1, Broken())
    with pytest.raises(RuntimeError, match=r"^broken$"):
        importlib.import_module(NAME)


def test_a_module_that_is_not_there_is_not_found() -> None:
    ImportHook("module_that_is_nowhere", lambda: None).add()
    ImportHook("module_that_is_nowhere", lambda: None).add()
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("module_that_is_nowhere")
