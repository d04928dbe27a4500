"""Sends recorded requests through the real SDK, sync and async, many at a time."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from operator import attrgetter
from typing import Any, NamedTuple

import anyio
import msgspec
import openai
from openai._legacy_response import HttpxBinaryResponseContent

from tests.conformance.corpus import Corpus, Record, recorded_file
from tests.sdk import httpx2

__all__ = ["Outcome", "Replay"]

TASKS = 16
THREADS = 8

_METHODS = {
    "chat": "chat.completions.create",
    "responses": "responses.create",
    "compact": "responses.compact",
    "completions": "completions.create",
    "embeddings": "embeddings.create",
    "moderations": "moderations.create",
    "speech": "audio.speech.create",
}
_METHODS_BY_PATH = {
    "/v1/images/generations": "images.generate",
    "/v1/images/edits": "images.edit",
    "/v1/images/variations": "images.create_variation",
    "/v1/audio/transcriptions": "audio.transcriptions.create",
    "/v1/audio/translations": "audio.translations.create",
}


class Outcome(NamedTuple):
    """What the SDK gave to its caller.

    Attributes:
        received: The chunks of a stream, or the one result.
        error: What it raised, at once or in the middle of a stream.
    """

    received: list[Any]
    error: Exception | None

    def told(self) -> tuple[list[Any], str]:
        """The same as plain data, to be compared."""
        return [_plain(item) for item in self.received], f"{type(self.error).__name__}: {self.error}"


def _plain(item: Any) -> Any:
    if isinstance(item, HttpxBinaryResponseContent):
        return item.content
    return item.model_dump(warnings=False) if hasattr(item, "model_dump") else item


class Replay(msgspec.Struct, frozen=True):
    """How to send a record.

    Attributes:
        knobs: Options of the replay server, as they stand in the path: ``;cut=3``.
        chunks: After this number of chunks, the stream is closed; None reads it to its end.
    """

    corpus: Corpus
    knobs: Callable[[Record], str] = lambda _: ""
    chunks: Callable[[Record], int | None] = lambda _: None

    def in_threads(self, records: Iterable[Record]) -> dict[str, Outcome]:
        """Send records through sync clients; the outcomes by the records' ids."""
        records = list(records)
        with httpx2.Client(timeout=30) as transport, ThreadPoolExecutor(THREADS) as pool:
            clients = _Clients(openai.OpenAI, openai.AzureOpenAI, transport)
            send = functools.partial(self._send, clients)
            return dict(zip([record.id for record in records], pool.map(send, records), strict=True))

    async def in_tasks(self, records: Iterable[Record]) -> dict[str, Outcome]:
        """Send records through async clients; the outcomes by the records' ids."""
        outcomes: dict[str, Outcome] = {}
        pending = iter(list(records))
        async with httpx2.AsyncClient(timeout=30) as transport, anyio.create_task_group() as tasks:
            clients = _Clients(openai.AsyncOpenAI, openai.AsyncAzureOpenAI, transport)

            async def work() -> None:
                for record in pending:
                    outcomes[record.id] = await self._send_async(clients, record)

            for _ in range(TASKS):
                tasks.start_soon(work)
        return outcomes

    def _send(self, clients: _Clients, record: Record) -> Outcome:
        received: list[Any] = []
        try:
            result = invoke(self._client(clients, record), record)
            if not isinstance(result, openai.Stream):
                return Outcome([result], None)
            limit = self.chunks(record)
            with result:
                for chunk in result:
                    received.append(chunk)
                    if len(received) == limit:
                        break
        except Exception as error:
            return Outcome(received, error)
        return Outcome(received, None)

    async def _send_async(self, clients: _Clients, record: Record) -> Outcome:
        received: list[Any] = []
        try:
            result = await invoke(self._client(clients, record), record)
            if not isinstance(result, openai.AsyncStream):
                return Outcome([result], None)
            limit = self.chunks(record)
            async with result:
                async for chunk in result:
                    received.append(chunk)
                    if len(received) == limit:
                        break
        except Exception as error:
            return Outcome(received, error)
        return Outcome(received, None)

    def _client(self, clients: _Clients, record: Record) -> Any:
        address = f"{self.corpus.url}/r/{record.id}{self.knobs(record)}"
        common = {"api_key": "sk-test", "http_client": clients.transport, "max_retries": 0}
        if record.family != "azure":
            return clients.plain(base_url=f"{address}/v1", **common)
        return clients.azure(
            azure_endpoint=address,
            azure_deployment=record.azure_deployment,
            api_version=record.query.get("api-version", "2025-04-01-preview"),
            **common,
        )


class _Clients(NamedTuple):
    plain: Any
    azure: Any
    transport: Any


def invoke(client: Any, record: Record) -> Any:
    """Call the SDK method that a user would; returns what it does (a coroutine, if the client is async).

    What the method has no parameter for goes through ``extra_body``, as the SDK's README tells users to do.
    """
    if record.operation == "retrieve":
        return client.responses.retrieve(
            record.path.rpartition("/")[2], stream=True, starting_after=int(record.query["starting_after"])
        )
    if record.operation is None:
        return send_plainly(client, record)
    if record.method == "GET":
        return _poll(client, record)
    method = _method_of(client, record)
    known = inspect.signature(method).parameters
    fields = {name: recorded_file(value) or value for name, value in record.request_json.items()}
    given = {name: value for name, value in fields.items() if name in known}
    extra = {name: value for name, value in fields.items() if name not in known}
    return method(**given, **({"extra_body": extra} if extra else {}))


def _method_of(client: Any, record: Record) -> Any:
    if record.operation != "runs":
        name = _METHODS_BY_PATH.get(record.path) or _METHODS[record.operation or ""]
        return attrgetter(name)(client)
    threads, steps = client.beta.threads, record.path.split("/")[3:]
    if steps == ["runs"]:
        return threads.create_and_run
    if len(steps) == 2:
        return functools.partial(threads.runs.create, steps[0])
    return functools.partial(threads.runs.submit_tool_outputs, steps[2], thread_id=steps[0])


def _poll(client: Any, record: Record) -> Any:
    steps = record.path.split("/")[3:]
    if record.operation == "responses":
        return client.responses.retrieve(steps[0])
    return client.beta.threads.runs.retrieve(steps[2], thread_id=steps[0])


def send_plainly(client: Any, record: Record) -> Any:
    """Send a request by path, for endpoints whose methods the tests need not know one by one."""
    options = {"params": record.query} if record.query else {}
    send: Callable[..., Awaitable[Any] | Any] = getattr(client, record.method.lower())
    arguments: dict[str, Any] = {"cast_to": object, "options": options}
    if record.method == "POST":
        arguments["body"] = record.request_json
    return send(record.path.removeprefix("/v1"), **arguments)
