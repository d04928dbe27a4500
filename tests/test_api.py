"""The public functions: what they refuse, what they raise, and that every kind of caller gets the same answers."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

import tracer
from tests.reading import last_trace
from tracer._runtime import runtime
from tracer.store import TraceQuery
from tracer.store.sqlite.store import SqliteStore

NOWHERE = "f" * 32


@pytest.fixture(
    params=["asyncio", pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"), "trio"],
)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


def record(name: str = "work", **tags: str) -> str:
    """Record a trace of one span and return its id."""
    with tracer.start_span(name) as span:
        if tags:
            tracer.update_current_trace(tags=tags)
    return span.trace_id


# --- every event loop -------------------------------------------------------------------------------------------------


async def test_what_ended_before_the_call_is_in_the_answer() -> None:
    for number in range(20):
        trace_id = record(str(number))
        assert (await tracer.get_trace(trace_id)).info.name == str(number)
    page = await tracer.search_traces(max_results=5)
    assert [trace.info.name for trace in page] == ["19", "18", "17", "16", "15"]
    rest = await tracer.search_traces(max_results=100, page_token=page.next_page_token)
    assert (len(rest), rest.next_page_token) == (15, None)


SLOW = " OR ".join(f"name RLIKE 'a*a*{letter}$'" for letter in "bcdefghijklmnopq")


def record_much() -> None:
    """Record enough for a search with SLOW to take many seconds."""
    for _ in range(300):
        record("a" * 900)
    tracer.sync.flush()


def readers_in_use() -> int:
    store = runtime.pipeline._worker.store
    assert isinstance(store, SqliteStore)
    assert store._database._readers is not None
    return store._database._readers.taken


async def test_a_search_that_takes_too_long_is_stopped_and_says_what_to_do() -> None:
    record_much()
    tracer.configure(read_timeout=0.2)
    with pytest.raises(tracer.ReadTimeoutError, match=r"longer than 0\.2 s .* raise read_timeout"):
        await tracer.search_traces(filter_string=SLOW)
    with pytest.raises(tracer.ReadTimeoutError):
        tracer.sync.search_traces(filter_string=SLOW)
    tracer.configure(read_timeout=60)
    assert len(await tracer.search_traces(max_results=5)) == 5


async def test_a_search_that_is_cancelled_is_stopped() -> None:
    record_much()
    for _ in range(3):
        with anyio.move_on_after(0.2) as scope:
            await tracer.search_traces(filter_string=SLOW)
        assert scope.cancelled_caught
    with anyio.fail_after(60):
        while readers_in_use():  # noqa: ASYNC110  the worker's loop gives no sign
            await anyio.sleep(0.005)
    assert len(await tracer.search_traces(max_results=5)) == 5
    assert tracer.stats().last_error is None


async def test_mlflows_names_are_taken_and_answered() -> None:
    with tracer.start_span("first"):
        tracer.update_current_trace(
            tags={"mlflow.traceName": "renamed"},
            metadata={"mlflow.trace.session": "s-1", "mlflow.trace.user": "u-1"},
        )
    record(a="1")
    [trace] = await tracer.search_traces(
        filter_string="tags.`mlflow.traceName` = 'renamed' AND metadata.`mlflow.trace.session` = 's-1'",
        order_by=["timestamp_ms DESC"],
    )
    assert (trace.info.name, trace.info.session_id, trace.info.user_id) == ("renamed", "s-1", "u-1")
    page = await tracer.search_traces(order_by=["attributes.status ASC", "timestamp ASC"], max_results=1)
    assert [trace.info.name for trace in page] == ["renamed"]


def test_search_traces_asks_what_a_query_holds() -> None:
    asked = inspect.signature(tracer.search_traces).parameters.values()
    fields = msgspec.structs.fields(TraceQuery)
    assert [(parameter.name, parameter.default) for parameter in asked] == [
        (field.name, field.default) for field in fields
    ]


async def test_tags_are_set_and_deleted() -> None:
    trace_id = record(a="1")
    await tracer.set_trace_tag(trace_id, "b", "")
    await tracer.delete_trace_tag(trace_id, "a")
    await tracer.delete_trace_tag(trace_id, "never there")
    assert (await tracer.get_trace(trace_id)).info.tags == {"b": ""}


async def test_traces_are_deleted() -> None:
    first, second, third = record(), record(), record()
    assert await tracer.delete_traces(first) == 1
    assert await tracer.delete_traces([second, NOWHERE]) == 1
    assert [trace.info.trace_id for trace in await tracer.search_traces()] == [third]
    assert await tracer.delete_traces(max_traces=5, experiment="Default") == 1


async def test_flush_writes_what_was_recorded() -> None:
    record()
    assert await tracer.flush()
    stats = tracer.stats()
    assert stats.queued == 0
    assert stats.accepted == stats.written == 2
    assert stats["written"] == stats.to_dict()["written"] == 2


async def test_a_read_that_is_cancelled_does_no_harm() -> None:
    trace_id = record()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await tracer.get_trace(trace_id)
    assert scope.cancelled_caught
    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(tracer.get_trace, trace_id)
        group.cancel_scope.cancel()
    assert (await tracer.get_trace(trace_id)).info.name == "work"


async def test_a_trace_that_was_never_stored_is_told() -> None:
    for call in (
        tracer.get_trace(NOWHERE),
        tracer.get_trace("no id at all"),
        tracer.set_trace_tag(NOWHERE, "a", "b"),
        tracer.delete_trace_tag(NOWHERE, "a"),
    ):
        with pytest.raises(tracer.TraceNotFoundError):
            await call


async def test_after_shutdown_all_is_closed_until_a_tracking_uri_is_set() -> None:
    uri = tracer.get_tracking_uri()
    trace_id = record()
    assert await tracer.shutdown() == 0
    for call in (
        tracer.get_trace(trace_id),
        tracer.search_traces(),
        tracer.set_trace_tag(trace_id, "a", "b"),
        tracer.delete_trace_tag(trace_id, "a"),
        tracer.delete_traces(trace_id),
        tracer.flush(),
    ):
        with pytest.raises(tracer.ClosedError, match="set_tracking_uri"):
            await call
    record("lost")
    assert tracer.stats().dropped["closed"] == 1
    assert await tracer.shutdown() == 0
    tracer.set_tracking_uri(uri)
    assert (await tracer.get_trace(trace_id)).info.name == "work"
    assert (await tracer.get_trace(record("again"))).info.name == "again"


async def test_a_shutdown_that_is_cancelled_goes_on() -> None:
    record()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await tracer.shutdown()
    assert scope.cancelled_caught
    assert await tracer.shutdown() == 0
    assert tracer.stats().queued == 0
    with pytest.raises(tracer.ClosedError):
        await tracer.search_traces()


async def test_an_experiment_holds_the_traces_that_begin_in_it() -> None:
    record("before")
    tracer.set_experiment("mine")
    trace_id = record("after")
    assert (await tracer.get_trace(trace_id)).info.experiment == "mine"
    assert [trace.info.name for trace in await tracer.search_traces("mine")] == ["after"]
    assert [trace.info.name for trace in await tracer.search_traces("Default")] == ["before"]


# --- without an event loop --------------------------------------------------------------------------------------------


def test_the_blocking_functions_do_the_same() -> None:
    trace_id = record(a="1")
    assert tracer.sync.flush(timeout=5)
    assert tracer.sync.get_trace(trace_id).info.tags == {"a": "1"}
    assert [trace.info.trace_id for trace in tracer.sync.search_traces()] == [trace_id]
    tracer.sync.set_trace_tag(trace_id, "b", "2")
    tracer.sync.delete_trace_tag(trace_id, "a")
    assert tracer.sync.get_trace(trace_id).info.tags == {"b": "2"}
    assert tracer.sync.delete_traces(trace_id) == 1
    with pytest.raises(tracer.TraceNotFoundError):
        tracer.sync.get_trace(trace_id)
    assert tracer.sync.shutdown() == 0
    with pytest.raises(tracer.ClosedError):
        tracer.sync.get_trace(trace_id)


def test_every_async_function_has_a_blocking_one() -> None:
    public = {name for name in tracer.__all__ if inspect.iscoroutinefunction(getattr(tracer, name))}
    assert public == set(tracer.sync.__all__)
    assert tracer.sync.__all__ == sorted(tracer.sync.__all__)
    for name in public:
        blocking, other = getattr(tracer.sync, name), getattr(tracer, name)
        assert inspect.signature(blocking) == inspect.signature(other)
        assert not inspect.iscoroutinefunction(blocking)


# --- what is refused --------------------------------------------------------------------------------------------------

WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "get_trace(None)": (lambda: tracer.sync.get_trace(None), "trace_id must be a non-empty string, got None"),  # type: ignore[arg-type]
    "get_trace('')": (lambda: tracer.sync.get_trace(""), "trace_id must be a non-empty string, got ''"),
    "set_trace_tag id": (
        lambda: tracer.sync.set_trace_tag(3, "a", "b"),  # type: ignore[arg-type]
        "trace_id must be a non-empty string, got 3",
    ),
    "set_trace_tag key": (
        lambda: tracer.sync.set_trace_tag(NOWHERE, "", "b"),
        "key must be a non-empty string, got ''",
    ),
    "set_trace_tag value": (
        lambda: tracer.sync.set_trace_tag(NOWHERE, "a", 3),  # type: ignore[arg-type]
        r"value must be a string, got 3; use str\(",
    ),
    "delete_trace_tag key": (
        lambda: tracer.sync.delete_trace_tag(NOWHERE, None),  # type: ignore[arg-type]
        "key must be a non-empty string, got None",
    ),
    "delete_traces()": (tracer.sync.delete_traces, "delete_traces needs trace_ids, experiment"),
    "delete_traces ids": (
        lambda: tracer.sync.delete_traces(5),  # type: ignore[arg-type]
        "trace_ids must be a list of trace ids, got 5",
    ),
    "delete_traces an id": (
        lambda: tracer.sync.delete_traces([5]),  # type: ignore[list-item]
        "trace_ids must be a non-empty string, got 5",
    ),
    "delete_traces experiment": (
        lambda: tracer.sync.delete_traces(experiment=5),  # type: ignore[arg-type]
        "experiment must be a non-empty string, got 5",
    ),
    "delete_traces max_traces": (
        lambda: tracer.sync.delete_traces(max_traces=0),
        "max_traces must be a whole number, at least 1, got 0",
    ),
    "delete_traces max_traces True": (
        lambda: tracer.sync.delete_traces(max_traces=True),
        "max_traces must be a whole number, at least 1, got True",
    ),
    "delete_traces max_timestamp_ms": (
        lambda: tracer.sync.delete_traces(max_timestamp_ms=1.5),  # type: ignore[arg-type]
        "max_timestamp_ms must be a whole number, at least 0, got 1.5",
    ),
    "flush timeout": (
        lambda: tracer.sync.flush("soon"),  # type: ignore[arg-type]
        "timeout must be a number of seconds, 0 or more, or None; got 'soon'",
    ),
    "flush negative": (lambda: tracer.sync.flush(-1), "timeout must be a number of seconds, 0 or more"),
    "shutdown None": (
        lambda: tracer.sync.shutdown(None),  # type: ignore[arg-type]
        "timeout must be a finite number of seconds, got None",
    ),
    "shutdown nan": (lambda: tracer.sync.shutdown(float("nan")), "timeout must be a number of seconds"),
    "thread_local": (
        lambda: tracer.get_last_active_trace_id("no"),  # type: ignore[arg-type]
        "thread_local must be True or False, got 'no'",
    ),
    "tracking uri": (lambda: tracer.set_tracking_uri("tracer.db"), "tracking_uri must be a URI, got 'tracer.db'"),
    "tracking uri None": (lambda: tracer.set_tracking_uri(None), "tracking_uri must be a string, got None"),  # type: ignore[arg-type]
    "experiment": (lambda: tracer.set_experiment(" "), "experiment must be a non-empty string, got ' '"),
    "autolog": (lambda: tracer.autolog(disable="yes"), "disable must be True or False, got 'yes'"),  # type: ignore[arg-type]
    "search tags": (
        lambda: tracer.sync.search_traces(tags={"a": 1}),  # type: ignore[dict-item]
        "tags must map strings to strings, got 'a': 1",
    ),
    "search max_results": (lambda: tracer.sync.search_traces(max_results=0), "max_results must be"),
    "search order_by": (lambda: tracer.sync.search_traces(order_by="shoe size"), "order_by must"),
    "search page_token": (lambda: tracer.sync.search_traces(page_token="x"), "page_token"),
    "search status": (lambda: tracer.sync.search_traces(status="GOOD"), "status must be"),
    "search since": (lambda: tracer.sync.search_traces(since="lately"), "since must be"),
}


@pytest.mark.parametrize(("call", "message"), WRONG.values(), ids=list(WRONG))
def test_a_wrong_argument_is_told_by_name_value_and_remedy(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(tracer.ConfigurationError, match=message):
        call()


def test_errors_are_also_what_python_calls_them() -> None:
    for error, base in (
        (tracer.ConfigurationError, ValueError),
        (tracer.MissingDependencyError, ImportError),
        (tracer.ClosedError, RuntimeError),
        (tracer.TraceNotFoundError, LookupError),
        (tracer.StoreError, Exception),
    ):
        assert issubclass(error, tracer.TracerError)
        assert issubclass(error, base)


async def test_what_was_read_is_a_copy() -> None:
    trace_id = record(a="1")
    first = await last_trace()
    first.info.tags["a"] = "changed"
    first.data.spans.clear()
    second = await tracer.get_trace(trace_id)
    assert second.info.tags == {"a": "1"}
    assert len(second.data.spans) == 1


# --- the package ------------------------------------------------------------------------------------------------------


def test_all_names_are_there_sorted_and_documented() -> None:
    assert tracer.__all__ == sorted(tracer.__all__)
    for name in tracer.__all__:
        assert inspect.getdoc(getattr(tracer, name)), f"{name} has no docstring"
    public = {name for name, value in vars(tracer).items() if not name.startswith("_") and callable(value)}
    assert public <= set(tracer.__all__)


@pytest.mark.parametrize("cls", [tracer.LiveSpan, tracer.Span, tracer.Trace, tracer.Stats])
def test_public_methods_are_documented(cls: type) -> None:
    for name, member in vars(cls).items():
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
            assert inspect.getdoc(member), f"{cls.__name__}.{name} has no docstring"


IMPORT = """
import ctypes  # of which some builds keep libffi's file open
import json, os, sys, threading

def descriptors():
    return os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []

before = len(descriptors())
import tracer
print(json.dumps({
    "modules": sorted({name.partition(".")[0] for name in sys.modules}),
    "threads": threading.active_count(),
    "files": os.listdir("."),
    "descriptors": len(descriptors()) - before,
}))
"""


def test_importing_starts_no_thread_opens_no_file_and_loads_neither_openai_nor_an_extra(tmp_path: Path) -> None:
    command = [sys.executable, "-c", IMPORT]
    answer = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    seen = json.loads(answer.stdout)
    assert (seen["threads"], seen["files"], seen["descriptors"]) == (1, [], 0)
    heavy = {"openai", "pydantic", "httpx", "httpx2", "lark", "starlette", "uvicorn", "aiosqlite", "trio", "pytest"}
    assert not heavy & set(seen["modules"])
