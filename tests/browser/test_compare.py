"""Comparing, judging, exporting and walking from trace to trace, in a real browser."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import playwright_api, serving
from tests.browser.database import ROUNDS

expect = playwright_api.expect
ROWS = "#list tbody tr[data-id]"
PAGES = ("/experiments", "/storage", "/compare", "/compare?a=x&b=y")


@pytest.fixture
def own_site(own_database: Path) -> Iterator[str]:
    """The address of a page over a database that may be written to."""
    with serving(own_database) as address:
        yield address


def chats(page: Any, site: str) -> list[str]:
    """Open the list of chat calls and return their ids."""
    page.goto(f"{site}/?name=AsyncCompletions")
    expect(page.locator(ROWS)).to_have_count(ROUNDS)
    found: list[str] = page.locator(ROWS).evaluate_all("rows => rows.map(row => row.dataset.id)")
    return found


# --- compare ---------------------------------------------------------------------------------------------------------


def test_two_ticked_rows_are_compared(page: Any, site: str) -> None:
    ids = chats(page, site)
    boxes = page.locator(f"{ROWS} .c-pick input")
    expect(page.locator("#compare")).to_be_hidden()
    boxes.nth(0).check()
    expect(page.locator("#compare .primary")).to_be_disabled()
    boxes.nth(1).check()
    boxes.nth(3).check()  # a third takes the first one's place
    expect(page.locator(f"{ROWS} .c-pick input:checked")).to_have_count(2)
    page.locator("#compare .primary").click()
    page.wait_for_url(f"**/compare?a={ids[1]}&b={ids[3]}")
    for _ in range(2):
        expect(page.locator("del").first).to_have_text(str(ROUNDS - 2))
        expect(page.locator("ins").first).to_have_text(str(ROUNDS - 4))
        expect(page.locator(".figures th", has_text="duration")).to_be_visible()
        expect(page.locator("details.same")).to_contain_text("Be brief.")
        page.reload()
    page.locator(".modes a", has_text="Rendered").click()
    page.wait_for_url("**show=rendered*")
    expect(page.locator(".shown .msg.user")).to_have_count(2)
    expect(page.locator("del")).to_have_count(0)
    page.locator(".modes a", has_text="Swap").click()
    expect(page.locator("ins").first).to_have_text(str(ROUNDS - 2))


def test_ticks_stay_while_rows_come_and_go(page: Any, site: str) -> None:
    page.goto(site)
    page.locator(f"{ROWS} .c-pick input").first.check()
    scroller = page.locator("#scroller")
    for _ in range(40):
        scroller.evaluate("element => element.scrollBy(0, 1500)")
        page.wait_for_timeout(50)
        if page.locator("#foot").inner_text() == "That's all.":
            break
    page.locator(f"{ROWS} .c-pick input").last.check()
    expect(page.locator("#compare")).to_contain_text("2 traces ticked")
    scroller.evaluate("element => element.scrollTo(0, 0)")
    expect(page.locator(f"{ROWS} .c-pick input").first).to_be_checked()
    page.locator("#compare [type=reset]").click()
    expect(page.locator("#compare")).to_be_hidden()


def test_a_tick_does_not_open_the_trace(page: Any, site: str) -> None:
    page.goto(site)
    page.locator(f"{ROWS} .c-pick").first.click(position={"x": 3, "y": 3})
    expect(page.locator(f"{ROWS} .c-pick input").first).to_be_checked()
    assert "/traces/" not in page.url


def test_keys_tick_rows(page: Any, site: str) -> None:
    ids = chats(page, site)
    for key in "jxjjx":
        page.keyboard.press(key)
    expect(page.locator(f"{ROWS} .c-pick input:checked")).to_have_count(2)
    page.locator("#compare .primary").click()
    page.wait_for_url(f"**/compare?a={ids[0]}&b={ids[2]}")


def test_trees_stand_beside_each_other_down_to_two_calls(page: Any, site: str) -> None:
    page.goto(f"{site}/?name=support_agent")
    page.locator(f"{ROWS} .c-name a").first.click()
    page.locator(".trace-bar summary", has_text="Compare").click()
    page.locator(".trace-bar a", has_text="previous trace of this name").click()
    page.wait_for_url(re.compile(r"/compare\?a=[0-9a-f]{32}&b=[0-9a-f]{32}$"))
    expect(page.locator(".spans tbody tr")).to_have_count(4)
    page.get_by_role("link", name="Compare these two: AsyncCompletions").click()
    expect(page.locator(".sides .name").first).to_contain_text("AsyncCompletions")
    expect(page.locator(".sides")).to_contain_text("one span")
    expect(page.locator(".figures").first).to_contain_text("time to first token")


def test_a_trace_is_compared_with_one_named_by_a_link(page: Any, site: str) -> None:
    ids = chats(page, site)
    page.goto(f"{site}/traces/{ids[0]}")
    page.locator(".trace-bar summary", has_text="Compare").click()
    page.locator("#other").fill(f"{site}/traces/{ids[2]}?tab=raw")
    page.keyboard.press("Enter")
    expect(page.locator("ins").first).to_have_text(str(ROUNDS - 3))
    page.goto(f"{site}/traces/{ids[0]}")
    page.get_by_role("link", name="Compare this span").click()
    page.go_back()
    page.locator(".trace-bar summary", has_text="Compare").click()
    page.get_by_role("link", name="Choose one").click()
    page.locator(".proposals a").first.click()
    expect(page.locator("del").first).to_have_text(str(ROUNDS - 1))


def test_what_cannot_be_compared_is_told_and_can_be_mended(page: Any, site: str) -> None:
    ids = chats(page, site)
    page.goto(f"{site}/compare?a={ids[0]}&b={'0' * 32}")
    expect(page.get_by_role("alert")).to_contain_text("no trace")
    page.locator(".two [name=b]").fill(ids[0])
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("the same")
    page.locator(".two [name=b]").fill(ids[1])
    page.keyboard.press("Enter")
    expect(page.locator("ins").first).to_be_visible()


def test_without_scripts_ticked_rows_are_compared(new_page: Callable[..., Any], site: str) -> None:
    page = new_page(java_script_enabled=False)
    page.goto(f"{site}/?name=AsyncCompletions")
    page.locator(f"{ROWS} .c-pick input").nth(0).check()
    page.locator(f"{ROWS} .c-pick input").nth(1).check()
    page.locator("#compare .primary").click()
    expect(page.locator("del").first).to_have_text(str(ROUNDS - 1))


# --- feedback --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without"])
def test_feedback_is_given_and_taken_back(new_page: Callable[..., Any], own_site: str, scripts: bool) -> None:
    page = new_page(java_script_enabled=scripts)
    page.goto(f"{own_site}/?name=support_agent&order_by=start_time+asc")
    page.locator(f"{ROWS} .c-name a").first.click()
    page.locator(".tv-tree .r", has_text="get_weather").click()
    expect(page.locator("article h2")).to_contain_text("get_weather")
    page.get_by_label("Thumbs down for the trace").click()
    expect(page.locator("#feedback li")).to_contain_text("no")
    expect(page.locator("article h2")).to_contain_text("get_weather")
    if scripts:
        assert "list=" in page.url
    box = page.locator("article [data-feedback]")
    box.get_by_text("Say more").click()
    expect(box.get_by_label("Score or label")).to_be_hidden()
    box.get_by_label("What", exact=True).fill("tone")
    box.get_by_label("Verdict").select_option("label")
    box.get_by_label("Score or label").fill("<b>friendly</b>")
    box.get_by_label("Comment").fill("as asked")
    box.get_by_role("button", name="Save").click()
    expect(box.locator("li")).to_contain_text("<b>friendly</b>")
    page.reload()
    expect(box.locator("li q")).to_have_text("as asked")
    expect(page.locator("#feedback li")).to_have_count(1)
    box.locator("li a").click()
    expect(page.locator(ROWS)).to_have_count(1)
    page.go_back()
    page.get_by_label("Delete this feedback: helpful").click()
    expect(page.locator("#feedback li")).to_have_count(0)
    page.reload()
    expect(page.locator("#feedback li")).to_have_count(0)
    expect(box.locator("li")).to_have_count(1)


def test_wrong_feedback_is_told_where_it_was_written(page: Any, own_site: str) -> None:
    page.goto(own_site)
    page.locator(f"{ROWS} .c-name a").first.click()
    box = page.locator("#feedback")
    box.get_by_text("Say more").click()
    box.get_by_label("Verdict").select_option("score")
    box.get_by_label("Score or label").fill("very good")
    box.get_by_role("button", name="Save").click()
    expect(box.get_by_role("alert")).to_contain_text("a score must be a number")
    expect(box.get_by_label("Score or label")).to_have_value("very good")


# --- from trace to trace ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scripts", [True, False], ids=["keys", "links"])
def test_next_and_previous_follow_the_list(new_page: Callable[..., Any], site: str, scripts: bool) -> None:
    page = new_page(java_script_enabled=scripts)
    page.goto(f"{site}/?name=AsyncCompletions&order_by=start_time+asc")
    rows = page.locator(ROWS)
    ids = [rows.nth(number).get_attribute("data-id") for number in range(3)]

    def go(way: str) -> None:
        if scripts:
            page.keyboard.press({"previous": "[", "next": "]"}[way])
        else:
            page.locator(f"#{way}").click()

    rows.first.locator(".c-name a").click()
    for trace_id, way in zip(ids, ("next", "next", "previous"), strict=True):
        page.wait_for_url(f"**/traces/{trace_id}?list=*")
        go(way)
    page.wait_for_url(f"**/traces/{ids[1]}?list=*")
    go("previous")
    page.wait_for_url(f"**/traces/{ids[0]}?list=*")
    go("previous")
    expect(page.locator(".trace-bar [role=status]")).to_have_text("This is the first of the list.")
    page.locator(".trace-bar a", has_text="Traces").click()
    expect(rows).to_have_count(ROUNDS)
    assert "order_by=start_time+asc" in page.url


# --- exports, time, experiments, storage ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["JSON Lines", "CSV", "Parquet"])
def test_the_list_is_exported_as_it_is_narrowed(page: Any, site: str, tmp_path: Path, name: str) -> None:
    page.goto(f"{site}/?status=ERROR&cols=name")
    page.locator("#export summary").click()
    with page.expect_download() as download:
        page.get_by_role("link", name=name).click()
    file = tmp_path / download.value.suggested_filename
    download.value.save_as(file)
    if name == "JSON Lines":
        assert {json.loads(line)["info"]["state"] for line in file.read_text().splitlines()} == {"ERROR"}
    elif name == "CSV":
        assert len(file.read_text().splitlines()) == ROUNDS + 1
    else:
        assert file.read_bytes()[:4] == b"PAR1"


def test_a_trace_is_exported_as_a_file_that_shows_it(new_page: Callable[..., Any], site: str, tmp_path: Path) -> None:
    page = new_page()
    page.goto(f"{site}/?name=support_agent")
    page.locator(f"{ROWS} .c-name a").first.click()
    page.locator(".trace-bar summary", has_text="Export").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="HTML file").click()
    file = tmp_path / "trace.html"
    download.value.save_as(file)
    alone = new_page()
    alone.set_content(file.read_text())
    expect(alone.locator(".tv-tree .r")).to_have_count(4)


def test_a_time_is_chosen_in_the_readers_zone(new_page: Callable[..., Any], site: str) -> None:
    page = new_page(timezone_id="Asia/Tokyo")
    page.goto(site)
    page.locator("#range-menu summary").click()
    page.locator("#range-menu input[name=since]").fill("2020-01-02T03:04:05")
    page.locator("#range-menu input[name=until]").fill("2021-01-01T00:00")
    page.get_by_role("button", name="Show this time").click()
    page.wait_for_url("**since=2020-01-01T18%3A04%3A05.000Z&until=2020-12-31T15%3A00%3A00.000Z")
    expect(page.locator("#foot")).to_contain_text("No trace matches")
    page.reload()
    expect(page.locator("#since option:checked")).to_have_text("A chosen time")
    page.locator("#range-menu summary").click()
    expect(page.locator("#range-menu input[name=since]")).to_have_value("2020-01-02T03:04:05")
    page.locator("#range-menu input[name=until]").fill("")
    page.get_by_role("button", name="Show this time").click()
    expect(page.locator(ROWS)).to_have_count(100)
    assert "until" not in page.url


def test_experiments_lead_to_their_traces(page: Any, site: str) -> None:
    page.goto(site)
    page.get_by_role("link", name="Experiments").click()
    page.locator("table a", has_text="Evals").click()
    expect(page.locator(".chip")).to_have_text("experiment: Evals")
    expect(page.locator(ROWS)).to_have_count(50)


def test_storage_tells_the_commands_to_copy(new_page: Callable[..., Any], site: str, made_database: Path) -> None:
    page = new_page(permissions=["clipboard-read", "clipboard-write"])
    page.goto(site)
    page.get_by_role("link", name="Storage").click()
    expect(page.locator(".tiles")).to_contain_text(re.compile(r"traces\s*150"))
    page.get_by_role("button", name="Copy: Delete them").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == f"tracer traces prune --older-than 30d --uri sqlite:///{made_database}"


# --- for everybody ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (400, "dark")])
def test_axe_finds_nothing(new_page: Callable[..., Any], own_site: str, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page = new_page(color_scheme=scheme, viewport={"width": width, "height": 900}, bypass_csp=True)

    def check(what: str) -> None:
        found = axe.Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]})
        told = [(each["id"], [node["html"][:160] for node in each["nodes"]]) for each in found.response["violations"]]
        assert told == [], what
        assert page.evaluate("document.documentElement.scrollWidth") <= width, what

    for path in PAGES:
        page.goto(own_site + path)
        check(path)
    ids = chats(page, own_site)
    page.locator(f"{ROWS} .c-pick input").first.check()
    page.locator("#range-menu summary").click()
    check("the list")
    for path in (f"/compare?a={ids[0]}&b={ids[1]}", f"/compare?a={ids[0]}&b={ids[1]}&show=rendered"):
        page.goto(own_site + path)
        check(path)
    page.goto(f"{own_site}/compare?a={ids[0]}")
    check("one to choose")
    page.goto(f"{own_site}/traces/{ids[0]}")
    page.get_by_label("Thumbs up for the span").click()
    expect(page.locator("article [data-feedback] li")).to_have_count(1)
    page.locator("#feedback summary").click()
    page.locator("article .judged summary").click()
    check("the forms")
    page.locator(".trace-bar summary", has_text="Compare").click()
    check("the menu")
