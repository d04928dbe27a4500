"""The fault matrix names tests that exist. ``make faults`` runs them, and prints the matrix."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.faults.defences import DEFENCES, Defence
from tests.faults.matrix import MATRIX, Row

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("row", MATRIX, ids=lambda row: str(row.number))
def test_a_row_has_its_tests_or_says_what_it_lacks(row: Row) -> None:
    assert row.tests or row.lacks
    for name in row.tests:
        file, _, begin = name.partition("::")
        assert re.search(rf"^ *(?:async )?def {begin}", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE), name


def test_the_rows_are_numbered() -> None:
    assert [row.number for row in MATRIX] == list(range(1, 48))


@pytest.mark.parametrize("defence", DEFENCES, ids=lambda defence: str(defence.row))
def test_a_defence_is_still_where_it_was(defence: Defence) -> None:
    assert (ROOT / defence.file).read_text(encoding="utf-8").count(defence.text) == 1


def test_each_row_that_has_tests_has_a_defence() -> None:
    assert {row.number for row in MATRIX if row.tests} == {defence.row for defence in DEFENCES}
