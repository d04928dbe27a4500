"""One process that sends spans, for `benchmarks.scale`: makes them, says so, and sends them once it is told to.

A batch that is not answered, or refused, is sent again until it is taken.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from benchmarks._scale_spans import as_otlp, as_rows
from tracer._exceptions import TransientStoreError
from tracer.store import open_store

_PAUSE = 0.05


async def _send(batches: list[Any], post: Callable[[Any], Awaitable[bool]]) -> list[tuple[float, float]]:
    """Send one after the other; return when each was first sent (seconds since the epoch), and how long it took."""
    taken = []
    for batch in batches:
        sent, began = time.time(), time.perf_counter()
        while not await post(batch):  # noqa: ASYNC110  the server's state is no event of this loop
            await asyncio.sleep(_PAUSE)
        taken.append((sent, time.perf_counter() - began))
    return taken


async def _rows(url: str, batches: list[Any]) -> None:
    store = open_store(url)
    await store.experiments()  # imports, connects

    async def post(batch: Any) -> bool:
        try:
            await store.write(batch)
        except TransientStoreError as error:
            await asyncio.sleep(error.retry_after or 0)
            return False
        return True

    await _told(batches, post)
    await store.aclose()


async def _otlp(url: str, bodies: list[bytes], headers: dict[str, str]) -> None:
    parts = urlsplit(url)
    sent = {"content-type": "application/x-protobuf", **headers}
    connections: list[http.client.HTTPConnection] = []

    async def post(body: bytes) -> bool:
        if not connections:
            connections.append(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=600))
        try:
            connections[0].request("POST", "/v1/traces", body, sent)
            answer = connections[0].getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            connections.pop().close()
            return False
        return answer.status < 300

    await _told(bodies, post)


async def _told(batches: list[Any], post: Callable[[Any], Awaitable[bool]]) -> None:
    """Wait for a line, send, and print what came of it."""
    print("ready", flush=True)
    sys.stdin.readline()
    cpu = time.process_time()
    taken = await _send(batches, post)
    print(json.dumps({"taken": taken, "cpu": time.process_time() - cpu}), flush=True)


def main() -> None:
    """Do what the argument says, which is JSON."""
    task = json.loads(sys.argv[1])
    seeds = range(task["seed"], task["seed"] + task["batches"])
    if task["form"] == "rows":
        asyncio.run(_rows(task["url"], [as_rows(seed, task["size"], task["bodies"]) for seed in seeds]))
    else:
        asyncio.run(_otlp(task["url"], [as_otlp(seed, task["size"]) for seed in seeds], task["headers"]))


if __name__ == "__main__":
    main()
