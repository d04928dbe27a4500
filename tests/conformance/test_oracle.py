"""What tracer rebuilds from streams equals what the SDK's own accumulators make of the same chunks, where they work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from openai.lib.streaming.chat import ChatCompletionStreamState

from tests.conformance.corpus import Record
from tests.conformance.traced import Failures, Run

ENDS = {"response.completed", "response.incomplete", "response.failed", "response.cancelled"}


def test_streams_equal_the_sdks_own_accumulation(traced: Run) -> None:
    failures, compared = Failures(), Counter[str | None]()
    for record, span in traced.spans():
        chunks = traced.outcomes[record.id].received
        accumulate = _ACCUMULATORS.get(record.operation or "") if record.is_event_stream else None
        oracle = accumulate(chunks) if accumulate is not None else None
        failures.compare(record)
        if oracle is not None:
            compared[record.operation] += 1
            for path, got, wanted in _differences(_said(record, span.outputs), _said(record, oracle), "outputs"):
                failures.compare(record, **{path: (got, wanted)})
    failures.check(traced)
    assert compared["chat"] > 50, compared
    assert compared["responses"] > 40, compared


def _accumulate(chunks: list[Any]) -> Any:
    state: ChatCompletionStreamState[None] = ChatCompletionStreamState()
    try:
        for chunk in chunks:
            state.handle_chunk(chunk)
        return state.current_completion_snapshot.model_dump(warnings=False)
    except Exception:  # real streams that it can't read: see the corpus' README
        return None


def _last_response(chunks: list[Any]) -> Any:
    last = [chunk.response for chunk in chunks if chunk.type in ENDS]
    return last[-1].model_dump(by_alias=True, warnings=False) if last and last[-1].output else None


_ACCUMULATORS = {"chat": _accumulate, "responses": _last_response}


def _said(record: Record, outputs: Any) -> Any:
    """Return what can be compared: a whole response; for a chat, only what the model said.

    The SDK takes a chat's other fields from the first chunk alone, which is empty at Azure. A role that no chunk has is
    the assistant's.
    """
    if record.operation == "responses":
        return outputs
    kept = ("index", "message", "finish_reason", "logprobs")
    said = [{key: choice.get(key) for key in kept} for choice in outputs["choices"]]
    for choice in said:
        choice["message"] = {**choice["message"], "role": choice["message"].get("role") or "assistant"}
    return said


def _differences(got: Any, wanted: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """Walk two values; a null or empty field counts as missing, because the SDK fills in fields that no server sent."""
    if isinstance(got, dict) and isinstance(wanted, dict):
        for key in got.keys() | wanted.keys():
            yield from _differences(got.get(key), wanted.get(key), f"{path}.{key}")
    elif isinstance(got, list) and isinstance(wanted, list) and len(got) == len(wanted):
        for index, pair in enumerate(zip(got, wanted, strict=True)):
            yield from _differences(*pair, f"{path}[{index}]")
    elif got != wanted and (got or wanted) and not _added_up(got, wanted):
        yield path, got, wanted


def _added_up(got: Any, wanted: Any) -> bool:
    """Tell where the SDK joins what a server repeats in each delta: "assistantassistant", or a sum of token ids."""
    if isinstance(got, str) and isinstance(wanted, str) and got:
        return wanted == got * (len(wanted) // len(got))
    return isinstance(got, int) and isinstance(wanted, int)
