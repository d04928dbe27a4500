from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer._format import format_cost, format_duration


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (None, "running"),
        (0, "0 µs"),
        (85_400, "85 µs"),
        (1_234_000, "1.23 ms"),
        (35_240_000, "35.2 ms"),
        (123_456_789, "123 ms"),
        (1_234_000_000, "1.23 s"),
        (12_340_000_000, "12.3 s"),
        (125_000_000_000, "2 m 05 s"),
        (11_520_000_000_000, "3 h 12 m"),
    ],
)
def test_durations_are_for_people(nanoseconds: int | None, text: str) -> None:
    assert format_duration(nanoseconds) == text


@given(st.integers(0, 10**18))
def test_a_duration_is_never_cut_to_another_unit(nanoseconds: int) -> None:
    """At the edges of the units nothing reads as 1000 of the smaller one."""
    text = format_duration(nanoseconds)
    assert not text.startswith(("1000 ", "1e+", "60.0 s", "60 m"))


@pytest.mark.parametrize(
    ("dollars", "text"),
    [(None, ""), (0.0, "$0.00"), (0.000085, "$0.000085"), (0.0123, "$0.012"), (1234.5, "$1,234.50")],
)
def test_prices_keep_two_digits(dollars: float | None, text: str) -> None:
    assert format_cost(dollars) == text
