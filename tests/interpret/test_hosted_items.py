"""Output items: every kind that the SDK knows has been decided on, and is then what the decision says."""

from __future__ import annotations

import json
import typing
from typing import Any

import pytest
from openai.types import responses as sdk
from pydantic import BaseModel

from tests.interpret.wire import body, records, sse
from tests.interpret.wire import reads as reads_of
from tracer import _semconv as sc
from tracer.interpret.dispatch import interpret_request, interpret_response, interpret_stream
from tracer.interpret.items import ITEM_ROLES

SSE = "text/event-stream"

# --- the table --------------------------------------------------------------------------------------------------------


def kinds_of(union: Any) -> set[str]:
    """Return the values of ``type`` in a union of the SDK's models."""
    if typing.get_origin(union) is typing.Annotated or typing.get_origin(union) is typing.Union:
        return set().union(*(kinds_of(inner) for inner in typing.get_args(union) if inner is not type(None)))
    if isinstance(union, type) and issubclass(union, BaseModel):
        return set(typing.get_args(union.model_fields["type"].annotation))
    return set()  # the property info beside a union


def test_every_output_item_of_the_sdk_is_decided_on() -> None:
    known = kinds_of(sdk.ResponseOutputItem)
    assert {"message", "web_search_call", "mcp_call"} <= known
    assert known - ITEM_ROLES.keys() == set()


def test_every_output_item_of_the_betas_is_decided_on() -> None:
    beta = pytest.importorskip("openai.types.beta.beta_response_output_item", reason="this openai has no beta")
    assert kinds_of(beta.BetaResponseOutputItem) - ITEM_ROLES.keys() == set()


def test_every_item_of_a_realtime_conversation_is_decided_on() -> None:
    realtime = pytest.importorskip("openai.types.realtime.conversation_item", reason="this openai has no realtime")
    known = kinds_of(realtime.ConversationItem)
    assert "function_call" in known
    assert known - ITEM_ROLES.keys() == set()


def read(*output: dict[str, Any], **fields: Any) -> Any:
    return interpret_response("responses", body({"id": "r", "status": "completed", "output": list(output), **fields}))


@pytest.mark.parametrize("kind", ITEM_ROLES)
def test_an_item_is_what_the_table_says(kind: str) -> None:
    call = {"type": kind, "id": "i", "call_id": "c", "name": "f", "arguments": "{}"}
    view = read(call)
    asked, shown = bool(view.attributes.get(sc.TOOL_CALLS)), bool(view.children)
    approval = bool(view.attributes.get(sc.MCP_APPROVAL_REQUESTS))
    expected = {
        "asked": (True, False, False),
        "ran": (False, True, False),
        "both": (True, True, False),
        "either": (kind != "tool_search_call", True, False),
        "approval": (False, True, True),
    }
    assert (asked, shown, approval) == expected.get(ITEM_ROLES[kind], (False, False, False))


@pytest.mark.parametrize("kind", [kind for kind, role in ITEM_ROLES.items() if role == "either"])
def test_a_tool_that_may_run_on_either_side_ran_here_if_its_result_is_here(kind: str) -> None:
    result = f"{kind.removesuffix('_call') if kind == 'tool_search_call' else kind}_output"
    view = read({"type": kind, "call_id": "c"}, {"type": result, "call_id": "c", "output": "done"})
    assert sc.TOOL_CALLS not in view.attributes
    assert [(child.outputs, child.finish) for child in view.children] == [("done", "completed")]


def test_a_shell_in_openais_container_is_openais_even_before_it_answers() -> None:
    call = {"type": "shell_call", "call_id": "c", "action": {"commands": ["ls"]}}
    view = read({**call, "environment": {"type": "container_reference", "container_id": "cntr_1"}})
    (child,) = view.children
    assert (child.finish, child.attributes[sc.CONTAINER_ID]) == ("incomplete", "cntr_1")
    assert sc.TOOL_CALLS not in view.attributes
    view = read({**call, "environment": {"type": "local"}})
    assert ([child.finish for child in view.children], view.attributes[sc.TOOL_CALLS][0]["name"]) == (
        ["completed"],
        "shell",
    )


# --- what a child says ------------------------------------------------------------------------------------------------

