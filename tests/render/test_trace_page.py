"""The page of a trace shows what happened: tree, waterfall, errors first, messages, tools, streams."""

from __future__ import annotations

import json
import subprocess
import sys

import msgspec
import pytest

import tracer
from tests.render.page import Element, read
from tests.render.traces import (
    CALL,
    MEDIA,
    PICTURE,
    QUESTION,
    SOUND,
    START,
    agent_trace,
    chat_answer,
    chat_span,
    chunks,
    make_span,
    make_trace,
    span_id,
    wide_trace,
)
from tracer import _semconv as sc
from tracer._models import Feedback, Media, SpanEvent, Trace, TraceState
from tracer.render import find_in_trace, playable, render_span, render_trace
from tracer.testing import FakeOpenAI


def page_of(trace: Trace, **options: object) -> Element:
    return read(render_trace(trace, **options))  # type: ignore[arg-type]


def span_of(number: int, trace: Trace | None = None) -> Element:
    return read(render_span(trace or agent_trace(), span_id(number)))


def panel(page: Element, name: str) -> Element:
    return page.one(data_panel=name)


# --- the tree and the waterfall ----------------------------------------------------------------------------------


def test_the_tree_has_a_row_for_each_span_with_time_tokens_and_cost() -> None:
    page = page_of(agent_trace())
    rows = page.one(role="tree").all(role="treeitem")
    assert [row["aria-level"] for row in rows] == ["1", "2", "2", "2", "2", "2", "2", "3"]
    assert [row["href"] for row in rows] == [f"?span={span_id(number)}" for number in range(1, 9)]
    assert [row.attributes.get("aria-expanded") for row in rows] == ["true", *[None] * 5, "true", None]
    assert [part.words for part in rows[1].all("span")][-3:] == ["890 ms", "1250 → 48", "$0.000085"]


def test_bars_stand_where_the_spans_ran_and_a_tick_marks_the_first_token() -> None:
    rows = page_of(agent_trace()).all(role="treeitem")
    bar, tick = rows[3].all("rect")
    assert (bar["x"], bar["width"]) == ("33.33%", "45.84%")
    assert (tick["x"], tick.classes) == ("46.67%", {"ft"})
    assert [len(row.all("rect")) for row in rows] == [1, 1, 1, 2, 1, 1, 1, 1]


def test_a_running_span_reaches_the_end_of_the_waterfall() -> None:
    trace = make_trace(make_span(1, end=None), make_span(2, start=0, end=10), state=TraceState.IN_PROGRESS)
    page = page_of(trace)
    root = page.all(role="treeitem")[0]
    assert root.one("rect")["width"] == "100.0%"
    assert "open" in root.classes
    assert page.one(css="tv")["data-live"] == "/api/live"


def test_spans_without_a_parent_or_in_a_circle_are_not_lost() -> None:
    lost = make_span(2, parent=99)
    circle = [make_span(3, parent=4), make_span(4, parent=3), make_span(5, parent=5)]
    rows = page_of(make_trace(make_span(1), lost, *circle)).all(role="treeitem")
    assert sorted(row["href"][-1] for row in rows) == ["1", "2", "3", "4", "5"]


def test_a_trace_without_spans_says_so() -> None:
    assert "no spans yet" in page_of(make_trace(state=TraceState.IN_PROGRESS)).text


# --- errors first --------------------------------------------------------------------------------------------------


def test_the_banner_names_the_span_that_failed_and_the_users_own_line() -> None:
    page = page_of(agent_trace())
    banner = page.all(css="tv-alert")[0]
    assert banner.one("a")["data-go"] == span_id(8)
    assert "KeyError: 'A-1009'" in banner.words
    assert [frame.words for frame in banner.one(css="frames").all(css="at")] == ["/srv/shop/orders.py:41"]
    tree = page.one(role="tree")
    assert page.text.index("KeyError") < page.text.index(tree.text.strip()[:20])


def test_the_red_path_leads_to_the_failing_span() -> None:
    rows = page_of(agent_trace()).all(role="treeitem")
    assert [number for number, row in enumerate(rows, 1) if "path" in row.classes] == [1, 7]
    assert [number for number, row in enumerate(rows, 1) if "bad" in row.classes] == [1, 7, 8]


def test_a_failed_trace_opens_at_the_failing_span_and_any_other_at_its_root() -> None:
    assert page_of(agent_trace()).one(role="treeitem", aria_selected="true")["href"].endswith("8")
    fine = make_trace(make_span(1), make_span(2, failed=True))
    page = page_of(fine)
    assert page.one(role="treeitem", aria_selected="true")["href"].endswith("1")
    assert "Failed and was handled" in page.one(css="caught").text


