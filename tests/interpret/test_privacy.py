from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.interpret.wire import records
from tracer.interpret import REDACTION_FAILED, WITHHELD, redact, withhold
from tracer.interpret.privacy import (
    CREDENTIAL,
    MAX_DEPTH,
    hide_credentials,
    mentions_credentials,
    without_credentials,
)

TEXTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["content", "text", "x"]), inner),
)

REQUEST = {
    "model": "gpt-4o",
    "temperature": 0.5,
    "stream": True,
    "stop": None,
    "messages": [
        {"role": "user", "name": "Alice", "content": "my secret"},
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"who": "Bob"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "Bob's secret"},
    ],
    "tools": [{"type": "function", "function": {"name": "look_up", "description": "finds people"}}],
    "metadata": {"name": "Alice", "id": "passport 7", "type": "person"},
}


def test_texts_go_and_structure_stays():
    assert withhold(REQUEST) == {
        "model": "gpt-4o",
        "temperature": 0.5,
        "stream": True,
        "stop": None,
        "messages": [
            {"role": "user", "name": WITHHELD, "content": WITHHELD},
            {
                "role": "assistant",
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": WITHHELD}}
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": WITHHELD},
        ],
        "tools": [{"type": "function", "function": {"name": "look_up", "description": WITHHELD}}],
        "metadata": {"name": WITHHELD, "id": WITHHELD, "type": WITHHELD},
    }


def test_numbers_that_spell_out_content_go_too():
    logprob = {"token": "Hi", "bytes": [72, 105], "logprob": -0.5}
    assert withhold({"content": [logprob]}) == {"content": [{"token": WITHHELD, "bytes": WITHHELD, "logprob": -0.5}]}
    assert withhold({"input": [[1, 2], [3]]}) == {"input": [WITHHELD, WITHHELD]}
    assert withhold({"embedding": [0.1, 0.2], "index": 0}) == {"embedding": WITHHELD, "index": 0}


LABEL_KEYS = ["name", "id", "code", "reason", "status", "type", "role", "model", "object", "finish_reason", "size"]
USER_VALUES = st.recursive(
    st.text(min_size=1), lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(LABEL_KEYS), inner)
)


@given(USER_VALUES)
def test_no_text_of_a_users_value_is_taken_for_a_label(value):
    assert set(texts_of(withhold(value, labels=False))) <= {WITHHELD}


@given(USER_VALUES, st.sampled_from(["metadata", "parameters", "arguments", "schema", "anything"]))
def test_no_text_of_a_users_object_in_a_body_is_taken_for_a_label(value, key):
    tool = {"type": "function", "name": "look_up", key: value}
    assert set(texts_of(withhold({"tools": [tool], key: value}))) <= {"function", "look_up", WITHHELD}


def test_an_object_without_a_mark_where_openai_has_marked_ones_is_data():
    person = {"id": "passport 7", "name": "Alice"}
    hidden = {"id": WITHHELD, "name": WITHHELD}
    message = {"role": "tool", "content": [person]}
    assert withhold({"messages": [message], "input": person}) == {
        "messages": [{"role": "tool", "content": [hidden]}],
        "input": hidden,
    }


def test_code_and_reason_are_labels_in_an_error_and_incomplete_details_alone():
    body = {
        "object": "response",
        "status": "incomplete",
        "error": {"code": "server_error", "message": "Alice"},
        "incomplete_details": {"reason": "max_output_tokens"},
        "output": [{"type": "code_interpreter_call", "status": "completed", "code": "print('Alice')"}],
        "code": "Alice",
        "reason": "Alice",
    }
    assert withhold(body) == {
        "object": "response",
        "status": "incomplete",
        "error": {"code": "server_error", "message": WITHHELD},
        "incomplete_details": {"reason": "max_output_tokens"},
        "output": [{"type": "code_interpreter_call", "status": "completed", "code": WITHHELD}],
        "code": WITHHELD,
        "reason": WITHHELD,
    }


def test_names_of_tools_stay_in_responses_too():
    body = {
        "tools": [{"type": "function", "name": "look_up", "parameters": {"properties": {"name": {"type": "string"}}}}],
        "tool_choice": {"type": "function", "name": "look_up"},
        "output": [
            {"type": "function_call", "name": "look_up", "call_id": "c1", "arguments": "{}"},
            {"type": "mcp_list_tools", "tools": [{"name": "search", "description": "Search."}]},
        ],
        "text": {"format": {"type": "json_schema", "name": "Alice"}},
    }
    assert withhold(body) == {
        "tools": [{"type": "function", "name": "look_up", "parameters": {"properties": {"name": {"type": WITHHELD}}}}],
        "tool_choice": {"type": "function", "name": "look_up"},
        "output": [
            {"type": "function_call", "name": "look_up", "call_id": "c1", "arguments": WITHHELD},
            {"type": "mcp_list_tools", "tools": [{"name": "search", "description": WITHHELD}]},
        ],
        "text": {"format": {"type": "json_schema", "name": WITHHELD}},
    }


