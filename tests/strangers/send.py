"""Calls of a FakeOpenAI, recorded by other instrumentations and sent by OTLP.

``python -m tests.strangers.send NAME URL`` sends them to a collector, whose URL is as in
``OTEL_EXPORTER_OTLP_ENDPOINT``. Each instrumentation runs in a process of its own, as it patches the openai package.
``--write FILE`` collects here and writes what came, as OTLP's JSON: that is what ``tests/otlp/received`` holds.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.server
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import openai

from tracer.testing import FakeOpenAI, reply

TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather of a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


def main() -> None:
    """Do it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(INSTRUMENTATIONS))
    parser.add_argument("url", nargs="?")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    with FakeOpenAI() as api:
        os.environ.update(api.env())
        if options.write is None:
            run(options.name, api, options.url)
            return
        got: list[Any] = []
        with collector(got) as url:
            run(options.name, api, url)
        options.write.write_text(json.dumps(got, indent=1, ensure_ascii=False) + "\n", "utf-8")


def run(name: str, api: FakeOpenAI, url: str) -> None:
    """Make some calls, recorded by this instrumentation."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": f"by {name}"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{url}/v1/traces")))
    INSTRUMENTATIONS[name](provider)
    with provider.get_tracer("strangers").start_as_current_span("handle question") as span:
        span.set_attribute("session.id", "session-1")
        calls(api)
    provider.shutdown()


def calls(api: FakeOpenAI) -> None:
    """Plain, with tools, streamed, Responses, embeddings, and one that fails."""
    client = openai.OpenAI(max_retries=0)
    messages: list[Any] = [
        {"role": "system", "content": "You are brief."},
        {"role": "user", "content": "What is the capital of France?"},
    ]
    client.chat.completions.create(model="gpt-4o-mini", messages=messages, temperature=0.5, max_tokens=50)
    asked: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
    client.chat.completions.create(model="gpt-4o-mini", messages=asked, tools=TOOLS)
    for _chunk in client.chat.completions.create(
        model="gpt-4o-mini", messages=messages, stream=True, stream_options={"include_usage": True}
    ):
        pass
    client.responses.create(model="gpt-4o-mini", instructions="You are brief.", input="Name a river.")
    client.embeddings.create(model="text-embedding-3-small", input="a sentence", dimensions=4)
    api.enqueue(reply.error(503))
    with contextlib.suppress(openai.APIStatusError):
        client.chat.completions.create(model="overloaded", messages=messages)


def _openinference(provider: Any) -> None:
    from openinference.instrumentation.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument(tracer_provider=provider)


def _openllmetry(provider: Any) -> None:
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument(tracer_provider=provider)


def _genai(provider: Any) -> None:
    os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "gen_ai_latest_experimental"
    os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "SPAN_ONLY"
    from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument(tracer_provider=provider)


def _logfire(provider: Any) -> None:
    import logfire
    from opentelemetry import trace

    logfire.configure(send_to_logfire=False, console=False)
    for processor in provider._active_span_processor._span_processors:
        trace.get_tracer_provider().add_span_processor(processor)  # type: ignore[attr-defined]
    logfire.instrument_openai()


INSTRUMENTATIONS = {
    "openinference": _openinference,
    "openllmetry": _openllmetry,
    "genai": _genai,
    "logfire": _logfire,
}


class collector:  # noqa: N801 - a context manager
    """Serves OTLP on loopback, and appends each request, as JSON, to a list."""

    def __init__(self, got: list[Any]) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                got.append(_json_of(self.rfile.read(int(self.headers["content-length"])), self.headers))
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_args: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> str:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()


def _json_of(body: bytes, headers: Any) -> Any:
    import gzip

    from google.protobuf.json_format import MessageToDict
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    if headers.get("content-encoding") == "gzip":
        body = gzip.decompress(body)
    return _with_hex_ids(MessageToDict(ExportTraceServiceRequest.FromString(body), use_integers_for_enums=True))


def _with_hex_ids(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_hex_ids(item) for item in value]
    if isinstance(value, dict):
        return {
            key: base64.b64decode(item).hex() if key in ("traceId", "spanId", "parentSpanId") else _with_hex_ids(item)
            for key, item in value.items()
        }
    return value


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)
