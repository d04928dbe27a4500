"""The benchmark of the worker's interpretation runs."""

from __future__ import annotations

import pytest

from benchmarks.assembling import KINDS, main


def test_it_prints_a_row_for_each_kind_of_call(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--rounds", "1"])
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[1].strip() for row in rows] == list(KINDS)
    assert all(float(row[3]) > 0 for row in rows)


def test_only_some_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--rounds", "1", "--only", "chat"])
    assert len(capsys.readouterr().out.splitlines()) == 3
