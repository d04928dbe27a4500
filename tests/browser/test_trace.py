"""The page of a trace in the browser: on the server, as a file of its own, and in a notebook's frame."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tracer
from tests.browser.conftest import playwright_api, serving
from tests.render.traces import MEDIA, agent_trace, make_trace, span_id, wide_trace
from tracer import TracePage
from tracer.render import render_trace
from tracer.testing import FakeOpenAI

expect = playwright_api.expect
ROWS = ".tv-tree .r"
SELECTED = ".r[aria-selected=true]"
TABS = ("Messages", "Events", "Attributes", "JSON", "Code")


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The addresses of traces that the real pipeline made."""
    path = tmp_path_factory.mktemp("traces") / "traces.db"
    command = [sys.executable, "-m", "tests.browser.trace_database", str(path)]
    ids = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=120).stdout)
    with serving(path) as site:
        yield {name: f"{site}/traces/{trace_id}" for name, trace_id in ids.items()}


@pytest.fixture
def file(new_page: Callable[..., Any]) -> Callable[..., Any]:
    """Opens a file of its own, which may ask for nothing."""

    def open_file(html: str, **options: Any) -> Any:
        page = new_page(**options)
        page.set_content(html)
        return page

    return open_file


def row(page: Any, name: str) -> Any:
    return page.locator(ROWS).filter(has_text=name).first


def until(page: Any, truth: str) -> None:
    """Wait until an expression is true. Playwright's own way evaluates texts, and the page's policy forbids that."""
    for _ in range(100):
        if page.evaluate(truth):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never true: {truth}")


def tab(page: Any, name: str) -> None:
    page.locator("article:visible .tabs label").filter(has_text=name).click()


# --- on the server ---------------------------------------------------------------------------------------------------


def test_a_failed_trace_opens_at_what_failed(page: Any, traces: dict[str, str]) -> None:
    page.goto(traces["agent"])
    expect(page.locator(".tv > .tv-alert")).to_contain_text("KeyError: 'A-2'")
    expect(page.locator(".tv > .tv-alert .at")).to_contain_text("trace_database.py")
    expect(page.locator(SELECTED)).to_contain_text("look_up")
    expect(page.locator(".r.path")).to_have_count(2)
    expect(page.locator(".r.bad")).to_have_count(3)
    top = page.locator(".tv-alert").first.bounding_box()["y"]
    assert top < page.locator(".tv-tree").bounding_box()["y"]


def test_choosing_a_span_loads_it_and_puts_it_into_the_address(page: Any, traces: dict[str, str]) -> None:
    page.goto(traces["agent"])
    row(page, "AsyncCompletions_1").click()
    expect(page.locator("article h2")).to_contain_text("AsyncCompletions_1")
    expect(page.locator("article .attempts")).to_contain_text("HTTP 429")
    expect(page).to_have_url(re.compile(r"\?span=[0-9a-f]{16}$"))
    tab(page, "Attributes")
    expect(page).to_have_url(re.compile("tab=attributes"))
    row(page, "AsyncEmbeddings").click()
    expect(page.locator("article h2")).to_contain_text("AsyncEmbeddings")
    expect(page.locator("[data-panel=attributes]")).to_be_visible()
    page.reload()
    expect(page.locator("article h2")).to_contain_text("AsyncEmbeddings")
    expect(page.locator(SELECTED)).to_contain_text("AsyncEmbeddings")
    expect(page.locator("[data-panel=attributes]")).to_be_visible()
    page.go_back()
    expect(page.locator("article h2")).to_contain_text("AsyncCompletions_1")


def test_messages_tools_and_media(page: Any, traces: dict[str, str]) -> None:
    page.goto(traces["agent"])
    row(page, "AsyncCompletions_1").click()
    expect(page.locator(".msg.system")).not_to_have_attribute("open", "")
    expect(page.locator(".msg.user br")).to_have_count(1)
    picture = page.locator(".msg.user img")
    expect(picture).to_be_visible()
    expect(picture).to_have_js_property("naturalWidth", 240)
    expect(page.locator(".call .asked")).to_contain_text("celsius")
    expect(page.locator(".call .result")).to_contain_text("rainy")
    page.locator(".call .result a").click()
    expect(page.locator("article h2")).to_contain_text("AsyncCompletions_2")
    expect(page.locator(".msg.assistant strong").last).to_have_text("another")
    expect(page.locator(".msg.assistant pre .hl-nb").last).to_have_text("print")
    row(page, "AsyncCompletions_3").click()
    expect(page.locator(".beside .schema")).to_contain_text("required")
    expect(page.locator(".beside .assistant")).to_contain_text("mood: fine")
    row(page, "AsyncEmbeddings").click()
    expect(page.locator("article")).to_contain_text("3 vectors of")


