"""The service that `benchmarks.soak` watches: an asyncio program of many tasks that make model calls of all kinds.

It reads commands from stdin, one a line, and answers each with a line: those of `COMMANDS`; ``fork`` (the child makes
`CHILD_SPANS` spans and leaves by ``os._exit``); ``stop`` (answered by its account, as JSON).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import resource
import sys
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import msgspec
import openai

import tracer
from benchmarks import _payloads as payloads
from benchmarks._measure import FLUSH_TIMEOUT
from benchmarks._server import BROKEN, HALF, SILENT, socket_client
from benchmarks._transport import aclose
from tracer.testing._isolation import isolated

__all__ = ["CHILD_SPANS", "Account"]

CHILD_SPANS = 20
PATIENCE = 0.1  # seconds after which a caller cancels a call that is not answered
IMAGE_BYTES = 30_000


class Account(msgspec.Struct):
    """What the service did: ended spans by their finish, traces, reads; what failed in it; and tracer's own counts."""

    spans: dict[str, int] = {}
    traces: int = 0
    reads: int = 0
    failures: dict[str, int] = {}
    stats: dict[str, Any] = {}

    def add(self, finish: str, *, spans: int = 1, traces: int = 1) -> None:
        """Count spans that ended alike."""
        self.spans[finish] = self.spans.get(finish, 0) + spans
        self.traces += traces

    def fail(self, what: str) -> None:
        """Count a failure."""
        self.failures[what] = self.failures.get(what, 0) + 1


