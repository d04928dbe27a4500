"""The server's life: starting, stopping, threads, clients, the command line, the fixtures."""

from __future__ import annotations

import gc
import logging
import os
import socket
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import httpx
import openai
import pytest

from tracer import _exceptions
from tracer.testing import FakeClock, FakeOpenAI, SequentialIds, _server, reply
from tracer.testing.pytest_plugin import fake_clock, fake_openai, sequential_ids

__all__ = ["fake_clock", "fake_openai", "sequential_ids"]

MESSAGES: Any = [{"role": "user", "content": "Hi"}]
THREAD = "tracer-fake-openai"


def server_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD]


def say(client: openai.OpenAI) -> str | None:
    return client.chat.completions.create(model="m", messages=MESSAGES).choices[0].message.content


def test_nothing_is_left_of_a_stopped_server() -> None:
    before = server_threads()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with FakeOpenAI() as server:
            client = server.client()
            say(client)
            port = int(server.url.rpartition(":")[2])
            assert len(server_threads()) == len(before) + 1
        gc.collect()
    assert server_threads() == before
    assert client.is_closed()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_stopping_cuts_a_held_reply() -> None:
    errors: list[BaseException] = []

    def call(client: openai.OpenAI) -> None:
        try:
            say(client)
        except openai.APIConnectionError as error:
            errors.append(error)

    server = FakeOpenAI().start()
    client = openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0)
    server.enqueue(reply.held())
    caller = threading.Thread(target=call, args=[client])
    caller.start()
    server.wait_for_held()
    server.stop()
    caller.join()
    assert len(errors) == 1
    client.close()


def test_stop_may_come_twice_and_start_may_not() -> None:
    server = FakeOpenAI().start()
    with pytest.raises(RuntimeError, match="already running"):
        server.start()
    server.stop()
    server.stop()


def test_a_stopped_server_starts_again_on_its_port() -> None:
    server = FakeOpenAI()
    with server, server.client() as client:
        first = server.base_url
        say(client)
    with server, server.client() as client:
        assert server.base_url == first
        assert say(client) == "You said: Hi"
    assert len(server.requests) == 2


def test_a_taken_port_is_told_at_the_start(server: FakeOpenAI) -> None:
    port = int(server.url.rpartition(":")[2])
    with pytest.raises(OSError, match="in use"), FakeOpenAI(port=port):
        pass


async def test_async_server_closes_its_clients_even_when_cancelled() -> None:
    with anyio.CancelScope() as scope:
        async with FakeOpenAI() as server:
            client = server.async_client()
            await client.responses.create(model="m", input="Hi")
            thread = server._thread
            scope.cancel()
            await anyio.lowlevel.checkpoint()
    assert client.is_closed()
    assert thread is not None
    assert not thread.is_alive()


async def test_a_sync_server_serves_async_clients(server: FakeOpenAI) -> None:
    async with server.async_client() as client:
        assert (await client.responses.create(model="m", input="Hi")).output_text == "You said: Hi"


def test_requests_are_recorded_as_sent(server: FakeOpenAI, client: openai.OpenAI) -> None:
    client.chat.completions.create(
        model="m", messages=MESSAGES, extra_headers={"X-Mine": "1"}, extra_query={"a": "b"}, extra_body={"more": 2}
    )
    [request] = server.requests
    assert (request.method, request.path, request.query) == ("POST", "/v1/chat/completions", "a=b")
    assert (request.headers["x-mine"], request.headers["authorization"]) == ("1", "Bearer sk-fake")
    assert request.json == {"messages": MESSAGES, "model": "m", "more": 2}
    assert len(request.body) == int(request.headers["content-length"])


def test_a_body_that_is_not_json_is_recorded_and_refused(server: FakeOpenAI) -> None:
    response = httpx.post(f"{server.base_url}/chat/completions", content=b"\xff{")
    assert response.status_code == 400
    assert (server.requests[0].body, server.requests[0].json) == (b"\xff{", None)


def test_only_the_latest_requests_are_kept() -> None:
    with FakeOpenAI(max_recorded=2) as server:
        for number in range(3):
            httpx.get(f"{server.url}/{number}")
        assert [request.path for request in server.wait_for_requests(3)] == ["/1", "/2"]


def test_concurrent_callers_each_get_their_own_answer(server: FakeOpenAI, client: openai.OpenAI) -> None:
    def echo(number: int) -> str:
        return client.responses.create(model="m", input=f"number {number}").output_text

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(echo, range(64))) == [f"You said: number {number}" for number in range(64)]


def test_the_process_keeps_its_logging_as_it_was() -> None:
    names = ["uvicorn", "uvicorn.error", "uvicorn.access"]

    def settings() -> list[Any]:
        loggers = [logging.getLogger(name) for name in names]
        return [(each.level, list(each.handlers), each.propagate, each.disabled) for each in loggers]

    before = settings()
    with FakeOpenAI() as server, server.client() as client:
        say(client)
    assert settings() == before


def test_env_points_a_subprocess_to_the_server(server: FakeOpenAI) -> None:
    code = "import openai; print(openai.OpenAI().responses.create(model='m', input='Hi').output_text)"
    environment = {**os.environ, **server.env()}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    assert ran.stdout == "You said: Hi\n"


def test_importing_it_loads_neither_uvicorn_nor_openai_resources() -> None:
    code = "import sys, tracer.testing; print([m for m in ('uvicorn', 'starlette', 'pytest') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_without_uvicorn_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tracer.testing._uvicorn", raising=False)
    monkeypatch.delattr("tracer.testing._uvicorn", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(_exceptions.MissingDependencyError, match=r"openai-tracer\[testing\]"):
        FakeOpenAI().start()
    assert _server.FakeOpenAI is FakeOpenAI


def test_the_command_prints_its_url_and_serves_until_it_is_told_to_stop() -> None:
    command = [sys.executable, "-m", "tracer.testing", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with openai.OpenAI(base_url=url, api_key="k") as client:
            assert say(client) == "You said: Hi"
        process.terminate()
        _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, "")


def test_the_fixture_serves_clients_made_from_the_environment(fake_openai: FakeOpenAI) -> None:
    with openai.OpenAI() as client:
        assert say(client) == "You said: Hi"
    assert len(fake_openai.requests) == 1


def test_the_clock_stands_still_until_it_is_moved(fake_clock: FakeClock) -> None:
    start = fake_clock.time_ns()
    assert (fake_clock.time_ns(), fake_clock.perf_counter_ns()) == (start, 0)
    fake_clock.advance(1.5, ns=7)
    assert (fake_clock.time_ns() - start, fake_clock.perf_counter_ns()) == (1_500_000_007, 1_500_000_007)


def test_a_jump_of_the_wall_clock_leaves_the_monotonic_one_alone(fake_clock: FakeClock) -> None:
    fake_clock.set_wall(5)
    assert (fake_clock.time_ns(), fake_clock.perf_counter_ns()) == (5, 0)
    with pytest.raises(ValueError, match="can't be advanced by -1 ns"):
        fake_clock.advance(ns=-1)


def test_ids_count_from_one_each_kind_apart(sequential_ids: SequentialIds) -> None:
    assert sequential_ids.trace_id() == "0" * 31 + "1"
    assert sequential_ids.span_id() == "0" * 15 + "1"
    assert [sequential_ids.trace_id() for _ in range(15)][-1] == "0" * 30 + "10"


def test_ids_are_unique_across_threads(sequential_ids: SequentialIds) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: sequential_ids.span_id(), range(2000)))
    assert len(set(made)) == 2000
