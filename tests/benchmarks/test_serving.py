"""The benchmark of the tracking server runs."""

from __future__ import annotations

import sys

import pytest

from benchmarks.serving import main


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_it_prints_a_row_for_each_store(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--calls", "20", "--batch", "10", "--turns", "1"])
    rows = [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines()[2:]]
    assert rows == ["SQLite", "tracer serve, records", "tracer serve, rows"]
