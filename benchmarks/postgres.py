"""What a span costs a PostgreSQL server and its client, and how long lists take: ``python -m benchmarks.postgres``.

Starts a server of its own, as the tests do (`tests.postgres`). CPU time is the figure; wall time is the machine's.
The spans are those of `benchmarks._span_batches`, in batches of 500.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks._span_batches import QUERIES, batches, best
from tests.postgres import MISSING, PostgresServer, find_binaries, running_server
from tracer.store import open_store

_TICKS = os.sysconf("SC_CLK_TCK")


def server_seconds(server: PostgresServer) -> float:
    """CPU time of all processes of the server, also of those that have ended."""
    assert server._process is not None
    parent = server._process.pid
    pids = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True, check=True)
    ticks = 0
    for pid in (parent, *map(int, pids.stdout.split())):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(map(int, fields[11:15] if pid == parent else fields[11:13]))
    return ticks / _TICKS


async def measure(server: PostgresServer, spans: int) -> None:
    """Write the spans, then ask for lists."""
    store = open_store(server.uri("public"))
    await store.open()
    rows = list(batches(spans))
    count = sum(len(batch.spans) for batch in rows)
    client, away, wall = time.process_time(), server_seconds(server), time.perf_counter()
    for batch in rows:
        await store.write(batch)
    client, away, wall = time.process_time() - client, server_seconds(server) - away, time.perf_counter() - wall
    size = (await store.storage()).file_bytes
    print(f"{count:,} spans: client {client / count * 1e6:.0f} us, server {away / count * 1e6:.0f} us of CPU a span, "
          f"{size / count:,.0f} bytes a span, {count / wall:,.0f} spans/s")  # fmt: skip
    server.execute("VACUUM ANALYZE")
    for name, query in QUERIES.items():
        print(f"{name:20} {await best(store, query):7.1f} ms")
    await store.aclose()


def main() -> None:
    """Run all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", type=int, default=100_000)
    chosen = parser.parse_args()
    if (binaries := find_binaries()) is None:
        sys.exit(MISSING)
    with running_server(binaries) as server:
        asyncio.run(measure(server, chosen.spans))


if __name__ == "__main__":
    main()