def test_instructions_and_reasoning_of_responses(page: Any, traces: dict[str, str]) -> None:
    page.goto(traces["responses"])
    expect(page.locator(".msg .role")).to_have_text(["system", "user", "reasoning", "assistant"])
    expect(page.locator(".reasoning .md")).to_have_text("They greet me.")


def test_a_stream_shows_its_pause_and_plays_back_at_its_speed(page: Any, traces: dict[str, str]) -> None:
    page.goto(traces["agent"])
    row(page, "AsyncCompletions_2").click()
    expect(row(page, "AsyncCompletions_2").locator("rect.ft")).to_have_count(1)
    tab(page, "Events")
    expect(page.locator("tr.stalled")).to_have_count(1)
    said = "".join(page.locator(".chunks q").all_text_contents())
    assert "print('<script>alert(1)</script>')" in said
    page.locator("[data-replay]").click()
    expect(page.locator("[data-replay]")).to_have_text("Stop")
    expect(page.locator("[data-replay]")).to_have_text("Replay")
    assert page.locator(".replay .screen").text_content() == said


def test_a_tab_that_is_chosen_while_a_span_loads_is_kept(page: Any, traces: dict[str, str]) -> None:
    page.goto(traces["agent"])
    held: list[Any] = []
    page.route("**/spans/**", lambda route: held.append(route))  # noqa: PLW0108
    row(page, "AsyncCompletions_2").click()
    expect(page.locator(".tv-detail")).to_have_attribute("aria-busy", "true")
    tab(page, "Events")
    for route in held:
        route.continue_()
    expect(page.locator("article h2")).to_contain_text("AsyncCompletions_2")
    expect(page.locator("article .tabs input:checked")).to_have_attribute("value", "events")


def test_keys_move_through_the_tree(page: Any, traces: dict[str, str]) -> None:
    page.goto(traces["agent"])
    rows = page.locator(ROWS)
    rows.first.focus()
    page.keyboard.press("ArrowLeft")
    expect(rows.first).to_have_attribute("aria-expanded", "false")
    expect(rows.nth(1)).to_be_hidden()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(rows.nth(1)).to_be_focused()
    page.keyboard.press("End")
    expect(rows.last).to_be_focused()
    page.keyboard.press("ArrowLeft")
    expect(row(page, "refund")).to_be_focused()
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    expect(page.locator("article h2")).to_contain_text("weather_agent")
    page.keyboard.press("j")
    expect(page.locator("article h2")).to_contain_text("AsyncCompletions_1")
    page.keyboard.press("k")
    expect(page.locator("article h2")).to_contain_text("weather_agent")
    page.keyboard.press("/")
    expect(page.locator("input[name=find]")).to_be_focused()
    page.keyboard.type("jk")
    expect(page.locator("article h2")).to_contain_text("weather_agent")
    assert page.locator(f"{ROWS}[tabindex='0']").count() == 1


def test_finding_marks_spans_and_steps_through_what_was_found(page: Any, traces: dict[str, str]) -> None:
    page.goto(traces["agent"])
    page.locator("input[name=find]").fill("rainy")
    page.keyboard.press("Enter")
    expect(page.locator(".tv-find .count")).to_have_text("2 of 8 spans")
    expect(page).to_have_url(re.compile("find=rainy"))
    expect(page.locator(".r.hit")).to_have_count(2)
    page.locator("[data-find='1']").click()
    expect(page.locator(SELECTED)).to_have_class(re.compile("hit"))
    until(page, "CSS.highlights.get('tv-find-now')?.size === 1")


def test_copying_a_message_the_json_and_the_code(new_page: Callable[..., Any], traces: dict[str, str]) -> None:
    page = new_page(permissions=["clipboard-read", "clipboard-write"])
    page.goto(traces["agent"])
    row(page, "AsyncCompletions_2").click()

    def copied(button: Any) -> str:
        button.dispatch_event("click")
        expect(button).to_have_text("Copied")
        text: str = page.evaluate("navigator.clipboard.readText()")
        return text

    assert copied(page.locator("[data-panel=main] .assistant .copy").last).startswith("Here is *one* line\nand")
    tab(page, "JSON")
    assert json.loads(copied(page.locator("[data-panel=raw] .copy")))["name"] == "AsyncCompletions_2"
    tab(page, "Code")
    assert "client.chat.completions.create(" in copied(page.locator("[data-panel=code] .copy").first)
    assert copied(page.locator("[data-panel=code] .copy").last).startswith("curl ")
    assert copied(page.locator("[data-copy-link]")).endswith(page.locator("article").get_attribute("data-id"))


