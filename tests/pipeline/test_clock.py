"""Ids: W3C's form, never twice, not even in a child that was forked while some lay ready."""

from __future__ import annotations

import os
import re
import threading

import pytest

from tracer.pipeline.clock import MADE_AT_ONCE, RandomIds


def test_ids_have_their_form_and_come_once() -> None:
    ids = RandomIds()
    traces = [ids.trace_id() for _ in range(3 * MADE_AT_ONCE)]
    spans = [ids.span_id() for _ in range(3 * MADE_AT_ONCE)]
    assert all(re.fullmatch("[0-9a-f]{32}", id_) for id_ in traces)
    assert all(re.fullmatch("[0-9a-f]{16}", id_) for id_ in spans)
    assert len(set(traces)) == len(traces)
    assert len(set(spans)) == len(spans)


def test_threads_that_ask_at_once_get_different_ones() -> None:
    ids = RandomIds()
    drawn: list[str] = []
    threads = [threading.Thread(target=lambda: drawn.extend([ids.span_id() for _ in range(20_000)])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(drawn)) == len(drawn) == 80_000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_has_other_ids_than_its_parent() -> None:
    ids = RandomIds()
    ids.trace_id(), ids.span_id()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, f"{ids.trace_id()} {ids.span_id()}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reading, 100).decode().split()
    os.close(reading)
    os.close(writing)
    assert len(theirs) == 2
    ours = [ids.trace_id() for _ in range(MADE_AT_ONCE)] + [ids.span_id() for _ in range(MADE_AT_ONCE)]
    assert not set(theirs) & set(ours)
