"""A prompt of 100 MB: tracing it takes less memory than one more copy of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks._server import canned_server

SIZE = 100  # MB
ROOT = Path(__file__).parent.parent.parent
CALL = """
import asyncio, sys
import tracer
from benchmarks._server import socket_client

def status(name):
    return next(int(line.split()[1]) / 1e3 for line in open("/proc/self/status") if line.startswith(name))

async def main(url, size):
    async with socket_client(url) as client:
        async def ask(text):
            await client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])
            assert await tracer.flush(60)
        await ask("Hi")  # imports what is needed
        prompt = "lorem ipsum " * (size // 12)
        open("/proc/self/clear_refs", "w").write("5")  # the peak begins anew
        before = status("VmRSS")
        await ask(prompt)
        print(status("VmHWM") - before, tracer.stats().truncated)

if sys.argv[3] == "traced":
    tracer.autolog()
asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_prompt_of_100_mb_takes_less_memory_than_another_copy(tmp_path: Path) -> None:
    peaks = {}
    with canned_server() as url:
        for side in ("alone", "traced"):
            done = subprocess.run(
                [sys.executable, "-c", CALL, url, str(SIZE * 1_000_000), side],
                cwd=ROOT,
                env={**os.environ, "TRACER_TRACKING_URI": f"sqlite:///{tmp_path}/t.db"},
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            peak, truncated = done.stdout.split()
            assert int(truncated) == (side == "traced")  # it is above `max_payload_bytes`
            peaks[side] = float(peak)
    assert peaks["traced"] - peaks["alone"] <= SIZE, peaks