def test_a_stack_trace_shows_own_frames_and_folds_the_whole_away() -> None:
    alert = span_of(8).one(css="tv-alert")
    places = [frame.words for frame in alert.one(css="frames").all(css="at")]
    assert places == ["/srv/shop/orders.py:41", "/srv/shop/app.py:12"]
    whole = alert.one("details")
    assert "open" not in whole.attributes
    assert "1 frame of libraries" in whole.words
    assert "openai/_base_client.py" in whole.text


def test_failed_attempts_are_listed() -> None:
    listed = span_of(2).one(css="attempts")
    assert "1 failed attempt before" in listed.words
    assert "HTTP 429 at +10 ms, next after 0.41 s" in listed.words


# --- which span ------------------------------------------------------------------------------------------------------


def test_a_link_opens_its_span_and_an_unknown_one_is_as_none() -> None:
    assert page_of(agent_trace(), span_id=span_id(5)).one("article")["data-id"] == span_id(5)
    assert page_of(agent_trace(), span_id="nonsense").one("article")["data-id"] == span_id(8)
    with pytest.raises(tracer.TraceNotFoundError, match="has no span"):
        render_span(agent_trace(), "f" * 16)


def test_only_the_chosen_span_is_in_a_servers_page() -> None:
    page = page_of(wide_trace(600))
    assert len(page.all(role="treeitem")) == 600
    assert len(page.all("article")) == 1
    assert page.one(css="tv")["data-spans"].endswith("/spans/")


def test_a_servers_page_keeps_rows_out_of_sight_as_text_for_its_script() -> None:
    early, *late = render_trace(wide_trace(600)).split("<noscript>")
    assert early.count('role="treeitem"') == 60
    assert [piece.partition("</noscript>")[0].count('role="treeitem"') for piece in late] == [500, 40]
    assert "<noscript>" not in render_trace(wide_trace(60))
    assert "<noscript>" not in render_trace(wide_trace(600), standalone=True)


def test_a_long_page_shortens_ids_as_far_as_they_are_unique() -> None:
    trace = wide_trace(1_001)
    spans = [
        msgspec.structs.replace(s, span_id=s.span_id[::-1], parent_id=s.parent_id and s.parent_id[::-1])
        for s in trace.data.spans
    ]
    long = Trace(trace.info, tracer.TraceData(spans))
    link = page_of(long).all(role="treeitem")[700]["href"].removeprefix("?span=")
    assert len(link) == 8
    assert read(render_span(long, link)).one("article")["data-id"] == spans[700].span_id
    assert page_of(trace).all(role="treeitem")[700]["href"] == f"?span={span_id(701)}"  # all begin with zeros


# --- messages --------------------------------------------------------------------------------------------------------


def messages(page: Element) -> list[Element]:
    return [element for element in panel(page, "main").all() if "msg" in element.classes]


def test_messages_are_shown_by_role_and_long_instructions_are_folded() -> None:
    shown = messages(span_of(4))
    assert [message.one(css="role").text for message in shown] == ["system", "user", "assistant", "assistant"]
    assert (shown[0].tag, "open" in shown[0].attributes) == ("details", False)
    assert shown[1].tag == "div"


@pytest.mark.parametrize("role", [{}, {"role": None}, {"role": ""}], ids=str)
def test_an_answer_without_role_is_the_assistants(role: dict[str, None]) -> None:
    trace = make_trace(chat_span(1, outputs=chat_answer({**role, "content": {"fruit": "quince"}})))
    shown = panel(span_of(1, trace), "main").words
    assert "assistant" in shown
    assert "?" not in shown.replace("France?", "")  # the word for an unknown role
    assert "quince" in shown


def test_a_charged_cost_says_so() -> None:
    charged = chat_span(1, cost=1.23, attributes={sc.COST_CHARGED: 1.23})
    assert "$1.23, charged by the server" in span_of(1, make_trace(charged)).words


def test_markdown_is_rendered_with_its_line_breaks_tables_and_coloured_code() -> None:
    user, answer = messages(span_of(4))[1], messages(span_of(4))[-1]
    assert user.one("p").all("br")
    assert answer.one("strong").text == "A-1009"
    assert [cell.text for cell in answer.one("table").all("td")] == ["tea", "41.50"]
    assert [part.text for part in answer.one("pre").all(css="hl-nb")] == ["print"]


