"""Services that trace into PostgreSQL: real processes, killed, beside one another, and while the server is away."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

import tracer
from tests.postgres import MISSING, PostgresServer, find_binaries, running_server
from tracer.store.postgres._schema import SCHEMA_VERSION
from tracer.testing import FakeOpenAI

SERVICE = """
import asyncio, os, sys
import openai, tracer

async def main():
    tracer.set_tracking_uri(sys.argv[1])
    tracer.autolog()
    client = openai.AsyncOpenAI(base_url=sys.argv[2], api_key="sk-fake", max_retries=0)
    print("ready", flush=True)
    for line in sys.stdin:
        word = line.strip()
        if word == "fork":
            pid = os.fork()
            if pid == 0:
                client = openai.AsyncOpenAI(base_url=sys.argv[2], api_key="sk-fake", max_retries=0)
                await client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "child"}])
                await tracer.flush()
                os._exit(0)
            os.waitpid(pid, 0)
        elif word == "flush":
            left = await tracer.flush()
            print("flushed", left, flush=True)
        else:
            await client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": word}])
            print("done", flush=True)
    await client.close()

asyncio.run(main())
"""


class Service:
    def __init__(self, uri: str, server: FakeOpenAI) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVICE, uri, server.base_url],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.read()

    def ask(self, word: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        return "" if word == "fork" else self.read()

    def read(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if not line:
            _, errors = self.process.communicate(timeout=60)
            raise AssertionError(errors)
        return line

    def end(self) -> str:
        _, errors = self.process.communicate(timeout=60)
        return errors


def asked(uri: str) -> list[str]:
    """What the traces of a database were asked, in order of their words."""
    tracer.set_tracking_uri(uri)
    traces = tracer.sync.search_traces(max_results=1_000)
    return sorted(str(trace.data.spans[0].inputs["messages"][0]["content"]) for trace in traces)


def test_services_on_one_database_and_one_that_is_killed(postgres_uri: str, server: FakeOpenAI) -> None:
    first, second = Service(postgres_uri, server), Service(postgres_uri, server)
    for number in range(5):
        first.ask(f"a{number}")
        second.ask(f"b{number}")
    first.ask("fork")
    assert first.ask("flush") == "flushed True"
    first.process.send_signal(signal.SIGKILL)
    first.end()
    assert second.end() == ""
    assert asked(postgres_uri) == [*(f"a{n}" for n in range(5)), *(f"b{n}" for n in range(5)), "child"]


def test_doctor_says_what_is_there_and_changes_nothing(postgres_server: PostgresServer, postgres_uri: str) -> None:
    pytest.importorskip("click")

    def told(uri: str) -> str:
        command = [sys.executable, "-m", "tracer", "doctor", "--uri", uri]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    assert "without tables yet" in told(postgres_uri)
    assert "without tables yet" in told(postgres_uri)
    tracer.set_tracking_uri(postgres_uri)
    tracer.sync.search_traces()
    assert f"schema version {SCHEMA_VERSION} (this tracer has {SCHEMA_VERSION})" in told(postgres_uri).replace(
        "\n", " "
    )
    refused = told(postgres_server.uri("public", user="careful", password="not-shown"))
    assert "password authentication" in refused
    assert "not-shown" not in refused


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """A server that this test may kill."""
    if (binaries := find_binaries()) is None:
        pytest.skip(MISSING)
    pytest.importorskip("asyncpg")
    with running_server(binaries) as server:
        yield server


def test_a_service_goes_on_while_its_database_is_killed_and_loses_nothing(
    own_server: PostgresServer, server: FakeOpenAI
) -> None:
    uri = own_server.uri("public", user="tracer", password="not-asked-for")
    service = Service(uri, server)
    for number in range(3):
        service.ask(f"before{number}")
    own_server.kill()
    for number in range(3):
        service.ask(f"while{number}")
    own_server.start()
    service.ask("after")
    assert service.ask("flush") == "flushed True"
    errors = service.end()
    assert "not-asked-for" not in errors
    assert asked(uri) == ["after", *(f"before{n}" for n in range(3)), *(f"while{n}" for n in range(3))]
    assert "not-asked-for" not in json.dumps(tracer.get_tracking_uri().partition("@")[2])