class Service:
    """The calls that its tasks choose from; each counts what must be stored of it."""

    def __init__(self, sdk: openai.AsyncOpenAI) -> None:
        self._sdk: Any = sdk  # Any, as payloads are dicts
        self._images = 0
        self.account = Account()
        self.stopping = asyncio.Event()

    async def run(self, tasks: int, rate: float) -> None:
        """Make calls until `stopping` is set: all tasks together `rate` a second."""
        await asyncio.gather(*(self._run_task(random.Random(number), tasks / rate) for number in range(tasks)))

    async def _run_task(self, chance: random.Random, pause: float) -> None:
        calls, weights = zip(*self.calls(), strict=True)
        await self._rest(chance.uniform(0, pause))
        while not self.stopping.is_set():
            (call,) = chance.choices(calls, weights)
            try:
                await call()
            except Exception as error:
                self.account.fail(f"{call.__name__}: {type(error).__name__}: {error}"[:200])
            await self._rest(chance.uniform(0, 2 * pause))

    async def _rest(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self.stopping.wait()

    def calls(self) -> list[tuple[Callable[[], Awaitable[None]], int]]:
        """Return what the service does, each with how often."""
        return [
            (self.plain, 30),
            (self.responses, 10),
            (self.stream, 15),
            (self.responses_stream, 10),
            (self.broken, 5),
            (self.cancelled, 5),
            (self.cancelled_stream, 5),
            (self.dropped_stream, 5),
            (self.closed_stream, 5),
            (self.media, 3),
            (self.turn, 10),
            (self.read, 2),
        ]

    # Calls that end as they should.

    async def plain(self) -> None:
        await self._sdk.chat.completions.create(**payloads.CHAT_REQUEST)
        self.account.add("completed")

    async def responses(self) -> None:
        await self._sdk.responses.create(**payloads.RESPONSES_REQUEST)
        self.account.add("completed")

    async def media(self) -> None:
        self._images += 1
        await self._sdk.chat.completions.create(**payloads.image_request(IMAGE_BYTES, self._images))
        self.account.add("completed")

    async def stream(self) -> None:
        async for _ in await self._chat_stream(payloads.CHAT_REQUEST["model"]):
            pass
        self.account.add("completed")

    async def responses_stream(self) -> None:
        async for _ in await self._sdk.responses.create(**payloads.RESPONSES_REQUEST, stream=True):
            pass
        self.account.add("completed")

    async def turn(self) -> None:
        """A trace of five spans, three of them the service's own."""
        with tracer.start_span("turn", span_type=tracer.SpanType.AGENT) as span:
            span.set_inputs({"question": payloads.RESPONSES_REQUEST["input"]})
            await self._sdk.embeddings.create(**payloads.EMBEDDING_REQUEST)
            span.set_outputs({"found": _look_up("A-1"), "again": _look_up("A-2")})
            await self._sdk.chat.completions.create(**payloads.CHAT_REQUEST)
        self.account.add("completed", spans=5)

    async def read(self) -> None:
        with contextlib.suppress(tracer.StoreError):  # while the database can't be opened
            await tracer.search_traces(max_results=5)
            self.account.reads += 1

    # Calls that don't.

    async def broken(self) -> None:
        try:
            await self._sdk.chat.completions.create(**{**payloads.CHAT_REQUEST, "model": BROKEN})
        except openai.BadRequestError:
            self.account.add("failed")

    async def cancelled(self) -> None:
        try:
            await asyncio.wait_for(
                self._sdk.chat.completions.create(**{**payloads.CHAT_REQUEST, "model": SILENT}), PATIENCE
            )
        except asyncio.TimeoutError:
            self.account.add("cancelled")

    async def cancelled_stream(self) -> None:
        async def read() -> None:
            async for _ in await self._chat_stream(HALF):
                pass

        try:
            await asyncio.wait_for(read(), PATIENCE)
        except asyncio.TimeoutError:
            self.account.add("cancelled")

    async def dropped_stream(self) -> None:
        async for _ in await self._chat_stream(HALF):
            break
        self.account.add("abandoned")

    async def closed_stream(self) -> None:
        async with await self._chat_stream(HALF) as chunks:
            async for _ in chunks:
                break
        self.account.add("abandoned")

    async def _chat_stream(self, model: str) -> Any:
        return await self._sdk.chat.completions.create(**{**payloads.CHAT_REQUEST, "model": model}, stream=True)

    # What is done to it from inside.

    async def fork(self) -> None:
        """Let a child make spans that nobody flushes; return when it has ended."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # since 3.12, of forks beside threads
            child = os.fork()
        if child == 0:
            for _ in range(CHILD_SPANS):
                with tracer.start_span("child"):
                    pass
            os._exit(0)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        if status:
            self.account.fail(f"a forked child ended with {status}")
        self.account.add("completed", spans=CHILD_SPANS, traces=CHILD_SPANS)


def _limit_files(size: int) -> None:
    """Limit the size of files; to a process, a file that may not grow is a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


COMMANDS: dict[bytes, Callable[[], None]] = {
    b"hook": lambda: tracer.configure(redact=_raise),
    b"heal": lambda: tracer.configure(redact=None),
    b"full": lambda: _limit_files(0),
    b"room": lambda: _limit_files(resource.RLIM_INFINITY),
}


@tracer.trace
def _look_up(order: str) -> str:
    return f"{order} is under way"


def _raise(text: str) -> str:
    raise RuntimeError("this hook always raises")


async def _obey(service: Service) -> None:
    """Carry out commands until ``stop``."""
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while (command := (await commands.readline()).strip()) not in (b"stop", b""):
        if command == b"fork":
            await service.fork()
        else:
            COMMANDS[command]()
        print("done", flush=True)
    service.stopping.set()


async def _serve(base_url: str, tasks: int, rate: float, user: int | None) -> None:
    sdk = socket_client(base_url)
    with isolated():  # each kind of call once, so that all is imported before the measuring and the change of user
        tracer.autolog()
        for call, _ in Service(sdk).calls():
            await call()
        await asyncio.to_thread(str)
    if user is not None:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    service = Service(sdk)
    await service.plain()
    await service.read()
    print("ready", flush=True)
    await asyncio.gather(service.run(tasks, rate), _obey(service))
    await aclose(sdk)
    await tracer.flush(FLUSH_TIMEOUT)
    service.account.stats = tracer.stats().to_dict()
    await tracer.shutdown(FLUSH_TIMEOUT)
    tracer.set_tracking_uri(tracer.get_tracking_uri())
    await tracer.search_traces(max_results=1)  # whoever opens a database takes over what the last children left behind
    print(msgspec.json.encode(service.account).decode(), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("base_url")
    parser.add_argument("--tasks", type=int)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--user", type=int)
    given = parser.parse_args()
    asyncio.run(_serve(given.base_url, given.tasks, given.rate, given.user))
