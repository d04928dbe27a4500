"""Rates: what one model's usage costs, part by part. The shipped table and the user's prices are computed alike.

A price list is what `tracer.configure(prices=…)` takes: model names, each with US dollars per million tokens
(``input``, ``output``, ``cached_input``, …; see `UNITS`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import msgspec

__all__ = ["UNITS", "ModelRates", "PriceList", "Rate", "charge", "read_price_list"]

Rate = tuple[tuple[float, float], ...]
"""(more than this many input tokens, US dollars for one), ascending. The last step that applies is charged for all."""

_MILLION, _THOUSAND, _HOUR = 1e6, 1e3, 3600.0
UNITS: dict[str, float] = {
    "input": _MILLION,
    "output": _MILLION,
    "cached_input": _MILLION,
    "cache_write": _MILLION,
    "reasoning": _MILLION,
    "input_audio": _MILLION,
    "cached_audio": _MILLION,
    "output_audio": _MILLION,
    "input_image": _MILLION,
    "cached_image": _MILLION,
    "output_image": _MILLION,
    "characters": _MILLION,
    "audio_hour": _HOUR,
    "web_search": _THOUSAND,
    "file_search": _THOUSAND,
    "request": _THOUSAND,
}
"""What can be charged, and how many units a price is for: tokens and characters per million, audio seconds per hour,
calls per thousand."""

# A part without its own rate is charged like the whole that it belongs to. Audio is not: it costs many times as much as
# text.
_CHARGED_AS = {
    "cached_image": "cached_input",
    "cached_input": "input",
    "cache_write": "input",
    "input_image": "input",
    "output_image": "output",
    "reasoning": "output",
}
# For each count: the part that it is charged as, the side from whose rest it is subtracted ("" if it is not in tokens),
# and the counts that it includes but that are charged as other parts.
_PARTS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "cached_audio_tokens": ("cached_audio", "input", ()),
    "cached_image_tokens": ("cached_image", "input", ()),
    "cache_read_input_tokens": ("cached_input", "input", ("cached_audio_tokens", "cached_image_tokens")),
    "cache_creation_input_tokens": ("cache_write", "input", ()),
    "input_audio_tokens": ("input_audio", "input", ("cached_audio_tokens",)),
    "input_image_tokens": ("input_image", "input", ("cached_image_tokens",)),
    "reasoning_tokens": ("reasoning", "output", ()),
    "output_audio_tokens": ("output_audio", "output", ()),
    "output_image_tokens": ("output_image", "output", ()),
    "audio_seconds": ("audio_hour", "", ()),
    "characters": ("characters", "", ()),
    "web_searches": ("web_search", "", ()),
    "file_searches": ("file_search", "", ()),
}
# Parts that a price list may leave out. They are charged extra only if the list has a price for them.
_EXTRAS = frozenset({"web_search", "file_search", "request"})


class ModelRates(msgspec.Struct, frozen=True):
    """One model's rates by service tier; ``""`` holds the rates of all other tiers."""

    tiers: dict[str, dict[str, Rate]]

    def at(self, tier: str | None) -> dict[str, Rate]:
        """Return the rates that hold in a service tier (``flex``, ``priority``, ``batch``, …)."""
        return self.tiers.get(tier or "", self.tiers[""])


class PriceList(msgspec.Struct, frozen=True):
    """Rates by model. A name with ``*`` is a pattern. An exact name wins, then the first matching pattern."""

    models: dict[str, ModelRates]

    def find(self, model: str) -> ModelRates | None:
        """Return a model's rates, None if the list has none."""
        exact = self.models.get(model)
        if exact is not None:
            return exact
        return next((rates for name, rates in self.models.items() if "*" in name and fnmatchcase(model, name)), None)


# --- charging ---------------------------------------------------------------------------------------------------------


def charge(rates: Mapping[str, Rate], usage: Mapping[str, float]) -> float | None:
    """Return what a usage costs in US dollars; None if a part of it has no rate.

    Args:
        rates: Keyed by the names in `UNITS`.
        usage: Its keys are those of `_PARTS`, and ``input_tokens`` and ``output_tokens``.
    """
    total = 0.0
    for part, count in _parts(usage):
        if count <= 0:
            continue
        rate = rates.get(part)
        if rate is None:
            if part in _EXTRAS:
                continue
            if (rate := _rate_of_whole(part, rates)) is None:
                return None
        total += count * (rate[0][1] if len(rate) == 1 else _step(rate, usage.get("input_tokens", 0)))
    return total


def _step(rate: Rate, size: float) -> float:
    return next(price for above, price in reversed(rate) if size > above)


def _rate_of_whole(part: str, rates: Mapping[str, Rate]) -> Rate | None:
    whole = _CHARGED_AS.get(part)
    while whole is not None and whole not in rates:
        whole = _CHARGED_AS.get(whole)
    return None if whole is None else rates[whole]


def _parts(usage: Mapping[str, float]) -> list[tuple[str, float]]:
    """Split a usage into parts that don't overlap: some of the input tokens were cached, others are audio."""
    rest = {"input": usage.get("input_tokens", 0), "output": usage.get("output_tokens", 0)}
    parts: list[tuple[str, float]] = [("request", 1)]
    for key, count in usage.items():
        if not count or (found := _PARTS.get(key)) is None:
            continue
        part, side, held = found
        if side:
            for other in held:
                count -= usage.get(other, 0)
            count = min(max(0, count), rest[side])  # a part is never larger than what it is a part of
            rest[side] -= count
        parts.append((part, count))
    parts += rest.items()
    return parts


# --- reading a user's list --------------------------------------------------------------------------------------------


def read_price_list(prices: Mapping[str, Any]) -> PriceList:
    """Check a user's prices.

    Raises:
        ValueError: Something in it is not a price; the message says what and where.
    """
    return PriceList({name: _model_rates(name, given) for name, given in prices.items()})


def _model_rates(model: object, given: object) -> ModelRates:
    if not isinstance(model, str) or not model:
        raise ValueError(f"the name of a model must be a text, got {model!r}")
    if not isinstance(given, Mapping):
        raise ValueError(f"{model!r} must have a dict of prices, got {given!r}")
    tiers = given.get("tiers", {})
    if not isinstance(tiers, Mapping) or not all(isinstance(rates, Mapping) for rates in tiers.values()):
        raise ValueError(f"{model!r}: 'tiers' must be a dict of dicts of prices, got {tiers!r}")
    base = _rates(model, {name: price for name, price in given.items() if name != "tiers"})
    return ModelRates({"": base, **{str(tier): {**base, **_rates(model, rates)} for tier, rates in tiers.items()}})


def _rates(model: str, given: Mapping[Any, Any]) -> dict[str, Rate]:
    return {name: _rate(model, name, price) for name, price in given.items()}


def _rate(model: str, name: object, price: object) -> Rate:
    if not isinstance(name, str) or name not in UNITS:
        raise ValueError(f"{model!r}: unknown price {name!r}; known are {', '.join(UNITS)}, tiers")
    if isinstance(price, bool) or not isinstance(price, (int, float)) or not price >= 0 or not math.isfinite(price):
        raise ValueError(f"{model!r}: {name!r} must be US dollars, 0 or more, got {price!r}")
    return ((-1.0, price / UNITS[name]),)
