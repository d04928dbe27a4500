"""Switching on and off: the SDK's own processors go and come back, and nothing is imported that the user doesn't."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import json
import os
import subprocess
import sys
import textwrap
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import Runner, set_tracing_disabled
from agents.run import AgentRunner
from agents.tracing import TracingProcessor, add_trace_processor, custom_span, set_trace_processors, trace
from agents.tracing.processors import BackendSpanExporter, BatchTraceProcessor

import tracer
from tests.openai.agents.running import LocalModel, config, says, shape, weather_agent
from tests.openai.calling import only_trace, traces
from tests.reading import last_trace, stored_rows
from tracer.openai.agents._processor import TracerProcessor
from tracer.testing import FakeOpenAI, reply

INGEST = "/v1/traces/ingest"


class Users(TracingProcessor):
    """A processor of the user's."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def on_trace_start(self, trace: Any) -> None: ...

    def on_trace_end(self, trace: Any) -> None:
        self.names.append(trace.name)

    def on_span_start(self, span: Any) -> None: ...

    def on_span_end(self, span: Any) -> None: ...

    def shutdown(self) -> None: ...

    def force_flush(self) -> None: ...


def registered(provider: Any) -> list[Any]:
    return list(provider._multi_processor._processors)


@pytest.fixture
def own(server: FakeOpenAI) -> Iterator[BatchTraceProcessor]:
    """The SDK's own kind of processor, which posts to the fake server."""
    exporter = BackendSpanExporter(api_key="sk-fake", endpoint=server.url + INGEST, max_retries=0)
    yield BatchTraceProcessor(exporter)
    exporter.close()


def posts(server: FakeOpenAI) -> int:
    return len([request for request in server.requests if request.path == INGEST])


def test_own_exporter_posts_nothing_while_on_and_is_put_back(provider: Any, server: FakeOpenAI, own: Any) -> None:
    server.enqueue(reply.json_body(200, {}), path=INGEST)
    provider.register_processor(own)
    tracer.autolog()
    assert own not in registered(provider)
    with trace("W"):
        pass
    own.force_flush()
    assert posts(server) == 0
    tracer.autolog(disable=True)
    assert registered(provider) == [own]
    with trace("W"):
        pass
    own.shutdown()
    assert posts(server) == 1


def test_own_exporter_stays_beside_ours_if_asked(provider: Any, server: FakeOpenAI, own: Any) -> None:
    server.enqueue(reply.json_body(200, {}), path=INGEST)
    provider.register_processor(own)
    tracer.openai.autolog(disable_openai_agent_tracer=False)
    assert [type(each) for each in registered(provider)] == [BatchTraceProcessor, TracerProcessor]
    with trace("W"):
        pass
    own.shutdown()
    assert posts(server) == 1
    assert len(tracer.sync.search_traces()) == 1


def test_options_of_the_last_call_count(provider: Any, own: Any) -> None:
    provider.register_processor(own)
    for replace in (True, False, True):
        tracer.openai.autolog(disable_openai_agent_tracer=replace)
        assert (own in registered(provider)) is not replace
        assert [type(each) for each in registered(provider)].count(TracerProcessor) == 1
    tracer.autolog(disable=True)
    assert registered(provider) == [own]


def test_users_processors_stay_and_go_on_working(provider: Any) -> None:
    before, during = Users(), Users()
    add_trace_processor(before)
    tracer.autolog()
    add_trace_processor(during)
    with trace("on"):
        pass
    tracer.autolog(disable=True)
    with trace("off"):
        pass
    assert registered(provider) == [before, during]
    assert before.names == during.names == ["on", "off"]


def test_processors_that_the_user_sets_meanwhile_are_left_alone(provider: Any, own: Any) -> None:
    provider.register_processor(own)
    tracer.autolog()
    users = Users()
    set_trace_processors([users])
    tracer.autolog(disable=True)
    assert registered(provider) == [users]


