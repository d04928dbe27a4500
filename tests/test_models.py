"""What users read: plain, frozen, printable anywhere."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest

import tracer
from tests.reading import last_span
from tracer import _semconv as sc
from tracer._models import MODEL_CALL_TYPES, number_model_calls
from tracer.testing import FakeOpenAI

TRACE = "a" * 32


def span(number: int, parent: int | None = None, name: str | None = None, **fields: Any) -> tracer.Span:
    return tracer.Span(
        **{
            "trace_id": TRACE,
            "span_id": f"{number:016x}",
            "parent_id": None if parent is None else f"{parent:016x}",
            "name": name or f"span {number}",
            "start_time_ns": number,
            "end_time_ns": number + 1_500_000,
            "status": tracer.SpanStatus(tracer.SpanStatusCode.OK),
            **fields,
        }
    )


def trace(*spans: tracer.Span, **info: Any) -> tracer.Trace:
    head = tracer.TraceInfo(trace_id=TRACE, start_time_ns=1, **info)
    return tracer.Trace(head, tracer.TraceData(list(spans)))


CALL = span(
    2,
    1,
    "Completions",
    span_type="CHAT_MODEL",
    inputs={"model": "gpt-5"},
    outputs={"id": "1"},
    token_usage={"input_tokens": 7, "output_tokens": 3, "total_tokens": 10},
    cost=0.5,
    attributes={
        sc.OPERATION: "chat",
        sc.FINISH: "completed",
        sc.REQUEST_MODEL: "gpt-5",
        sc.PROVIDER_NAME: "openai",
        sc.TOOL_DEFINITIONS: [{"type": "function"}],
    },
    events=[tracer.SpanEvent(sc.EVENT_CHUNK, 3, {"data": {"n": 0}}), tracer.SpanEvent("other", 4)],
)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("gen_ai.request.model", "gpt-5"),
        ("mlflow.chat.tokenUsage", CALL.token_usage),
        ("mlflow.chat.tools", [{"type": "function"}]),
        ("mlflow.llm.cost", 0.5),
        ("mlflow.llm.model", "gpt-5"),
        ("mlflow.llm.provider", "openai"),
        ("mlflow.message.format", "openai"),
        ("mlflow.spanInputs", {"model": "gpt-5"}),
        ("mlflow.spanOutputs", {"id": "1"}),
        ("mlflow.spanType", "CHAT_MODEL"),
        ("mlflow.traceRequestId", TRACE),
        ("mlflow.chunk.item.0", {"n": 0}),
        ("mlflow.chunk.item.1", None),
        ("mlflow.chunk.item.x", None),
        ("mlflow.unheard.of", None),
        ("unheard.of", None),
    ],
)
def test_an_attribute_is_found_by_its_key_or_by_mlflows(key: str, value: object) -> None:
    assert CALL.get_attribute(key) == value


def test_an_attribute_of_the_users_outweighs_an_alias() -> None:
    assert span(1, attributes={"mlflow.spanType": "mine"}).get_attribute("mlflow.spanType") == "mine"


def test_words_print_as_they_are() -> None:
    assert f"{tracer.TraceState.OK} {tracer.SpanStatusCode.ERROR:>7}" == "OK   ERROR"
    assert str(tracer.SpanStatus(tracer.SpanStatusCode.ERROR, "bad")) == "ERROR"
    assert tracer.TraceState.OK == "OK"
    assert json.dumps(tracer.TraceState.OK) == '"OK"'


def test_what_was_read_is_frozen() -> None:
    for thing, name in ((CALL, "name"), (trace(CALL), "info"), (trace().info, "state"), (CALL.status, "description")):
        with pytest.raises(AttributeError):
            setattr(thing, name, None)


def test_a_trace_is_plain_data() -> None:
    whole = trace(span(1, inputs=[2**70, None, "\u2028"]), CALL, name="name", tags={"a": "b"})
    built = whole.to_dict()
    assert json.loads(json.dumps(built)) == built
    assert json.loads(whole.to_json()) == built
    assert json.loads(whole.to_json(indent=2)) == built
    assert "\n" not in whole.to_json()
    assert '\n  "info"' in whole.to_json(indent=2)
    assert built["info"]["state"] == "IN_PROGRESS"
    assert built["data"]["spans"][1]["status"] == {"status_code": "OK", "description": ""}
    assert pickle.loads(pickle.dumps(whole)) == whole
    assert copy.deepcopy(whole) == whole


def test_the_tree_shows_parents_before_children_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    failed = tracer.SpanStatus(tracer.SpanStatusCode.ERROR, "ValueError: wrong\nsecond line")
    whole = trace(
        span(1, name="root", end_time_ns=None, status=tracer.SpanStatus()),
        CALL,
        span(3, 2, "tool", status=failed),
        span(4, 1),
        name="root",
        state=tracer.TraceState.IN_PROGRESS,
    )
    whole.print_tree()
    assert capsys.readouterr().out.splitlines() == [
        f"root  [IN_PROGRESS]  running  {TRACE}",
        "└── root  UNKNOWN  running  UNSET",
        "    ├── Completions  CHAT_MODEL  1.5 ms  OK  completed  7 → 3 tokens",
        "    │   └── tool  UNKNOWN  1.5 ms  ERROR  ValueError: wrong",
        "    └── span 4  UNKNOWN  1.5 ms  OK",
    ]


def test_a_span_whose_parent_is_missing_is_shown_at_the_top() -> None:
    assert "├── span 1" in trace(span(1), span(2, 99)).format_tree()
    assert "└── span 2" in trace(span(1), span(2, 99)).format_tree()


def test_a_deep_trace_prints_without_recursion() -> None:
    deep = trace(*(span(number, number - 1 or None) for number in range(1, 2_001)))
    assert deep.format_tree().count("\n") == 2_000


def test_the_repr_of_a_trace_is_its_tree() -> None:
    one = trace(span(1))
    assert repr(one) == str(one) == one.format_tree()


def test_a_tree_moves_no_cursor_and_stays_on_its_lines() -> None:
    hostile = "name\x1b[2J\r\nnext\u202eline" + "x" * 200
    shown = trace(span(1, name=hostile, span_type=hostile)).format_tree()
    assert not set(shown) & set("\x1b\r\u202e")
    assert shown.count("\n") == 1
    assert max(map(len, shown.splitlines())) < 500


def test_a_notebook_gets_escaped_html() -> None:
    shown = trace(span(1, name="<script>alert('x')</script>"))._repr_html_()
    assert "<script>alert" not in shown
    assert "&lt;script&gt;alert" in shown


def test_model_calls_of_one_name_are_numbered() -> None:
    spans = [
        span(1, name="work"),
        span(2, name="Completions", span_type="CHAT_MODEL"),
        span(3, name="work"),
        span(4, name="Embeddings", span_type="EMBEDDING"),
        span(5, name="Completions", span_type="CHAT_MODEL"),
    ]
    assert [numbered.name for numbered in number_model_calls(spans)] == [
        "work",
        "Completions_1",
        "work",
        "Embeddings",
        "Completions_2",
    ]


def test_a_page_is_a_list_with_the_token_of_the_next() -> None:
    page = tracer.TracePage([trace(), trace()], next_page_token="more")
    assert isinstance(page, list)
    assert len(page) == 2
    assert page.next_page_token == "more"
    assert tracer.TracePage() == []
    assert tracer.TracePage().next_page_token is None
    assert copy.copy(page).next_page_token == pickle.loads(pickle.dumps(page)).next_page_token == "more"


def test_span_types_are_their_own_words() -> None:
    words = {name: value for name, value in vars(tracer.SpanType).items() if not name.startswith("_")}
    assert all(name == value for name, value in words.items())
    assert len(words) == 15
    assert words.keys() >= MODEL_CALL_TYPES


async def test_chunks_of_a_real_stream_answer_to_mlflows_keys(server: FakeOpenAI) -> None:
    tracer.autolog()
    async with server.async_client() as client:
        stream = await client.chat.completions.create(
            model="gpt-5", messages=[{"role": "user", "content": "Hi"}], stream=True
        )
        chunks = [chunk async for chunk in stream]
    call = await last_span()
    for index, chunk in enumerate(chunks):
        kept = call.get_attribute(f"mlflow.chunk.item.{index}")
        kept = json.loads(kept) if isinstance(kept, str) else kept
        assert kept["id"] == chunk.id
        assert kept["choices"] == chunk.to_dict()["choices"]
