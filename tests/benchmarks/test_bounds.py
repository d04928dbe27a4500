"""The benchmark of extreme values runs."""

from __future__ import annotations

import sys

import pytest

from benchmarks.bounds import main


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_case_prints_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    main(["repr"])
    assert "truncated 1, open 0, dropped {}" in capsys.readouterr().out


def test_an_unknown_case_is_an_error_that_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["nothing"])
    assert "known are generator, group" in capsys.readouterr().err