SEARCH = {"type": "tool_search_call", "call_id": None, "execution": "server", "arguments": {"paths": ["f"]}}
FOUND = {"type": "tool_search_output", "call_id": None, "execution": "server"}
CHILDREN: dict[str, tuple[list[dict[str, Any]], tuple[Any, ...]]] = {
    "page opened": (
        [{"type": "web_search_call", "action": {"type": "open_page", "url": "u"}}],
        ("web_search", "RETRIEVER", {"type": "open_page", "url": "u"}, None, None, "completed"),
    ),
    "tool search without ids": (
        [SEARCH, {**FOUND, "tools": [{"name": "f"}]}, SEARCH, {**FOUND, "tools": []}],
        ("tool_search", "TOOL", {"paths": ["f"]}, [{"name": "f"}], None, "completed"),
    ),
    "program": (
        [{"type": "program", "call_id": "c", "code": "1"}, {"type": "program_output", "call_id": "c", "result": "1"}],
        ("program", "TOOL", {"code": "1"}, "1", None, "completed"),
    ),
    "program that waits for functions": (
        [{"type": "program", "call_id": "c", "code": "1"}],
        ("program", "TOOL", {"code": "1"}, None, None, "incomplete"),
    ),
    "incomplete": (
        [{"type": "mcp_call", "name": "f", "arguments": "{", "status": "incomplete"}],
        ("mcp.f", "TOOL", "{", None, None, "incomplete"),
    ),
    "agent": (
        [
            {"type": "multi_agent_call", "call_id": "c", "action": "spawn_agent", "arguments": '{"task": "t"}'},
            {"type": "multi_agent_call_output", "call_id": "c", "output": [{"type": "output_text", "text": "ok"}]},
        ],
        ("multi_agent.spawn_agent", "TOOL", {"task": "t"}, [{"type": "output_text", "text": "ok"}], None, "completed"),
    ),
    "patch that could not be applied": (
        [
            {"type": "apply_patch_call", "call_id": "c", "operation": {"type": "delete_file", "path": "a"}},
            {"type": "apply_patch_call_output", "call_id": "c", "status": "failed", "output": "no such file"},
        ],
        ("apply_patch", "TOOL", {"type": "delete_file", "path": "a"}, "no such file", "no such file", "failed"),
    ),
    "blocked picture": (
        [{"type": "image_generation_call", "status": "failed", "error": {"code": "blocked", "message": "No."}}],
        ("image_generation", "TOOL", {"prompt": None}, None, "No.", "failed"),
    ),
}


@pytest.mark.parametrize(("output", "expected"), CHILDREN.values(), ids=CHILDREN)
def test_child_says_what_ran_and_how_it_ended(output: list[dict[str, Any]], expected: tuple[Any, ...]) -> None:
    child = read(*output).children[0]
    assert (child.name, child.span_type, child.inputs, child.outputs, child.error, child.finish) == expected


@pytest.mark.parametrize(
    ("outcome", "error"),
    [({"type": "timeout"}, "a command ran into its time limit"), ({"type": "exit", "exit_code": 1}, None)],
)
def test_a_command_fails_by_its_time_limit_not_by_its_exit_code(outcome: Any, error: str | None) -> None:
    printed = {"stdout": "", "stderr": "no", "outcome": outcome}
    result = {"type": "shell_call_output", "call_id": "c", "output": [printed]}
    (child,) = read({"type": "shell_call", "call_id": "c", "action": {"commands": ["x"]}}, result).children
    assert (child.outputs, child.error) == ([printed], error)


def test_child_names_server_approval_and_kind_of_error() -> None:
    error = {"type": "http_error", "code": 424, "message": "424"}
    call = {"type": "mcp_call", "id": "i", "name": "f", "server_label": "s", "approval_request_id": "a", "error": error}
    assert read(call).children[0].attributes == {
        sc.OPERATION_NAME: "execute_tool",
        sc.TOOL_NAME: "f",
        sc.TOOL_TYPE: "extension",
        sc.TOOL_CALL_ID: "i",
        sc.MCP_SERVER_LABEL: "s",
        sc.MCP_APPROVAL_REQUEST_ID: "a",
        sc.ERROR_TYPE: "http_error",
    }


def test_who_runs_a_tool_is_its_tool_type() -> None:
    items = [{"type": kind} for kind in ("computer_call", "file_search_call", "web_search_call")]
    types = [child.attributes[sc.TOOL_TYPE] for child in read(*items).children]
    assert types == ["function", "datastore", "extension"]