def test_a_tool_call_stands_next_to_its_result() -> None:
    """For a call in an answer, a later model call has the result; for one in the history, the next message has it."""
    for number in (2, 4):
        call = span_of(number).one(css="call")
        assert call.one(css="fn").words == "get_order call_1"
        assert "order_id: A-1009" in call.one(css="asked").words
        assert "status: shipped" in call.one(css="result").words
    assert not [m for m in messages(span_of(4)) if m.one(css="role").text == "tool"]
    assert span_of(2).one(css="result").one("a")["data-go"] == span_id(4)


def test_a_very_long_conversation_shows_its_ends() -> None:
    history = [{"role": "user", "content": f"message {number}"} for number in range(1_000)]
    page = span_of(1, make_trace(chat_span(1, inputs={"messages": history})))
    shown = [message.one(css="md").words for message in messages(page)[:400] if message.all(css="md")]
    assert (shown[0], shown[199], shown[200]) == ("message 0", "message 199", "message 800")
    assert "600 messages are left out" in page.text


def test_a_result_without_its_call_stays_a_message() -> None:
    history = [{"role": "tool", "tool_call_id": "call_9", "content": "nine"}, {"role": "user", "content": "?"}]
    shown = messages(span_of(1, make_trace(chat_span(1, inputs={"messages": history}))))
    assert shown[0].words == "toolCopy result of call_9nine"


def test_reasoning_and_refusals_are_told_apart_from_the_answer() -> None:
    assert span_of(2).one(css="reasoning", open="").one(css="md").words == "It has to be looked up."
    refused = make_trace(chat_span(1, outputs=chat_answer({"content": None, "refusal": "I can't help with that."})))
    assert "I can't help" in span_of(1, refused).one(css="refusal").words


def test_unset_fields_are_folded_away() -> None:
    fields = [element.words for element in panel(span_of(2), "main").all("details", css="fields")]
    assert fields[0].startswith("2 more fields model: gpt-5, temperature: 0.2")
    assert fields[1] == "2 unsetstop, metadata"
    assert fields[2].startswith("1 tool get_order")


def test_structured_output_is_a_tree_beside_its_schema() -> None:
    beside = span_of(5).one(css="beside")
    assert "sentiment: good" in beside.one(css="assistant").words
    assert "properties: {2}" in beside.one(css="schema").words


def test_embeddings_are_summarised() -> None:
    shown = messages(span_of(6))[-1]
    assert "2 vectors of 1,536 dimensions" in shown.words
    assert "0: 0.25, 0.25, 0.25, 0.25, 0.25, …" in shown.words
    numbers = make_trace(make_span(1, outputs={"vector": [0.5] * 1536}))
    assert "1,536 numbers: 0.5, 0.5" in span_of(1, numbers).text


def test_media_are_shown_and_played_from_the_server() -> None:
    user = messages(span_of(4))[1]
    assert user.one("img")["src"] == f"/api/media/{PICTURE}"
    assert user.one("audio")["src"] == f"/api/media/{SOUND}?as=wav"
    assert (
        read(render_span(agent_trace(), span_id(4), base="/traces-of/us"))
        .all("img")[0]["src"]
        .startswith("/traces-of/us/api/")
    )


def test_media_are_inside_a_file_of_its_own() -> None:
    page = page_of(agent_trace(), standalone=True, media=MEDIA)
    assert {image["src"][:30] for image in page.all("img")} == {"data:image/png;base64,iVBORw0K"}
    assert {sound["src"][:27] for sound in page.all("audio")} == {"data:audio/wav;base64,UklGR"}
    assert not page_of(agent_trace(), standalone=True).all("img")


def test_remote_images_are_links_and_svg_is_only_named() -> None:
    pictures = [
        "https://example.com/x.png",
        "data:image/svg+xml;base64,PHN2Zz4=",
        f"media://sha256/{'7' * 64}?type=image/svg+xml&bytes=9",
    ]
    content = [{"type": "image_url", "image_url": {"url": url}} for url in pictures]
    page = span_of(1, make_trace(chat_span(1, inputs={"messages": [{"role": "user", "content": content}]})))
    assert not page.all("img")
    assert page.one(css="link").one("a")["href"] == pictures[0]
    assert page.all(css="file")[0].words.startswith("image image/svg+xml")


def test_raw_samples_become_a_wav_file() -> None:
    raw = Media(hash="a" * 64, content_type="audio/pcm", data=b"\0\1" * 100)
    made = playable(raw)
    assert (made.content_type, made.data[:4], made.data[8:12], made.data[-200:]) == (
        "audio/wav",
        b"RIFF",
        b"WAVE",
        raw.data,
    )
    assert playable(MEDIA[0]) is MEDIA[0]


