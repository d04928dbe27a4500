"""Files of traces: what is in them, that they are read back, and that no more than a page is held."""

from __future__ import annotations

import csv
import io
import json
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import tracer
from tests.store.rows import SECOND, START, simple, trace_id
from tracer import export
from tracer.store import TraceQuery, open_store

HOSTILE = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(1)", "\t=1", "\r=1", "＝1", '"=1', "a,b\nc", "it's", "é𝕏"]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


async def record(count: int) -> None:
    for number in range(count):
        with tracer.start_span(f"t{number}") as root:
            root.set_inputs({"question": number})
            tracer.update_current_trace(tags={"n": str(number)}, session_id="s")
            with tracer.start_span("inner", span_type=tracer.SpanType.TOOL) as inner:
                inner.set_outputs(["found"])
    await tracer.flush()


async def encoded(traces: Any, format: str, **options: Any) -> bytes:  # noqa: A002
    return b"".join([part async for part in export.encode_traces(traces, format, **options)])


def cells(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


async def test_json_lines_hold_the_traces_whole(tmp_path: Path) -> None:
    await record(3)
    path = tmp_path / "traces.jsonl"
    assert await export.write_traces(export.iterate_traces(order_by="start_time"), path) == 3
    read = [json.loads(line) for line in path.read_text().splitlines()]
    assert read == [trace.to_dict() for trace in await tracer.search_traces(order_by="start_time")]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_every_page_is_read_and_no_more_than_asked_for() -> None:
    await record(230)
    names = [trace.info.name async for trace in export.iterate_traces(order_by="start_time")]
    assert names == [f"t{number}" for number in range(230)]
    assert len([trace async for trace in export.iterate_traces(max_results=150)]) == 150
    assert len([trace async for trace in export.iterate_traces(filter_string="tags.n = '7'")]) == 1
    assert [trace async for trace in export.iterate_traces("nowhere")] == []


async def test_traces_are_written_before_the_next_ones_are_read(tmp_path: Path) -> None:
    await record(1)
    [trace] = await tracer.search_traces()
    file = io.BytesIO()
    seen = []

    async def slowly() -> AsyncIterator[tracer.Trace]:
        for _ in range(3):
            seen.append(file.getvalue().count(b"\n"))
            yield trace

    assert await export.write_traces(slowly(), file, "jsonl") == 3
    assert seen == [0, 1, 2]
    assert not file.closed


async def test_csv_has_a_row_for_each_trace_or_span() -> None:
    await record(2)
    page = await tracer.search_traces(order_by="start_time")
    await tracer.log_feedback(page[0].info.trace_id, "helpful", True)
    page = await tracer.search_traces(order_by="start_time")
    first, second = cells(await encoded(page, "csv"))
    assert (first["trace_id"], first["name"], first["state"]) == (page[0].info.trace_id, "t0", "OK")
    assert (first["cost"], first["session_id"], first["spans"]) == ("", "s", "2")
    assert json.loads(first["inputs"]) == {"question": 0}
    assert json.loads(first["tags"]) == {"n": "0"}
    assert json.loads(first["feedback"])[0]["value"] is True
    assert json.loads(second["feedback"]) == []
    assert first["start_time"].endswith("Z")
    assert int(first["duration_ns"]) == page[0].info.duration_ns
    spans = cells(await encoded(page, "csv", rows="spans"))
    assert [(span["name"], span["span_type"]) for span in spans[:2]] == [("t0", "UNKNOWN"), ("inner", "TOOL")]
    assert json.loads(spans[1]["outputs"]) == ["found"]
    assert spans[1]["parent_id"] == spans[0]["span_id"]


@pytest.mark.parametrize("text", HOSTILE)
async def test_no_cell_of_a_csv_file_is_a_formula(text: str) -> None:
    with tracer.start_span(text):
        tracer.update_current_trace(user_id=text)
    [row] = cells(await encoded(await tracer.search_traces(), "csv"))
    guarded = f"'{text}" if text[0] in "=+-@\t\r＝" else text
    assert (row["name"], row["user_id"]) == (guarded, guarded)
    for cell in row.values():
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))


async def test_numbers_below_zero_stay_numbers() -> None:
    info = tracer.TraceInfo(trace_id=trace_id(1), start_time_ns=START, cost=-0.5)
    [row] = cells(await encoded([tracer.Trace(info)], "csv"))
    assert row["cost"] == "-0.5"


