"""What a search asks for, as a tree that knows no database."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from tracer._exceptions import ConfigurationError
from tracer.store import TraceQuery
from tracer.store.conditions import And, Comparison, Condition, Field, Linked, Not, Or, Text
from tracer.store.fields import trace_field
from tracer.store.filter import parse_filter
from tracer.store.search import Order, parse_conditions, parse_order

pytest.importorskip("lark")

NAME, STATE, MODEL = trace_field("name"), trace_field("state"), trace_field("model")
NOW = 10**18


@pytest.mark.parametrize(
    ("written", "tree"),
    [
        ("name = 'x'", Comparison(NAME, "=", ("x",))),
        ("trace.status != 'ok'", Comparison(STATE, "!=", ("OK",))),
        ("name = 'x' AND name = 'y'", And((Comparison(NAME, "=", ("x",)), Comparison(NAME, "=", ("y",))))),
        (
            "NOT (name = 'x' OR name LIKE 'y%')",
            Not(Or((Comparison(NAME, "=", ("x",)), Comparison(NAME, "LIKE", ("y%",))))),
        ),
        ("duration > 1.5", Comparison(trace_field("duration"), ">", (1_500_000_000,))),
        ("execution_time_ms > 1.5", Comparison(trace_field("execution_time"), ">", (1_500_000,))),
        ("name IS NULL", Not(Comparison(NAME, "IS NOT NULL"))),
        ("model != 'm'", Not(Comparison(MODEL, "=", ("m",)))),
        ("model NOT IN ('m', 'n')", Not(Comparison(MODEL, "IN", ("m", "n")))),
        ("span.model != 'm'", Comparison(Field("span", "model"), "!=", ("m",))),
        ("tags.`a b` ILIKE '%X%'", Comparison(Field("tag", "a b"), "ILIKE", ("%X%",))),
        ("feedback.good = true", Comparison(Field("feedback", "good", mixed=True), "=", ("true",))),
        (
            "span.attributes.server.port IN ('http', 443)",
            Comparison(Field("attribute", "server.port", mixed=True), "IN", ("http", 443)),
        ),
        ("metadata.`mlflow.trace.session` = 's'", Comparison(trace_field("session_id"), "=", ("s",))),
    ],
)
def test_a_filter_becomes_a_tree(written: str, tree: Condition) -> None:
    assert parse_filter(written) == tree


def test_conditions_of_different_kinds_are_never_equal() -> None:
    part = Comparison(NAME, "=", ("x",))
    different: list[Any] = [And((part,)), Or((part,)), Not(part), Linked("x"), Text("x")]
    assert [left == right for left in different for right in different].count(True) == len(different)


def test_all_arguments_of_a_search_become_conditions() -> None:
    query = TraceQuery(
        status="error",
        name="n",
        model="m",
        linked_to="t",
        tags={"k": "v"},
        text="two words",
        text_prefix=True,
        since=timedelta(seconds=1),
        until=datetime.fromtimestamp(NOW / 1e9, timezone.utc),
        min_duration=0.5,
        filter_string="name = 'a' AND name = 'b'",
    )
    start = trace_field("timestamp")
    assert list(parse_conditions(query, NOW)) == [
        Comparison(STATE, "=", ("ERROR",)),
        Comparison(NAME, "=", ("n",)),
        Comparison(MODEL, "=", ("m",)),
        Linked("t"),
        Comparison(Field("tag", "k"), "=", ("v",)),
        Text("two words", prefixes=True),
        Comparison(start, ">=", (NOW - 10**9,)),
        Comparison(start, "<", (NOW,)),
        Comparison(trace_field("duration"), ">=", (500_000_000,)),
        Comparison(NAME, "=", ("a",)),
        Comparison(NAME, "=", ("b",)),
    ]


@pytest.mark.parametrize("text", ["", " ", "\n"])
def test_a_blank_text_is_no_condition(text: str) -> None:
    assert list(parse_conditions(TraceQuery(text=text, filter_string=text), NOW)) == []


@pytest.mark.parametrize("text", ["?!", '"', "_ *"])
def test_a_text_without_a_word_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="text must hold a word to look for"):
        list(parse_conditions(TraceQuery(text=text), NOW))


@pytest.mark.parametrize(
    ("order_by", "orders"),
    [
        (None, [Order("start_time", True)]),
        ("duration", [Order("duration", False)]),
        (["status ASC", "timestamp_ms DESC"], [Order("status", False), Order("start_time", True)]),
        (["cost desc", "cost asc"], [Order("cost", True)]),
    ],
)
def test_an_order_is_read(order_by: Any, orders: list[Order]) -> None:
    assert parse_order(order_by) == orders
