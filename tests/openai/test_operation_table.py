"""Which of the SDK's endpoints are traced: each POST endpoint is either in the table or left out on purpose."""

from __future__ import annotations

import re
from pathlib import Path

import openai
import pytest

from tests.sdk import requires_sdk
from tracer import _semconv as sc
from tracer.interpret.dispatch import OPERATIONS
from tracer.openai import _operations
from tracer.openai._operations import find_operation

RESOURCES = Path(openai.__file__).parent / "resources"
POSTED = re.compile(r'self\._(?:post|get_api_list)\(\s*(?:path_template\(\s*)?f?"([^"]+)"')

# No model answers these calls: they manage things, open another transport, count, or start work that OpenAI then runs.
LEFT_OUT = (
    "/agents",
    "/assistants",
    "/audio/voice_consents",
    "/audio/voices",
    "/batches",
    "/chat/completions",
    "/chatkit",
    "/containers",
    "/content_provenance_checks",
    "/conversations",
    "/evals",
    "/files",
    "/fine_tuning",
    "/live",
    "/models",
    "/organization",
    "/projects",
    "/realtime",
    "/responses/input_tokens",
    "/responses/{response_id}",
    "/safety",
    "/skills",
    "/threads",
    "/uploads",
    "/vaults",
    "/vector_stores",
    "/videos",
    "/webhook_endpoints",
)


def endpoints() -> set[str]:
    found: set[str] = set()
    for path in RESOURCES.rglob("*.py"):
        found.update(POSTED.findall(path.read_text()))
    return found


@requires_sdk("decisions")
def test_every_endpoint_of_the_sdk_is_traced_or_left_out_on_purpose() -> None:
    known = endpoints()
    assert len(known) > 100
    unknown = {
        path for path in known if find_operation("post", _filled(path)) is None and not path.startswith(LEFT_OUT)
    }
    assert unknown == set()


@requires_sdk("decisions")
def test_what_the_table_traces_is_in_the_sdk() -> None:
    source = "\n".join(path.read_text() for path in RESOURCES.rglob("*.py"))
    steps = [re.sub(r"\{\w+\}", "{", path) for _, path in _operations._OPERATIONS]
    in_sdk = re.sub(r"\{\w+\}", "{", source)
    assert [path for path in steps if f'"{path}"' not in in_sdk] == []


def _filled(path: str) -> str:
    return re.sub(r"\{\w+\}", "x_1", path)


def test_each_operation_has_a_reader() -> None:
    assert {operation.key for operation in _operations._OPERATIONS.values()} <= OPERATIONS.keys()


@pytest.mark.parametrize(
    ("method", "url", "key", "ids"),
    [
        ("POST", "/responses?beta=true", "responses", {}),
        ("get", "/responses/resp_1?beta=true&stream=true", "retrieved", {sc.RESPONSE_ID: "resp_1"}),
        ("post", "vector_stores/vs_1/search", "retrieval", {sc.DATA_SOURCE_ID: "vs_1"}),
        ("post", "/threads/t_1/runs", "runs", {sc.CONVERSATION_ID: "t_1"}),
        ("get", "/threads/t_1/runs/r_1", "runs", {sc.CONVERSATION_ID: "t_1", sc.RESPONSE_ID: "r_1"}),
        ("post", "/videos/v_1/remix", "videos", {}),
        ("get", "/videos/v_1", "videos", {sc.RESPONSE_ID: "v_1"}),
    ],
)
def test_path_names_the_operation_and_its_ids(method: str, url: str, key: str, ids: dict[str, str]) -> None:
    operation = find_operation(method, url)
    assert operation is not None
    assert (operation.key, dict(operation.attributes)) == (key, ids)


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("get", "/responses"),
        ("get", "/responses/resp_1/input_items"),
        ("post", "/responses/resp_1/cancel"),
        ("get", "/vector_stores/vs_1/search"),
        ("get", "/videos/v_1/content"),
        ("post", "/threads/t_1/runs/r_1"),
        ("get", "/threads/t_1/runs"),
        ("delete", "/videos/v_1"),
    ],
)
def test_housekeeping_is_no_operation(method: str, url: str) -> None:
    assert find_operation(method, url) is None
