"""The list of traces in a real browser."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import playwright_api, serving
from tests.browser.database import EACH, ROUNDS
from tests.store.rows import batch, patch, running, simple, span, started, trace_id
from tracer.store import Batch, open_store

expect = playwright_api.expect
ROWS = "#list tbody tr[data-id]"


def write(database: Path, rows: Batch) -> None:
    """Write as another process would."""

    async def run() -> None:
        store = open_store(f"sqlite:///{database}")
        await store.open()
        await store.write(rows)
        await store.aclose()

    with ThreadPoolExecutor() as pool:  # this thread's loop is Playwright's
        pool.submit(asyncio.run, run()).result()


def axe_violations(page: Any) -> list[tuple[str, list[str]]]:
    """What axe-core finds wrong with a page by WCAG 2.1, level AA; to run it, the page must bypass its own CSP."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    found = axe.Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]})
    return [(each["id"], [node["html"][:120] for node in each["nodes"]]) for each in found.response["violations"]]


def texts(page: Any, column: str) -> list[str]:
    found: list[str] = page.locator(f"{ROWS} td.c-{column}").all_inner_texts()
    return found


def test_a_row_tells_the_trace(page: Any, site: str) -> None:
    page.goto(f"{site}/?cols=status,name,request,response,models,start,duration,ttft,input,output,cached,cost,user")
    row = page.locator(ROWS).first
    expect(row.locator(".c-name")).to_have_text("support_agent")
    expect(row.locator(".c-models")).to_have_text(re.compile("gpt-5-mini.*gpt-4o|gpt-4o.*gpt-5-mini"))
    expect(row.locator(".c-request")).to_contain_text("weather like in Paris")
    expect(row.locator(".c-response")).to_contain_text("rainy")
    expect(row.locator(".c-duration")).to_have_text(re.compile(r"\d (ms|s)$"))
    expect(row.locator(".c-ttft")).to_have_text(re.compile(r"\d (ms|s)$"))
    expect(row.locator(".c-cost")).to_have_text(re.compile(r"^\$0\.0+[1-9]"))
    assert int(row.locator(".c-input").inner_text()) > 0
    error = page.locator(f"{ROWS}[data-state=ERROR]").first
    expect(error.locator(".c-name")).to_have_text("lookup")
    expect(error.locator(".c-user")).to_have_text("ada")


def test_what_a_model_wrote_is_text(page: Any, site: str) -> None:
    page.goto(f"{site}/?name=AsyncResponses")
    expect(page.locator(f"{ROWS} .c-request").first).to_contain_text("<b>Haiku</b> number")
    assert page.locator(f"{ROWS} b").count() == 0


def test_scrolling_brings_all_traces_and_lets_go_of_those_out_of_sight(page: Any, site: str) -> None:
    page.goto(site)
    expect(page.locator(ROWS)).to_have_count(100)
    scroller = page.locator("#scroller")
    for _ in range(40):
        scroller.evaluate("element => element.scrollBy(0, 1500)")
        page.wait_for_timeout(50)
        if page.locator("#foot").inner_text() == "That's all.":
            break
    expect(page.locator("#foot")).to_have_text("That's all.")
    ids = page.locator(ROWS).evaluate_all("rows => rows.map(row => row.dataset.id)")
    assert len(ids) == len(set(ids)) == EACH * ROUNDS - len_emptied(page)
    scroller.evaluate("element => element.scrollTo(0, 0)")
    expect(page.locator(f"{ROWS} .c-name").first).to_have_text("support_agent")


def test_without_scripts_the_first_hundred_are_shown(new_page: Callable[..., Any], site: str) -> None:
    """With scripts the rows below the first screen come after the first paint."""
    page = new_page(java_script_enabled=False)
    page.goto(site)
    rows = page.locator("#list tbody tr")
    expect(rows).to_have_count(100)
    expect(rows.last).to_be_visible()
    scripted = new_page()
    scripted.add_init_script("window.requestAnimationFrame = () => 0")
    scripted.goto(site)
    expect(scripted.locator("#list tbody tr:visible")).to_have_count(50)


def len_emptied(page: Any) -> int:
    return 100 * int(page.locator("#list tr.spacer").count())


def test_sorting_is_in_the_address_and_survives_a_reload(page: Any, site: str) -> None:
    page.goto(site)
    page.locator("#list th.c-duration a").click()
    page.wait_for_url("**order_by=duration+desc*")
    for _ in range(2):
        expect(page.locator("#list th.c-duration")).to_have_attribute("aria-sort", "descending")
        assert texts(page, "duration") == texts(page, "duration")
        page.reload()
    page.locator("#list th.c-duration a").click()
    page.wait_for_url("**order_by=duration+asc*")


