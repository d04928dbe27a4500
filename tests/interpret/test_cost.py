"""What a call costs: the shipped table's prices, a price list of the user's, and what neither knows."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tracer import _semconv as sc
from tracer.interpret import cost
from tracer.interpret.cost import PricedCall, billed_searches, cost_of, price
from tracer.interpret.rates import Charge, PriceList, charge, read_price_list

genai_prices = pytest.importorskip("genai_prices")

NOW = 1_795_000_000 * 10**9  # November 2026
USAGE = {
    "input_tokens": 10_000,
    "output_tokens": 2_000,
    "total_tokens": 12_000,
    "cache_read_input_tokens": 4_000,
    "reasoning_tokens": 500,
}


def listed(model: str, usage: dict[str, int], **facts: Any) -> float | None:
    """Price by the shipped table alone."""
    known = {"provider": "openai", "server": "api.openai.com", "time_ns": NOW, **facts}
    return total(price(PricedCall(model=model, usage=usage, **known)))


def total(charged: Charge | None) -> float | None:
    return None if charged is None else charged.total


def by_package(model: str, usage: dict[str, int], provider: str = "openai", tier: str = "default") -> Decimal:
    """What genai-prices itself makes of a usage: the independent reading."""
    from datetime import datetime, timezone

    when = datetime.fromtimestamp(NOW // 10**9, timezone.utc)
    found = genai_prices.calc_price(
        genai_prices.Usage(**usage),
        model,
        provider_id=provider,
        genai_request_timestamp=when,
        price_context={"processing": "batch"} if tier == "batch" else {"service_tier": tier},
    )
    total: Decimal = found.total_price
    return total


TEXT = {"input_tokens": 10_000, "output_tokens": 2_000, "cache_read_tokens": 4_000}


@pytest.mark.parametrize("model", ["gpt-5", "gpt-4o-2024-08-06", "gpt-4o-mini", "o3", "gpt-5.4", "gpt-4.1-nano"])
@pytest.mark.parametrize("tier", [None, "default", "flex", "priority", "batch", "auto", "unheard of"])
def test_a_call_costs_what_the_table_s_own_arithmetic_says(model: str, tier: str | None) -> None:
    expected = by_package(model, TEXT, tier=tier or "default")
    assert expected > 0
    assert listed(model, USAGE, tier=tier) == pytest.approx(float(expected))


def test_tiers_differ() -> None:
    costs = [listed("gpt-5", USAGE, tier=tier) for tier in ("flex", "default", "priority")]
    assert costs == sorted(set(costs), key=lambda cost: cost or 0)
    assert listed("gpt-5", USAGE, tier="batch") == costs[0]


def test_a_long_context_is_charged_at_its_own_rate() -> None:
    long = {"input_tokens": 300_000, "output_tokens": 1_000}
    short = {"input_tokens": 200_000, "output_tokens": 1_000}
    for usage in (long, short):
        assert listed("gpt-5.4", usage) == pytest.approx(float(by_package("gpt-5.4", usage)))
    assert (listed("gpt-5.4", long) or 0) > 1.9 * (listed("gpt-5.4", short) or 0)


def test_audio_tokens_have_rates_of_their_own() -> None:
    usage = {"input_tokens": 900, "output_tokens": 400, "input_audio_tokens": 800, "output_audio_tokens": 350}
    assert listed("gpt-audio", usage) == pytest.approx(float(by_package("gpt-audio", usage)))


def test_audio_without_a_rate_for_it_has_no_price() -> None:
    usage = {"input_tokens": 900, "output_tokens": 400, "input_audio_tokens": 800}
    assert listed("gpt-4o-audio-preview", usage) is None
    assert listed("gpt-4o-audio-preview", {"input_tokens": 900, "output_tokens": 400}) is not None


def test_cached_audio_is_taken_out_of_audio_and_of_what_was_cached() -> None:
    ours = {
        "input_tokens": 1_000,
        "output_tokens": 0,
        "cache_read_input_tokens": 500,
        "cached_audio_tokens": 300,
        "input_audio_tokens": 700,
    }
    theirs = {
        "input_tokens": 1_000,
        "output_tokens": 0,
        "cache_read_tokens": 500,
        "cache_audio_read_tokens": 300,
        "input_audio_tokens": 700,
    }
    assert listed("gpt-realtime-mini", ours) == pytest.approx(float(by_package("gpt-realtime-mini", theirs)))


IMAGE = {"input_tokens": 90, "output_tokens": 4_000, "input_image_tokens": 50}


@pytest.mark.parametrize(
    ("model", "usage"),
    [
        ("text-embedding-3-small", {"input_tokens": 1_000, "output_tokens": 0}),
        ("gpt-image-1.5", {**IMAGE, "output_image_tokens": 3_900}),
        ("gpt-image-1", {**IMAGE, "output_image_tokens": 4_000}),
        ("gpt-4o-mini-transcribe", {"input_tokens": 90, "output_tokens": 40, "input_audio_tokens": 80}),
        ("gpt-3.5-turbo-instruct", {"input_tokens": 90, "output_tokens": 40}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_embeddings_images_transcriptions_and_legacy_completions(model: str, usage: dict[str, int]) -> None:
    assert listed(model, usage) == pytest.approx(float(by_package(model, usage)))


def test_seconds_and_characters() -> None:
    assert charge({"audio_hour": ((-1.0, 0.36 / 3600),)}, {"audio_seconds": 60}) == pytest.approx((0.006, 0.006, 0))
    assert listed("whisper-1", {"audio_seconds": 60}) == pytest.approx(0.006)
    assert charge({"characters": ((-1.0, 15 / 1e6),)}, {"characters": 1_000}) == pytest.approx((0.015, 0.015, 0))


def test_searches_are_charged_by_the_call() -> None:
    plain = listed("gpt-5", USAGE) or 0
    assert listed("gpt-5", {**USAGE, "web_searches": 3}) == pytest.approx(plain + 0.03)
    assert listed("gpt-5", {**USAGE, "file_searches": 2}) == pytest.approx(plain + 0.005)


@pytest.mark.parametrize("model", ["llama-3-8b-my-own", "gpt-0", "omni-moderation-latest", "", "/models/x.gguf"])
def test_an_unknown_or_unpriced_model_has_no_cost(model: str) -> None:
    assert listed(model, USAGE) is None


def test_a_host_that_the_table_knows_is_asked_for_its_own_prices() -> None:
    facts = {"server": "acme.openai.azure.com", "provider": "openai"}
    assert listed("gpt-4o", USAGE, **facts) == pytest.approx(float(by_package("gpt-4o", TEXT, "azure")))
    assert listed("gpt-4o", USAGE, server="api.groq.com") is None
    assert listed("llama-3.1-8b-instant", {"input_tokens": 10, "output_tokens": 0}, server="api.groq.com") is not None


def test_azures_client_is_known_whatever_host_it_calls() -> None:
    expected = float(by_package("gpt-4o", TEXT, "azure"))
    assert listed("gpt-4o", USAGE, provider="azure.ai.openai", server="gateway.local") == pytest.approx(expected)


def test_behind_a_gateway_the_models_name_says_whose_prices_hold() -> None:
    assert listed("gpt-4o", USAGE, server="gateway.local") == listed("gpt-4o", USAGE)
    assert listed("openai/gpt-4o", USAGE, server="gateway.local") == listed("gpt-4o", USAGE)
    assert listed("nobody/gpt-4o", USAGE, server="gateway.local") is None


def test_open_weights_on_a_host_of_ones_own_have_no_list_price() -> None:
    assert listed("gpt-oss-20b", USAGE, server="localhost") is None


def test_a_snapshot_newer_than_the_table_has_the_price_of_its_alias() -> None:
    assert listed("gpt-5-2099-01-01", USAGE, requested_model="gpt-5") == listed("gpt-5", USAGE)
    assert listed("gpt-5-2099-01-01", USAGE) is None
    assert listed("some-other-model", USAGE, requested_model="gpt-5") is None


def test_prices_of_the_day_of_the_call_hold() -> None:
    before, after = 1_735_000_000 * 10**9, NOW  # o3 became cheaper on 10 June 2025
    assert (listed("o3", USAGE, time_ns=before) or 0) > (listed("o3", USAGE, time_ns=after) or 0) > 0


# --- the user's prices ------------------------------------------------------------------------------------------------


def own(prices: dict[str, Any], model: str = "mine", usage: dict[str, int] | None = None, **facts: Any) -> float | None:
    return total(price(PricedCall(model=model, usage=usage or USAGE, time_ns=NOW, **facts), read_price_list(prices)))


def test_a_users_prices_are_dollars_per_million_tokens() -> None:
    prices = {"mine": {"input": 1.0, "output": 2.0, "cached_input": 0.5, "reasoning": 3.0}}
    assert own(prices) == pytest.approx((6_000 * 1.0 + 4_000 * 0.5 + 1_500 * 2.0 + 500 * 3.0) / 1e6)


def test_cached_and_reasoning_tokens_without_a_price_cost_what_the_others_do() -> None:
    assert own({"mine": {"input": 1.0, "output": 2.0}}) == pytest.approx((10_000 + 2 * 2_000) / 1e6)


def test_a_users_prices_go_before_the_table() -> None:
    assert own({"gpt-5": {"input": 0, "output": 0}}, "gpt-5") == 0
    assert own({"other": {"input": 0, "output": 0}}, "gpt-5") == listed("gpt-5", USAGE)


def test_a_part_without_any_price_leaves_the_cost_unknown() -> None:
    assert own({"mine": {"input": 1.0}}) is None
    assert own({"mine": {"input": 1.0}}, usage={"input_tokens": 10, "output_tokens": 0}) == pytest.approx(1e-5)


def test_names_with_a_star_match_after_exact_ones() -> None:
    prices = {
        "*": {"input": 1, "output": 1},
        "llama-*": {"input": 2, "output": 2},
        "llama-3": {"input": 3, "output": 3},
    }
    usage = {"input_tokens": 1_000_000, "output_tokens": 0}
    assert [own(prices, model, usage) for model in ("llama-3", "llama-4", "other")] == [3, 1, 1]


def test_the_requested_name_is_looked_up_if_the_responses_is_not_there() -> None:
    usage = {"input_tokens": 1_000_000, "output_tokens": 0}
    assert own({"mine": {"input": 1}}, "/models/mine.gguf", usage, requested_model="mine") == 1


def test_tiers_replace_what_they_name() -> None:
    prices = {"mine": {"input": 2.0, "output": 4.0, "tiers": {"flex": {"input": 1.0}}}}
    usage = {"input_tokens": 1_000_000, "output_tokens": 1_000_000}
    assert [own(prices, usage=usage, tier=tier) for tier in ("flex", "default", None)] == [5.0, 6.0, 6.0]


def test_calls_and_searches_can_be_charged() -> None:
    prices = {"mine": {"input": 0, "output": 0, "request": 1.0, "web_search": 10.0}}
    assert own(prices, usage={**USAGE, "web_searches": 2}) == pytest.approx(0.021)


def test_a_charge_says_what_input_and_output_cost() -> None:
    prices = read_price_list({"mine": {"input": 1, "output": 2, "input_audio": 4, "reasoning": 8, "web_search": 10}})
    usage = {"input_tokens": 9, "input_audio_tokens": 2, "cache_read_input_tokens": 3, "output_tokens": 5}
    usage |= {"reasoning_tokens": 4, "web_searches": 1}
    charged = price(PricedCall(model="mine", usage=usage, time_ns=NOW), prices)
    assert charged == pytest.approx(((15 + 34) / 1e6 + 0.01, 15 / 1e6, 34 / 1e6))


def test_a_function_is_asked_about_the_whole_call() -> None:
    seen: list[PricedCall] = []

    def ask(call: PricedCall) -> float | None:
        seen.append(call)
        return 1.5 if call.model == "mine" else None

    call = PricedCall(model="mine", usage=USAGE, tier="flex", server="here", provider="openai", time_ns=NOW)
    assert price(call, ask) == Charge(1.5)
    assert seen == [call]
    other = PricedCall(model="gpt-5", usage=USAGE, time_ns=NOW)
    assert total(price(other, ask)) == listed("gpt-5", USAGE)


@pytest.mark.parametrize("answer", [-1, float("nan"), float("inf"), "1", True], ids=str)
def test_what_a_function_returns_must_be_a_price(answer: Any) -> None:
    with pytest.raises(ValueError, match="neither None nor US dollars"):
        price(PricedCall(model="m", usage=USAGE), lambda call: answer)


@pytest.mark.parametrize(
    ("prices", "message"),
    [
        ({"m": 3}, "'m' must have a dict of prices, got 3"),
        ({"": {}}, "the name of a model must be a text, got ''"),
        ({"m": {"inputs": 1}}, "'m': unknown price 'inputs'; known are input, output"),
        ({"m": {"input": -1}}, "'m': 'input' must be US dollars, 0 or more, got -1"),
        ({"m": {"input": "1"}}, "'m': 'input' must be US dollars, 0 or more, got '1'"),
        ({"m": {"input": float("nan")}}, "must be US dollars"),
        ({"m": {"tiers": {"flex": 1}}}, "'m': 'tiers' must be a dict of dicts"),
    ],
)
def test_a_bad_price_list_is_told_what_is_wrong_with_it(prices: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_price_list(prices)


# --- from a span ------------------------------------------------------------------------------------------------------


def test_the_models_and_tier_of_the_response_go_before_the_requests() -> None:
    attributes = {
        sc.PROVIDER_NAME: "openai",
        sc.SERVER_ADDRESS: "api.openai.com",
        sc.REQUEST_MODEL: "nonsense",
        sc.RESPONSE_MODEL: "gpt-5",
        sc.REQUEST_SERVICE_TIER: "priority",
        sc.RESPONSE_SERVICE_TIER: "flex",
    }
    assert total(cost_of(USAGE, attributes, NOW)) == listed("gpt-5", USAGE, tier="flex")
    del attributes[sc.RESPONSE_MODEL], attributes[sc.RESPONSE_SERVICE_TIER]
    attributes[sc.REQUEST_MODEL] = "gpt-5"
    assert total(cost_of(USAGE, attributes, NOW)) == listed("gpt-5", USAGE, tier="priority")


def test_what_stands_beside_the_usage_counts_too() -> None:
    usage = {"input_tokens": 90, "output_tokens": 4_000, "total_tokens": 4_090}
    attributes = {sc.RESPONSE_MODEL: "gpt-image-1.5", sc.INPUT_IMAGE_TOKENS: 50, sc.OUTPUT_IMAGE_TOKENS: 3_900}
    images = {**usage, "input_image_tokens": 50, "output_image_tokens": 3_900}
    assert total(cost_of(usage, attributes, NOW)) == listed("gpt-image-1.5", images)


def test_without_tokens_seconds_and_characters_are_charged() -> None:
    spoken = read_price_list({"my-voice": {"characters": 15.0}})  # table versions for Python 3.10 have no such price
    heard = {sc.REQUEST_MODEL: "whisper-1", sc.AUDIO_SECONDS: 60.0}
    said = {sc.REQUEST_MODEL: "my-voice", sc.INPUT_CHARACTERS: 1_000}
    costs = [total(cost_of(None, attributes, NOW, spoken)) for attributes in (heard, said)]
    assert costs == pytest.approx([0.006, 0.015])
    unpriced = {sc.REQUEST_MODEL: "gpt-4o-mini-tts", sc.INPUT_CHARACTERS: 1_000}
    assert cost_of(None, unpriced, NOW) is None
    assert cost_of({"input_tokens": 10, "output_tokens": 10}, unpriced, NOW) is not None


def test_without_usage_or_model_there_is_no_cost() -> None:
    assert cost_of(None, {sc.RESPONSE_MODEL: "gpt-5"}, NOW) is None
    assert cost_of(None, {sc.RESPONSE_MODEL: "gpt-5", sc.WEB_SEARCHES: 1}, NOW) is None
    assert cost_of(USAGE, {}, NOW) is None


def test_without_the_extra_only_the_users_prices_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "load_table", lambda: None)
    cost._rates.cache_clear()
    cost._is_listed.cache_clear()
    assert listed("gpt-5", USAGE) is None
    assert own({"gpt-5": {"input": 1.0, "output": 1.0}}, "gpt-5") is not None
    cost._rates.cache_clear()
    cost._is_listed.cache_clear()


def test_searches_are_counted_as_the_api_says_else_in_the_output() -> None:
    output = [
        {"type": "web_search_call", "action": {"type": "search"}},
        {"type": "web_search_call", "action": {"type": "open_page"}},
        {"type": "web_search_call"},
        {"type": "file_search_call"},
    ]
    assert billed_searches({"output": output}) == {sc.WEB_SEARCHES: 2, sc.FILE_SEARCHES: 1}
    counted = {"output": output, "tool_usage": {"web_search": {"num_requests": 5}}}
    assert billed_searches(counted)[sc.WEB_SEARCHES] == 5
    assert billed_searches({"output": None, "tool_usage": []}) == {}


def test_a_price_list_is_looked_up_by_name() -> None:
    prices = read_price_list({"m": {"input": 1}})
    assert isinstance(prices, PriceList)
    assert prices.find("n") is None