def test_long_text_under_a_structural_key_is_no_label():
    assert withhold({"id": "x" * 500}) == {"id": WITHHELD}


@given(TEXTS)
def test_no_text_survives_withholding(value):
    assert set(texts_of(withhold(value))) <= {WITHHELD}


def test_no_recorded_prompt_or_answer_survives_withholding():
    for record in records("chat", stream=False):
        request = record["request_json"]
        contents = [m["content"] for m in request["messages"] if isinstance(m.get("content"), str) and m["content"]]
        kept = set(texts_of(withhold(request))) | set(texts_of(withhold(json.loads(record["response_body"]))))
        assert not kept & {content for content in contents if len(content) > 20}


def texts_of(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from texts_of(inner)


def test_hooks_apply_in_order_to_each_text_and_not_to_keys():
    hooks = [lambda text: text.replace("secret", "s"), str.upper]
    assert redact({"secret": ["my secret", 1, None]}, hooks) == ({"secret": ["MY S", 1, None]}, 0)


def test_keys_that_are_no_names_of_fields_are_texts_too() -> None:
    hooks = [lambda text: text.replace("ada", "***")]
    value = {"ada": 1, "Ada's ada": {"ada@x": "ada"}, "bob ada": 2}
    assert redact(value, hooks) == ({"ada": 1, "Ada's ***": {"***@x": "***"}, "bob ***": 2}, 0)
    assert withhold({"user_id": 1, "ada@example.com": 2, "who is ada": {"x": 3}}, labels=False) == {
        "user_id": 1,
        WITHHELD: 2,
        f"{WITHHELD} (3)": {"x": 3},
    }


@pytest.mark.parametrize("number", [4111111111111111, -4111111111111111, 10**30])
def test_long_numbers_are_shown_to_the_hooks_as_texts(number: int) -> None:
    assert redact([number], [lambda text: text]) == ([number], 0)
    assert redact([number, 4111, True], [lambda text: text.replace("1", "x")])[0][0] == str(number).replace("1", "x")
    assert redact({"a": number}, [raising]) == ({"a": REDACTION_FAILED}, 1)


def raising(text):
    raise RuntimeError(text)


@pytest.mark.parametrize("hook", [raising, lambda text: None, lambda text: b"x"], ids=["raises", "None", "bytes"])
def test_failing_hook_leaves_the_marker_and_is_counted(hook):
    assert redact(["a", {"k": "b"}, 3], [hook]) == ([REDACTION_FAILED, {"k": REDACTION_FAILED}, 3], 2)


def test_text_file_in_a_data_url_is_shown_to_the_hooks_as_text() -> None:
    head = "data:text/plain;charset=utf-8;base64,"
    file = {"type": "input_file", "file_data": head + base64.b64encode(b"to ada@example.com").decode()}
    (redacted, failures) = redact(file, [lambda text: text.replace("ada@example.com", "[email]")])
    assert base64.b64decode(redacted["file_data"].removeprefix(head)) == b"to [email]"
    assert failures == 0
    picture = {"url": "data:image/png;base64,AAAA"}
    assert redact([file, picture], [lambda text: text]) == ([file, picture], 0)
    assert redact(f"{head}to ada@example.com", [lambda text: text.replace("ada", "*")])[0] == f"{head}to *@example.com"


def test_too_deep_to_redact_is_closed():
    value: object = "secret"
    for _ in range(5000):
        value = [value]
    redacted, failures = redact(value, [str.upper])
    assert failures == 1
    assert "secret" not in json.dumps(redacted)


@given(TEXTS)
def test_hooks_that_change_nothing_change_nothing(value):
    assert redact(value, [lambda text: text]) == (value, 0)


MCP_TOOL = {
    "type": "mcp",
    "server_label": "mail",
    "authorization": "Bearer s3cret",
    "headers": {"X-Key": "s3cret", "X-Other": "s3cret"},
}


def test_credentials_for_mcp_servers_go_and_the_rest_stays():
    hidden = {**MCP_TOOL, "authorization": CREDENTIAL, "headers": {"X-Key": CREDENTIAL, "X-Other": CREDENTIAL}}
    nested = {"input": [{"type": "tool_search_output", "tools": [MCP_TOOL]}], "tools": [MCP_TOOL]}
    assert json.loads(without_credentials(json.dumps(nested).encode())) == {
        "input": [{"type": "tool_search_output", "tools": [hidden]}],
        "tools": [hidden],
    }


@pytest.mark.parametrize(
    "body",
    [
        {"tools": [{"type": "function", "name": "f", "headers": {"a": "b"}}]},
        {"tools": [{"type": "mcp", "server_label": "mail", "headers": None, "authorization": None}]},
        {"input": "mcp"},
    ],
    ids=["other tool", "none given", "the word"],
)
def test_a_body_without_credentials_stays_the_same_bytes(body):
    data = json.dumps(body).encode()
    assert without_credentials(data) is data


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://mcp.example/sse", "https://mcp.example/sse"),
        ("https://a-long-name-of-a-host.mcp.example:8443/v1/sse", "https://a-long-name-of-a-host.mcp.example:8443/v1/sse"),
        ("https://user:s3cret@mcp.example/sse", f"https://{CREDENTIAL}@mcp.example/sse"),
        ("https://mcp.example/sse?key=s3cret&x=1", f"https://mcp.example/sse?{CREDENTIAL}"),
        ("https://mcp.example?key=s3cret", f"https://mcp.example?{CREDENTIAL}"),
        ("https://mcp.example/#s3cret", f"https://mcp.example/#{CREDENTIAL}"),
        ("https://mcp.example/s/s3crets3crets3crets3cret/mcp", f"https://mcp.example/s/{CREDENTIAL}/mcp"),
        ("user:s3cret@mcp.example", f"{CREDENTIAL}@mcp.example"),
        ("", ""),
    ],
)  # fmt: skip
def test_an_mcp_servers_url_keeps_its_address_alone(url: str, shown: str) -> None:
    body = {"tools": [{"type": "mcp", "server_label": "mail", "server_url": url}]}
    data = json.dumps(body).encode()
    kept = without_credentials(data)
    assert json.loads(kept)["tools"][0]["server_url"] == shown
    assert (kept is data) is (url == shown)
    assert mentions_credentials(data) is (url != shown)


