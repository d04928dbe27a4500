"""A server in a process of its own that answers model calls over real sockets, as fast as a script can.

What it answers depends on the path, and on the request's model: to `BROKEN` an error, to `HALF` the first half of a
stream, after which nothing more comes, and to `SILENT` nothing at all.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import openai

from benchmarks import _payloads as payloads

__all__ = ["BROKEN", "HALF", "SILENT", "canned_server", "socket_client"]

BROKEN, HALF, SILENT = "broken", "half", "silent"

TIMEOUT = 120.0  # seconds; the SDK gives a connection only five, too few for a thousand tasks on a busy machine
KEPT_BODY = 1024 * 1024  # bytes of a request in which to look for what is asked for
_CHUNKS = 20  # of a stream
_MODEL = re.compile(rb'"model": ?"(\w+)"')
_ERROR = b'{"error": {"message": "no such model", "type": "invalid_request_error", "param": "model", "code": null}}'


def _response(body: bytes, status: bytes = b"200 OK", *, streamed: bool = False) -> bytes:
    lines = [b"HTTP/1.1 " + status, *(b"%s: %s" % header for header in payloads.headers(streamed))]
    return b"\r\n".join([*lines, b"content-length: %d" % len(body), b"", body])


_PLAIN = {path.encode(): _response(body) for path, body in payloads.PLAIN.items()}
_STREAMS = {
    path.encode(): _response(b"".join(events), streamed=True) for path, events in payloads.streams(_CHUNKS).items()
}
_BROKEN = _response(_ERROR, b"400 Bad Request")


def _answer(path: bytes, body: bytes) -> bytes:
    model = _MODEL.search(body)
    name = model[1].decode() if model else ""
    if name == SILENT:
        return b""
    if name == BROKEN:
        return _BROKEN
    whole = (_STREAMS if payloads.asks_for_stream(body) else _PLAIN)[path]
    return whole[: len(whole) // 2] if name == HALF else whole


class _Connection(asyncio.Protocol):
    """Answers each request as soon as its body is complete."""

    def __init__(self) -> None:
        self._head = b""
        self._missing = 0  # bytes of the body
        self._path = self._body = b""

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
                self._missing, data = int(next(lengths, b":0").split(b":")[1]), rest
                self._path, self._body = head.split(b" ", 2)[1], b""
            taken = min(self._missing, len(data))
            if len(self._body) < KEPT_BODY:
                self._body += data[:taken]
            self._missing, data = self._missing - taken, data[taken:]
            if not self._missing:
                self._transport.write(_answer(self._path, self._body))


@contextmanager
def canned_server() -> Iterator[str]:
    """Give the block the base URL of a server on loopback that answers model calls; it ends with the block."""
    command = [sys.executable, "-m", "benchmarks._server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.kill()


def socket_client(base_url: str) -> openai.AsyncOpenAI:
    """Return an async client with its own HTTP stack; close it."""
    return openai.AsyncOpenAI(api_key="sk-benchmark", base_url=base_url, max_retries=0, timeout=TIMEOUT)


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve())
