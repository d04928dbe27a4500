"""Several processes send one image at once: it is stored once, and any of them can read it."""

from __future__ import annotations

from pathlib import Path

from tests.processes.script import Script, assert_intact, query, run_quietly

IMAGE = r"""
import base64
data = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4000
url = "data:image/png;base64," + base64.b64encode(data).decode()
"""


def test_processes_that_send_the_same_image_store_it_once(tmp_path: Path) -> None:
    send = f"""
{IMAGE}
sys.stdin.readline()
for _ in range(5):
    with tracer.start_span("s") as span:
        span.set_inputs({{"image": url}})
    assert tracer.sync.flush()
"""
    scripts = [Script(tmp_path, send) for _ in range(3)]
    for script in scripts:
        assert script.process.stdin is not None
        script.process.stdin.write("go\n")
        script.process.stdin.flush()
    for script in scripts:
        ended = script.end()
        assert (ended.code, ended.err) == (0, "")
    assert query(tmp_path, "SELECT count(*) FROM media") == [1]
    assert query(tmp_path, "SELECT count(*) FROM span_media") == [15]
    read = f"""
{IMAGE}
[trace, *_] = tracer.sync.search_traces()
assert tracer.sync.get_media(trace.data.spans[0].inputs["image"]).data == data
"""
    run_quietly(tmp_path, read)
    run_quietly(tmp_path, "tracer.sync.delete_traces(max_traces=100)")
    assert query(tmp_path, "SELECT count(*) FROM media") == [0]
    assert_intact(tmp_path)
