"""In a notebook: a frame that needs nothing, and what is left of it without the extra or without trust."""

from __future__ import annotations

import re
import stat
import sys
from pathlib import Path

import pytest

import tracer
from tests.render.page import read
from tests.render.traces import agent_trace, chat_span, make_trace, png, wide_trace
from tracer import TracePage
from tracer.testing import FakeOpenAI


def framed(html: str) -> str:
    """The document inside of the frame."""
    return read(html).one("iframe")["srcdoc"]


def test_a_trace_is_shown_in_a_frame_without_origin() -> None:
    html = agent_trace()._repr_html_()
    frame = read(html).one("iframe")
    assert frame["sandbox"] == "allow-scripts"
    assert frame["title"] == "Trace answer_customer"
    document = framed(html)
    assert len(read(document).all("article")) == 8
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", document)
    assert "AsyncCompletions_1" in read(html).one("pre").text  # where the frame is dropped


def test_the_script_beside_the_frame_is_the_same_for_any_trace() -> None:
    scripts = {
        html.rpartition("<script>")[2]
        for html in (agent_trace()._repr_html_(), make_trace(chat_span(1))._repr_html_(), TracePage()._repr_html_())
    }
    assert len(scripts) == 1


def test_a_page_of_traces_is_a_row_for_each() -> None:
    page = TracePage([agent_trace(), make_trace(chat_span(1))], next_page_token="x")
    document = read(framed(page._repr_html_()))
    items = document.all("div", css="tv-item")
    assert [item.one("b").words for item in items] == ["answer_customer", "answer"]
    assert [item.one("code").words for item in items] == [trace.info.trace_id for trace in page]
    assert "0 traces" in read(framed(TracePage()._repr_html_())).words


def test_a_page_of_traces_is_small_however_much_they_hold() -> None:
    page = TracePage([agent_trace(), wide_trace(300)] * 500)
    assert len(page._repr_html_()) < 200_000
    assert "1000 traces, the first 100 of them" in read(framed(page._repr_html_())).words
    assert len(repr(page)) < 20_000
    assert repr(page).startswith("<TracePage of 1,000 traces>\nanswer_customer  [ERROR]")
    assert repr(page).endswith("… and 900 more")


def test_a_big_trace_makes_an_output_of_bounded_size() -> None:
    assert len(wide_trace(3_000)._repr_html_()) < 12_000_000


@pytest.mark.parametrize("missing", ["jinja2", "markdown_it", "nh3", "pygments"])
def test_without_the_extra_the_tree_is_shown(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from tracer.render._page import environment

    environment.cache_clear()
    monkeypatch.setitem(sys.modules, missing, None)
    assert agent_trace()._repr_html_().startswith("<pre>answer_customer")
    assert TracePage([agent_trace()])._repr_html_().startswith("<pre>answer_customer  [ERROR]")
    with pytest.raises(tracer.MissingDependencyError, match=re.escape("openai-tracer[ui]")):
        agent_trace().to_html()


def test_a_file_is_for_its_owner_and_has_the_media(server: FakeOpenAI, tmp_path: Path) -> None:
    import base64

    tracer.autolog()
    picture = "data:image/png;base64," + base64.b64encode(png(200, 200) + b"\0" * 2_000).decode()
    content = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": picture}}]
    with server.client() as client:
        client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": content}])  # type: ignore[list-item, misc]
    trace = tracer.sync.get_trace(tracer.get_last_active_trace_id() or "")
    assert "media://" in trace.to_json()
    path = tmp_path / "trace.html"
    html = trace.to_html(path)
    assert path.read_text(encoding="utf-8") == html
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read(html).one("img")["src"] == picture
    assert read(framed(trace._repr_html_())).one("img")["src"] == picture
