"""No credential is ever stored, neither in a database nor in the queue, however it was given and however a call fails.

`tests.conftest.no_stored_key` looks for the same keys in what the whole session wrote.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import openai
import pytest

import tracer
from tests.leaks import NEVER_STORED, find_leaks
from tests.openai.calling import HELLO, Caller
from tests.reading import stored_rows
from tracer.testing import FakeOpenAI, reply

KEY = f"sk-{NEVER_STORED}"


async def stored(tmp_path: Path) -> str:
    """Return everything that was stored, after a check that the credential is not in it in any form."""
    assert await tracer.flush()
    assert find_leaks(tmp_path) == []
    rows = stored_rows(tmp_path)
    assert NEVER_STORED not in rows
    return rows


class Clients:
    """Makes clients of a mode that hold the credential in each of the places where it can be."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.server = caller.server

    def azure(self, **options: Any) -> Any:
        kind: Any = openai.AsyncAzureOpenAI if self.caller.is_async else openai.AzureOpenAI
        given = {"azure_endpoint": self.server.url, "api_version": "2024-10-21", "max_retries": 0, **options}
        return self.caller.keep(kind(**given))

    def make(self, how: str) -> Any:
        match how:
            case "api key":
                return self.caller.make_client(api_key=KEY)
            case "organization and project":
                return self.caller.make_client(organization=f"org-{NEVER_STORED}", project=f"proj_{NEVER_STORED}")
            case "default headers":
                return self.caller.make_client(default_headers={"X-Api-Key": KEY, "Authorization": f"Bearer {KEY}"})
            case "default query":
                return self.caller.make_client(default_query={"api-key": KEY})
            case "user in the base URL":
                address = self.server.base_url.replace("://", f"://user:{NEVER_STORED}@")
                return self.caller.make_client(base_url=address)
            case "query of the base URL":
                return self.caller.make_client(base_url=f"{self.server.base_url}?key={NEVER_STORED}")
            case "azure key":
                return self.azure(api_key=KEY)
            case "azure token":
                return self.azure(azure_ad_token=f"{NEVER_STORED}-token")
            case "azure token provider":
                return self.azure(azure_ad_token_provider=lambda: f"{NEVER_STORED}-token")
        raise AssertionError(how)


WAYS = [
    "api key",
    "organization and project",
    "default headers",
    "default query",
    "user in the base URL",
    "query of the base URL",
    "azure key",
    "azure token",
    "azure token provider",
]


HI: dict[str, Any] = {"model": "gpt-5", "messages": HELLO}


@pytest.fixture
def clients(caller: Caller) -> Clients:
    return Clients(caller)


def sent(server: FakeOpenAI) -> str:
    """Return the requests without their bodies: a test means something only if the credential was in them."""
    return repr([(request.path, dict(request.headers), request) for request in server.requests])


@pytest.mark.parametrize("how", WAYS)
async def test_a_credential_of_the_client_is_not_stored(how: str, clients: Clients, tmp_path: Path) -> None:
    client = clients.make(how)
    if how != "query of the base URL":  # the path of a call takes the query's place there
        await clients.caller.settle(client.chat.completions.create, **HI)
        stream = await clients.caller.settle(client.chat.completions.create, model="gpt-5", messages=HELLO, stream=True)
        await clients.caller.items(stream)
        assert "Hi" in await stored(tmp_path)
    await stored(tmp_path)


@pytest.mark.parametrize("how", WAYS)
async def test_a_server_that_quotes_the_credential_in_its_error_does_not_get_it_stored(
    how: str, clients: Clients, tmp_path: Path
) -> None:
    given = f"{KEY} {NEVER_STORED}-token org-{NEVER_STORED} proj_{NEVER_STORED} {NEVER_STORED}"
    clients.server.enqueue(reply.error(401, f"Incorrect credentials: {given}"))
    client = clients.make(how)
    with pytest.raises(openai.APIStatusError, match=NEVER_STORED):  # the caller sees what the server said
        await clients.caller.settle(
            client.chat.completions.create,
            model="gpt-5",
            messages=HELLO,
            extra_headers={"X-Api-Key": NEVER_STORED},
        )
    rows = await stored(tmp_path)
    assert "Incorrect credentials: " in rows
    assert "[credential]" in rows or "[api key]" in rows


@pytest.mark.parametrize("how", WAYS)
async def test_a_connection_that_fails_does_not_store_the_credential(
    how: str, clients: Clients, tmp_path: Path
) -> None:
    clients.server.enqueue(reply.text("never").cut(after_events=0))
    client = clients.make(how)
    # If the base URL has a query, the request goes to a different path, and the server answers with an error.
    with pytest.raises(openai.APIError):
        await clients.caller.settle(client.chat.completions.create, **HI)
    await stored(tmp_path)


async def test_extra_headers_and_query_are_not_stored(caller: Caller, tmp_path: Path) -> None:
    await caller.chat(
        extra_headers={"Authorization": f"Bearer {NEVER_STORED}", "api-key": NEVER_STORED, "Cookie": NEVER_STORED},
        extra_query={"sig": NEVER_STORED},
    )
    assert NEVER_STORED in sent(caller.server)
    assert "Hi" in await stored(tmp_path)


