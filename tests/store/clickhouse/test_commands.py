"""The command over a directory of ClickHouse's, which belongs to one process: so each step is a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("clickhouse_connect")
pytest.importorskip("chdb", reason="ClickHouse's engine is not installed: pip install chdb")

WRITE = """
import sys
import tracer

tracer.set_tracking_uri(sys.argv[1])
with tracer.start_span("kept") as span:
    span.set_inputs({"question": "why"})
print(tracer.sync.search_traces()[0].info.name)
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=300)


def test_a_process_records_and_commands_read_delete_and_explain(tmp_path: Path) -> None:
    uri = f"chdb://{tmp_path}/traces"
    assert "without tables yet" in tracer("doctor", uri) or "no database" in tracer("doctor", uri)
    recorded = run("-c", WRITE, uri)
    assert (recorded.returncode, recorded.stdout.strip(), recorded.stderr) == (0, "kept", "")
    assert "kept" in tracer("traces", "list", uri)
    assert "kept" in tracer("traces", "show", "last", uri)
    refused = run("-m", "tracer", "db", "vacuum", "--uri", uri)
    assert "is a ClickHouse database, this needs a file of SQLite; use ClickHouse's own tools" in refused.stderr


def tracer(*arguments: str) -> str:
    *command, uri = arguments
    return run("-m", "tracer", *command, "--uri", uri).stdout
