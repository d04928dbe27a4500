"""What a call cost: an estimate in US dollars, from list prices and the usage that the API reported.

Prices come from the user (``tracer.configure(prices=…)``), otherwise from the table that the package genai-prices ships
(extra ``cost``; no network). Only its table is used: one look-up there takes 0.2 ms, so the rates are cached and
multiplied here. If no price is known, the cost is None, never 0.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any

import msgspec

from tracer import _semconv as sc
from tracer.interpret._json import as_dict, as_dicts, as_text
from tracer.interpret.rates import UNITS, Charge, PriceList, Rate, charge

__all__ = ["PriceFunction", "PricedCall", "Prices", "billed_searches", "cost_of", "load_table", "price"]


class PricedCall(msgspec.Struct, frozen=True, kw_only=True):
    """What a price depends on. The function in ``tracer.configure(prices=function)`` gets this.

    Attributes:
        model: As the response names it, otherwise as the request does.
        requested_model: As the request names it; for Azure, this is the deployment.
        provider: ``gen_ai.provider.name``: ``openai``, ``azure.ai.openai``.
        server: The host that was called.
        tier: The service tier that the response reports, else the one that was asked for: ``default``, ``flex``, ….
        usage: Token usage (`tracer.TokenUsage`'s keys) and, where there were any, ``input_image_tokens``,
            ``output_image_tokens``, ``web_searches`` and ``file_searches``; for speech and transcriptions without token
            usage ``characters`` or ``audio_seconds``.
        time_ns: When the call began, nanoseconds since the epoch: prices change.
    """

    model: str
    requested_model: str | None = None
    provider: str | None = None
    server: str | None = None
    tier: str | None = None
    usage: Mapping[str, float]
    time_ns: int = 0


PriceFunction = Callable[[PricedCall], "float | None"]
Prices = PriceList | PriceFunction


def cost_of(
    usage: Mapping[str, int] | None, attributes: Mapping[str, Any], time_ns: int, prices: Prices | None = None
) -> Charge | None:
    """Return what a call cost; None where the usage, or a price for it, is not known.

    What the server says it charged wins over all prices: it is a fact, and they are estimates.

    Args:
        usage: What the API reported.
        attributes: The span's, by `tracer._semconv`: models, provider, server, tier, searches, the charge.
        time_ns: When the call began.
        prices: The user's prices, which go first.
    """
    if type(charged := attributes.get(sc.COST_CHARGED)) is float:
        return Charge(charged)
    counts = _counts(usage, attributes)
    if not counts:
        return None
    requested = as_text(attributes.get(sc.REQUEST_MODEL))
    model = as_text(attributes.get(sc.RESPONSE_MODEL)) or requested
    if not model:
        return None
    provider, server = as_text(attributes.get(sc.PROVIDER_NAME)), as_text(attributes.get(sc.SERVER_ADDRESS))
    tier = _tier(attributes)
    if prices is None:  # there is no user's function that needs a `PricedCall`
        return _list_price(model, requested, provider, server, tier, counts, time_ns)
    call = PricedCall(
        model=model,
        requested_model=requested,
        provider=provider,
        server=server,
        tier=tier,
        usage=counts,
        time_ns=time_ns,
    )
    return price(call, prices)


_BESIDE_USAGE = {
    "input_image_tokens": sc.INPUT_IMAGE_TOKENS,
    "output_image_tokens": sc.OUTPUT_IMAGE_TOKENS,
    "web_searches": sc.WEB_SEARCHES,
    "file_searches": sc.FILE_SEARCHES,
}
_INSTEAD_OF_USAGE = {"audio_seconds": sc.AUDIO_SECONDS, "characters": sc.INPUT_CHARACTERS}


def _counts(usage: Mapping[str, int] | None, attributes: Mapping[str, Any]) -> Mapping[str, float]:
    """Return all that can be charged. Without reported tokens, a call is charged by duration or by length."""
    counts = _as_priced(usage or {})
    names = _INSTEAD_OF_USAGE if usage is None else _BESIDE_USAGE
    if attributes.keys().isdisjoint(names.values()):
        return counts
    counted = {key: attributes[name] for key, name in names.items() if name in attributes}
    return {**counts, **{key: count for key, count in counted.items() if type(count) in (int, float)}}


def _as_priced(usage: Mapping[str, int]) -> Mapping[str, int]:
    """Return a usage whose input includes the cached part, and whose output includes all that was produced.

    Anthropic counts the cached input beside the rest, and gateways pass that on, with or without the cached part in the
    total (Portkey-AI/gateway#1754); so does Azure for Grok. It must be beside the input if it is more than that, unless
    the same tokens are counted as read and as written. What then stands only in the total is priced as output:
    these are the thoughts of Gemini's compatible endpoint (mozilla-ai/any-llm#1290: 20 in, 198 out, 623 in all).
    """
    read, written = usage.get("input_tokens", 0), usage.get("output_tokens", 0)
    untold = max(0, usage.get("total_tokens", 0) - read - written)
    cache = usage.get("cache_read_input_tokens", 0), usage.get("cache_creation_input_tokens", 0)
    cached = sum(cache)
    is_doubled = cache[0] == cache[1] <= read
    if cached and (untold == cached or (cached > read and not is_doubled)):
        read, untold = read + cached, max(0, untold - cached)
    elif not untold:
        return usage
    return {**usage, "input_tokens": read, "output_tokens": written + untold}


def _tier(attributes: Mapping[str, Any]) -> str | None:
    """Return the service tier that was used; None for ``auto``, which does not name one."""
    tier = as_text(attributes.get(sc.RESPONSE_SERVICE_TIER)) or as_text(attributes.get(sc.REQUEST_SERVICE_TIER))
    return None if tier == "auto" else tier


def price(call: PricedCall, prices: Prices | None = None) -> Charge | None:
    """Return what a call cost, by the user's prices or else by the shipped table; None if unknown.

    Raises:
        ValueError: The user's function returned something that is not a price.
    """
    if isinstance(prices, PriceList):
        given = prices.find(call.model) or (prices.find(call.requested_model) if call.requested_model else None)
        if given is not None:
            return charge(given.at(call.tier), call.usage)
    elif prices is not None:
        cost = prices(call)
        if cost is not None:
            return Charge(_checked(cost))
    return _list_price(
        call.model, call.requested_model, call.provider, call.server, call.tier, call.usage, call.time_ns
    )


def _checked(cost: object) -> float:
    if isinstance(cost, bool) or not isinstance(cost, (int, float)) or not cost >= 0 or not math.isfinite(cost):
        raise ValueError(f"prices returned {cost!r}, which is neither None nor US dollars")
    return float(cost)


def billed_searches(body: dict[str, Any]) -> dict[str, int]:
    """Return attributes with the number of a response's searches that OpenAI charges per call.

    If the response has ``tool_usage``, it says how many (openai ``types/responses/response.py``). Otherwise the
    searches in the output are counted. Opening a page or finding text in a page is not a search.
    """
    output = as_dicts(body.get("output"))
    searched = [as_dict(item.get("action")) for item in output if item.get("type") == "web_search_call"]
    counted = as_dict(as_dict(body.get("tool_usage")).get("web_search")).get("num_requests")
    web = counted if type(counted) is int else sum(action.get("type", "search") == "search" for action in searched)
    files = sum(item.get("type") == "file_search_call" for item in output)
    return {key: count for key, count in ((sc.WEB_SEARCHES, web), (sc.FILE_SEARCHES, files)) if count}


# --- the shipped table ------------------------------------------------------------------------------------------------

# Any host can run these models. The table's price for them under "openai" is the price of some host.
_OPEN_WEIGHTS = "gpt-oss"
# Gateways' own tables and the shipped one name a model's seller by a prefix: "anthropic/claude-…".
_BY_PREFIX = "litellm"
_TABLE_UNITS = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cached_input",
    "cache_write_mtok": "cache_write",
    "output_reasoning_mtok": "reasoning",
    "input_audio_mtok": "input_audio",
    "cache_audio_read_mtok": "cached_audio",
    "output_audio_mtok": "output_audio",
    "input_image_mtok": "input_image",
    "cache_image_read_mtok": "cached_image",
    "output_image_mtok": "output_image",
    "input_mchars": "characters",
    "audio_hours": "audio_hour",
    "input_audio_hours": "audio_hour",
    "web_searches_kcount": "web_search",
    "storage_searches_kcount": "file_search",
    "requests_kcount": "request",
}


@functools.cache
def load_table() -> Any:
    """Import genai-prices (about 30 ms) and its table (another 30 ms). None if that fails."""
    try:
        import genai_prices
        from genai_prices import data  # noqa: F401  otherwise the first call would have to wait for it

        # genai-prices imports more at its first use. In the worker, next to a thread that computes, this would take
        # seconds.
        genai_prices.calc_price(genai_prices.Usage(input_tokens=1), "gpt-4o", provider_id="openai")
    except Exception:  # not installed, or incompatible with the installed pydantic
        return None
    return genai_prices


def _list_price(
    model: str,
    alias: str | None,
    provider: str | None,
    server: str | None,
    tier: str | None,
    usage: Mapping[str, float],
    time_ns: int,
) -> Charge | None:
    """Return the cost of a call by the shipped table; `alias` is the model as the request names it."""
    minute = time_ns // 60_000_000_000  # some prices hold only for a part of the day
    rates = _rates(model, provider, server, tier, minute)
    # A snapshot that is newer than the table gets the price of the model that was requested.
    if rates is None and alias and alias != model and model.startswith(f"{alias}-"):
        rates = _rates(alias, provider, server, tier, minute)
    return None if not rates else charge(rates, usage)


@functools.lru_cache(maxsize=1024)
def _rates(
    model: str, provider: str | None, server: str | None, tier: str | None, minute: int
) -> dict[str, Rate] | None:
    table = load_table()
    if table is None:
        return None
    when = datetime.fromtimestamp(minute * 60, timezone.utc)
    context = {"processing": "batch"} if tier == "batch" else {"service_tier": tier} if tier else None
    for seller in _sellers(model, provider, server):
        try:
            found = table.calc_price(
                table.Usage(), model, genai_request_timestamp=when, price_context=context, **seller
            )
        except LookupError:  # the table does not have this seller, or this model
            continue
        return _translated(vars(found.model_price))
    return None


def _sellers(model: str, provider: str | None, server: str | None) -> list[dict[str, str]]:
    """Return the sellers to ask the table for: the host if the table knows it, otherwise the one behind a gateway."""
    if provider == "azure.ai.openai":
        return [{"provider_id": "azure"}]
    if server and _is_listed(server):
        return [{"provider_api_url": f"https://{server}"}]
    if "/" in model:
        return [{"provider_id": _BY_PREFIX}]
    return [] if model.startswith(_OPEN_WEIGHTS) else [{"provider_id": "openai"}]


@functools.lru_cache(maxsize=256)
def _is_listed(server: str) -> bool:
    table = load_table()
    try:
        table.data_snapshot.get_snapshot().find_provider(None, None, f"https://{server}")
    except LookupError:
        return False
    return True


def _translated(prices: Mapping[str, Any]) -> dict[str, Rate]:
    given = {_TABLE_UNITS[key]: price for key, price in prices.items() if key in _TABLE_UNITS and price is not None}
    return {name: _steps(price, UNITS[name]) for name, price in given.items()}


def _steps(price: Any, unit: float) -> Rate:
    """Return a price as steps. A long context may have a higher price, which then applies to all of its tokens."""
    base, tiers = getattr(price, "base", price), getattr(price, "tiers", ())
    return ((-1.0, float(base) / unit), *((tier.start, float(tier.price) / unit) for tier in tiers))
