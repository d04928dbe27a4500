"""A process that is killed leaves a consistent database, and its open traces are shown as interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.processes.script import Script, assert_intact, note, query, run_quietly, states

LOAD = """
def spans():
    number = 0
    while True:
        with tracer.start_span("call") as span:
            span.set_inputs({"number": number})
            span.set_outputs("x" * 500)
        number += 1
        os.write(1, b"call\\n")
        time.sleep(0.0005)

def streams():
    from tracer.capture.records import Ending, Rank, SpanChunk
    from tracer.spans.opening import open_span
    number = 0
    while True:
        span = open_span("stream", "CHAT_MODEL")
        span.begin(operation="chat")
        for _ in range(20):
            span.pipeline.push(SpanChunk(span.span_id, span.now_ns(), b'data: {"choices": []}\\n\\n'), Rank.CHUNK)
            time.sleep(0.0005)
        span.finish(Ending.EXHAUSTED, streamed=True)
        os.write(1, b"stream\\n")

with tracer.start_span("open for ever") as span:
    span.set_inputs("the question")
    tracer.sync.flush()
    os.write(1, b"loaded\\n")
    for work in (spans, streams):
        threading.Thread(target=work, daemon=True).start()
    threading.Event().wait()
"""


@pytest.mark.parametrize("after", [0.05, 0.3, 0.9])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_what_a_killed_process_leaves(number: signal.Signals, after: float, tmp_path: Path, record_property) -> None:
    # Each thread's spans are children of nothing: threads begin with a fresh context.
    script = Script(tmp_path, LOAD)
    script.wait_for("loaded")
    with pytest.raises(subprocess.TimeoutExpired):
        script.process.wait(after)
    script.send(number)
    out = script.process.communicate(timeout=60)[0]
    assert script.process.returncode == -number
    assert_intact(tmp_path)

    shown = run_quietly(
        tmp_path,
        """
        traces = tracer.sync.search_traces(max_results=10_000)
        (left,) = [trace for trace in traces if trace.info.name == "open for ever"]
        assert left.info.state == "INTERRUPTED"
        assert left.data.spans[0].inputs == "the question"
        assert left.data.spans[0].end_time_ns is None
        """,
    )
    assert shown.code == 0
    found = states(tmp_path)
    assert set(found) <= {"OK", "INTERRUPTED"}
    assert 1 <= found["INTERRUPTED"] <= 3, "the open one, and at most one of each thread"
    for name in ("call", "stream"):
        made = out.splitlines().count(name)
        stored = query(tmp_path, f"SELECT count(*) FROM traces WHERE name = '{name}' AND state = 'OK'")[0]
        # Some lines were read together with "loaded", and are not among those that are counted here.
        assert made <= stored
        note(record_property, **{f"{name}_made": made, f"{name}_lost": max(0, made - stored)})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX")
def test_os_exit_after_a_flush_loses_nothing(tmp_path: Path) -> None:
    run_quietly(tmp_path, "for _ in range(100): record()\nassert tracer.sync.flush()\nos._exit(0)")
    assert states(tmp_path) == {"OK": 100}


def test_a_process_that_follows_a_killed_one_goes_on_in_its_file(tmp_path: Path) -> None:
    for _ in range(3):
        run_quietly(tmp_path, "for _ in range(10): record()\ntracer.sync.flush()\nos._exit(0)")
    run_quietly(tmp_path, "record()")
    assert states(tmp_path) == {"OK": 31}
    assert_intact(tmp_path)
