"""What becomes of spans, whatever a receiver answers; over HTTP and over gRPC alike."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.otlp.test_outgoing import span
from tracer._exceptions import ConfigurationError, MissingDependencyError
from tracer.otlp import sending
from tracer.otlp.endpoint import Endpoint, read_endpoint
from tracer.otlp.outgoing import Outgoing
from tracer.otlp.sending import Delivered, Sender, StoppedError, TryLaterError, deliver, make_sender

pytest.importorskip("opentelemetry.proto")
from tests.otlp.receiver import Receiver, Reply, grpc_receiver, http_receiver

AWAY = [Reply(503, "UNAVAILABLE"), Reply(429, "ABORTED"), Reply(502, "DEADLINE_EXCEEDED"), Reply(504, "DATA_LOSS")]
REFUSED = [Reply(400, "INVALID_ARGUMENT", message="no"), Reply(500, "INTERNAL"), Reply(422, "UNKNOWN")]
WRONG = [Reply(401, "UNAUTHENTICATED"), Reply(403, "PERMISSION_DENIED"), Reply(404, "UNIMPLEMENTED")]


def code(reply: Reply) -> str:
    return reply.code


@pytest.fixture(params=["http", "grpc"])
def receiver(request: pytest.FixtureRequest) -> Iterator[Receiver]:
    if request.param == "grpc":
        pytest.importorskip("grpc")
    with http_receiver() if request.param == "http" else grpc_receiver() as receiver:
        yield receiver


@pytest.fixture
async def sender(receiver: Receiver) -> AsyncIterator[Sender]:
    sender = make_sender(read_endpoint(receiver.url), {"x-key": "secret"})
    yield sender
    await sender.aclose()


def outgoing(*names: str, **fields: Any) -> list[Outgoing]:
    return [
        Outgoing(span=span(name=name, span_id=f"{number:016x}", **fields), experiment="e")
        for number, name in enumerate(names, 1)
    ]


async def sent(sender: Sender, spans: list[Outgoing]) -> list[Delivered]:
    told: list[Delivered] = []

    async def done(delivered: Delivered) -> None:
        told.append(delivered)

    await deliver(sender, spans, (), done, seconds=20)
    return told


async def test_spans_are_taken(sender: Sender, receiver: Receiver) -> None:
    spans = outgoing("a", "b")
    assert await sent(sender, spans) == [Delivered(spans)]
    assert receiver.names == ["a", "b"]
    assert receiver.headers[0]["x-key"] == "secret"


async def test_what_a_receiver_refused_in_part_is_told(sender: Sender, receiver: Receiver) -> None:
    receiver.replies = [Reply(refused=1, message="too old")]
    spans = outgoing("a", "b")
    assert await sent(sender, spans) == [Delivered(spans, 1, "too old")]


@pytest.mark.parametrize("reply", AWAY, ids=code)
async def test_a_receiver_that_is_busy_is_tried_later(sender: Sender, receiver: Receiver, reply: Reply) -> None:
    receiver.replies = [reply]
    with pytest.raises(TryLaterError, match=rf"answered ({reply.status}|{reply.code})") as raised:
        await sent(sender, outgoing("a"))
    assert raised.value.retry_after is None
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("named", ["UNAVAILABLE", "RESOURCE_EXHAUSTED"])
async def test_a_receiver_says_when_to_come_back(sender: Sender, receiver: Receiver, named: str) -> None:
    receiver.replies = [Reply(503, named, retry_after="7")]
    with pytest.raises(TryLaterError) as raised:
        await sent(sender, outgoing("a"))
    assert raised.value.retry_after == 7


@pytest.mark.parametrize("reply", REFUSED, ids=code)
async def test_what_is_refused_is_told_and_not_sent_again(sender: Sender, receiver: Receiver, reply: Reply) -> None:
    receiver.replies = [reply]
    spans = outgoing("a", "b")
    [told] = await sent(sender, spans)
    assert (told.spans, told.refused) == (spans, 2)
    assert reply.message in told.reason
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("reply", WRONG, ids=code)
async def test_a_wrong_token_or_address_refuses_no_span(sender: Sender, receiver: Receiver, reply: Reply) -> None:
    receiver.replies = [reply]
    with pytest.raises(StoppedError, match=rf"answered ({reply.status}|{reply.code})"):
        await sent(sender, outgoing("a"))


async def test_a_request_that_is_too_large_is_halved(sender: Sender, receiver: Receiver) -> None:
    receiver.decide = lambda spans: (
        Reply(413, "RESOURCE_EXHAUSTED") if len(spans) > 1 or spans[0].name == "b" else Reply()
    )
    told = await sent(sender, outgoing("a", "b", "c", "d"))
    assert [(each.spans[0].span.name, each.refused) for each in told] == [("a", 0), ("b", 1), ("c", 0), ("d", 0)]
    assert receiver.names == ["a", "c", "d"]


async def test_no_request_is_larger_than_receivers_take(
    sender: Sender, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "MAX_BYTES", 3_000)
    await sent(sender, outgoing("a", "b", "c", "d", attributes={"x": "y" * 1_000}))
    assert [len(spans) for spans in receiver.requests] == [2, 2]


async def test_what_was_taken_before_a_failure_is_told(
    sender: Sender, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "MAX_BYTES", 1)
    receiver.replies = [Reply(), Reply(503, "UNAVAILABLE")]
    told: list[Delivered] = []

    async def done(delivered: Delivered) -> None:
        told.append(delivered)

    with pytest.raises(TryLaterError):
        await deliver(sender, outgoing("a", "b", "c"), (), done)
    assert [each.spans[0].span.name for each in told] == ["a"]


async def test_a_span_that_cant_be_encoded_is_told_and_the_others_are_sent(sender: Sender, receiver: Receiver) -> None:
    spans = [*outgoing("early", start_time_ns=-5), *outgoing("b")]
    told = await sent(sender, spans)
    assert [(each.spans, each.refused) for each in told] == [(spans[:1], 1), (spans[1:], 0)]
    assert "'early' can't be encoded" in told[0].reason
    assert receiver.names == ["b"]


@pytest.mark.parametrize("scheme", ["http", "grpc"])
async def test_nobody_there_is_tried_later(scheme: str) -> None:
    if scheme == "grpc":
        pytest.importorskip("grpc")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    sender = make_sender(read_endpoint(f"{scheme}://127.0.0.1:{port}"), {})
    with pytest.raises(TryLaterError):
        await sent(sender, outgoing("a"))
    await sender.aclose()


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("http://localhost:4318", Endpoint(False, False, "http://localhost:4318/v1/traces")),
        ("https://host/api/otel/", Endpoint(False, True, "https://host/api/otel/v1/traces")),
        ("https://host/x/v1/traces", Endpoint(False, True, "https://host/x/v1/traces")),
        ("grpc://localhost", Endpoint(True, False, "localhost:4317")),
        ("grpcs://[::1]:443", Endpoint(True, True, "[::1]:443")),
    ],
)
def test_endpoints(text: str, endpoint: Endpoint) -> None:
    if endpoint.is_grpc:
        pytest.importorskip("grpc")
    assert read_endpoint(text) == endpoint


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (5, "must be a string, got 5"),
        ("localhost:4318", "must be an address, got 'localhost:4318'; use http://host:4318"),
        ("ftp://host", "must be an address"),
        ("http://", "must be an address"),
        ("http://host:port", "can't be read"),
        ("https://key@host", r"must have no user or token, got 'https://\*\*\*@host'; put it into otlp_headers"),
        ("http://host?a=b", "must have no options"),
        ("grpc://host/path", "must have no path over gRPC"),
    ],
)
def test_endpoints_that_are_none(text: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=f"otlp_endpoint {words}"):
        read_endpoint(text)


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"openai-tracer\[otlp\]"):
        read_endpoint("http://host")