@pytest.mark.parametrize(
    ("status", "finish"), [("completed", "completed"), ("incomplete", "incomplete"), ("failed", "incomplete")]
)
def test_a_tool_that_was_running_when_the_response_broke_off_is_incomplete(status: str, finish: str) -> None:
    view = read({"type": "code_interpreter_call", "code": "1", "status": "interpreting"}, status=status)
    assert view.children[0].finish == finish


# --- what is said beside ----------------------------------------------------------------------------------------------


def test_approval_that_is_asked_for_can_be_read_at_a_glance() -> None:
    view = read({"type": "mcp_approval_request", "id": "a", "name": "f", "server_label": "s", "arguments": '{"x": 1}'})
    assert view.attributes[sc.MCP_APPROVAL_REQUESTS] == [
        {"id": "a", "name": "f", "arguments": '{"x": 1}', "server_label": "s"}
    ]
    assert view.preview == view.text == 'to be approved: f({"x": 1})'


CITED = {"type": "url_citation", "url": "u", "title": "t", "start_index": 1, "end_index": 3}
FILE = {"type": "file_citation", "file_id": "f", "filename": "n", "index": 9}


def test_citations_have_one_form_in_both_apis() -> None:
    part = {"type": "output_text", "text": "abc", "annotations": [CITED, FILE]}
    view = read({"type": "message", "content": [part]})
    assert view.attributes[sc.CITATIONS] == [CITED, FILE]
    inner = {key: value for key, value in CITED.items() if key != "type"}
    annotation = {"type": "url_citation", "url_citation": {**inner, "content": "an excerpt"}}
    message = {"role": "assistant", "content": "abc", "annotations": [annotation]}
    plain = interpret_response("chat", body({"choices": [{"message": message, "finish_reason": "stop"}]}))
    chunks = [
        {"choices": [{"index": 0, "delta": {"content": "abc"}}]},
        {"choices": [{"index": 0, "delta": {"annotations": [annotation]}, "finish_reason": "stop"}]},
    ]
    streamed = interpret_stream("chat", sse(chunks), content_type=SSE)
    assert plain.attributes[sc.CITATIONS] == streamed.attributes[sc.CITATIONS] == [CITED]


@pytest.mark.parametrize("annotations", [None, "x", [None, 3], [{}], [{"type": 3, "url": None}]])
def test_odd_annotations_are_harmless(annotations: Any) -> None:
    view = read({"type": "message", "content": [{"type": "output_text", "text": "a", "annotations": annotations}]})
    assert (view.preview, view.attributes.get(sc.NOTE)) == ("a", None)


def test_reasoning_is_an_attribute_and_found_by_search_and_is_no_answer() -> None:
    summary = [{"type": "summary_text", "text": "First."}, {"type": "summary_text", "text": "Then."}]
    thought = {"type": "reasoning", "summary": summary, "encrypted_content": "gAAA"}
    answer = {"type": "message", "content": [{"type": "output_text", "text": "So."}]}
    view = read(thought, answer)
    assert view.attributes[sc.REASONING] == "First.\nThen."
    assert (view.preview, view.text) == ("So.", "So.\nFirst.\nThen.")
    assert read(thought).preview == "First. Then."
    raw = {**thought, "content": [{"type": "reasoning_text", "text": "All of it."}]}
    assert read(raw).attributes[sc.REASONING] == "All of it."
    assert sc.REASONING not in read(answer).attributes


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_of_compatible_chat_servers_is_an_attribute(field: str) -> None:
    message = {"role": "assistant", "content": "So.", field: "First."}
    view = interpret_response("chat", body({"choices": [{"message": message, "finish_reason": "stop"}]}))
    assert (view.attributes[sc.REASONING], view.preview, view.text) == ("First.", "So.", "So.\nFirst.")


RESULTS: dict[str, tuple[dict[str, Any], str]] = {
    "approved": ({"type": "mcp_approval_response", "approve": True}, "approved"),
    "refused": ({"type": "mcp_approval_response", "approve": False, "reason": "No."}, "not approved No."),
    "shell": ({"type": "shell_call_output", "output": [{"stdout": "a.txt", "stderr": "oh"}]}, "a.txt oh"),
    "screenshot": (
        {"type": "computer_call_output", "output": {"type": "computer_screenshot", "image_url": "data:x"}},
        "[computer_call_output]",
    ),
    "patch": ({"type": "apply_patch_call_output", "output": "done"}, "done"),
}