def test_a_running_trace_completes_itself(page: Any, tmp_path: Path, server: FakeOpenAI) -> None:
    with tracer.start_span(name="slow work") as work:
        with tracer.start_span(name="first step"):
            pass
        tracer.sync.flush()
        with serving(tmp_path / "tracer.db") as site:
            page.goto(f"{site}/traces/{work.trace_id}")
            expect(page.locator(".tv-head .state")).to_have_text("in progress")
            expect(page.locator(ROWS)).to_have_count(2)
            with tracer.start_span(name="second step"):
                pass
            tracer.sync.flush()
            expect(page.locator(ROWS)).to_have_count(3)
            work.end()
            tracer.sync.flush()
            expect(page.locator(".tv-head .state")).to_have_text("ok")
            expect(page.locator(".r.open")).to_have_count(0)


@pytest.mark.parametrize(("name", "spans"), [("wide", 500), ("widest", 5_000)])
def test_many_spans_are_all_there_in_a_small_page(page: Any, traces: dict[str, str], name: str, spans: int) -> None:
    sizes = []
    page.on("requestfinished", lambda request: sizes.append(request.sizes()["responseBodySize"]))
    page.goto(traces[name])
    expect(page.locator(ROWS)).to_have_count(spans)
    assert 0 < sum(sizes) < (150_000 if spans > 1_000 else 60_000)  # with style and script
    page.locator(ROWS).last.scroll_into_view_if_needed()
    page.locator(ROWS).last.click()
    expect(page.locator("article h2")).to_contain_text(f"step {spans - 2}")
    page.reload()
    expect(page.locator(ROWS).last).to_be_in_viewport()


def test_rows_out_of_sight_do_not_hold_up_the_first_paint(page: Any, traces: dict[str, str]) -> None:
    """They are text until then. A user who presses a key before the browser paints the frame finds them all, too."""
    page.add_init_script("window.requestAnimationFrame = () => 0")
    page.goto(traces["wide"])
    page.locator(".tv.on").wait_for()
    expect(page.locator(ROWS)).to_have_count(60)
    page.keyboard.press("j")
    expect(page.locator(ROWS)).to_have_count(500)
    expect(page.locator(SELECTED)).to_contain_text("step 0")
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    expect(page.locator("article h2")).to_contain_text("step 498")
    page.reload()  # at a span that is among those rows
    expect(page.locator(SELECTED)).to_contain_text("step 498")
    expect(page.locator(SELECTED)).to_be_in_viewport()


def test_without_scripts_all_rows_are_there(new_page: Callable[..., Any], traces: dict[str, str]) -> None:
    page = new_page(java_script_enabled=False)
    page.goto(traces["wide"])
    expect(page.locator(ROWS)).to_have_count(500)
    page.locator(ROWS).last.click()
    expect(page.locator("article h2")).to_contain_text("step 498")


def test_without_scripts_links_lead_to_each_span(new_page: Callable[..., Any], traces: dict[str, str]) -> None:
    page = new_page(java_script_enabled=False)
    page.goto(traces["agent"])
    row(page, "AsyncCompletions_1").click()
    expect(page.locator("article h2")).to_contain_text("AsyncCompletions_1")
    tab(page, "JSON")
    expect(page.locator("pre.raw")).to_be_visible()


# --- a file, a notebook ----------------------------------------------------------------------------------------------


def test_a_file_works_without_a_server(file: Callable[..., Any]) -> None:
    page = file(render_trace(agent_trace(), standalone=True, media=MEDIA))
    expect(page.locator("article:visible h2")).to_contain_text("refund")
    row(page, "AsyncCompletions_2").click()
    expect(page.locator("article:visible h2")).to_contain_text("AsyncCompletions_2")
    expect(page.locator("article:visible img")).to_have_js_property("naturalWidth", 120)
    page.locator("article:visible audio").evaluate("sound => sound.load()")
    expect(page.locator("article:visible audio")).to_have_js_property("duration", 0.5)
    page.locator("input[name=find]").fill("SHIPPED")
    page.keyboard.press("Enter")
    expect(page.locator(".tv-find .count")).to_have_text("3 of 8 spans")


def test_a_files_spans_beyond_the_first_are_there_when_chosen(file: Callable[..., Any]) -> None:
    page = file(render_trace(wide_trace(600), standalone=True))
    assert page.locator("template").count() == 400
    row(page, "step 599").click()
    expect(page.locator("article:visible")).to_contain_text("done with 599")


def test_a_file_reads_without_scripts(file: Callable[..., Any]) -> None:
    page = file(render_trace(agent_trace(), standalone=True), java_script_enabled=False)
    expect(page.locator("details.tv-one[open]")).to_have_count(1)
    page.locator("details.tv-one > summary").filter(has_text="AsyncCompletions_2").click()
    expect(page.locator("details.tv-one[open] h2")).to_have_count(2)
    expect(page.get_by_role("button", name="Copy id")).to_be_hidden()


