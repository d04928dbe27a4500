"""What a span costs ClickHouse and its client, and how long lists take: ``python -m benchmarks.clickhouse``.

ClickHouse's engine runs in this process (chdb), so its CPU time and the client's are one figure; the client's share is
measured apart, in its thread. CPU time is the figure; wall time is the machine's. The spans are those of
`benchmarks._span_batches`. ``--keep DIR`` leaves the database there, and asks it again if it is there already.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks._span_batches import QUERIES, batches, best
from tracer.store import Store, TraceQuery, open_store

_MORE: dict[str, dict[str, Any]] = {
    "oldest 50": {"order_by": "start_time asc"},
    "first token": {"order_by": "time_to_first_token desc"},
    "status, then time": {"order_by": ["status asc", "timestamp_ms desc"]},
    "most input tokens": {"order_by": "input_tokens desc"},
    "shortest": {"order_by": "duration asc"},
    "an experiment's longest": {"experiment": "e1", "order_by": "duration desc"},
    "a word, longest": {"text": "word123", "order_by": "duration desc"},
    "a common word, longest": {"text": "return", "order_by": "duration desc"},
    "a phrase": {"text": '"word123 word321"'},
    "a beginning": {"text": "word12", "text_prefix": True},
    "no such word": {"text": "neverwritten"},
}
_FILTERS = [
    "status = 'ERROR'", "name LIKE 'Async%'", "name ILIKE '%async%'", "name RLIKE '^A.*s$'", "user_id = 'u77'",
    "session_id IS NULL", "duration > 5", "cost > 0.003", "total_tokens > 1000", "model != 'gpt-1'",
    "model IN ('gpt-1', 'gpt-2')", "request LIKE '%asked%'", "tags.env = 'prod'", "metadata.m = 'x'",
    "feedback.good = true", "dropped.chunks > 0", "error LIKE '%limit%'", "tool = 'look_up'", "finish = 'failed'",
    "span.name = 'AsyncCompletions'", "span.type = 'TOOL'", "span.status = 'ERROR'", "span.model = 'gpt-1'",
    "span.duration > 9", "response_id = 'resp_0000'", "span.attributes.note LIKE '%word123 word%'",
    "span.attributes.nothing = 'x'", "text LIKE '%word123 word321%'", "span.content LIKE '%word123 word321%'",
    "trace_id LIKE '0123%'", "NOT (duration > 5 OR cost > 0.003)",
]  # fmt: skip


async def measure(directory: Path, spans: int, size: int) -> None:
    """Write the spans, unless there are some, then ask for lists."""
    store = open_store(f"chdb://{directory}")
    await store.open()
    if not (await store.storage()).rows["spans"]:
        cpu, wall, count = 0.0, 0.0, 0
        for batch in batches(spans, size):
            begun, told = time.process_time(), time.perf_counter()
            await store.write(batch)
            cpu, wall, count = (
                cpu + time.process_time() - begun,
                wall + time.perf_counter() - told,
                count + len(batch.spans),
            )
        held = (await store.storage()).file_bytes
        print(f"{count:,} spans in batches of {size:,}: {cpu / count * 1e6:.0f} us of CPU a span, client and engine, "
              f"{held / count:,.0f} bytes a span, {count / wall:,.0f} spans/s")  # fmt: skip
    await ask(store)
    await store.aclose()


async def ask(store: Store) -> None:
    """Print how long each list takes, and each question over all traces."""
    filters = {written: {"filter_string": written} for written in _FILTERS}
    for name, query in {**QUERIES, **_MORE, **filters}.items():
        print(f"{name:50} {await best(store, query):7.1f} ms", flush=True)
    trace_id = (await store.search_traces(TraceQuery(max_results=1)))[0].info.trace_id
    questions: dict[str, Any] = {
        "one trace": lambda: store.get_trace(trace_id),
        "page with spans": lambda: store.search_traces(TraceQuery(max_results=50)),
        "facets": lambda: store.facets(TraceQuery()),
        "histogram": lambda: store.histogram(TraceQuery()),
        "overview": lambda: store.overview(TraceQuery()),
        "sessions": lambda: store.sessions(TraceQuery()),
        "experiments": store.experiments,
    }
    for name, question in questions.items():
        begun = time.perf_counter()
        await question()
        print(f"{name:50} {(time.perf_counter() - begun) * 1e3:7.1f} ms", flush=True)


def main() -> None:
    """Run all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=500)
    parser.add_argument("--keep", type=Path)
    chosen = parser.parse_args()
    with contextlib.ExitStack() as stack:
        directory = chosen.keep
        if directory is None:
            directory = Path(tempfile.mkdtemp(prefix="tracer-chdb-"))
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
        asyncio.run(measure(directory.absolute(), chosen.spans, chosen.batch))


if __name__ == "__main__":
    main()
