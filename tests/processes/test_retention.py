"""Retention and durability in real processes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes.script import PROLOGUE, Script, assert_intact, query, run_quietly

MIB = 1024 * 1024
WRITER = """
    import json
    sys.stdin.readline()
    for number in range(400):
        with tracer.start_span(sys.argv[1]) as span:
            span.set_inputs(str(number) + "x" * 10_000)
        if not number % 50:
            tracer.sync.flush()
    tracer.sync.flush()
    stats = tracer.stats()
    assert stats.written == stats.accepted and not any(stats.dropped.values()), stats
    print(json.dumps(stats.expired), flush=True)
    sys.stdin.readline()
"""


def test_processes_that_share_a_file_keep_it_within_its_limit(tmp_path: Path) -> None:
    """They write 8 MB, and hold still for a moment, so that the last deletions are done."""
    running = Script(
        tmp_path,
        """
        with tracer.start_span("running"):
            tracer.sync.flush()
            print("open", flush=True)
            sys.stdin.readline()
        """,
    )
    running.wait_for("open")
    writers = [Script(tmp_path, WRITER, name, TRACER_RETENTION_MAX_BYTES=str(2 * MIB)) for name in "ab"]
    for writer in writers:
        writer.answer()
    for writer in writers:
        assert writer.process.stdout is not None
        assert json.loads(writer.process.stdout.readline()) >= 0
    for writer in writers:
        writer.answer()
        ended = writer.end()
        assert (ended.code, ended.err) == (0, "")
    run_quietly(
        tmp_path,
        """
        record("last")
        tracer.sync.flush()
        deadline = time.monotonic() + 15
        while os.stat("t.db").st_size > 2 * 1024 * 1024 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert os.stat("t.db").st_size <= 2 * 1024 * 1024
        """,
        TRACER_RETENTION_MAX_BYTES=str(2 * MIB),
    )
    assert query(tmp_path, "SELECT name FROM traces WHERE state = 'IN_PROGRESS'") == ["running"]
    assert 20 < query(tmp_path, "SELECT count(*) FROM traces")[0] < 250
    assert_intact(tmp_path)
    running.answer()
    assert running.end().code == 0


STRACE = shutil.which("strace")


@pytest.mark.skipif(STRACE is None, reason="needs strace")
def test_what_a_flush_waited_for_is_on_the_disk_if_durability_is_full(tmp_path: Path) -> None:
    """The log is synced after it was last written to, and before `flush` returns."""
    script = tmp_path / "script.py"
    script.write_text(
        PROLOGUE
        + """
record()
tracer.sync.flush()
os.write(1, b"first flush")
record()
tracer.sync.flush()
os.write(1, b"second flush")
os._exit(0)
"""
    )
    traced = subprocess.run(
        [
            str(STRACE),
            "-f",
            "-y",
            "-o",
            "calls",
            "-e",
            "trace=write,pwrite64,fsync,fdatasync",
            sys.executable,
            script.name,
        ],
        cwd=tmp_path,
        env={
            "PYTHONPATH": ":".join(sys.path),
            "TRACER_DURABILITY": "full",
            "TRACER_TRACKING_URI": "sqlite:///t.db",
        },
        capture_output=True,
        timeout=25,
        check=False,
    )
    if "ptrace" in traced.stderr.decode():
        pytest.skip("strace may not be used here")
    assert traced.stdout == b"first flushsecond flush", traced.stderr
    calls = (tmp_path / "calls").read_text().splitlines()
    first, second = (next(n for n, call in enumerate(calls) if f"{word} flush" in call) for word in ("first", "second"))
    of_log = [call for call in calls[first:second] if "t.db-wal" in call]
    written = max(n for n, call in enumerate(of_log) if re.search(r"write(64)?\(", call))
    assert any(re.search(r"sync\(", call) for call in of_log[written:]), of_log