async def test_what_quotes_the_error_is_cleaned_too(caller: Caller, tmp_path: Path) -> None:
    @tracer.trace
    async def ask() -> None:
        client = caller.make_client(api_key=NEVER_STORED)
        try:
            await caller.settle(client.chat.completions.create, **HI)
        except openai.APIStatusError as error:
            raise RuntimeError(f"the model said: {error}") from error

    caller.server.enqueue(reply.error(401, f"Incorrect API key provided: {NEVER_STORED}"))
    with pytest.raises(RuntimeError):
        await ask()
    rows = await stored(tmp_path)
    assert "the model said: " in rows
    assert "Incorrect API key provided: [credential]" in rows


async def test_a_key_in_the_source_code_that_a_stack_trace_quotes_is_hidden(caller: Caller, tmp_path: Path) -> None:
    caller.server.enqueue(reply.error(400))
    with pytest.raises(openai.BadRequestError), tracer.start_span("run"):
        await caller.settle(caller.make_client(api_key="sk-never-store-this-0a1b2c3d").chat.completions.create, **HI)
    rows = await stored(tmp_path)
    assert "make_client(api_key=" in rows
    assert "[api key]" in rows


MCP: dict[str, Any] = {
    "type": "mcp",
    "server_label": "mail",
    "server_url": f"https://user:{NEVER_STORED}@mcp.example/s/{NEVER_STORED}/sse?key={NEVER_STORED}#{NEVER_STORED}",
    "authorization": NEVER_STORED,
    "headers": {"X-Key": NEVER_STORED},
    "require_approval": "never",
}
SECRET = {"domain": "api.example", "name": "KEY", "value": NEVER_STORED}
POLICY = {"type": "allowlist", "allowed_domains": ["api.example"], "domain_secrets": [SECRET]}
SHELL: dict[str, Any] = {"type": "shell", "environment": {"type": "container_auto", "network_policy": POLICY}}
CODE: dict[str, Any] = {"type": "code_interpreter", "container": {"type": "auto", "network_policy": POLICY}}


@pytest.mark.parametrize("tool", [MCP, SHELL, CODE], ids=["mcp", "shell", "code_interpreter"])
@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "stream"])
async def test_a_tools_credentials_are_not_stored_though_the_server_repeats_them(
    tool: dict[str, Any], streamed: bool, caller: Caller, tmp_path: Path
) -> None:
    call = {"model": "gpt-5", "input": "Look up my mail", "tools": [tool]}
    answer = await caller.settle(caller.client.responses.create, **call, stream=streamed)
    if streamed:
        await caller.first(answer)
        await tracer.flush()  # while it runs
        await caller.items(answer)
    else:
        assert NEVER_STORED in answer.model_dump_json(warnings=False)
    rows = await stored(tmp_path)
    assert "[credential]" in rows
    assert "Look up my mail" in rows
    assert tool["type"] in rows


async def test_a_gateways_key_in_the_body_is_not_stored(caller: Caller, tmp_path: Path) -> None:
    await caller.chat(extra_body={"api_key": NEVER_STORED})
    assert "Hi" in await stored(tmp_path)


async def test_a_request_that_never_became_one_does_not_store_its_credentials(caller: Caller, tmp_path: Path) -> None:
    def refuse() -> str:
        raise RuntimeError(f"no token today: sk-{NEVER_STORED}")

    client = Clients(caller).azure(azure_ad_token_provider=refuse)
    with pytest.raises(RuntimeError):
        await caller.settle(client.chat.completions.create, **HI)
    assert "no token today: [api key]" in await stored(tmp_path)


async def test_neither_the_log_nor_the_counts_tell_a_key(caller: Caller, tracer_log: list[logging.LogRecord]) -> None:
    caller.server.enqueue(reply.error(401, f"Incorrect API key provided: {KEY}"))
    with pytest.raises(openai.AuthenticationError):
        await caller.settle(caller.make_client(api_key=KEY).chat.completions.create, **HI)
    await tracer.flush()
    assert not tracer_log
    assert NEVER_STORED not in repr(tracer.stats())


async def test_a_users_own_transport_error_is_cleaned(caller: Caller, tmp_path: Path) -> None:
    httpx2 = pytest.importorskip("httpx2")  # what openai 3 is built on

    def fail(request: Any) -> Any:
        raise httpx2.ConnectError(f"cannot reach {request.url} as {request.headers['authorization']}", request=request)

    transport: Any = httpx2.MockTransport(fail)
    kind: Any = openai.DefaultAsyncHttpxClient if caller.is_async else openai.DefaultHttpxClient
    client = caller.make_client(api_key=NEVER_STORED, http_client=kind(transport=transport))
    with pytest.raises(openai.APIConnectionError):
        await caller.settle(client.chat.completions.create, **HI)
    assert "cannot reach " in await stored(tmp_path)
