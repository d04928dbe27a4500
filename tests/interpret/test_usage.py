"""Token usage and cost of servers that count in their own way: what stands beside, only in the total, or nowhere."""

from __future__ import annotations

from typing import Any

import pytest

from tests.interpret.wire import body, chat_chunk, loads, sse
from tracer import _semconv as sc
from tracer.interpret.cost import cost_of
from tracer.interpret.dispatch import interpret_response, interpret_stream
from tracer.interpret.rates import read_price_list

PRICES = read_price_list({"m": {"input": 1.0, "output": 10.0, "cached_input": 0.1, "cache_write": 1.25}})

Usage = dict[str, Any]


def plain_chat(usage: Usage) -> Any:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    return interpret_response("chat", body({"id": "c", "model": "m", "choices": [choice], "usage": usage}))


def streamed_chat(*usages: Any) -> Any:
    chunks = [chat_chunk({"content": "Hi"}, model="m"), chat_chunk({}, finish="stop", model="m")]
    return interpret_stream("chat", sse([*chunks, *({"model": "m", "choices": [], "usage": one} for one in usages)]))


def plain_response(usage: Usage) -> Any:
    return interpret_response("responses", body({"id": "r", "model": "m", "status": "completed", "usage": usage}))


def streamed_response(usage: Usage) -> Any:
    response = {"id": "r", "model": "m", "status": "completed", "usage": usage}
    return interpret_stream("responses", sse([{"type": "response.completed", "response": response}], names=True))


def plain_completion(usage: Usage) -> Any:
    choice = {"index": 0, "text": "Hi", "finish_reason": "stop"}
    return interpret_response("completions", body({"id": "c", "model": "m", "choices": [choice], "usage": usage}))


def cost(view: Any, prices: Any = PRICES) -> float | None:
    charged = cost_of(view.usage, view.attributes, 0, prices)
    return None if charged is None else charged.total


def tokens(view: Any) -> tuple[int, int, int]:
    return (view.usage["input_tokens"], view.usage["output_tokens"], view.usage["total_tokens"])


FORMS = [plain_chat, streamed_chat, plain_response, streamed_response, plain_completion]

# --- reasoning, thoughts ---------------------------------------------------------------------------------------------