@pytest.mark.parametrize(("item", "preview"), RESULTS.values(), ids=RESULTS)
def test_results_that_the_caller_sends_can_be_read(item: dict[str, Any], preview: str) -> None:
    view = interpret_request("responses", body({"model": "m", "input": [{"call_id": "c", **item}]}))
    assert view.preview == preview


# --- times ------------------------------------------------------------------------------------------------------------


def event(kind: str, index: int = 0, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", "output_index": index, **fields}


def lifecycle(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", "response": {"id": "r", "status": kind, "output": [], **fields}}


def times(*events: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return (name, start, end, finish) of the children; events come at 100, 200, … ns."""
    view = interpret_stream("responses", sse(events, names=True, done=False), content_type=SSE)
    return [(child.name, child.start_time_ns, child.end_time_ns, child.finish) for child in view.children]


CODE = {"type": "code_interpreter_call", "id": "ci", "code": "1", "status": "completed"}
SHELL = {"type": "shell_call", "id": "sh", "call_id": "c", "action": {"commands": ["ls"]}, "status": "completed"}
PRINTED = {"type": "shell_call_output", "id": "so", "call_id": "c", "output": [], "status": "completed"}


def test_phases_of_a_tool_are_seconds_from_its_start() -> None:
    events = [
        event("output_item.added", item={**CODE, "status": "in_progress"}),
        event("code_interpreter_call.in_progress", item_id="ci"),
        event("code_interpreter_call_code.delta", item_id="ci", delta="1"),
        event("code_interpreter_call.interpreting", item_id="ci"),
        event("output_item.done", item=CODE),
        lifecycle("completed", output=[CODE]),
    ]
    times_ns = [(1_000_000_000 * number, data) for number, (_, data) in enumerate(sse(events, done=False))]
    (child,) = interpret_stream("responses", times_ns, content_type=SSE).children
    assert (child.start_time_ns, child.end_time_ns) == (0, 4_000_000_000)
    assert child.attributes[sc.TOOL_PHASES] == {"in_progress": 1.0, "interpreting": 3.0}


def test_a_tool_runs_until_its_result_is_there() -> None:
    assert times(
        event("output_item.added", item=SHELL),
        event("output_item.done", item=SHELL),
        event("output_item.added", 1, item=PRINTED),
        event("output_item.done", 1, item=PRINTED),
        lifecycle("completed", output=[SHELL, PRINTED]),
    ) == [("shell", 100, 400, "completed")]


@pytest.mark.parametrize("ids", [("same", "same"), (None, None)], ids=["the same", "none"])
def test_calls_that_their_ids_do_not_tell_apart_are_told_by_their_place(ids: tuple[Any, Any]) -> None:
    first, second = ({"type": "web_search_call", "id": item_id} for item_id in ids)
    assert times(
        event("output_item.added", 0, item=first),
        event("output_item.done", 0, item=first),
        event("output_item.added", 1, item=second),
        event("output_item.done", 1, item=second),
        lifecycle("completed", output=[first, second]),
    ) == [("web_search", 100, 200, "completed"), ("web_search", 300, 400, "completed")]


def test_calls_that_are_named_anew_in_the_last_event_keep_their_times() -> None:
    item = {"type": "web_search_call", "id": "ws_1"}
    assert times(
        event("output_item.added", item=item),
        event("output_item.done", item=item),
        lifecycle("completed", output=[{**item, "id": "ws_2"}]),
    ) == [("web_search", 100, 200, "completed")]


CUT_OFF: dict[str, tuple[list[dict[str, Any]], tuple[Any, ...]]] = {
    "amid its run": (
        [
            event("output_item.added", item={**CODE, "status": "in_progress"}),
            event("code_interpreter_call.interpreting"),
        ],
        ("code_interpreter", 200, None, "incomplete"),
    ),
    "right before its item was done": (
        [
            event("output_item.added", item={**CODE, "status": "in_progress"}),
            event("code_interpreter_call.completed"),
        ],
        ("code_interpreter", 200, 300, "completed"),
    ),
    "after a tool without a status had begun": (
        [event("output_item.added", item={"type": "mcp_list_tools", "id": "l", "tools": []})],
        ("mcp_list_tools", 200, None, "incomplete"),
    ),
    "before its result": (
        [
            event("output_item.added", item={**SHELL, "environment": {"type": "container_reference"}}),
            event("output_item.done", item={**SHELL, "environment": {"type": "container_reference"}}),
        ],
        ("shell", 200, None, "incomplete"),
    ),
    "amid its result": (
        [
            event("output_item.added", item=SHELL),
            event("output_item.done", item=SHELL),
            event("output_item.added", 1, item={**PRINTED, "status": "in_progress"}),
        ],
        ("shell", 200, None, "incomplete"),
    ),
}


@pytest.mark.parametrize(("events", "expected"), CUT_OFF.values(), ids=CUT_OFF)
def test_tool_of_a_stream_that_was_cut_off(events: list[dict[str, Any]], expected: tuple[Any, ...]) -> None:
    assert times(lifecycle("in_progress"), *events) == [expected]


def test_output_of_a_shell_that_was_cut_off_is_kept() -> None:
    done = [{"stdout": "b", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}]
    events = [
        lifecycle("in_progress"),
        event("output_item.done", item=SHELL),
        event("output_item.added", 1, item={**PRINTED, "status": "in_progress"}),
        event("shell_call_output_content.delta", 1, command_index=0, delta={"stdout": "a"}),
        event("shell_call_output_content.done", 1, command_index=0, output=done),
        event("shell_call_output_content.delta", 1, command_index=1, delta={"stdout": "x"}),
        event("shell_call_output_content.delta", 1, command_index=1, delta={"stdout": "y", "stderr": "z"}),
    ]
    (child,) = interpret_stream("responses", sse(events, names=True, done=False), content_type=SSE).children
    assert child.outputs == [done[0], {"stdout": "xy", "stderr": "z"}]


# --- recorded exchanges -----------------------------------------------------------------------------------------------

NAMES = {
    "web_search_call": "web_search",
    "file_search_call": "file_search",
    "code_interpreter_call": "code_interpreter",
    "image_generation_call": "image_generation",
    "computer_call": "computer_use",
    "mcp_list_tools": "mcp_list_tools",
    "tool_search_call": "tool_search",
    "program": "program",
}


SHOWN = {kind for kind, role in ITEM_ROLES.items() if role in ("ran", "both", "either", "approval")}


def events_of(record: dict[str, Any]) -> list[dict[str, Any]]:
    lines = [line[5:].strip() for line in record["response_body"].splitlines() if line.startswith("data:")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def expected_of(output: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Read (name, inputs, outputs, failed) of the tools in a record, in plain words."""
    found: list[tuple[Any, ...]] = []
    for item in output:
        kind = item["type"]
        failed = bool(item.get("error")) or item.get("status") == "failed"
        if kind == "mcp_call":
            found.append((f"mcp.{item['name']}", json.loads(item["arguments"]), item["output"], failed))
        elif kind == "web_search_call":
            action = dict(item.get("action") or {})
            sources = action.pop("sources", None)
            found.append(("web_search", action or None, sources, failed))
        elif kind == "image_generation_call":
            picture = {"output_format": item["output_format"], "result": item["result"]}
            keys = ("action", "background", "output_format", "quality", "size")
            given = {key: item[key] for key in keys if key in item}
            found.append(("image_generation", {"prompt": item["revised_prompt"], **given}, picture, failed))
        elif kind == "custom_tool_call":
            found.append((f"custom.{item['name']}", item["input"], None, failed))
        elif kind == "mcp_approval_request":
            found.append((f"mcp_approval.{item['name']}", json.loads(item["arguments"]), None, failed))
        elif kind in ("shell_call", "local_shell_call", "apply_patch_call"):
            answers = [answer["output"] for answer in output if answer.get("type") == f"{kind}_output"]
            asked_for = item.get("action") or item.get("operation")
            found.append((kind.removesuffix("_call"), asked_for, next(iter(answers), None), failed))
        elif kind == "tool_search_call" and item["execution"] == "client":
            found.append(("tool_search", item["arguments"], None, failed))
        elif kind == "tool_search_call":
            tools = [answer["tools"] for answer in output if answer["type"] == "tool_search_output"]
            found.append(("tool_search", item["arguments"], tools[sum(f[0] == "tool_search" for f in found)], failed))
        elif kind in NAMES:
            inputs: Any = {
                "file_search_call": {"queries": item.get("queries")},
                "code_interpreter_call": {"code": item.get("code")},
                "program": {"code": item.get("code")},
                "mcp_list_tools": {"server_label": item.get("server_label")},
                "computer_call": item.get("action"),
            }[kind]
            results = {"file_search_call": "results", "code_interpreter_call": "outputs", "mcp_list_tools": "tools"}
            found.append((NAMES[kind], inputs, item.get(results.get(kind, "")), failed))
    return found


def test_tools_of_every_recorded_response() -> None:
    seen = 0
    for record in records("responses", stream=False):
        output = json.loads(record["response_body"])["output"]
        view = interpret_response("responses", record["response_body"].encode())
        children = [(child.name, child.inputs, child.outputs, child.error is not None) for child in view.children]
        assert children == expected_of(output), record["id"]
        seen += len(children)
    assert seen > 60


def answered_behind(output: list[dict[str, Any]], place: int) -> bool:
    """Tell whether the next item is a call's result: it ends when that is there."""
    kind = output[place]["type"]
    result = "tool_search_output" if kind == "tool_search_call" else f"{kind}_output"
    return place + 1 < len(output) and output[place + 1]["type"] == result


def test_tools_of_every_recorded_stream_with_their_times() -> None:
    seen = 0
    for record in records("responses", stream=True):
        events = events_of(record)
        stamped = [(number, b"data: " + json.dumps(event).encode() + b"\n\n") for number, event in enumerate(events)]
        view = interpret_stream("responses", stamped, content_type=SSE)
        output: list[Any] = next(
            (e["response"]["output"] for e in reversed(events) if (e.get("response") or {}).get("output")), []
        )
        children = [(child.name, child.inputs, child.outputs, child.error is not None) for child in view.children]
        assert children == expected_of(output), record["id"]
        added = {e["output_index"]: n for n, e in enumerate(events) if e["type"] == "response.output_item.added"}
        done = {e["output_index"]: n for n, e in enumerate(events) if e["type"] == "response.output_item.done"}
        places = [place for place, item in enumerate(output) if item["type"] in SHOWN]
        ends = [place + 1 if answered_behind(output, place) else place for place in places]
        assert [(child.start_time_ns, child.end_time_ns) for child in view.children] == [
            (added[start], done[end]) for start, end in zip(places, ends, strict=True)
        ], record["id"]
        assert {child.finish for child in view.children} <= {"completed", "failed"}
        seen += len(children)
    assert seen > 20


@pytest.mark.parametrize("operation", ["chat", "responses"])
def test_citations_and_reasoning_of_every_recorded_exchange(operation: str) -> None:
    cited = thought = 0
    for record in records(operation):
        view = interpret_record(operation, record)
        citations, thoughts = said_beside(operation, record)
        got = view.attributes.get(sc.CITATIONS, [])
        assert [each.get("url") or each.get("file_id") for each in got] == citations, record["id"]
        assert view.attributes.get(sc.REASONING, "") == thoughts[:16_000], record["id"]
        cited, thought = cited + len(citations), thought + bool(thoughts)
    assert cited > 15
    assert thought > 30


def interpret_record(operation: str, record: dict[str, Any]) -> Any:
    if record["stream"]:
        return interpret_stream(operation, reads_of(record), content_type=record["response_content_type"])
    return interpret_response(operation, record["response_body"].encode())


def said_beside(operation: str, record: dict[str, Any]) -> tuple[list[str], str]:
    """Return what a record cites, and its reasoning."""
    bodies = events_of(record) if record["stream"] else [json.loads(record["response_body"])]
    if operation == "responses":
        final = next((e["response"] for e in reversed(bodies) if "response" in e), bodies[-1])
        parts = [p for i in final["output"] if i["type"] == "message" for p in i["content"]]
        notes = [a for part in parts for a in part.get("annotations") or []]
        told = [i.get("content") or i.get("summary") for i in final["output"] if i["type"] == "reasoning"]
        texts = ["\n".join(part["text"] for part in each if part["text"]) for each in told if each]
        return [a.get("url") or a["file_id"] for a in notes], "\n\n".join(text for text in texts if text)
    choices = [choice for each in bodies for choice in each.get("choices") or []]
    messages = [choice.get("message") or choice.get("delta") or {} for choice in choices]
    notes = [a["url_citation"]["url"] for message in messages for a in message.get("annotations") or []]
    content = "".join(message.get("reasoning_content") or "" for message in messages)
    return notes, content or "".join(message.get("reasoning") or "" for message in messages)