def test_responses_items_built_in_tools_and_reasoning_summaries() -> None:
    output = [
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Think **hard**."}]},
        {
            "type": "web_search_call",
            "id": "ws_1",
            "status": "completed",
            "action": {"type": "search", "query": "paris"},
        },
        {
            "type": "code_interpreter_call",
            "id": "ci_1",
            "code": "print(1)",
            "outputs": [{"type": "logs", "logs": "1\n"}],
        },
        {"type": "function_call", "id": "fc_1", "call_id": "call_7", "name": "add", "arguments": '{"a": 1}'},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Done.", "annotations": []}],
        },
    ]
    told = [{"type": "function_call_output", "call_id": "call_7", "output": "2"}]
    first = make_span(
        1,
        attributes={sc.OPERATION: "responses"},
        inputs={"input": "Hi", "instructions": "Be brief."},
        outputs={"output": output},
    )
    second = make_span(
        2,
        attributes={sc.OPERATION: "responses"},
        inputs={"input": told, "previous_response_id": "r"},
        outputs={"output": output[-1:]},
    )
    page = span_of(1, make_trace(first, second))
    roles = [message.one(css="role").text for message in messages(page)]
    assert roles == ["system", "user", "reasoning", *["assistant"] * 4]
    names = [call.one(css="fn").words for call in page.all(css="call")]
    assert names == ["web_search run by OpenAI", "code_interpreter run by OpenAI", "add call_7"]
    assert page.all(css="call")[1].one("pre", css="code").all(css="hl-nb")
    assert page.all(css="call")[2].one(css="result").words.startswith("result in span")


# --- events ----------------------------------------------------------------------------------------------------------


def test_chunks_are_a_table_of_offset_gap_and_text_with_stalls_marked() -> None:
    table = panel(span_of(4), "events").one("table", css="chunks")
    rows = [[cell.words for cell in row.all("td")] for row in table.one("tbody").all("tr")]
    assert rows[0] == ["0", "400 ms", "400 ms", "content", "Your"]
    assert [number for number, row in enumerate(table.one("tbody").all("tr")) if "stalled" in row.classes] == [7]
    assert rows[7][1:3] == ["1.22 s", "700 ms stall"]
    assert (
        "".join(mark.text for mark in table.all("q"))
        == agent_trace().data.spans[3].outputs["choices"][0]["message"]["content"]
    )


@pytest.mark.parametrize(
    ("gaps", "stalls"), [([100, 50, 300], 1), ([100, 100, 300], 0), ([100, 10, 190], 0), ([900, 10, 10], 0)]
)  # fmt: skip
def test_a_stall_is_five_times_the_median_and_over_200_ms(gaps: list[float], stalls: int) -> None:
    gaps = [gaps[0], gaps[1], gaps[1], gaps[1], gaps[2]]
    trace = make_trace(chat_span(1, events=chunks(["a", "b", "c", "d", "e"], gaps)))
    assert len(span_of(1, trace).all("tr", css="stalled")) == stalls


def test_a_long_stream_says_what_is_left_out() -> None:
    trace = make_trace(chat_span(1, events=chunks(["a"] * 5_010, [1] * 5_010)))
    assert "10 more chunks" in panel(span_of(1, trace), "events").text


def test_typed_events_say_their_type_and_delta() -> None:
    bodies: list[dict[str, object]] = [
        {"type": "response.created", "response": {"status": "in_progress"}},
        {"type": "response.output_text.delta", "delta": "Hi"},
    ]
    events = [
        SpanEvent(sc.EVENT_CHUNK, START + at, {"data": body, "event": body["type"]}) for at, body in enumerate(bodies)
    ]
    rows = span_of(1, make_trace(make_span(1, events=events))).one("table", css="chunks").one("tbody").all("tr")
    assert [[cell.words for cell in row.all("td")[3:]] for row in rows] == [
        ["response.created", "in_progress"],
        ["response.output_text.delta", "Hi"],
    ]


# --- raw, code, feedback, finding ------------------------------------------------------------------------------------


def test_raw_json_is_the_span_and_paths_for_copying_lead_into_it() -> None:
    page = span_of(4)
    raw = json.loads(page.one("pre", css="raw").text)
    assert raw["inputs"]["messages"] == json.loads(json.dumps(agent_trace().data.spans[3].inputs["messages"]))
    paths = [
        json.loads(button["data-copy-path"]) for button in page.all("button") if "data-copy-path" in button.attributes
    ]
    assert len(paths) == 3
    for path in paths:
        value = raw
        for key in path:
            value = value[key]
        assert value["role"] in ("user", "assistant")


