"""The overview in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import playwright_api, serving
from tests.browser.database import ROUNDS
from tests.browser.test_list import ROWS, axe_violations, texts, write
from tests.store.rows import simple
from tracer._models import TraceState

expect = playwright_api.expect


def figure(page: Any, title: str) -> Any:
    return page.locator(".figures > div").filter(has=page.get_by_text(title, exact=True)).locator("dd").first


def test_the_numbers_at_the_top_lead_to_their_traces(page: Any, site: str) -> None:
    page.goto(f"{site}/overview")
    expect(figure(page, "Traces")).to_have_text("150")
    expect(figure(page, "Median")).to_have_text(re.compile(r"\d (ms|s)$"))
    expect(figure(page, "Cost")).to_have_text(re.compile(r"^\$0\.0+[1-9]"))
    expect(page.locator(".figures")).to_contain_text("20% of traces")
    figure(page, "Errors").get_by_role("link").click()
    page.wait_for_url("**/?status=ERROR")
    assert set(texts(page, "name")) == {"lookup"}


def test_a_model_and_a_name_have_their_sums_and_lead_to_their_traces(page: Any, site: str) -> None:
    page.goto(f"{site}/overview")
    row = page.get_by_role("region", name="By model").get_by_role("row", name=re.compile("^gpt-4o "))
    expect(row.locator("td").first).to_have_text(str(ROUNDS))
    expect(row.locator("svg path")).to_have_attribute("d", re.compile(r"^M\d+ 20v-"))
    row.locator("td").nth(6).get_by_role("link").click()  # what it cost
    page.wait_for_url("**model=gpt-4o*order_by=cost+desc*")
    assert set(texts(page, "name")) == {"support_agent"}
    page.go_back()
    named = page.get_by_role("region", name="By name").get_by_role("row", name=re.compile("^lookup "))
    named.locator("td").nth(1).get_by_role("link").click()  # its errors
    expect(page.locator(ROWS)).to_have_count(ROUNDS)


def test_the_slowest_and_the_costliest_open(page: Any, site: str) -> None:
    page.goto(f"{site}/overview")
    expect(page.get_by_role("region", name="Slowest").locator("tbody tr")).to_have_count(10)
    page.get_by_role("region", name="Costliest").locator("tbody a").first.click()
    page.wait_for_url("**/traces/*")
    expect(page.locator("h1")).to_have_text("support_agent")


def test_drawing_over_a_chart_chooses_a_time_and_survives_a_reload(page: Any, site: str) -> None:
    page.goto(f"{site}/overview?name=lookup")
    box = page.locator(".chart svg").nth(1).bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.99, box["y"] + 30)
    page.mouse.up()
    page.wait_for_url("**/overview?name=lookup&since=*until=*")
    for _ in range(2):
        expect(page.locator("#since option:checked")).to_have_text("A chosen time")
        expect(page.locator(".chip", has_text="name: lookup")).to_be_visible()
        page.reload()
    page.locator("#since").select_option("24h")
    page.wait_for_url(lambda url: "since=24h" in url and "until" not in url and "/overview" in url)
    page.locator("header nav").get_by_role("link", name="Traces").click()
    page.wait_for_url(re.compile(r"/\?(name=lookup&since=24h|since=24h&name=lookup)$"))


def test_the_bar_filters_with_completion(page: Any, site: str) -> None:
    page.goto(f"{site}/overview")
    page.keyboard.press("f")
    page.keyboard.type("model = 'gpt-5-")
    expect(page.locator("#completion li")).to_have_text(["'gpt-5-mini'"])  # as the table has it
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")
    page.wait_for_url("**/overview?filter=model*")
    expect(figure(page, "Traces")).to_have_text(str(ROUNDS))
    page.goto(f"{site}/overview?filter=duratoin+%3E+2")
    expect(page.locator("#problem")).to_contain_text("did you mean 'duration'")


def test_what_is_shown_over_time_can_be_chosen(page: Any, site: str) -> None:
    page.goto(f"{site}/overview")
    page.get_by_role("link", name="tokens", exact=True).click()
    page.wait_for_url("**/overview?spark=tokens#by-model")
    expect(page.get_by_role("columnheader", name="Tokens over time").first).to_be_visible()
    expect(page.locator(".spark").first).to_have_attribute("aria-label", re.compile("^tokens over time, at most"))


def test_shortcuts_lead_here_and_away(page: Any, site: str) -> None:
    page.goto(site)
    page.keyboard.press("g")
    page.keyboard.press("o")
    page.wait_for_url("**/overview")
    page.keyboard.press("?")
    expect(page.locator("#help")).to_contain_text("overview")
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("s")
    page.wait_for_url("**/sessions")


def test_figures_follow_what_is_stored_until_they_are_paused(page: Any, own_database: Path) -> None:
    with serving(own_database) as address:
        page.goto(f"{address}/overview")
        page.wait_for_timeout(500)
        write(own_database, simple(4_000_000_000, state=TraceState.ERROR))
        expect(figure(page, "Errors")).to_have_text("31")
        page.locator("#live").click()
        write(own_database, simple(4_000_000_001, state=TraceState.ERROR))
        page.wait_for_timeout(3_000)
        expect(figure(page, "Errors")).to_have_text("31")
        page.locator("#live").click()
        expect(figure(page, "Errors")).to_have_text("32")


def test_the_first_trace_is_awaited(page: Any, tmp_path: Path) -> None:
    database = tmp_path / "empty.db"
    with serving(database) as address:
        page.goto(f"{address}/overview")
        expect(page.locator("#first-trace")).to_contain_text("tracer.autolog()")
        write(database, simple(1))
        expect(figure(page, "Traces")).to_have_text("1")


def test_it_reads_without_scripts(new_page: Callable[..., Any], site: str) -> None:
    page = new_page(java_script_enabled=False)
    page.goto(f"{site}/overview")
    page.locator("#filter").fill("name = 'lookup'")
    page.get_by_role("button", name="Search").click()
    expect(figure(page, "Traces")).to_have_text("30")
    expect(page.locator(".chart svg").first).to_be_visible()


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (400, "dark")])
def test_axe_finds_nothing(new_page: Callable[..., Any], site: str, scheme: str, width: int) -> None:
    page = new_page(color_scheme=scheme, viewport={"width": width, "height": 900}, bypass_csp=True)
    page.goto(f"{site}/overview")
    assert axe_violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
