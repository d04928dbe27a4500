"""Built-in tools of the Responses API, through the real client: child spans for tools that OpenAI ran, else calls."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from typing import Any

import openai
import pytest

import tracer
from tests.openai.calling import Caller, finish, only_trace, traces
from tracer import Span, Trace
from tracer import _semconv as sc
from tracer.testing import FakeOpenAI, Reply, reply

MODES = ["sync", "asyncio"]
STREAM = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
MCP: Any = {"type": "mcp", "server_label": "deepwiki", "server_url": "https://example.com", "require_approval": "never"}
SECRET = "Zanzibar"

# For each tool: a question that uses it, and (name, type, inputs, outputs) of the spans that it leaves.
RAN: dict[str, tuple[dict[str, Any], list[tuple[Any, ...]]]] = {
    "web search": (
        {"input": "Search the web for cats", "tools": [{"type": "web_search"}]},
        [
            (
                "web_search",
                "RETRIEVER",
                {"type": "search", "query": "Search the web for cats", "queries": ["Search the web for cats"]},
                [{"type": "url", "url": "https://example.com/"}],
            )
        ],
    ),
    "file search": (
        {
            "input": "Search the files for cats",
            "tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}],
            "include": ["file_search_call.results"],
        },
        [
            (
                "file_search",
                "RETRIEVER",
                {"queries": ["Search the files for cats"]},
                [
                    {
                        "file_id": "file-000001",
                        "filename": "notes.md",
                        "score": 0.9,
                        "text": "Search the files for cats",
                        "attributes": {},
                    }
                ],
            )
        ],
    ),
    "code interpreter": (
        {
            "input": "Calculate 20 + 22",
            "tools": [{"type": "code_interpreter", "container": {"type": "auto"}}],
            "include": ["code_interpreter_call.outputs"],
        },
        [("code_interpreter", "TOOL", {"code": "print(sum([20, 22]))"}, [{"type": "logs", "logs": "42\n"}])],
    ),
    "mcp": (
        {"input": "Ask deepwiki about cats", "tools": [MCP]},
        [
            ("mcp_list_tools", "TOOL", {"server_label": "deepwiki"}, None),
            ("mcp.search", "TOOL", {"query": "Ask deepwiki about cats"}, "search found “Ask deepwiki about cats”."),
        ],
    ),
    "shell in a container": (
        {"input": "Show the directory", "tools": [{"type": "shell", "environment": {"type": "container_auto"}}]},
        [
            (
                "shell",
                "TOOL",
                {"commands": ["ls"], "max_output_length": None, "timeout_ms": None},
                [{"stdout": "notes.md\n", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}],
            )
        ],
    ),
}

# … and (name, arguments) of the call that the caller is to run.
ASKED: dict[str, tuple[dict[str, Any], tuple[str, Any]]] = {
    "shell": (
        {"input": "Show the directory", "tools": [{"type": "shell", "environment": {"type": "local"}}]},
        ("shell", {"commands": ["ls"], "max_output_length": None, "timeout_ms": None}),
    ),
    "local shell": (
        {"input": "Show the directory", "tools": [{"type": "local_shell"}]},
        ("local_shell", {"type": "exec", "command": ["ls"], "env": {}}),
    ),
    "patch": (
        {"input": "Write it to a file", "tools": [{"type": "apply_patch"}]},
        ("apply_patch", {"type": "create_file", "path": "notes.md", "diff": "+Write it to a file\n"}),
    ),
    "custom": ({"input": "Use sql", "tools": [{"type": "custom", "name": "sql"}]}, ("sql", "Use sql")),
}


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> Any:
    return request.param


async def respond(caller: Caller, *, stream: bool = False, **options: Any) -> Any:
    answer = await caller.settle(caller.client.responses.create, model="gpt-5", stream=stream, **options)
    return await caller.items(answer) if stream else answer


def tools_of(trace: Trace) -> list[Span]:
    root, *tools = trace.data.spans
    assert {tool.parent_id for tool in tools} <= {root.span_id}
    return tools


def lies_within(span: Span, parent: Span) -> bool:
    assert span.end_time_ns is not None
    assert parent.end_time_ns is not None
    return parent.start_time_ns <= span.start_time_ns <= span.end_time_ns <= parent.end_time_ns


@STREAM
@pytest.mark.parametrize("name", RAN)
async def test_tool_that_openai_ran_is_a_child_span(caller: Caller, name: str, stream: bool) -> None:
    options, expected = RAN[name]
    await respond(caller, stream=stream, **options)
    trace = await only_trace()
    tools = tools_of(trace)
    assert [(tool.name, tool.span_type, tool.inputs) for tool in tools] == [each[:3] for each in expected]
    for tool, (*_, outputs) in zip(tools, expected, strict=True):
        assert outputs in (None, tool.outputs)
        assert (finish(tool), tool.status.status_code) == ("completed", "OK")
        assert tool.get_attribute(sc.OPERATION_NAME) == "execute_tool"
        assert lies_within(tool, trace.data.spans[0])
    assert sc.TOOL_CALLS not in trace.data.spans[0].attributes


@STREAM
@pytest.mark.parametrize("name", ASKED)
async def test_tool_that_the_caller_is_to_run_is_a_tool_call_and_a_span_of_what_is_asked(
    caller: Caller, name: str, stream: bool
) -> None:
    options, (name_of_tool, arguments) = ASKED[name]
    await respond(caller, stream=stream, **options)
    trace = await only_trace()
    [call] = trace.data.spans[0].get_attribute(sc.TOOL_CALLS)
    assert call["name"] == name_of_tool
    assert call["id"].startswith("call_")
    assert (json.loads(call["arguments"]) if isinstance(arguments, dict) else call["arguments"]) == arguments
    [tool] = tools_of(trace)
    assert (tool.name.rpartition(".")[2], tool.inputs, tool.outputs) == (name_of_tool, arguments, None)
    assert (finish(tool), tool.status.status_code) == ("completed", "OK")
    assert tool.get_attribute(sc.TOOL_TYPE) == "function"
    assert tool.get_attribute(sc.TOOL_CALL_ID) == call["id"]
    assert lies_within(tool, trace.data.spans[0])


@STREAM
@pytest.mark.parametrize("kind", ["computer", "computer_use_preview"])
async def test_computer_is_a_span_of_what_the_caller_is_to_do(caller: Caller, kind: str, stream: bool) -> None:
    size = {"display_width": 9, "display_height": 9, "environment": "browser"} if kind != "computer" else {}
    await respond(caller, stream=stream, input="Click on OK", tools=[{"type": kind, **size}])
    trace = await only_trace()
    [tool] = tools_of(trace)
    click = {"type": "click", "button": "left", "x": 1, "y": 2}
    assert (tool.name, tool.inputs, tool.outputs) == ("computer_use", [click] if kind == "computer" else click, None)
    assert tool.get_attribute(sc.TOOL_TYPE) == "function"
    [call] = trace.data.spans[0].get_attribute(sc.TOOL_CALLS)
    assert (call["id"], call["name"]) == (tool.get_attribute(sc.TOOL_CALL_ID), "computer")


RESULTS: dict[str, dict[str, Any]] = {
    "shell": {
        "type": "shell_call_output",
        "output": [{"stdout": "a.txt", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}],
    },
    "patch": {"type": "apply_patch_call_output", "status": "completed", "output": "wrote notes.md"},
    "custom": {"type": "custom_tool_call_output", "output": "3 rows"},
}


@pytest.mark.parametrize("name", RESULTS)
async def test_result_that_the_caller_brings_is_input_of_the_next_call_and_no_span(caller: Caller, name: str) -> None:
    options, _ = ASKED[name]
    first = await respond(caller, **options)
    result = {**RESULTS[name], "call_id": first.output[0].call_id}
    second = await respond(caller, input=[result], previous_response_id=first.id, tools=options["tools"])
    assert "According to" in second.output_text
    _, last = await traces()
    assert tools_of(last) == []
    assert last.data.spans[0].inputs["input"] == [result]
    assert last.data.spans[0].get_attribute(sc.PREVIOUS_RESPONSE_ID) == first.id


async def test_approval_is_asked_for_in_one_call_and_its_tool_runs_in_the_next(caller: Caller) -> None:
    tool = {**MCP, "require_approval": "always"}
    first = await respond(caller, input="Ask deepwiki", tools=[tool])
    approval = {"type": "mcp_approval_response", "approval_request_id": first.output[-1].id, "approve": True}
    await respond(caller, input=[approval], previous_response_id=first.id, tools=[tool])
    asked, ran = await traces()
    assert [span.name for span in tools_of(asked)] == ["mcp_list_tools", "mcp_approval.search"]
    assert tools_of(asked)[1].inputs == {"query": "Ask deepwiki"}
    [request] = asked.data.spans[0].get_attribute(sc.MCP_APPROVAL_REQUESTS)
    assert request == {
        "id": first.output[-1].id,
        "name": "search",
        "arguments": '{"query":"Ask deepwiki"}',
        "server_label": "deepwiki",
    }
    assert [span.name for span in tools_of(ran)] == ["mcp_list_tools", "mcp.search"]


async def test_span_of_a_streamed_tool_lasts_as_long_as_its_events(caller: Caller) -> None:
    options, _ = RAN["code interpreter"]
    caller.server.enqueue(reply.default().delayed(between=0.002))
    await respond(caller, stream=True, **options)
    trace = await only_trace()
    root, tool = trace.data.spans
    events = {json.dumps(event.attributes["data"]): event.timestamp_ns for event in root.events}
    begun = [at for data, at in events.items() if "output_item.added" in data and "code_interpreter_call" in data]
    done = [at for data, at in events.items() if "output_item.done" in data and "code_interpreter_call" in data]
    assert [tool.start_time_ns, tool.end_time_ns] == [*begun, *done]
    assert lies_within(tool, root)
    phases = tool.get_attribute(sc.TOOL_PHASES)
    assert list(phases) == ["in_progress", "interpreting", "completed"]
    assert 0 < phases["in_progress"] < phases["interpreting"] < phases["completed"]


async def test_tool_of_a_stream_that_breaks_is_incomplete_and_keeps_what_came(caller: Caller) -> None:
    options, _ = RAN["shell in a container"]
    caller.server.enqueue(reply.default().failing(after_events=9, message="Overloaded."))
    stream = await caller.settle(caller.client.responses.create, model="gpt-5", stream=True, **options)
    with suppress(openai.APIError):  # which some versions of the SDK raise, where others give an event
        await caller.items(stream)
    root, tool = (await only_trace()).data.spans
    assert (finish(root), finish(tool)) == ("failed", "incomplete")
    assert tool.inputs["commands"] == ["ls"]
    assert tool.outputs[0]["stdout"] in "notes.md\n"
    assert tool.end_time_ns == root.end_time_ns


FAILED: dict[str, tuple[dict[str, Any], str]] = {
    "mcp": (
        {
            "type": "mcp_call",
            "server_label": "s",
            "name": "f",
            "arguments": "{}",
            "status": "failed",
            "output": None,
            "error": {"type": "http_error", "code": 500, "message": "It broke."},
        },
        "It broke.",
    ),
    "list": (
        {"type": "mcp_list_tools", "server_label": "s", "tools": [], "error": "No such server."},
        "No such server.",
    ),
    "search": ({"type": "web_search_call", "status": "failed", "action": {"type": "search"}}, "the tool call failed"),
}


@STREAM
@pytest.mark.parametrize(("item", "words"), FAILED.values(), ids=FAILED)
async def test_tool_that_failed_is_an_error_of_its_own(
    caller: Caller, item: dict[str, Any], words: str, stream: bool
) -> None:
    caller.server.enqueue(reply.output(item))
    await respond(caller, stream=stream, input="?")
    trace = await only_trace()
    [tool] = tools_of(trace)
    assert (finish(tool), tool.status.status_code, tool.status.description) == ("failed", "ERROR", words)
    assert (finish(trace.data.spans[0]), trace.info.state) == ("completed", "OK")


PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8


def drawn() -> Reply:
    image = base64.b64encode(PICTURE).decode()
    item = {"type": "image_generation_call", "status": "completed", "result": image, "revised_prompt": "a cat"}
    return reply.output({**item, "output_format": "png"})


@STREAM
async def test_picture_is_stored_once_and_both_spans_refer_to_it(caller: Caller, stream: bool) -> None:
    caller.server.enqueue(drawn())
    await respond(caller, stream=stream, input="Draw a cat", tools=[{"type": "image_generation"}])
    trace = await only_trace()
    [tool] = tools_of(trace)
    reference = tool.outputs["result"]
    assert reference.startswith("media://sha256/")
    assert trace.data.spans[0].outputs["output"][0]["result"] == reference
    assert (await trace.media(reference)).data == PICTURE
    assert tool.inputs == {"prompt": "a cat", "output_format": "png"}


@STREAM
async def test_citations_of_an_answer_are_an_attribute(caller: Caller, stream: bool) -> None:
    await respond(caller, stream=stream, **RAN["web search"][0])
    root = (await only_trace()).data.spans[0]
    [citation] = root.get_attribute(sc.CITATIONS)
    text = root.outputs["output"][-1]["content"][0]["text"]
    assert text[citation.pop("start_index") : citation.pop("end_index")] == "(https://example.com/)"
    assert citation == {"type": "url_citation", "url": "https://example.com/", "title": "Example Domain"}


@STREAM
async def test_summary_of_the_reasoning_is_an_attribute(caller: Caller, stream: bool) -> None:
    await respond(caller, stream=stream, input="Think", reasoning={"effort": "low", "summary": "auto"})
    root = (await only_trace()).data.spans[0]
    assert root.get_attribute(sc.REASONING) == "**Reading**\n\nThe question is: Think"


WITHOUT: dict[str, dict[str, Any]] = {
    "nothing is captured": {"capture_content": False},
    "it is redacted": {"redact": lambda text: text.replace(SECRET, "*")},
}


@STREAM
@pytest.mark.parametrize("settings", WITHOUT.values(), ids=WITHOUT)
async def test_what_a_tool_was_asked_is_not_stored_where(
    server: FakeOpenAI, mode: str, settings: dict[str, Any], stream: bool
) -> None:
    tracer.configure(**settings)
    tracer.autolog()
    container = {"type": "shell", "environment": {"type": "container_auto"}}
    tools = [{"type": "web_search"}, container, {**MCP, "require_approval": "always"}]
    asked = {"tools": tools, "reasoning": {"summary": "auto"}}
    async with Caller(server, is_async=mode != "sync") as caller:
        for words in ("Search the web", "Show the directory", "Use mcp"):
            await respond(caller, stream=stream, input=f"{words}: {SECRET}", **asked)
    found = await traces()
    names = [span.name for trace in found for span in tools_of(trace)]
    assert names == ["web_search", "shell", "mcp_list_tools", "mcp_approval.search"]
    told = repr([span for trace in found for span in trace.data.spans])
    assert SECRET not in told
    assert sc.REASONING in told
    assert ("Example Domain" in told) == ("redact" in settings)
