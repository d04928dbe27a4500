"""Other tracing tools, each switched on as its documentation says, with its spans kept in this process."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

__all__ = ["PEERS", "Peer"]

Clients = Iterable[Any]


@dataclass
class Peer:
    """A tool in this process.

    `on` gets the clients of the test; a tool that patches classes ignores them. `off` is None where the tool has no way
    back (Traceloop's changes nothing in 0.62.4). `seen` tells how many spans of model calls the tool has made so far.
    """

    on: Callable[[Clients], object]
    off: Callable[[], object] | None
    seen: Callable[[], int]


def _collected() -> tuple[Any, Any, Callable[[], int]]:
    """Return a tracer provider of OpenTelemetry, its exporter, and what counts the spans in it."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider, exporter, lambda: len(exporter.get_finished_spans())


def openinference() -> Peer:
    from openinference.instrumentation.openai import OpenAIInstrumentor

    provider, _, seen = _collected()
    instrumentor = OpenAIInstrumentor()
    return Peer(lambda _: instrumentor.instrument(tracer_provider=provider), instrumentor.uninstrument, seen)


def traceloop() -> Peer:
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor

    provider, _, seen = _collected()
    instrumentor = OpenAIInstrumentor()
    return Peer(lambda _: instrumentor.instrument(tracer_provider=provider), instrumentor.uninstrument, seen)


def opentelemetry() -> Peer:
    from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor

    provider, _, seen = _collected()
    instrumentor = OpenAIInstrumentor()
    return Peer(lambda _: instrumentor.instrument(tracer_provider=provider), instrumentor.uninstrument, seen)


def logfire() -> Peer:
    return _logfire(lambda _: ())


def logfire_on_each_client() -> Peer:
    return _logfire(lambda clients: (list(clients),))


def logfire_on_subclasses() -> Peer:
    return _logfire(lambda clients: (list({type(client): None for client in clients}),))


def _logfire(targets: Callable[[Clients], tuple[Any, ...]]) -> Peer:
    import logfire
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    _, exporter, seen = _collected()
    logfire.configure(send_to_logfire=False, console=False, additional_span_processors=[SimpleSpanProcessor(exporter)])
    ways_back = contextlib.ExitStack()
    return Peer(
        lambda clients: ways_back.enter_context(logfire.instrument_openai(*targets(clients))), ways_back.close, seen
    )


def langfuse() -> Peer:
    from langfuse import Langfuse

    _, exporter, seen = _collected()
    Langfuse(public_key="pk", secret_key="sk", base_url="http://127.0.0.1:9", span_exporter=exporter, flush_at=1)

    def on(_: Clients) -> None:
        importlib.import_module("langfuse.openai")

    def exported() -> int:
        from langfuse import get_client

        get_client().flush()
        return seen()

    return Peer(on, None, exported)


def langsmith() -> Peer:
    from langsmith import Client
    from langsmith.wrappers import wrap_openai

    runs: list[str] = []

    class Kept(Client):
        def create_run(self, name: str, *_: Any, **__: Any) -> None:
            runs.append(name)

        def update_run(self, *_: Any, **__: Any) -> None: ...

    kept = Kept(api_url="http://127.0.0.1:9", api_key="k", auto_batch_tracing=False)

    def on(clients: Clients) -> None:
        for client in clients:
            wrap_openai(client, tracing_extra={"client": kept})

    return Peer(on, None, lambda: len(runs))


def sentry() -> Peer:
    import sentry_sdk
    from sentry_sdk.integrations.openai import OpenAIIntegration
    from sentry_sdk.transport import Transport

    spans: list[Any] = []

    class Kept(Transport):
        def capture_envelope(self, envelope: Any) -> None:
            spans.extend(span for item in envelope.items if item.type == "span" for span in item.payload.json["items"])

    def on(_: Clients) -> None:
        sentry_sdk.init(
            dsn="http://k@127.0.0.1:9/1",
            transport=Kept,
            traces_sample_rate=1.0,
            default_integrations=False,
            integrations=[OpenAIIntegration()],
        )

    def seen() -> int:
        current = sentry_sdk.get_current_scope().transaction
        if current is not None:  # spans are sent when the transaction ends
            current.__exit__(None, None, None)
        sentry_sdk.start_transaction(name="calls").__enter__()
        return len(spans)

    return Peer(on, None, seen)


def datadog() -> Peer:
    from ddtrace import patch
    from ddtrace.contrib.internal.openai.patch import unpatch
    from ddtrace.trace import TraceFilter
    from ddtrace.trace import tracer as datadogs

    spans: list[Any] = []

    class Kept(TraceFilter):
        def process_trace(self, trace: list[Any]) -> None:
            spans.extend(span for span in trace if span.name == "openai.request")

    datadogs.configure(trace_processors=[Kept()])
    return Peer(lambda _: patch(openai=True), unpatch, lambda: len(spans))


def all_at_once() -> Peer:
    """Those that patch classes, all of them; some can't be switched off below another one."""
    # Logfire silences OpenInference where that is below it.
    peers = [logfire(), openinference(), langfuse(), sentry(), datadog(), traceloop(), opentelemetry()]

    def on(clients: Clients) -> None:
        for peer in peers:
            peer.on(clients)

    return Peer(on, None, lambda: min(peer.seen() for peer in peers))


PEERS: dict[str, Callable[[], Peer]] = {
    "openinference": openinference,
    "logfire": logfire,
    "logfire on each client": logfire_on_each_client,
    "logfire on subclasses": logfire_on_subclasses,
    "langfuse": langfuse,
    "langsmith": langsmith,
    "sentry": sentry,
    "datadog": datadog,
    "traceloop": traceloop,
    "opentelemetry": opentelemetry,
    "all at once": all_at_once,
}