def test_runner_is_as_it_was_after_disabling(provider: Any) -> None:
    before = dict(AgentRunner.__dict__)
    tracer.autolog()
    tracer.autolog()
    assert AgentRunner.__dict__["run"] is not before["run"]
    assert AgentRunner.run.__wrapped__ is before["run"]  # type: ignore[attr-defined]
    tracer.autolog(disable=True)
    assert dict(AgentRunner.__dict__) == before


async def test_enabling_twice_records_once(provider: Any, client: Any) -> None:
    tracer.autolog()
    tracer.autolog()
    await Runner.run(weather_agent(client), "Hi")
    assert len((await only_trace()).data.spans) == 5


async def test_nothing_is_recorded_after_disabling(provider: Any, client: Any) -> None:
    tracer.autolog()
    tracer.autolog(disable=True)
    await Runner.run(weather_agent(client), "Hi")
    assert await traces() == []


async def test_run_that_is_under_way_when_disabled_is_recorded_to_its_end(provider: Any) -> None:
    async def disable() -> None:
        tracer.autolog(disable=True)

    tracer.autolog()
    await Runner.run(weather_agent(None, model=LocalModel(says("Hello"), before=disable)), "Hi")
    found = await only_trace()
    assert shape(found)[0] == "AgentRunner.run AGENT"
    assert all(span.end_time_ns for span in found.data.spans)