def test_a_notebooks_frame_runs_in_a_page_of_others(file: Callable[..., Any]) -> None:
    style = "<style>* { color: red !important } .tv { display: none }</style>"
    page = file(
        f"<!doctype html>{style}<p>cell</p>{agent_trace()._repr_html_()}{TracePage([make_trace()])._repr_html_()}"
    )
    frame = page.frame_locator("iframe").first
    row(frame, "AsyncCompletions_1").click()
    expect(frame.locator("article:visible h2")).to_contain_text("AsyncCompletions_1")
    assert frame.locator("h1").evaluate("element => getComputedStyle(element).color") != "rgb(255, 0, 0)"
    expect(page.frame_locator("iframe").nth(1).locator(".tv-item")).to_have_count(1)


@pytest.mark.parametrize("browsers", ["light", "dark"])
@pytest.mark.parametrize(("text", "shown"), [("#ccc", "rgb(230, 233, 238)"), ("#333", "rgb(26, 29, 35)")])
def test_a_notebooks_frame_has_the_theme_of_the_notebook(
    file: Callable[..., Any], browsers: str, text: str, shown: str
) -> None:
    page = file(f"<!doctype html><body style='color: {text}'>{agent_trace()._repr_html_()}", color_scheme=browsers)
    expect(page.frame_locator("iframe").locator("body")).to_have_css("color", shown)
    script = page.locator("script").inner_html()
    page.evaluate("page => document.body.innerHTML = page", agent_trace()._repr_html_())  # the script doesn't run
    expect(page.frame_locator("iframe").locator(".tv.on")).to_have_count(1)
    page.evaluate(script)  # the frame has loaded long ago
    expect(page.frame_locator("iframe").locator("body")).to_have_css("color", shown)


def test_names_go_before_figures_in_a_notebooks_width(file: Callable[..., Any]) -> None:
    page = file(f"<!doctype html>{agent_trace()._repr_html_()}", viewport={"width": 990, "height": 700})
    frame = page.frame_locator("iframe")
    name = row(frame, "answer_customer").locator(".n > span").first
    assert name.evaluate("element => element.scrollWidth <= element.clientWidth")
    expect(frame.locator(".tv-tree .c").first).to_be_hidden()
    page.set_viewport_size({"width": 1400, "height": 700})
    expect(frame.locator(".tv-tree .c").first).to_be_visible()


def test_a_link_leads_to_a_span_of_a_file_and_a_notebook_has_none(page: Any, file: Callable[..., Any]) -> None:
    address, html = "http://127.0.0.1:9/trace.html", render_trace(agent_trace(), standalone=True)
    page.route(address, lambda route: route.fulfill(body=html, content_type="text/html"))
    page.goto(address)
    row(page, "AsyncCompletions_2").click()
    page.evaluate("navigator.clipboard.writeText = async text => { document.title = text }")
    page.locator("article:visible [data-copy-link]").click()
    link = page.title()
    page.goto("about:blank")
    page.goto(link)
    expect(page.locator("article:visible h2")).to_contain_text("AsyncCompletions_2")
    frame = file(f"<!doctype html>{agent_trace()._repr_html_()}").frame_locator("iframe")
    expect(frame.get_by_role("button", name="Copy id")).to_be_visible()
    expect(frame.get_by_role("button", name="Copy link")).to_have_count(0)


def test_hostile_text_runs_nowhere(file: Callable[..., Any]) -> None:
    from tests.render.test_hostile import PAYLOADS, hostile_trace

    for evil in PAYLOADS:
        page = file(render_trace(hostile_trace(evil.replace("alert(1)", "document.title='owned'")), standalone=True))
        page.wait_for_timeout(50)
        assert page.evaluate("document.title") != "owned"
        page.context.close()


# --- for everybody ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (400, "dark")])
def test_axe_finds_nothing(new_page: Callable[..., Any], traces: dict[str, str], scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page = new_page(color_scheme=scheme, viewport={"width": width, "height": 900}, bypass_csp=True)
    page.goto(traces["agent"])
    for name in ("look_up", "AsyncCompletions_1", "AsyncCompletions_2", "AsyncCompletions_3"):
        row(page, name).click()
        expect(page.locator("article h2")).to_contain_text(name)
        for part in TABS:
            if page.locator("article .tabs label").filter(has_text=part).count():
                tab(page, part)
            found = axe.Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]})
            told = [
                (each["id"], [node["html"][:160] for node in each["nodes"]]) for each in found.response["violations"]
            ]
            assert told == [], (name, part)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (name, part)


def test_span_ids_may_be_cut_short(page: Any, traces: dict[str, str]) -> None:
    page.goto(traces["widest"])
    link = page.locator(ROWS).nth(2_000).get_attribute("href")
    assert link is not None
    page.goto(traces["widest"] + link)
    expect(page.locator("article h2")).to_contain_text("step 1999")
    assert span_id(1) not in page.url
