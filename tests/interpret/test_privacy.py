from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.interpret.wire import records
from tracer.interpret import REDACTION_FAILED, WITHHELD, redact, withhold

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


def raising(text):
    raise RuntimeError(text)


@pytest.mark.parametrize("hook", [raising, lambda text: None, lambda text: b"x"], ids=["raises", "None", "bytes"])
def test_failing_hook_leaves_the_marker_and_is_counted(hook):
    assert redact(["a", {"k": "b"}, 3], [hook]) == ([REDACTION_FAILED, {"k": REDACTION_FAILED}, 3], 2)


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
