"""Hooks are called as they are, and named whatever they are."""

from __future__ import annotations

import functools
import re

import pytest

from tracer.interpret.rates import PriceList
from tracer.pipeline._hook_watch import HookWatch


class Callable:
    def __call__(self, text: str) -> str:
        return text


def function(text: str) -> str:
    return text


HERE = __name__


@pytest.mark.parametrize(
    ("hook", "name"),
    [
        (function, f"{HERE}.function"),
        (Callable(), f"{HERE}.Callable"),
        (str.upper, "str.upper"),
        (functools.partial(re.sub, "a", "b"), "functools.partial"),
        (re.compile("a").sub, "Pattern.sub"),
    ],
)
def test_any_callable_has_a_name(hook: object, name: str) -> None:
    watch = HookWatch()
    seen: list[str] = []

    def look(text: str) -> str:
        assert watch.running is not None
        seen.append(watch.running.name)
        return text

    watched = watch.redact([hook, look])  # type: ignore[list-item]  # whatever can be called
    assert watch.running is None
    assert watched[1]("x") == "x"
    assert seen == [f"redact= hook {HERE}.test_any_callable_has_a_name.<locals>.look"]
    assert watched[0].__closure__ is not None
    assert f"redact= hook {name}" in [cell.cell_contents for cell in watched[0].__closure__]


def test_prices_that_are_a_list_stay_as_they_are() -> None:
    watch = HookWatch()
    prices = PriceList({})
    assert watch.prices(prices) is prices
    assert watch.prices(None) is None


def test_the_same_hooks_are_watched_once() -> None:
    watch = HookWatch()
    hooks = (function,)
    assert watch.redact(hooks) is watch.redact(hooks)
