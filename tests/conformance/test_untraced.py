"""Management calls leave no span, and are as they would be without tracer."""

from __future__ import annotations

from pathlib import Path

from tests.conformance.corpus import Corpus, Record
from tests.conformance.replay import Replay
from tests.conformance.traced import Failures, run

MANAGEMENT = ("assistants", "batches", "containers", "conversations", "files", "fine_tuning", "models", "threads")


def is_management(record: Record) -> bool:
    """Calls that no version of tracer should trace: listing, polling, deleting, housekeeping."""
    resource = record.path.split("/")[2]
    polls = record.method == "GET" and resource in ("responses", "chat", "vector_stores")
    counts = record.path == "/v1/responses/input_tokens"
    sendable = record.request_encoding in (None, "json") and record.response_body is not None
    return (
        sendable
        and record.operation is None
        and not record.tells_an_end
        and (resource in MANAGEMENT or polls or counts)
    )


def test_management_call_leaves_no_span_and_is_undisturbed(corpus: Corpus, kind: str, tmp_path: Path) -> None:
    records = corpus.select(is_management)
    assert len(records) > 100
    untraced = run(Replay(corpus), records, kind, None)
    traced = run(Replay(corpus), records, kind, tmp_path)
    failures = Failures()
    for record in records:
        failures.compare(
            record,
            outcome=(repr(traced.outcomes[record.id].told()), repr(untraced.outcomes[record.id].told())),
            request=(traced.received[record.id], untraced.received[record.id]),
        )
    failures.check(traced)
    assert not traced.traces
    assert traced.stats.accepted == 0
    assert not traced.logged
