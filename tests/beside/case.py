"""One case, in a process of its own: ``python -m tests.beside.case NAME STEP…`` prints a report as JSON.

The steps are "ours on", "ours off", "theirs on" and "theirs off". Before the first and after each, every kind of client
makes a call.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import ssl
import sys
from typing import Any

import openai
from openai import _base_client as sdk
from openai._resource import AsyncAPIResource, SyncAPIResource

import tracer
from tests.beside.peers import PEERS
from tracer.testing import FakeOpenAI

CHAT: dict[str, Any] = {"model": "gpt-5", "messages": [{"role": "user", "content": "Hi"}]}
TLS = ssl.create_default_context()  # each client would load all root certificates again, for plain HTTP
CLASSES = [sdk.BaseClient, sdk.SyncAPIClient, sdk.AsyncAPIClient, SyncAPIResource, AsyncAPIResource]


class Own(openai.OpenAI): ...


class AsyncOwn(openai.AsyncOpenAI): ...


class OwnWithRequest(openai.OpenAI):
    def request(self, *args: Any, **kwargs: Any) -> Any:
        return super().request(*args, **kwargs)


def make_clients(server: FakeOpenAI) -> list[Any]:
    plain: dict[str, Any] = {"base_url": server.base_url, "api_key": "sk-fake"}
    azure: dict[str, Any] = {"azure_endpoint": server.url, "api_key": "sk-fake", "api_version": "2025-04-01-preview"}
    sync_http: dict[str, Any] = {"http_client": openai.DefaultHttpxClient(verify=TLS)}
    async_http: dict[str, Any] = {"http_client": openai.DefaultAsyncHttpxClient(verify=TLS)}
    return [
        *(cls(**plain, **sync_http) for cls in (openai.OpenAI, Own, OwnWithRequest)),
        *(cls(**plain, **async_http) for cls in (openai.AsyncOpenAI, AsyncOwn)),
        openai.AzureOpenAI(**azure, **sync_http),
        openai.AsyncAzureOpenAI(**azure, **async_http),
    ]


async def call(client: Any, stream: bool) -> str:
    """Return what the model said."""
    answer = client.chat.completions.create(**CHAT, **({"stream": True} if stream else {}))
    is_async = isinstance(client, openai.AsyncOpenAI)
    if is_async:
        answer = await answer
    if not stream:
        return str(answer.choices[0].message.content)
    chunks = [chunk async for chunk in answer] if is_async else list(answer)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def spans() -> int:
    """Count our spans that hold the whole answer."""
    found = 0
    for trace in tracer.sync.search_traces(max_results=1000):
        for span in tracer.sync.get_trace(trace.info.trace_id).data.spans:
            found += span.outputs["choices"][0]["message"]["content"] == "You said: Hi"
    tracer.sync.delete_traces(max_timestamp_ms=10**14)
    return found


def methods() -> dict[str, Any]:
    """Return every method of the classes that the seam or another tool changes, and ``request`` as clients find it."""
    found = {f"{cls.__name__}.{name}": value for cls in CLASSES for name, value in vars(cls).items() if callable(value)}
    for cls in (openai.OpenAI, openai.AsyncOpenAI, openai.AzureOpenAI, openai.AsyncAzureOpenAI):
        found[f"{cls.__name__}.request"] = cls.request
    return found


def parts(functions: dict[str, Any]) -> dict[str, Any]:
    """Return what makes up each function."""
    return {
        name: (function.__code__, function.__kwdefaults__, set(function.__dict__))
        for name, function in functions.items()
        if inspect.isfunction(function)
    }


async def main(name: str, *steps: str) -> None:
    """Run the steps and print what was seen."""
    log: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: log.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("tracer").addHandler(handler)
    calls: list[dict[str, Any]] = []
    with FakeOpenAI() as server:
        clients = make_clients(server)
        peer = PEERS[name]()
        ours_on = theirs_on = False

        async def call_each(step: str) -> None:
            new = server.client(http_client=openai.DefaultHttpxClient(verify=TLS))
            for client in [*clients, new]:
                for stream in (False, True):
                    before, theirs = len(server.requests), peer.seen()
                    said = await call(client, stream)
                    requests = server.requests[before:]
                    calls.append(
                        {
                            "call": f"{'new ' if client is new else ''}{type(client).__name__}{' stream' * stream}",
                            "after": step,
                            "ours_on": ours_on,
                            "theirs_on": theirs_on,
                            "said": said,
                            "requests": [json.loads(request.body) for request in requests],
                            "ours": spans(),
                            "theirs": peer.seen() - theirs,
                        }
                    )

        found = methods()
        made_of = parts(found)
        await call_each("nothing")
        for step in steps:
            if step.startswith("ours"):
                ours_on = step == "ours on"
                tracer.autolog(disable=not ours_on)
            elif step == "theirs on":
                theirs_on = True
                peer.on(clients)
            elif peer.off is not None:
                theirs_on = False
                peer.off()
            await call_each(step)
    report = {
        "calls": calls,
        "log": log,
        "changed": [name for name, made in parts(found).items() if made != made_of[name]],
        "theirs_went": not theirs_on,
        "replaced": [name for name, method in methods().items() if method is not found.get(name)],
    }
    print(json.dumps(report))  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