async def test_another_librarys_wrapper_around_ours_survives(provider: Any, client: Any) -> None:
    tracer.autolog()
    ours = AgentRunner.run

    async def theirs(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await ours(self, *args, **kwargs)

    AgentRunner.run = theirs  # type: ignore[method-assign]
    try:
        tracer.autolog(disable=True)
        assert AgentRunner.run is theirs
        await Runner.run(weather_agent(client), "Hi")
        assert await traces() == []
        tracer.autolog()
        await Runner.run(weather_agent(client), "Hi")
        assert len((await only_trace()).data.spans) == 5
    finally:
        AgentRunner.run = ours  # type: ignore[method-assign]


@pytest.mark.parametrize("streamed", [False, True], ids=["run", "run_streamed"])
@pytest.mark.parametrize("how", ["environment", "call", "run", "run as dict"])
async def test_where_the_sdks_tracing_is_off_a_run_is_one_trace(
    provider: Any, client: Any, server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch, how: str, streamed: bool
) -> None:
    options: Any = config(tracing_disabled=how == "run")
    if how == "environment":
        monkeypatch.setenv("OPENAI_AGENTS_DISABLE_TRACING", "1")
    elif how == "call":
        set_tracing_disabled(True)
    elif how == "run as dict":
        options = {"tracing_disabled": True}
    tracer.autolog()
    agent = weather_agent(client)
    if streamed:
        result = Runner.run_streamed(agent, "What is the weather in Oslo?", run_config=options)
        assert tracer.get_current_active_span() is None
        async for _ in result.stream_events():
            pass
    else:
        await Runner.run(agent, "What is the weather in Oslo?", run_config=options)
    found = await only_trace()
    assert shape(found) == [
        f"AgentRunner.{'run_streamed' if streamed else 'run'} AGENT",
        "  AsyncResponses_1 CHAT_MODEL",
        "  look up UNKNOWN",
        "  AsyncResponses_2 CHAT_MODEL",
    ]
    root = found.data.spans[0]
    assert root.inputs == "What is the weather in Oslo?"
    assert "sunny in Oslo" in root.outputs
    assert str(root.status) == "OK"
    assert tracer.get_current_active_span() is None


async def test_capture_content_false_keeps_names_and_usage_and_no_text(
    provider: Any, client: Any, tmp_path: Path
) -> None:
    tracer.openai.autolog(capture_content=False)
    await Runner.run(weather_agent(client), "my-secret question")
    found = await last_trace()
    assert shape(found)[2] == "    Weather agent AGENT"
    assert found.data.spans[0].attributes["gen_ai.agent.name"] == "Weather agent"
    assert found.info.token_usage is not None
    assert "my-secret" not in stored_rows(tmp_path)


async def test_nothing_of_a_run_is_kept_alive(provider: Any, client: Any) -> None:
    tracer.autolog()

    class Words(str):
        """A string that can be referred to weakly."""

        __slots__ = ("__weakref__",)

    given = Words("Hi")
    seen = weakref.ref(given)
    await Runner.run(weather_agent(client, tools=[]), given)
    del given
    [processor] = registered(provider)
    for _ in range(3):
        await asyncio.sleep(0)
        gc.collect()
    assert seen() is None
    assert not processor._open
    assert not processor._by_id


def test_spans_that_never_end_are_not_retained(provider: Any) -> None:
    tracer.autolog()
    [processor] = registered(provider)

    def lose() -> None:
        with trace("W"):
            for _ in range(1000):
                custom_span("lost").start()
            gc.collect()
            assert len(processor._open) < 5

    contextvars.copy_context().run(lose)  # a span that never ends stays current in its context
    assert tracer.stats().open_spans >= 0


# --- imports --------------------------------------------------------------------------------------------------------


def run_script(source: str, folder: Path, *files: tuple[str, str]) -> dict[str, Any]:
    for name, text in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OPENAI_", "TRACER_"))}
    environment["PYTHONPATH"] = os.pathsep.join([str(folder), *sys.path])
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
    return {**found, "stderr": run.stderr}


def test_sdk_is_wired_when_it_is_imported_and_not_before(tmp_path: Path) -> None:
    found = run_script(
        """
        import json, sys
        import tracer
        tracer.set_tracking_uri("memory://")
        before = list(sys.meta_path)
        tracer.autolog()
        imported = "agents" in sys.modules
        import agents
        from agents.tracing import setup
        kinds = [type(each).__name__ for each in setup.GLOBAL_TRACE_PROVIDER._multi_processor._processors]
        with agents.trace("W"):
            pass
        restored = sys.meta_path == before
        tracer.autolog(disable=True)
        back = [type(each).__name__ for each in setup.GLOBAL_TRACE_PROVIDER._multi_processor._processors]
        loader = type(sys.modules["agents.run"].__spec__.loader).__name__
        print(json.dumps({"imported": imported, "kinds": kinds, "back": back, "loader": loader,
                          "traces": len(tracer.sync.search_traces()), "restored": restored}))
        """,
        tmp_path,
    )
    assert found == {
        "imported": False,
        "kinds": ["TracerProcessor"],
        "back": ["BatchTraceProcessor"],
        "loader": "SourceFileLoader",
        "traces": 1,
        "restored": True,
        "stderr": "",
    }


def test_disabling_before_the_import_leaves_no_hook(tmp_path: Path) -> None:
    found = run_script(
        """
        import json, sys
        import tracer
        before = list(sys.meta_path)
        tracer.autolog()
        tracer.autolog()
        added = len(sys.meta_path) - len(before)
        tracer.autolog(disable=True)
        print(json.dumps({"added": added, "restored": sys.meta_path == before}))
        """,
        tmp_path,
    )
    assert (found["added"], found["restored"]) == (1, True)


@pytest.mark.parametrize("first", ["autolog", "agents.run"])
def test_users_own_package_called_agents_is_left_alone(tmp_path: Path, first: str) -> None:
    lines = ["tracer.autolog()", "import agents.run"]
    source = "\n".join(["import json, tracer", *(lines if first == "autolog" else reversed(lines))])
    report = "\nprint(json.dumps({'value': agents.run.VALUE}))\ntracer.autolog(disable=True)"
    found = run_script(
        source + report, tmp_path, ("agents/__init__.py", ""), ("agents/run.py", "VALUE = 7\nclass AgentRunner: ...\n")
    )
    assert found == {"value": 7, "stderr": ""}


def test_import_that_fails_fails_as_it_would(tmp_path: Path) -> None:
    found = run_script(
        """
        import json, tracer
        tracer.autolog()
        errors = []
        for _ in range(2):
            try:
                import agents.run
            except Exception as error:
                errors.append(repr(error))
        print(json.dumps({"errors": errors}))
        """,
        tmp_path,
        ("agents/__init__.py", ""),
        ("agents/run.py", "raise OSError('no')\n"),
    )
    assert found["errors"] == ["OSError('no')", "OSError('no')"]