def test_the_python_code_repeats_the_call(server: FakeOpenAI, tmp_path: object) -> None:
    body = {
        "model": "gpt-5",
        "messages": [{"role": "user", "content": "It's \"\\n\" é\n'''"}],
        "temperature": 0.5,
        "x_extra": {"a": None},
    }
    code = panel(span_of(1, make_trace(chat_span(1, inputs=body))), "code").all("pre")[0].text
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**_path(), **server.env()},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert server.requests[-1].json == body


def test_the_curl_command_repeats_the_call(server: FakeOpenAI) -> None:
    body = {"model": "gpt-5", "messages": [{"role": "user", "content": 'It\'s $HOME `id` \\ "é"\n'}]}
    code = panel(span_of(1, make_trace(chat_span(1, inputs=body))), "code").all("pre")[1].text
    run = subprocess.run(
        ["bash", "-c", code], env={**_path(), **server.env()}, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    assert server.requests[-1].json == body
    assert "choices" in json.loads(run.stdout)


def _path() -> dict[str, str]:
    import os

    return {"PATH": os.environ["PATH"]}


def test_forms_name_their_files() -> None:
    inputs = {"model": "whisper-1", "file": {"filename": "it's.mp3", "content_type": "audio/mpeg", "size": 9}}
    trace = make_trace(make_span(1, name="Transcriptions", inputs=inputs, attributes={sc.OPERATION: "audio_text"}))
    python, curl = panel(span_of(1, trace), "code").all("pre")
    assert 'open("it\'s.mp3", "rb")' in python.text
    assert "-F 'file=@it'\"'\"'s.mp3'" in curl.text


def test_feedback_is_shown_at_the_trace_and_at_its_span() -> None:
    thumb = Feedback(id="1", trace_id="t", name="helpful", value=True, created_ns=1, comment="<b>", source="human:ada")
    label = Feedback(id="2", trace_id="t", span_id=span_id(1), name="tone", value="rude", created_ns=1)
    page = page_of(make_trace(make_span(1, feedback=[label]), feedback=[thumb, label]))
    assert [each.words for each in page.all(css="feedback")] == ["helpful👍 <b> human:ada", "tonerude code"]


def test_finding_looks_into_names_values_and_errors() -> None:
    trace = agent_trace()
    assert find_in_trace(trace, "a-1009") == {span_id(number) for number in (1, 2, 4, 8)}
    assert find_in_trace(trace, "ASYNCEMBEDDINGS") == {span_id(6)}
    assert find_in_trace(trace, " ") == set()
    rows = page_of(trace, find="asyncembeddings").all(role="treeitem")
    assert [row["href"][-1] for row in rows if "hit" in row.classes] == ["6"]
    assert [row["href"][-1] for row in rows if row["aria-selected"] == "true"] == ["6"]


def test_quotes_and_other_letters_are_found() -> None:
    trace = make_trace(make_span(1, inputs={"text": 'She said "Über"'}))
    assert find_in_trace(trace, '"über"') == {span_id(1)}


# --- a file of its own -----------------------------------------------------------------------------------------------


def test_a_file_has_every_span_and_needs_nothing_else() -> None:
    html = render_trace(agent_trace(), standalone=True, media=MEDIA)
    page = read(html)
    assert [box["data-id"] for box in page.all("details", css="tv-one")] == [span_id(number) for number in range(1, 9)]
    assert [box["data-id"] for box in page.all("details", css="tv-one", open="")] == [span_id(8)]
    assert not page.all("link")
    assert all("src" not in script.attributes for script in page.all("script"))
    policy = next(meta["content"] for meta in page.all("meta") if "Content-Security-Policy" in meta.attributes.values())
    assert policy.startswith("default-src 'none'; script-src 'sha256-")


def test_a_files_bound_leaves_details_out_and_says_so() -> None:
    page = page_of(wide_trace(400), standalone=True, max_chars=100_000)
    there = len(page.all("article"))
    assert 1 <= there < 400
    assert f"{400 - there} spans are left out" in page.text
    assert len(page.all(role="treeitem")) == 400


def test_the_question_is_not_changed_by_rendering() -> None:
    before = json.dumps([QUESTION, CALL])
    trace = agent_trace()
    copy = msgspec.json.encode(trace)
    render_trace(trace, standalone=True)
    assert (json.dumps([QUESTION, CALL]), msgspec.json.encode(trace)) == (before, copy)
