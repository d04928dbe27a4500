"""Runs the program of one library: ``python -m tests.beside.program NAME`` prints as JSON what was called and recorded.

The library talks to a `FakeOpenAI` in this process. For each way of calling that the program marks with `way`, the
requests that the server got are compared with the spans that tracer stored.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import os
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import tracer
from tests.beside.ways import WAYS, api
from tracer import _semconv as sc

_MODEL_CALLS = ("/chat/completions", "/completions", "/responses", "/embeddings")
_LOCAL = {"NO_PROXY": "*", "DO_NOT_TRACK": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}  # no other server is asked


def main(name: str) -> None:
    """Run a program and print a line for each way."""
    with tempfile.TemporaryDirectory() as home, api:
        os.environ.update({**_LOCAL, **api.env(), "HOME": home, "TRACER_TRACKING_URI": f"sqlite:///{home}/t.db"})
        os.environ["OPENAI_API_BASE"] = api.base_url  # what some libraries call it
        os.chdir(home)
        tracer.autolog()
        importlib.import_module(f"tests.beside.libraries.{name}")
        loop = asyncio.new_event_loop()  # one for all, since clients keep their connections
        asyncio.set_event_loop(loop)
        for what, function in WAYS.items():
            print(json.dumps({"way": what, **_measure(function, loop)}), flush=True)  # noqa: T201
        tracer.sync.shutdown()
    os._exit(0)  # some libraries leave threads that keep a process alive


def _measure(function: Callable[[], object], loop: asyncio.AbstractEventLoop) -> dict[str, Any]:
    api.clear()
    error = None
    try:
        result: Any = tracer.trace(function)()  # as a user's own function
        if inspect.isawaitable(result):
            loop.run_until_complete(result)
    except BaseException as raised:  # also of libraries that end the process
        error = f"{type(raised).__name__}: {raised}"
    calls = [request for request in api.requests if request.method == "POST" and request.path.endswith(_MODEL_CALLS)]
    spans = [
        span
        for trace in tracer.sync.search_traces(max_results=1000)
        for span in tracer.sync.get_trace(trace.info.trace_id).data.spans
        if sc.OPERATION in span.attributes
    ]
    tracer.sync.delete_traces(max_timestamp_ms=10**14)
    return {
        "calls": len(calls),
        "spans": len(spans),
        "traces": len({span.trace_id for span in spans}),
        "incomplete": sum(span.outputs is None or span.attributes.get(sc.FINISH) != "completed" for span in spans),
        "without_usage": sum(span.token_usage is None for span in spans),
        "error": error,
    }


if __name__ == "__main__":
    main(sys.argv[1])
