"""The benchmark of scale runs, and loses nothing when it kills its server."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks.scale import main


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("form", ["sqlite", "otlp"])
def test_spans_are_stored_once_although_the_server_is_killed(capsys: pytest.CaptureFixture[str], form: str) -> None:
    main(["--spans", "80", "--batch", "10", "--writers", "2", "--only", form, "--json"])
    (figures,) = json.loads(capsys.readouterr().out)["figures"]
    assert (figures["spans"], figures["lost"]) == (90, 0)  # with those that warm it up
    assert min(figures[name] for name in ("per_second", "server_us", "span_bytes")) > 0