@pytest.mark.parametrize("rows", ["traces", "spans"])
async def test_parquet_is_read_back_with_its_types(tmp_path: Path, rows: str) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    await record(120)
    path = tmp_path / "traces.parquet"
    assert await export.write_traces(export.iterate_traces(order_by="start_time"), path, rows=rows) == 120
    table = parquet.read_table(path)
    assert table.num_rows == (120 if rows == "traces" else 240)
    assert str(table.schema.field("start_time").type) == "timestamp[us, tz=UTC]"
    assert str(table.schema.field("duration_ns").type) == "int64"
    assert json.loads(table["inputs"][0].as_py()) == {"question": 0}
    assert table["cost"].null_count == table.num_rows


async def test_a_parquet_file_of_many_row_groups_is_whole() -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    traces = [tracer.Trace(tracer.TraceInfo(trace_id=trace_id(n), start_time_ns=START + n)) for n in range(2_500)]
    parts = [part async for part in export.encode_traces(traces, "parquet")]
    assert len([part for part in parts if part]) == 4  # the head, two full groups, the rest with the end
    table = parquet.read_table(io.BytesIO(b"".join(parts)))
    assert table["trace_id"].to_pylist() == [trace.info.trace_id for trace in traces]


async def test_an_export_of_nothing_is_a_file_that_can_be_read() -> None:
    assert await encoded([], "jsonl") == b""
    assert (await encoded([], "csv")).decode().startswith("trace_id,experiment,name,")
    parquet = pytest.importorskip("pyarrow.parquet")
    assert parquet.read_table(io.BytesIO(await encoded([], "parquet"))).num_rows == 0
    assert len(tracer.to_pandas([])) == 0


async def test_a_page_becomes_a_data_frame() -> None:
    pandas = pytest.importorskip("pandas")
    await record(3)
    page = await tracer.search_traces(order_by="start_time")
    frame = tracer.to_pandas(page)
    assert list(frame["name"]) == ["t0", "t1", "t2"]
    assert frame["tags"][1] == {"n": "1"}
    assert frame["start_time"].dt.tz is not None
    assert frame["start_time"][0] == pandas.Timestamp(page[0].info.start_time_ns // 1_000, unit="us", tz="UTC")
    assert frame["cost"].isna().all()
    assert frame["duration_ns"].sum() == sum(trace.info.duration_ns or 0 for trace in page)
    assert len(tracer.to_pandas(page, rows="spans")) == 6


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"format": "xlsx"}, "format must be one of jsonl, csv, parquet, got 'xlsx'"),
        ({"file": "traces.txt"}, "'traces.txt' doesn't tell which"),
        ({"file": io.BytesIO()}, "doesn't tell which"),
        ({"format": "csv", "rows": "events"}, "rows must be one of traces, spans, got 'events'"),
        ({"format": "jsonl", "rows": "spans"}, "rows must be 'traces' for jsonl"),
    ],
)
async def test_a_wrong_argument_is_named(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(tracer.ConfigurationError, match=words):
        await export.write_traces([], **{"file": io.BytesIO(), **arguments})


@pytest.mark.parametrize("count", [0, -1, True, 1.5])
async def test_a_wrong_number_of_traces_is_refused(count: Any) -> None:
    with pytest.raises(tracer.ConfigurationError, match="max_results must be a whole number, at least 1, or None"):
        [trace async for trace in export.iterate_traces(max_results=count)]


async def test_a_store_of_ones_own_is_exported(anyio_backend: object) -> None:
    if anyio_backend == "trio":
        pytest.skip("a store by itself runs on asyncio")
    store = open_store("memory://")
    await store.open()
    await store.write(simple(*range(120), end_time_ns=START + SECOND))
    query = TraceQuery(order_by="start_time")
    assert len([trace async for trace in export.iterate_query(store, query)]) == 120
    assert len([trace async for trace in export.iterate_query(store, query, max_results=7)]) == 7
    await store.aclose()


@pytest.mark.parametrize(
    ("module", "call"),
    [("pandas", "tracer.to_pandas([])"), ("pyarrow", "anyio.run(lambda: write([], io.BytesIO(), 'parquet'))")],
)
def test_without_the_package_the_message_names_the_extra(module: str, call: str) -> None:
    script = f"""
import io, sys
sys.modules["{module}"] = None
import anyio, tracer
write = tracer.export.write_traces
try:
    {call}
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "pip install 'openai-tracer[pandas]'" in done.stdout


def test_importing_tracer_imports_neither_pandas_nor_pyarrow() -> None:
    script = "import sys, tracer; print([name for name in ('pandas', 'pyarrow', 'csv') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