def test_secrets_of_a_containers_network_policy_go() -> None:
    secret = {"domain": "api.example", "name": "KEY", "value": "s3cret"}
    policy = {"type": "allowlist", "allowed_domains": ["api.example"], "domain_secrets": [secret]}
    data = json.dumps({"tools": [{"type": "shell", "environment": {"network_policy": policy}}]}).encode()
    kept = json.loads(without_credentials(data))
    assert kept["tools"][0]["environment"]["network_policy"] == {
        **policy,
        "domain_secrets": [{**secret, "value": CREDENTIAL}],
    }
    assert mentions_credentials(data)
    assert not mentions_credentials(b'"domain_secrets": null, "domain_secrets": []')
    assert without_credentials(data[:-30], truncated=30).find(b"s3cret") == -1


def test_a_gateways_key_goes_and_a_schema_that_names_one_stays() -> None:
    body = {"api_key": "s3cret", "tools": [{"parameters": {"properties": {"api_key": {"type": "string"}}}}]}
    kept = json.loads(without_credentials(json.dumps(body).encode()))
    assert kept == {**body, "api_key": CREDENTIAL}


@pytest.mark.parametrize("value", [None, 3, "text", [3, None, "x"], {"value": "x"}, [{"value": None}]], ids=repr)
def test_secrets_of_another_shape_are_no_reason_to_fail(value: Any) -> None:
    assert not hide_credentials({"domain_secrets": value, "type": "mcp", "server_url": 3})


@pytest.mark.parametrize("tail", ["", ', "type": "mcp"}]}'])
@pytest.mark.parametrize("length", range(60, 180, 7))
def test_credentials_go_wherever_a_body_was_cut(length, tail):
    tool = {key: value for key, value in MCP_TOOL.items() if key != "type"}
    whole = (json.dumps({"model": "m", "tools": [tool]})[:-3] + tail).encode()
    kept = without_credentials(whole[:length], truncated=max(1, len(whole) - length))
    assert b"s3c" not in kept
    assert json.loads(kept)["model"] == "m" if kept != whole[:length] else True


def test_what_mentions_mcp_and_cannot_be_read_is_given_up():
    assert without_credentials(b'?{"type": "mcp", "authorization": "s3cret"}') == json.dumps(CREDENTIAL).encode()
    assert without_credentials(b'?{"type": "mcp"}') == b'?{"type": "mcp"}'


def test_hiding_credentials_copes_with_any_depth():
    value: dict[str, Any] = dict(MCP_TOOL)
    for _ in range(MAX_DEPTH * 20):
        value = {"inner": [value]}
    assert hide_credentials(value)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'"tools":[{"type":"mcp","authorization":"Bearer', True),
        (b'"tools":[{"type":"mcp","headers": {"X', True),
        (b'"tools":[{"type":"mcp","headers": null,"authorization":null}', False),
        (b'"tools":[{"type":"mcp","headers":{}}', False),
        (b'"tools":[{"type":"function","headers":{"a":"b"}}', False),
    ],
)
def test_a_part_of_a_stream_tells_whether_credentials_were_given(data, expected):
    assert mentions_credentials(data) is expected