@pytest.mark.parametrize("column", ["duration", "ttft", "input", "output", "cached", "total", "cost", "start"])
def test_each_numeric_column_sorts(page: Any, site: str, column: str) -> None:
    page.goto(site)
    link = page.locator(f"#list th.c-{column} a")
    page.goto(f"{site}{link.get_attribute('href')}")
    assert page.locator(ROWS).count() == 100
    expect(page.locator(f"#list th.c-{column}")).not_to_have_attribute("aria-sort", "none")


def test_columns_are_chosen_and_remembered_and_in_the_address(new_page: Callable[..., Any], site: str) -> None:
    page = new_page()
    page.goto(site)
    expect(page.locator("#list th.c-session")).to_be_hidden()
    page.locator("#columns summary").click()
    page.locator('#columns input[value="session"]').check()
    page.locator('#columns input[value="response"]').uncheck()
    expect(page.locator("#list th.c-session")).to_be_visible()
    expect(page.locator("#list th.c-response")).to_be_hidden()
    address = page.url
    page.goto(site)  # remembered
    expect(page.locator("#list th.c-session")).to_be_visible()
    elsewhere = new_page()  # another browser's profile
    elsewhere.goto(address)
    expect(elsewhere.locator("#list th.c-session")).to_be_visible()
    expect(elsewhere.locator("#list th.c-response")).to_be_hidden()


def test_widths_are_remembered(page: Any, site: str) -> None:
    page.goto(site)
    head = page.locator("#list th.c-models")
    before = head.bounding_box()["width"]
    grip = head.locator(".grip").bounding_box()
    page.mouse.move(grip["x"] + 3, grip["y"] + 5)
    page.mouse.down()
    page.mouse.move(grip["x"] + 83, grip["y"] + 5)
    page.mouse.up()
    wide = head.bounding_box()["width"]
    assert wide > before + 60
    page.reload()
    page.wait_for_timeout(200)
    assert abs(page.locator("#list th.c-models").bounding_box()["width"] - wide) < 2


def test_a_filter_is_completed_and_searched(page: Any, site: str) -> None:
    page.goto(site)
    field = page.locator("#filter")
    field.press_sequentially("sta")
    expect(page.locator("#completion li").first).to_contain_text("status")
    field.press("ArrowDown")
    field.press("Enter")
    field.press_sequentially("= ")
    expect(page.locator("#completion")).to_contain_text("'INTERRUPTED'")
    field.press_sequentially("'ER")
    field.press("ArrowDown")
    field.press("Enter")
    expect(field).to_have_value("status = 'ERROR' ")
    field.press("Escape")
    field.press("Enter")
    page.wait_for_url("**filter=status*")
    assert set(texts(page, "name")) == {"lookup"}
    expect(page.locator("#filter")).to_have_value("status = 'ERROR'")


def test_a_wrong_filter_is_told_with_a_mark(page: Any, site: str) -> None:
    page.goto(f"{site}/?filter=duratoin+%3E+2")
    expect(page.locator("#problem")).to_contain_text("did you mean 'duration'")
    expect(page.locator("#problem")).to_contain_text("^")
    assert page.locator(ROWS).count() == 0
    page.locator("#filter").fill("status = 'E")
    page.wait_for_timeout(600)
    expect(page.locator("#problem")).to_be_empty()  # it is still being written
    page.locator("#filter").fill("status = 'OK' AND duration > long")
    page.locator("#text").focus()
    expect(page.locator("#problem")).to_contain_text("position 30")
    page.locator("#filter").fill("status = 'OK'")
    expect(page.locator("#problem")).to_be_empty()


def test_text_search_finds_what_was_said(page: Any, site: str) -> None:
    page.goto(site)
    page.keyboard.press("/")
    page.keyboard.type("haiku")
    page.keyboard.press("Enter")
    page.wait_for_url("**text=haiku*")
    assert set(texts(page, "name")) == {"AsyncResponses"}
    page.locator("#text").fill("nothingofthekind")
    page.keyboard.press("Enter")
    expect(page.locator("#foot")).to_contain_text("No trace matches")


def test_facets_narrow_and_are_taken_away(page: Any, site: str) -> None:
    page.goto(site)
    page.locator("#facets a", has_text="ERROR").click()
    page.wait_for_url("**status=ERROR*")
    assert set(texts(page, "name")) == {"lookup"}
    page.locator("#facets a", has_text="1.4").click()
    page.wait_for_url("**tag=release%3D1.4*")
    expect(page.locator(ROWS)).to_have_count(ROUNDS)
    page.locator(".chip", has_text="status").click()
    expect(page.locator(".chip", has_text="status")).to_have_count(0)
    page.locator("#facets a[aria-current]").first.click()
    expect(page.locator(".chip")).to_have_count(0)


def test_drawing_over_the_histogram_chooses_a_time(page: Any, site: str) -> None:
    page.goto(site)
    box = page.locator("#histogram svg").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.02, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + 30)
    page.mouse.up()
    page.wait_for_url("**since=*until=*")
    expect(page.locator(".chip", has_text="from")).to_be_visible()
    expect(page.locator("#since option:checked")).to_have_text("A chosen time")
    page.locator("#since").select_option("24h")
    page.wait_for_url(lambda url: "since=24h" in url and "until" not in url)


