"""A database of very many traces, written by the store itself, with a complete text index; and one large trace."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import msgspec

import tracer
from tracer._models import SpanStatusCode, TraceState
from tracer.store import open_store
from tracer.store.batch import Batch, SpanRow, TracePatch
from tracer.store.process import current_process
from tracer.store.sqlite.store import SqliteStore

__all__ = ["RARE_WORD", "fill", "large_trace"]

RARE_WORD = "zanzibar"  # in one trace of ten thousand
DAYS = 30
BATCH = 2_000
STEP = 50_000  # rows that the text index takes at once
DAY_NS = 86_400 * 10**9
NOW_NS = 1_795_348_800 * 10**9  # so that every machine makes the same file

_MODELS = ("gpt-5", "gpt-5-mini", "gpt-4o", "gpt-4o-mini", "text-embedding-3-small", "o4-mini")
_NAMES = ("support_agent", "summarize", "AsyncCompletions", "AsyncResponses", "route", "extract", "rerank", "chat")
_TEXT = (
    "please explain how the queue of an asyncio service behaves when the database is locked and what the worker does "
    "with records that wait for their turn while a customer asks about an order that never arrived in the warehouse"
)
_WORDS = _TEXT.split()
_encode = msgspec.json.Encoder().encode


async def fill(path: Path, traces: int) -> None:
    """Write this number of traces, of one model call each, spread over `DAYS` days, and index their texts."""
    store = open_store(f"sqlite:///{path}")
    assert isinstance(store, SqliteStore)
    await store.open()
    made = _traces(random.Random(7), traces)
    while some := list(islice(made, BATCH)):
        patches, spans = zip(*some, strict=True)
        await store.write(Batch(process=current_process(), traces=list(patches), spans=list(spans)))
    while await store.index_text(STEP):
        pass
    await store.aclose()


def _traces(chance: random.Random, count: int) -> Iterator[tuple[TracePatch, SpanRow]]:
    process = current_process().process_id
    for number in range(count):
        yield _trace(chance, number, NOW_NS - DAYS * DAY_NS + number * (DAYS * DAY_NS // count), process)


def _trace(chance: random.Random, number: int, start: int, process: str) -> tuple[TracePatch, SpanRow]:
    words = [*chance.choices(_WORDS, k=24), RARE_WORD] if number % 10_000 == 5_000 else chance.choices(_WORDS, k=24)
    question, answer = " ".join(words[:12]), " ".join(words[12:])
    end = start + int(chance.lognormvariate(0.3, 0.8) * 1e9)
    failed, model = chance.random() < 0.03, chance.choice(_MODELS)
    used = {"input_tokens": chance.randint(20, 4_000), "output_tokens": chance.randint(1, 900)}
    trace_id, span_id = f"{chance.getrandbits(128):032x}", f"{chance.getrandbits(64):016x}"
    patch = TracePatch(
        trace_id=trace_id,
        process_id=process,
        start_time_ns=start,
        end_time_ns=end,
        experiment=("Default", "Evals", "Support")[number % 3],
        root_span_id=span_id,
        true_root=True,
        name=chance.choice(_NAMES),
        state=TraceState.ERROR if failed else TraceState.OK,
        request_preview=question,
        response_preview=None if failed else answer,
        session_id=f"session-{number // 20}" if number % 2 else None,
        user_id=f"user-{chance.randrange(5_000)}",
        tags={"env": "prod", "release": f"1.{number * 20 // 1_000_000}"} if number % 5 == 0 else {},
    )
    span = SpanRow(
        trace_id=trace_id,
        span_id=span_id,
        name="AsyncCompletions",
        span_type="CHAT_MODEL",
        operation="chat",
        start_time_ns=start,
        end_time_ns=end,
        status_code=SpanStatusCode.ERROR if failed else SpanStatusCode.OK,
        finish="failed" if failed else "completed",
        model=model,
        inputs=_encode({"model": model, "messages": [{"role": "user", "content": question}]}),
        outputs=None if failed else _encode({"choices": [{"message": {"role": "assistant", "content": answer}}]}),
        attributes=_encode({"gen_ai.request.model": model, "gen_ai.usage.input_tokens": used["input_tokens"]}),
        usage=None if failed else {**used, "total_tokens": sum(used.values())},
        cost=None if failed else sum(used.values()) * 1e-6,
        counted=not failed,
        text=f"{question}\n{answer}",
    )
    return patch, span


async def large_trace(path: Path, spans: int) -> str:
    """Record a trace of this number of spans, ten below each step of an agent; return its id."""
    tracer.set_tracking_uri(f"sqlite:///{path}")
    with tracer.start_span("long_agent", span_type=tracer.SpanType.AGENT) as root:
        made = 1
        while made < spans:
            with tracer.start_span(f"step {made // 10}", span_type=tracer.SpanType.CHAIN) as step:
                step.set_inputs({"step": made // 10, "notes": " ".join(_WORDS[:12])})
                made += 1
                for _ in range(min(9, spans - made)):
                    with tracer.start_span("look_up", span_type=tracer.SpanType.TOOL) as tool:
                        tool.set_inputs({"order": f"A-{made}"})
                        tool.set_outputs({"state": "under way", "text": " ".join(_WORDS)})
                    made += 1
    await tracer.flush(60)
    return root.trace_id