REASONING: dict[str, tuple[Usage, tuple[int, int, int]]] = {
    "xAI": (
        {
            "prompt_tokens": 1000,
            "completion_tokens": 6,
            "total_tokens": 1906,
            "completion_tokens_details": {"reasoning_tokens": 900},
        },
        (1000, 906, 1906),
    ),
    "xAI, cached": (
        {
            "prompt_tokens": 10120,
            "completion_tokens": 1499,
            "total_tokens": 14428,
            "prompt_tokens_details": {"cached_tokens": 128},
            "completion_tokens_details": {"reasoning_tokens": 2809},
        },
        (10120, 4308, 14428),
    ),
    "in Responses' names": (
        {
            "input_tokens": 32,
            "output_tokens": 9,
            "total_tokens": 135,
            "output_tokens_details": {"reasoning_tokens": 94},
        },
        (32, 103, 135),
    ),
    "without a total": (
        {"prompt_tokens": 10, "completion_tokens": 6, "completion_tokens_details": {"reasoning_tokens": 90}},
        (10, 96, 106),
    ),
    "inside, as OpenAI counts": (
        {
            "prompt_tokens": 10,
            "completion_tokens": 96,
            "total_tokens": 106,
            "completion_tokens_details": {"reasoning_tokens": 90},
        },
        (10, 96, 106),
    ),
    "inside, counted by another tokenizer": (
        {
            "prompt_tokens": 43,
            "completion_tokens": 10,
            "total_tokens": 53,
            "completion_tokens_details": {"reasoning_tokens": 11},
        },
        (43, 10, 53),
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("usage", "expected"), REASONING.values(), ids=REASONING)
def test_reasoning_is_output_wherever_it_is_counted(form: Any, usage: Usage, expected: tuple[int, int, int]) -> None:
    view = form(usage)
    assert tokens(view) == expected
    assert view.attributes[sc.USAGE_OUTPUT_TOKENS] == expected[1]
    read = view.usage.get("cache_read_input_tokens", 0)
    assert cost(view) == pytest.approx((expected[0] - 0.9 * read + 10 * expected[1]) / 1e6)


@pytest.mark.parametrize("form", FORMS)
def test_tokens_that_stand_only_in_the_total_are_priced_as_output(form: Any) -> None:
    view = form({"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 6100})
    assert tokens(view) == (1000, 100, 6100)  # as reported
    assert cost(view) == pytest.approx((1000 + 10 * 5100) / 1e6)
    asked: list[Any] = []
    cost(view, asked.append)
    assert asked[0].usage["output_tokens"] == 5100


def test_a_total_without_parts_is_priced_as_output() -> None:
    view = plain_chat({"total_tokens": 500})
    assert tokens(view) == (0, 0, 500)
    assert cost(view) == pytest.approx(10 * 500 / 1e6)


def test_a_part_that_is_missing_beside_a_total_is_the_rest() -> None:
    assert tokens(plain_chat({"prompt_tokens": 12, "total_tokens": 17})) == (12, 5, 17)
    assert tokens(plain_chat({"completion_tokens": 5, "total_tokens": 17})) == (12, 5, 17)
    assert tokens(plain_chat({"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 0})) == (12, 5, 17)


def test_embeddings_that_report_only_a_total_report_input() -> None:
    data = {"model": "m", "data": [{"embedding": [0.5]}], "usage": {"total_tokens": 7}}
    view = interpret_response("embeddings", body(data))
    assert tokens(view) == (7, 0, 7)
    assert view.attributes[sc.USAGE_INPUT_TOKENS] == 7
    assert cost(view) == pytest.approx(7e-6)


# --- a usage that says nothing ---------------------------------------------------------------------------------------

TOLD = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}
ZEROS = {
    "prompt_tokens": 0,
    "completion_tokens": 0,
    "total_tokens": 0,
    "prompt_tokens_details": {"cached_tokens": 0},
}
SILENT = {"empty": {}, "zeros": ZEROS, "nulls": dict.fromkeys(TOLD), "null": None}


@pytest.mark.parametrize("silent", SILENT.values(), ids=SILENT)
def test_a_usage_that_says_nothing_leaves_the_one_before_it(silent: Any) -> None:
    view = streamed_chat(silent, TOLD, silent)
    assert tokens(view) == (12, 5, 17)
    assert loads(view.outputs)["usage"] == TOLD
    on_the_finish = [chat_chunk({"content": "Hi"}), chat_chunk({}, finish="stop", usage=TOLD)]
    last = {"choices": [], "usage": silent}
    assert tokens(interpret_stream("chat", sse([*on_the_finish, last]))) == (12, 5, 17)


@pytest.mark.parametrize("silent", [{}, ZEROS], ids=["empty", "zeros"])
def test_usage_elsewhere_is_found_beside_one_that_says_nothing(silent: Any) -> None:
    chunk = chat_chunk({"content": "Hi"}, finish="stop", usage=silent)
    groq = {**chunk, "x_groq": {"id": "req_1", "usage": TOLD}}
    moonshot = {**chunk, "choices": [{**chunk["choices"][0], "usage": TOLD}]}
    for found in (groq, moonshot):
        assert tokens(interpret_stream("chat", sse([found]))) == (12, 5, 17)


def test_zeros_alone_are_what_was_reported() -> None:
    assert tokens(plain_chat(ZEROS)) == tokens(streamed_chat(ZEROS)) == (0, 0, 0)
    assert plain_chat({}).usage is None


def test_usage_that_comes_in_pieces_is_put_together() -> None:
    view = streamed_chat({"prompt_tokens": 12, "completion_tokens": 0}, {"completion_tokens": 5}, {"cost": 0.25})
    assert tokens(view) == (12, 5, 17)
    assert cost(view) == 0.25


PIECES: dict[str, tuple[list[Any], tuple[int, int, int]]] = {
    "a total, then the rest of its parts": (
        [{"prompt_tokens": 12, "completion_tokens": 0, "total_tokens": 12}, {"completion_tokens": 5}],
        (12, 5, 17),
    ),
    "a total, then other parts": (
        [{"prompt_tokens": 1000, "total_tokens": 1000}, {"prompt_tokens": 12, "completion_tokens": 5}],
        (12, 5, 17),
    ),
    "zeros for what was said": (
        [
            {"prompt_tokens": 12, "completion_tokens": 0, "total_tokens": 12},
            {"prompt_tokens": 0, "completion_tokens": 5, "total_tokens": 0},
        ],
        (12, 5, 17),
    ),
    "a total of the part": (
        [TOLD | {"completion_tokens": 0, "total_tokens": 12}, {"completion_tokens": 5, "total_tokens": 5}],
        (12, 5, 17),
    ),
    "running counts": ([TOLD | {"completion_tokens": n, "total_tokens": 12 + n} for n in range(6)], (12, 5, 17)),
    "the total again, without the parts": ([TOLD | {"total_tokens": 12}, {"total_tokens": 17}], (12, 5, 17)),
    "a total with more than its parts": ([TOLD | {"total_tokens": 60}, {"completion_tokens": 5}], (12, 5, 60)),
    "nulls": ([TOLD, {**dict.fromkeys(TOLD), "cost": 0.1}], (12, 5, 17)),
}


@pytest.mark.parametrize(("usages", "expected"), PIECES.values(), ids=PIECES)
def test_pieces_of_a_usage_make_a_whole_one(usages: Any, expected: tuple[int, int, int]) -> None:
    view = streamed_chat(*usages)
    assert tokens(view) == expected
    assert view.attributes[sc.TOTAL_TOKENS] == expected[2]
    assert loads(view.outputs)["usage"]["total_tokens"] == expected[2]


def test_pieces_of_details_are_put_together() -> None:
    details: Any = ({"cached_tokens": 8, "audio_tokens": 0}, {"cached_tokens": 0, "audio_tokens": 2}, {}, None)
    view = streamed_chat(TOLD, *({"prompt_tokens": 12, "prompt_tokens_details": one} for one in details))
    assert view.usage["cache_read_input_tokens"] == 8
    assert view.usage["input_audio_tokens"] == 2


def test_a_total_that_is_smaller_than_its_parts_is_their_sum() -> None:
    for form in FORMS:
        assert tokens(form({"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 12})) == (12, 5, 17)


# --- the cache -------------------------------------------------------------------------------------------------------

# 5 input tokens that are neither read nor written, 1,000 that are read, 200 that are written, 100 tokens of output
CACHED: dict[str, tuple[Usage, int, int]] = {
    "Anthropic's own": (
        {
            "input_tokens": 5,
            "output_tokens": 100,
            "cache_read_input_tokens": 1000,
            "cache_creation_input_tokens": 200,
        },
        5,
        1305,
    ),
    "with a total of the rest": (
        {
            "prompt_tokens": 5,
            "completion_tokens": 100,
            "total_tokens": 105,
            "cache_read_input_tokens": 1000,
            "cache_creation_input_tokens": 200,
        },
        5,
        105,
    ),
    "with a total of all": (
        {
            "prompt_tokens": 5,
            "completion_tokens": 100,
            "total_tokens": 1305,
            "prompt_tokens_details": {"cached_tokens": 1000, "cache_creation_tokens": 200},
        },
        5,
        1305,
    ),
    "inside, as OpenAI counts": (
        {
            "prompt_tokens": 1205,
            "completion_tokens": 100,
            "total_tokens": 1305,
            "prompt_tokens_details": {"cached_tokens": 1000, "cache_write_tokens": 200},
        },
        1205,
        1305,
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("usage", "read", "total"), CACHED.values(), ids=CACHED)
def test_the_cached_input_costs_the_same_wherever_it_is_counted(form: Any, usage: Usage, read: int, total: int) -> None:
    view = form(usage)
    assert tokens(view) == (read, 100, total)  # as reported
    assert cost(view) == pytest.approx((5 * 1 + 1000 * 0.1 + 200 * 1.25 + 100 * 10) / 1e6)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("total", [None, 1100, 2400], ids=["no total", "of the rest", "of all"])
@pytest.mark.parametrize(("read", "written"), [(700, 600), (600, 700), (1001, 299), (0, 1300), (1300, 0)])
def test_a_cached_part_that_is_more_than_the_input_is_beside_it(
    form: Any, total: int | None, read: int, written: int
) -> None:
    usage = {
        "prompt_tokens": 1000,
        "completion_tokens": 100,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": written,
    }
    view = form(usage if total is None else {**usage, "total_tokens": total})
    assert cost(view) == pytest.approx((1000 * 1 + read * 0.1 + written * 1.25 + 100 * 10) / 1e6)


@pytest.mark.parametrize(("total", "rest"), [(6100, 5000), (5100, 4000)])
def test_a_cached_part_that_is_smaller_than_the_rest_is_told_by_the_total(total: int, rest: int) -> None:
    usage = {"prompt_tokens": 5000, "completion_tokens": 100, "total_tokens": total, "cache_read_input_tokens": 1000}
    assert cost(plain_chat(usage)) == pytest.approx((rest + 1000 * 0.1 + 100 * 10) / 1e6)


def test_tokens_that_are_counted_as_read_and_as_written_are_charged_once() -> None:
    details = {"cached_tokens": 2161, "cache_write_tokens": 2161}
    usage = {"prompt_tokens": 2168, "completion_tokens": 0, "total_tokens": 2168, "prompt_tokens_details": details}
    assert cost(plain_chat(usage)) == pytest.approx((2161 * 0.1 + 7 * 1.25) / 1e6)


# --- what was charged ------------------------------------------------------------------------------------------------

CHARGES: dict[str, tuple[Usage, float]] = {
    "OpenRouter": (
        {"cost": 1.23, "is_byok": False, "cost_details": {"upstream_inference_cost": 1.23}},
        1.23,
    ),
    "OpenRouter, the caller's own key": (
        {"cost": 0.25, "is_byok": True, "cost_details": {"upstream_inference_cost": 1.0}},
        1.25,
    ),
    "OpenRouter, the caller's own key, no fee": (
        {"cost": 0, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.0360795}},
        0.0360795,
    ),
    "a free model": ({"cost": 0, "is_byok": False}, 0.0),
    "Perplexity": ({"cost": {"currency": "USD", "input_tokens_cost": 0.1, "total_cost": 0.5}}, 0.5),
    "xAI": ({"cost_in_usd_ticks": 37_756_000}, 0.0037756),
}
ODD = [-1, "1.23", None, True, {}, {"total_cost": "1"}, {"currency": "EUR", "total_cost": 1}]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("charge", "expected"), CHARGES.values(), ids=CHARGES)
@pytest.mark.parametrize("prices", [None, PRICES, lambda call: 9.0], ids=["table", "list", "function"])
def test_what_the_server_says_it_charged_wins_over_prices(
    form: Any, charge: Usage, expected: float, prices: Any
) -> None:
    view = form({**TOLD, **charge})
    assert tokens(view) == (12, 5, 17)
    assert cost(view, prices) == pytest.approx(expected)
    assert view.attributes[sc.COST_CHARGED] == pytest.approx(expected)


def test_no_ticks_are_no_charge() -> None:
    assert cost(plain_chat({**TOLD, "cost_in_usd_ticks": 0})) == pytest.approx((12 + 5 * 10) / 1e6)  # Grok on Azure


@pytest.mark.parametrize("odd", ODD, ids=str)
def test_a_charge_that_is_no_amount_of_dollars_is_none(odd: Any) -> None:
    view = plain_chat({**TOLD, "cost": odd, "cost_in_usd_ticks": odd})
    assert sc.COST_CHARGED not in view.attributes
    assert cost(view) == pytest.approx((12 + 5 * 10) / 1e6)