def test_keys_walk_the_list(page: Any, site: str) -> None:
    page.goto(site)
    ids = page.locator(ROWS).evaluate_all("rows => rows.slice(0, 3).map(row => row.dataset.id)")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    expect(page.locator("#list tr.selected")).to_have_attribute("data-id", ids[1])
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(f"/traces/{ids[1]}"))  # wait_for_url fails if the load is cut short
    page.go_back()
    expect(page.locator(ROWS).first).to_be_visible()


def test_traces_appear_and_end_while_one_looks(page: Any, own_database: Path) -> None:
    with serving(own_database) as address:
        page.goto(address)
        expect(page.locator(ROWS)).to_have_count(100)
        page.wait_for_timeout(500)
        now = 4_000_000_000
        write(own_database, batch([started(now)], [running(now, name="long job")]))
        row = page.locator(f'{ROWS}[data-id="{trace_id(now)}"]')
        expect(row).to_be_visible()
        expect(row.locator(".state")).to_have_class(re.compile("in_progress|interrupted"))
        write(own_database, batch([span(now)], [patch(now, name="long job", response_preview="done")]))
        expect(row.locator(".c-response")).to_have_text("done")
        expect(row.locator(".state")).to_have_class(re.compile(r"\bok\b"))
        expect(row.locator(".c-duration")).to_have_text("500 ms")
        page.locator("#live").click()  # pause
        write(own_database, simple(now + 1))
        page.wait_for_timeout(1500)
        expect(page.locator(f'{ROWS}[data-id="{trace_id(now + 1)}"]')).to_have_count(0)
        page.locator("#live").click()
        expect(page.locator(f'{ROWS}[data-id="{trace_id(now + 1)}"]')).to_be_visible()


def test_new_traces_wait_for_a_reader_who_has_scrolled(page: Any, own_database: Path) -> None:
    with serving(own_database) as address:
        page.goto(address)
        page.wait_for_timeout(500)
        page.locator("#scroller").evaluate("element => element.scrollTo(0, 900)")
        write(own_database, simple(4_000_000_000))
        expect(page.locator("#pill")).to_have_text("1 new ↑")
        page.locator("#pill").click()
        expect(page.locator(ROWS).first).to_have_attribute("data-id", trace_id(4_000_000_000))
        expect(page.locator("#pill")).to_be_hidden()


def test_an_empty_database_shows_how_to_begin_and_the_first_trace(page: Any, tmp_path: Path) -> None:
    database = tmp_path / "empty.db"
    with serving(database) as address:
        page.goto(address)
        expect(page.locator("#first-trace")).to_contain_text("tracer.autolog()")
        expect(page.locator("#first-trace")).to_contain_text(str(database))
        write(database, simple(1))
        expect(page.locator(ROWS)).to_have_count(1)


def test_the_theme_follows_the_system_until_it_is_chosen(new_page: Callable[..., Any], site: str) -> None:
    page = new_page(color_scheme="dark")
    page.goto(site)
    background = "getComputedStyle(document.documentElement).backgroundColor"
    dark = page.evaluate(background)
    page.locator("#theme-button").click()
    assert page.evaluate(background) != dark
    page.reload()
    assert page.evaluate(background) != dark
    assert page.evaluate("document.documentElement.dataset.theme") == "light"


def test_a_phone_shows_cards_and_no_sideways_scrolling(new_page: Callable[..., Any], site: str) -> None:
    page = new_page(viewport={"width": 400, "height": 800})
    page.goto(site)
    expect(page.locator(f"{ROWS} .c-request").first).to_be_visible()
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.mouse.wheel(0, 20_000)
    expect(page.locator(ROWS).nth(120)).to_be_attached()


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (400, "dark")])
def test_axe_finds_nothing(new_page: Callable[..., Any], site: str, scheme: str, width: int) -> None:
    page = new_page(color_scheme=scheme, viewport={"width": width, "height": 900}, bypass_csp=True)
    page.goto(f"{site}/?status=ERROR")
    page.wait_for_timeout(600)
    assert axe_violations(page) == []


def test_the_page_is_small(page: Any, site: str) -> None:
    """Everything that the list loads, as it is sent."""
    sizes = []
    page.on("requestfinished", lambda request: sizes.append(request.sizes()["responseBodySize"]))
    page.goto(site, wait_until="load")
    page.wait_for_timeout(500)
    assert 0 < sum(sizes) < 100_000


def test_a_wrong_filter_asks_the_server_for_nothing_more(page: Any, site: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{site}/?filter=status")
    page.wait_for_timeout(500)
    assert not [url for url in asked if re.search(r"/(rows|facets|histogram|api/live)(\?|$)", url)]
