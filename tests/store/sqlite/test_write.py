"""What `write_batch` makes of rows that come in several batches, late, twice, or from several processes."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tests.store.rows import SECOND, START, batch, patch, running, simple, span, span_id, started, trace_id
from tracer import _semconv as sc
from tracer._models import TraceState
from tracer.store import ChunkRow, ProcessRow, SpanRow
from tracer.store.batch import Batch, LossRow, MediaRow
from tracer.store.sqlite._schema import migrate
from tracer.store.sqlite._write import write_batch

OTHER = ProcessRow(process_id="other", host="h", pid=7, started="s")


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        yield connection


def read(database: sqlite3.Connection, sql: str) -> Any:
    """The rows; of one row the row, of one column the value."""
    rows = [row[0] if len(row) == 1 else row for row in database.execute(sql).fetchall()]
    return rows[0] if len(rows) == 1 else rows


def child(number: int, **changes: Any) -> SpanRow:
    return span(1, span_id=span_id(number), parent_id=span_id(1), **changes)


# --- spans ------------------------------------------------------------------------------------------------------------


def test_a_start_after_its_end_takes_nothing_from_the_totals(database: sqlite3.Connection) -> None:
    write_batch(database, simple(1, usage={"input_tokens": 5}, counted=True))
    write_batch(database, batch([started(1, counted=False), child(2)], [running(1)]))
    assert read(database, "SELECT counted, input_tokens FROM spans WHERE parent_id IS NULL") == (1, 5)
    assert read(database, "SELECT input_tokens FROM traces") == 5


def test_a_later_start_overwrites_an_earlier_one(database: sqlite3.Connection) -> None:
    for name in ("first", "second"):
        write_batch(database, batch([started(1, name=name)], [running(1)]))
    assert read(database, "SELECT name FROM spans") == "second"


@pytest.mark.parametrize("count", [1, 2, 3, 255, 256, 257, 600])
def test_any_number_of_rows_is_written(database: sqlite3.Connection, count: int) -> None:
    write_batch(database, simple(*range(1, count + 1)))
    assert read(database, "SELECT count(*) FROM spans") == count


def test_a_column_that_only_a_later_row_fills_is_written(database: sqlite3.Connection) -> None:
    write_batch(database, batch([span(1), span(2, model="gpt-5")], [patch(1), patch(2)]))
    assert read(database, "SELECT model FROM spans ORDER BY span_id") == [None, "gpt-5"]


@pytest.mark.parametrize(("tokens", "stored"), [(2**63 - 1, 2**63 - 1), (2**63, None), (-(2**63) + 1, -(2**63) + 1)])
def test_a_number_that_sqlite_cannot_hold_is_left_out(
    database: sqlite3.Connection, tokens: int, stored: int | None
) -> None:
    write_batch(database, simple(1, usage={"input_tokens": tokens}))
    assert read(database, "SELECT input_tokens FROM spans") == stored


# --- traces -----------------------------------------------------------------------------------------------------------


def test_a_trace_without_root_begins_with_its_earliest_span(database: sqlite3.Connection) -> None:
    for second in (5, 3, 9):
        early = running(1, root_span_id=None, start_time_ns=START + second * SECOND)
        write_batch(database, batch([], [early]))
    assert read(database, "SELECT start_time_ns FROM traces") == START + 3 * SECOND
    write_batch(database, batch([], [running(1, start_time_ns=START + 4 * SECOND)]))
    write_batch(database, batch([], [running(1, root_span_id=None, start_time_ns=START)]))
    assert read(database, "SELECT start_time_ns FROM traces") == START + 4 * SECOND  # the root's


def test_the_default_experiment_does_not_replace_a_chosen_one(database: sqlite3.Connection) -> None:
    for experiment, stored in (("Evals", "Evals"), ("Default", "Evals"), (None, "Evals"), ("Support", "Support")):
        write_batch(database, batch([], [running(1, experiment=experiment)]))
        assert read(database, "SELECT experiment FROM traces") == stored


def test_of_two_roots_of_one_kind_the_first_stays(database: sqlite3.Connection) -> None:
    write_batch(database, batch([], [running(1, name="first")]))
    write_batch(database, batch([], [patch(1, root_span_id=span_id(2), name="second", state=TraceState.ERROR)]))
    assert read(database, "SELECT root_name, state, end_time_ns FROM traces") == ("first", "IN_PROGRESS", None)


def test_a_root_that_takes_over_clears_what_the_earlier_one_said(database: sqlite3.Connection) -> None:
    write_batch(database, batch([], [patch(1, true_root=False, request_preview="of the remote child")]))
    write_batch(database, batch([], [running(1, root_span_id=span_id(2))]))
    assert read(database, "SELECT root_span_id, request_preview, end_time_ns FROM traces") == (span_id(2), None, None)


def test_what_was_known_without_a_root_is_kept_by_the_first(database: sqlite3.Connection) -> None:
    write_batch(database, batch([], [running(1, root_span_id=None, request_preview="known")]))
    write_batch(database, batch([], [running(1)]))
    assert read(database, "SELECT request_preview FROM traces") == "known"


def test_an_interrupted_trace_belongs_to_the_process_that_goes_on_with_it(database: sqlite3.Connection) -> None:
    write_batch(database, batch([], [running(1)]))
    write_batch(database, batch([], [running(1, process_id="other")]))
    assert read(database, "SELECT process_id FROM traces") == running(1).process_id
    database.execute("UPDATE traces SET state = 'INTERRUPTED'")
    write_batch(database, batch([], [running(1, process_id="other")], process=OTHER))
    assert read(database, "SELECT process_id, state FROM traces") == ("other", "IN_PROGRESS")


def test_a_process_that_writes_has_not_ended(database: sqlite3.Connection) -> None:
    write_batch(database, batch(process=OTHER))
    database.execute("UPDATE processes SET ended_ns = 5")
    write_batch(database, batch(process=OTHER))
    assert read(database, "SELECT ended_ns FROM processes") is None


# --- totals -----------------------------------------------------------------------------------------------------------


def test_only_counted_spans_are_summed(database: sqlite3.Connection) -> None:
    used: dict[str, Any] = {"usage": {"input_tokens": 5}, "cost": 1.0, "model": "gpt-5"}
    write_batch(database, simple(1, counted=False, **used))
    assert read(database, "SELECT input_tokens, cost, models FROM traces") == (None, None, '["gpt-5"]')
    write_batch(database, batch([child(2, counted=True, **used), child(3, counted=False, **used)], [patch(1)]))
    assert read(database, "SELECT input_tokens, cost, models FROM traces") == (5, 1.0, '["gpt-5"]')


def test_two_spans_of_a_new_trace_in_one_batch_are_summed(database: sqlite3.Connection) -> None:
    spans = [child(number, counted=True, usage={"input_tokens": number}, model=f"m{number}") for number in (2, 3)]
    write_batch(database, batch(spans, [patch(1)]))
    assert read(database, "SELECT input_tokens FROM traces") == 5
    assert sorted(json.loads(read(database, "SELECT models FROM traces"))) == ["m2", "m3"]


def test_a_later_span_of_a_known_trace_is_summed_with_the_earlier(database: sqlite3.Connection) -> None:
    write_batch(database, simple(1, counted=True, usage={"input_tokens": 1}, model="a"))
    write_batch(database, batch([child(2, counted=True, usage={"input_tokens": 2})], [patch(1)]))
    write_batch(database, batch([child(3, model="b")], [patch(1)]))
    assert read(database, "SELECT input_tokens FROM traces") == 3
    assert sorted(json.loads(read(database, "SELECT models FROM traces"))) == ["a", "b"]


def test_the_first_token_counts_from_the_start_of_the_trace(database: sqlite3.Connection) -> None:
    attributes = msgspec.json.encode({sc.TIME_TO_FIRST_TOKEN: 0.25})
    late = span(1, start_time_ns=START + 3 * SECOND, model="m", attributes=attributes)
    write_batch(database, batch([late], [patch(1)]))  # one second after the trace
    alone = read(database, "SELECT time_to_first_token FROM traces")
    write_batch(database, batch([child(2, counted=True)], [patch(1)]))
    assert alone == pytest.approx(2.25)
    assert read(database, "SELECT time_to_first_token FROM traces") == pytest.approx(2.25)


# --- what belongs to spans --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ended", "left"),
    [
        ({"operation": "chat"}, 0),
        ({"operation": None}, 1),  # an end without what the span was: its own end is still to come
        ({"operation": None, "chunks": b"x", "chunk_encoding": "raw"}, 0),
        ({"operation": "chat", "end_time_ns": None}, 1),
    ],
)
def test_live_chunks_go_with_the_row_that_ends_their_span(
    database: sqlite3.Connection, ended: dict[str, Any], left: int
) -> None:
    chunks = [ChunkRow(trace_id(1), span_id(1), [(1, b"data: 1")])]
    write_batch(database, batch([started(1)], [running(1)], chunks))
    write_batch(database, batch([span(1, **ended)], [patch(1)]))
    assert read(database, "SELECT count(*) FROM live_chunks") == left


def test_a_medium_is_stored_once_and_linked_to_each_span(database: sqlite3.Connection) -> None:
    for number in (1, 2):
        whole = simple(number)
        whole.media = [
            MediaRow(trace_id=trace_id(number), span_id=span_id(number), hash="h", content_type="image/png", data=b"x")
        ] * 2
        write_batch(database, whole)
    assert read(database, "SELECT hash, size FROM media") == ("h", 1)
    assert read(database, "SELECT count(*) FROM span_media") == 2


def test_losses_and_drops_add_up(database: sqlite3.Connection) -> None:
    for moment, count in ((10, 2), (20, 3)):
        whole = batch([], [running(1, dropped={"chunks": count})], process=OTHER)
        whole.losses = [LossRow(reason="start", count=count, time_ns=moment)]
        write_batch(database, whole)
    assert read(database, "SELECT count, first_ns, last_ns FROM loss") == (5, 10, 20)
    assert json.loads(read(database, "SELECT dropped FROM traces")) == {"chunks": 5}


def test_how_far_a_ring_is_stored_never_goes_back(database: sqlite3.Connection) -> None:
    for position in (5, 9, 7):
        write_batch(database, Batch(process=OTHER, sources={"a.ring": position}))
    assert read(database, "SELECT batches FROM taken_over") == 9
