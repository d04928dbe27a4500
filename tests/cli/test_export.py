"""``tracer traces export``: what is written, where, and what is not overwritten."""

from __future__ import annotations

import csv
import json
import stat
from pathlib import Path

import pytest

import tracer
from tests.cli.commands import execute, fails, invoke, record

pytestmark = pytest.mark.usefixtures("uri")


@pytest.fixture
def made() -> list[str]:
    ids = [record(f"n{index}") for index in range(5)]
    tracer.sync.flush()
    return ids


def test_json_lines_hold_whole_traces(made: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracer.export._iterate._PAGE", 2)
    file = tmp_path / "out.jsonl"
    ended = invoke("traces", "export", "-o", str(file), "--json")
    assert ended.json == {"traces": 5, "format": "jsonl", "output": str(file)}
    written = [json.loads(line) for line in file.read_text().splitlines()]
    assert written == [json.loads(tracer.sync.get_trace(trace_id).to_json()) for trace_id in made[::-1]]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_ids_and_conditions_choose(made: list[str], tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    for arguments, names in [([made[0], made[3]], ["n0", "n3"]), (["--name", "n2"], ["n2"]), (["--name", "x"], [])]:
        assert invoke("traces", "export", *arguments, "-o", str(file), "--force").code == 0
        assert [json.loads(line)["info"]["name"] for line in file.read_text().splitlines()] == names
    assert "not by both" in fails(2, "traces", "export", made[0], "--name", "n0")


def test_standard_output_is_the_default(made: list[str], tmp_path: Path) -> None:
    ended = execute(tmp_path, "traces", "export", made[0], "--uri", tracer.get_tracking_uri())
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out)["info"]["trace_id"] == made[0]
    assert "name a file by -o" in fails(2, "traces", "export", "--json")


def test_a_file_that_is_there_is_kept(made: list[str], tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    file.write_text("precious")
    assert "is there already" in fails(2, "traces", "export", "-o", str(file))
    assert fails(1, "traces", "export", "f" * 32, "-o", str(file), "--force").startswith("error: no trace")
    assert file.read_text() == "precious"
    assert [path.name for path in tmp_path.glob("out*")] == ["out.jsonl"]
    assert "No such file or directory" in fails(1, "traces", "export", "-o", str(tmp_path / "no" / "x.jsonl"))


def test_html_is_one_trace_that_needs_nothing_else(made: list[str], tmp_path: Path) -> None:
    file = tmp_path / "trace.html"
    assert invoke("traces", "export", "last", "-o", str(file)).code == 0
    page = file.read_text()
    assert page.lower().startswith("<!doctype html>")
    assert "n4?" in page
    assert "--format html shows one trace, got 5" in fails(2, "traces", "export", "-o", str(tmp_path / "all.html"))


def test_unknown_format_is_told(made: list[str]) -> None:
    assert "'xml' is not one of 'jsonl', 'csv', 'parquet', 'html'" in fails(2, "traces", "export", "--format", "xml")


def test_tables_have_a_row_for_each_trace_or_span(made: list[str], tmp_path: Path) -> None:
    file = tmp_path / "out.csv"
    assert invoke("traces", "export", "--name", "n1", "-o", str(file)).code == 0
    with file.open(newline="") as lines:
        (row,) = csv.DictReader(lines)
    assert row["trace_id"] == made[1]
    assert invoke("traces", "export", *made, "-o", str(file), "--force", "--rows", "spans").code == 0
    with file.open(newline="") as lines:
        assert [row["name"] for row in csv.DictReader(lines)] == [f"n{index}" for index in range(5)]
    parquet = tmp_path / "out.parquet"
    assert invoke("traces", "export", "-o", str(parquet), "--json").json["format"] == "parquet"
    assert parquet.read_bytes()[:4] == parquet.read_bytes()[-4:] == b"PAR1"
