"""A server in a process of its own that answers chat completions over real sockets, as fast as a script can."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import openai

from benchmarks import _payloads as payloads

__all__ = ["canned_server", "socket_client"]

_HEAD = b"".join(b"%s: %s\r\n" % header for header in payloads.HEADERS)
_ANSWER = b"HTTP/1.1 200 OK\r\n%scontent-length: %d\r\n\r\n%s" % (_HEAD, len(payloads.CHAT), payloads.CHAT)


class _Connection(asyncio.Protocol):
    """Answers each request, whatever it asks, as soon as its body is complete."""

    def __init__(self) -> None:
        self._head = b""
        self._missing = 0  # bytes of the body

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        while data:
            if not self._missing:
                head, end, rest = (self._head + data).partition(b"\r\n\r\n")
                self._head = b"" if end else head
                if not end:
                    return
                lengths = (line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                self._missing, data = int(next(lengths).split(b":")[1]), rest
            taken = min(self._missing, len(data))
            self._missing, data = self._missing - taken, data[taken:]
            if not self._missing:
                self._transport.write(_ANSWER)


@contextmanager
def canned_server() -> Iterator[str]:
    """Give the block the base URL of a server on loopback that answers chat completions; it ends with the block."""
    command = [sys.executable, "-m", "benchmarks._server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.kill()


def socket_client(base_url: str) -> openai.AsyncOpenAI:
    """Return an async client with its own HTTP stack; close it."""
    return openai.AsyncOpenAI(api_key="sk-benchmark", base_url=base_url, max_retries=0)


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve())
