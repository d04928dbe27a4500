"""What models, users and servers write is inert on the page, wherever it stands."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.render.page import Element, read
from tests.render.traces import START, chat_answer, make_span, make_trace, span_id
from tracer import _semconv as sc
from tracer._models import Feedback, SpanEvent, SpanStatus, SpanStatusCode, Trace, TraceState
from tracer.render import render_list, render_span, render_trace
from tracer.render._markdown import markdown

PAYLOADS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)><script>alert(1)</script></svg>",
    '"><script>alert(1)</script>',
    "' autofocus onfocus=alert(1) x='",
    '" onmouseover="alert(1)',
    "</pre></template></style></script><script>alert(1)</script>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "javascript:alert(1)",
    "[click](javascript:alert(1)) [x](JaVaScRiPt:alert(1)) [y](data:text/html,<script>alert(1)</script>)",
    "[z](&#106;avascript:alert(1)) <javascript:alert(1)> [v](vbscript:x)",
    "![pixel](https://evil.example/pixel.png) ![x](x\"onerror=alert(1))",
    '[t](https://ok.example "title\\" onclick=alert(1)")',
    "```html onload=alert(1)\n<script>alert(1)</script>\n```",
    '```"><script>alert(1)</script>\nx\n```',
    "<style>body{background:url(https://evil.example)}</style>",
    "<link rel=stylesheet href=https://evil.example><meta http-equiv=refresh content=0;url=https://evil.example>",
    "<form action=https://evil.example><input name=token><button formaction=javascript:alert(1)>",
    "<base href=https://evil.example><object data=x><embed src=x><math><mtext></mtext></math>",
    "{{ 7 * 7 }} {% raw %} ${alert(1)} <%= 1 %>",
    "<!-- --><![CDATA[<script>alert(1)</script>]]><a href='//evil.example'>x</a>",
    "\u202e\u0000\ud800".encode("utf-8", "replace").decode() + "<b>",
    '{"key<script>": "<script>alert(1)</script>"}',
    "https://evil.example/<script>alert(1)</script>",
]  # fmt: skip

OWN_TAGS = {
    "a", "article", "audio", "b", "blockquote", "body", "br", "button", "caption", "code", "dd", "del", "details",
    "div", "dl", "dt", "em", "fieldset", "form", "h1", "h2", "h3", "h4", "h5", "h6", "head", "header", "hr", "html",
    "i", "img", "input", "label", "legend", "li", "main", "meta", "ol", "p", "pre", "progress", "q", "rect", "s",
    "script", "section", "span", "strong", "style", "summary", "svg", "table", "tbody", "td", "template", "text", "th",
    "thead", "time", "title", "tr", "ul",
}  # fmt: skip
PAGE_ONLY = {"script", "style", "meta", "form", "title"}


def hostile_trace(evil: str) -> Trace:
    """A trace with the same text in every field that somebody else fills."""
    message = {
        "role": evil,
        "content": [{"type": "text", "text": evil}, {"type": "image_url", "image_url": {"url": evil}}],
    }
    call = {"id": evil, "type": "function", "function": {"name": evil, "arguments": evil}}
    told = {"role": "tool", "tool_call_id": evil, "content": evil, "name": evil}
    file = {"type": "file", "file": {"filename": evil, "file_data": f"data:text/html;base64,{evil}"}}
    sound = {"type": "input_audio", "input_audio": {"data": evil, "format": evil, "transcript": evil}}
    chat = {
        "model": evil,
        "messages": [
            {"role": "system", "content": evil * 30},
            message,
            {"role": "user", "content": [file, sound]},
            told,
        ],
        "tools": [{"type": "function", "function": {"name": evil}}],
        evil: {evil: evil},
    }
    answer = chat_answer({"content": evil, "refusal": evil, "reasoning": evil, "tool_calls": [call]}, **{evil: [evil]})
    items = [
        {"type": evil, "x": evil},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": evil}]},
        {"type": "web_search_call", "status": evil, "action": {"query": evil}},
        {"type": "code_interpreter_call", "code": evil, "outputs": [{"type": "logs", "logs": evil}]},
        {"type": "image_generation_call", "result": evil, "output_format": evil, "revised_prompt": evil},
        {"type": "mcp_call", "name": evil, "server_label": evil, "arguments": evil, "error": evil},
        {
            "type": "message",
            "role": evil,
            "content": [
                {
                    "type": "output_text",
                    "text": evil,
                    "annotations": [{"type": "url_citation", "url": evil, "title": evil}],
                }
            ],
        },
    ]
    exception = {sc.EXCEPTION_TYPE: evil, sc.EXCEPTION_MESSAGE: evil, sc.EXCEPTION_STACKTRACE: _stack(evil)}
    retry = {sc.ERROR_TYPE: evil, sc.REQUEST_ID: evil, "tracer.retry.delay": evil, "tracer.retry.attempt": evil}
    events = [
        SpanEvent(
            sc.EVENT_CHUNK,
            START,
            {"data": {"choices": [{"index": evil, "delta": {"content": evil}, "finish_reason": evil}]}},
        ),
        SpanEvent(sc.EVENT_CHUNK, START, {"data": {"type": evil, "delta": evil}, "event": evil}),
        SpanEvent(sc.EVENT_CHUNK, START, {"data": evil, "event": evil}),
        SpanEvent(sc.EVENT_EXCEPTION, START, exception),
        SpanEvent(sc.EVENT_RETRY, START, retry),
        SpanEvent(evil, START, {evil: evil}),
    ]
    known = {
        sc.OPERATION: "chat", sc.REQUEST_MODEL: evil, sc.RESPONSE_MODEL: evil * 2, sc.FINISH: evil, sc.NOTE: evil,
        sc.RESPONSE_FINISH_REASONS: [evil], sc.REQUEST_ID: evil,
        sc.TOOL_DEFINITIONS: [{"function": {"name": evil}}, evil],
        sc.OUTPUT_SCHEMA: {evil: evil}, sc.TIME_TO_FIRST_TOKEN: evil, sc.TRUNCATED: {evil: evil}, evil: evil,
    }  # fmt: skip
    feedback = Feedback(id=evil, trace_id=evil, name=evil, value=evil, comment=evil, source=evil, created_ns=1)
    failed = SpanStatus(SpanStatusCode.ERROR, evil)
    picture = {"b64_json": evil, "url": evil, "revised_prompt": evil}
    sides: list[tuple[str, Any, Any]] = [
        ("responses", {"input": items}, {"output": items}),
        ("images", {"prompt": [evil, evil]}, {"data": [picture], "output_format": evil}),
        ("speech", {"input": evil, "instructions": evil}, {"content_type": evil, "data": evil, "text": evil}),
        ("embeddings", {"input": evil}, {"data": [{"embedding": evil}]}),
        ("", [evil, {evil: [evil]}], {evil: evil}),
    ]
    shared: dict[str, Any] = {"name": evil, "status": failed, "feedback": [feedback]}
    spans = [
        make_span(1, span_type=evil, inputs=evil, outputs=evil, **shared),
        make_span(2, span_type="CHAT_MODEL", inputs=chat, outputs=answer, attributes=known, events=events, **shared),
    ]
    for number, (operation, inputs, outputs) in enumerate(sides, 3):
        notes = {sc.TOOL_CALL_ID: evil, **({sc.OPERATION: operation} if operation else {})}
        spans.append(
            make_span(number, span_type=f"x {evil}", inputs=inputs, outputs=outputs, attributes=notes, **shared)
        )
    return make_trace(
        *spans, state=TraceState.ERROR, name=evil, session_id=evil, user_id=evil, experiment=evil, tags={evil: evil},
        metadata={evil: evil}, dropped={evil: 3}, chain=[evil, "b"], feedback=[feedback], request_preview=evil,
    )  # fmt: skip


def _stack(evil: str) -> str:
    return f'Traceback (most recent call last):\n  File "{evil}", line 3, in {evil}\n    {evil}\n{evil}: {evil}'


def pages_of(trace: Trace) -> Iterator[str]:
    yield render_trace(trace, find="alert")
    yield render_trace(trace, standalone=True)
    yield render_list([trace, trace])
    for number in range(1, 8):
        yield render_span(trace, span_id(number))


@pytest.mark.parametrize("evil", PAYLOADS)
def test_nothing_of_a_payload_becomes_markup(evil: str) -> None:
    for html in pages_of(hostile_trace(evil)):
        for element in read(html).all():
            check(element, is_document=html.startswith("<!doctype"))


def check(element: Element, *, is_document: bool) -> None:
    allowed = OWN_TAGS if is_document else OWN_TAGS - (PAGE_ONLY - {"form"})
    assert element.tag in allowed, element.tag
    for name, value in element.attributes.items():
        assert not name.startswith("on"), (element.tag, name)
        assert name not in ("style", "srcdoc", "formaction", "action", "srcset", "ping"), (element.tag, name)
        if name in ("href", "src"):
            check_address(element.tag, name, value)
        if name == "http-equiv":
            assert value == "Content-Security-Policy"
    if element.tag == "script":
        assert element.parent is not None
        assert element.parent.tag == "body"
        assert element.attributes == {"type": "module"}
        assert "alert" not in element.text


def check_address(tag: str, name: str, value: str) -> None:
    if tag in ("img", "audio"):
        assert re.match(
            r"/api/media/[0-9a-f]{64}|data:(image/(png|jpeg|gif|webp|avif)|audio/[\w-]+);base64,[\w+/=]*$", value
        )
    else:
        assert re.match(
            r"https?://|mailto:|\?span=[0-9a-f]|#s-[0-9a-f]|/traces/|/sessions/(?:[\w.~%-]+$|\?id=)", value
        ), value


def test_text_that_looks_like_markup_is_shown_as_text() -> None:
    shown = read(render_span(hostile_trace(PAYLOADS[0]), span_id(2)))
    assert "<script>alert(1)</script>" in shown.all(css="md")[-1].text


def test_links_of_models_tell_nothing_and_lead_out() -> None:
    link = read(str(markdown("[a](https://example.com/?q=1&b=2)"))).one("a")
    assert (link["href"], link["rel"]) == ("https://example.com/?q=1&b=2", "noopener noreferrer nofollow")
    picture = read(str(markdown("![chart](https://example.com/c.png)")))
    assert not picture.all("img")
    assert picture.one("a")["href"] == "https://example.com/c.png"


def deep(levels: int) -> Any:
    value: Any = "bottom"
    for level in range(levels):
        value = {"a": value} if level % 2 else [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        deep(900),
        {"key" * 10_000: "value"},
        [[number] for number in range(50_000)],
        {str(number): number for number in range(50_000)},
        "a" * 3_000_000,
        "[" * 100_000,
        "> " * 20_000 + "x",
        "*a **b " * 10_000,
        "[a](" * 15_000,
        "`" * 50_000,
        "| a " * 10_000 + "\n" + "|-" * 10_000,
        "```python\n" + "'''\n" * 5_000,
        "<" * 60_000,
        [1e308, -1e308, 10**30, True, None],
        {"image_url": "data:image/png;base64," + "A" * 1_000_000},
    ],
    ids=lambda value: str(type(value).__name__),
)
def test_huge_and_deep_values_make_a_page_of_bounded_size_in_bounded_time(value: Any) -> None:
    messages = {"messages": [{"role": "user", "content": value}]}
    trace = make_trace(
        make_span(1, inputs=value, outputs=value, attributes={"value": value}), make_span(2, inputs=messages)
    )
    begun = time.process_time()
    pages = [render_span(trace, span_id(1)), render_span(trace, span_id(2)), render_trace(trace)]
    assert time.process_time() - begun < 20  # a guard against what grows with the square, not a measure
    assert all(len(page) < 8_000_000 for page in pages)
    for page in pages:
        read(page)


@pytest.mark.parametrize("odd", [None, 0, True, "", [], {}, [[]], [None], {"role": None}, {"content": None}, 1.5, "x"])
def test_any_shape_anywhere_is_shown(odd: Any) -> None:
    bodies = [{"messages": odd}, {"messages": [odd]}, {"input": odd}, {"input": [odd]}, {"prompt": odd}, odd]
    bodies += [{"messages": [{"role": "user", "content": odd, "tool_calls": odd, "audio": odd, "tool_call_id": odd}]}]
    bodies += [
        {"messages": [{"role": "user", "content": [{"type": kind, kind: odd, "text": odd}]}]}
        for kind in ("image_url", "file", "thinking")
    ]
    answers = [
        {key: shape}
        for key in ("choices", "output", "data", "text", "audio")
        for shape in (odd, [odd], [{"message": odd, "embedding": odd}])
    ]
    answers += [
        {
            "output": [
                {
                    "type": kind,
                    "summary": odd,
                    "outputs": odd,
                    "call_id": odd,
                    "action": odd,
                    "code": odd,
                    "result": odd,
                }
            ]
        }
        for kind in (
            "reasoning",
            "code_interpreter_call",
            "image_generation_call",
            "function_call",
            "shell_call",
            "computer_call",
            "mcp_call",
        )
    ]
    known = dict.fromkeys(
        [
            sc.TOOL_DEFINITIONS,
            sc.OUTPUT_SCHEMA,
            sc.TRUNCATED,
            sc.TIME_TO_FIRST_TOKEN,
            sc.TOOL_CALL_ID,
            sc.RESPONSE_FINISH_REASONS,
            sc.RETRIES,
        ],
        odd,
    )
    chunk = [
        SpanEvent(
            sc.EVENT_CHUNK, START, {"data": {"choices": [{"delta": odd}], "type": odd, "delta": odd}, "event": odd}
        )
    ]
    chunk += [
        SpanEvent(sc.EVENT_CHUNK, START, {"data": odd}),
        SpanEvent(sc.EVENT_EXCEPTION, START, {sc.EXCEPTION_STACKTRACE: odd}),
    ]
    for number, (inputs, outputs) in enumerate([(body, answer) for body in bodies for answer in answers][::31], 1):
        for operation in ("chat", "responses", "images", "embeddings", "speech"):
            span = make_span(
                number,
                parent=None,
                inputs=inputs,
                outputs=outputs,
                attributes={sc.OPERATION: operation, **known},
                events=chunk,
            )
            read(render_span(make_trace(span), span.span_id))
