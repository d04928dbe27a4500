"""Sessions in a real browser: the list, and one of them as a conversation."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import playwright_api, serving
from tests.browser.conversations import CHAT, LONG, LONG_TURNS, OTHERS
from tests.browser.test_list import ROWS, axe_violations, write
from tests.store.rows import batch, patch, running, span, started, trace_id
from tracer.render.addresses import session_url

expect = playwright_api.expect
SESSIONS = ".sessions tbody tr"
TURNS = "article.turn"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("conversations") / "traces.db"
    subprocess.run([sys.executable, "-m", "tests.browser.conversations", str(path)], check=True, timeout=120)
    return path


@pytest.fixture(scope="module")
def site(database: Path) -> Iterator[str]:
    with serving(database) as address:
        yield address


# --- the list ---------------------------------------------------------------------------------------------------------


def test_a_row_sums_up_its_session(page: Any, site: str) -> None:
    page.goto(f"{site}/sessions")
    row = page.locator(SESSIONS).first
    expect(row.locator(".c-id")).to_have_text(CHAT)
    expect(row.locator(".c-user")).to_have_text("ada")
    expect(row.locator(".c-traces")).to_have_text(re.compile("^4"))
    expect(row.locator(".c-errors")).to_have_text(re.compile("^1"))
    expect(row.locator(".c-duration")).to_have_text(re.compile(r"\d (ms|s)$"))
    expect(row.locator(".c-cost")).to_have_text(re.compile(r"^\$0\.0+[1-9]"))
    assert int(row.locator(".c-tokens").inner_text().replace(",", "")) > 0
    expect(row.locator(".state")).to_have_attribute("title", "Error")
    row.locator(".c-errors a").click()
    expect(page.locator(ROWS)).to_have_count(1)
    expect(page.locator(f"{ROWS} .c-name")).to_have_text("lookup")


def test_older_sessions_are_a_link_away(page: Any, site: str) -> None:
    page.goto(f"{site}/sessions")
    expect(page.locator(SESSIONS)).to_have_count(50)
    page.get_by_role("link", name="Older").click()
    for _ in range(2):
        expect(page.locator(SESSIONS)).to_have_count(OTHERS + 3 - 50)
        expect(page.locator(SESSIONS).last.locator(".c-id")).to_have_text(LONG)
        page.reload()
    page.get_by_role("link", name="Newest").click()
    page.wait_for_url("**/sessions")


def test_the_bar_narrows_the_sessions(page: Any, site: str) -> None:
    page.goto(f"{site}/sessions")
    page.keyboard.press("/")
    page.keyboard.type("semaphore")
    page.keyboard.press("Enter")
    page.wait_for_url("**/sessions?text=semaphore")
    expect(page.locator(SESSIONS)).to_have_count(1)
    page.locator("#text").fill("nothingofthekind")
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_contain_text("No session matches")
    page.goto(f"{site}/sessions?filter=duratoin+%3E+2")
    expect(page.locator("#problem")).to_contain_text("did you mean 'duration'")


# --- one session ------------------------------------------------------------------------------------------------------


def test_a_conversation_reads_like_one(page: Any, site: str) -> None:
    page.goto(f"{site}/sessions")
    page.get_by_role("link", name=CHAT).click()
    page.wait_for_url(f"**{session_url(CHAT)}")
    expect(page.locator("h1")).to_have_text(f"Session {CHAT}")
    expect(page.locator(TURNS)).to_have_count(4)
    first, second, third, last = (page.locator(TURNS).nth(number) for number in range(4))
    expect(first.locator(".msg.user")).to_contain_text("What's a mutex?")
    expect(first.locator("pre.code")).to_have_text(re.compile("with lock:"))
    expect(first.locator("pre.code [class^=hl-k]").first).to_have_text("with")
    expect(first.locator("ol li")).to_have_count(2)
    expect(second.locator(".msg.user br")).to_have_count(1)
    expect(second).not_to_contain_text("What's a mutex?")
    expect(third.locator(".msg.user")).to_contain_text("What's the weather in Paris?")
    expect(third.locator(".msg.assistant em")).to_have_text("rainy")
    expect(third.locator(".msg.assistant")).to_contain_text("<script>alert(1)</script>")
    expect(last.locator(".tv-alert")).to_contain_text("KeyError: 'A-1009'")
    expect(last.locator(".tv-alert")).to_contain_text("in lookup")
    expect(first.locator("> header")).to_contain_text(re.compile(r"\d (ms|s).*\d+ in, \d+ out.*\$0\.\d", re.DOTALL))
    third.locator("h2 a").click()
    page.wait_for_url("**/traces/*")
    expect(page.locator("h1")).to_have_text("support_agent")
    page.locator(".tv-head").get_by_role("link", name=CHAT).click()
    expect(page.locator(TURNS)).to_have_count(4)


def test_the_list_of_traces_leads_to_the_session(page: Any, site: str) -> None:
    page.goto(f"{site}/?cols=name,session&name=support_agent")
    page.locator(f"{ROWS} .c-session a").click()
    expect(page.locator("h1")).to_have_text(f"Session {CHAT}")
    page.get_by_role("link", name="Overview").last.click()
    expect(page.locator(".figures")).to_contain_text("25% of traces")


def test_an_id_that_looks_like_a_path_leads_to_its_session(page: Any, site: str) -> None:
    page.goto(f"{site}/sessions")
    page.get_by_role("link", name="..", exact=True).click()
    expect(page.locator(TURNS)).to_contain_text("You said: Where does this lead?")
    page.reload()
    expect(page.locator("h1")).to_have_text("Session ..")


def test_a_long_conversation_goes_on_by_links(page: Any, site: str) -> None:
    page.goto(f"{site}/sessions/{LONG}")
    expect(page.locator(TURNS)).to_have_count(50)
    expect(page.locator(TURNS).first).to_contain_text("question 1")
    page.get_by_role("link", name="Newer").first.click()
    for _ in range(2):
        expect(page.locator(TURNS)).to_have_count(LONG_TURNS - 50)
        expect(page.locator(TURNS).last).to_contain_text(f"You said: question {LONG_TURNS}")
        page.reload()
    page.get_by_role("link", name="Older").last.click()
    expect(page.locator(TURNS)).to_have_count(50)


@pytest.mark.parametrize(("session_id", "query", "turns"), [(CHAT, "", 4), (LONG, "?page=2", LONG_TURNS - 50)])
def test_a_conversation_goes_on_while_one_looks(
    page: Any, database: Path, tmp_path: Path, session_id: str, query: str, turns: int
) -> None:
    own = Path(shutil.copy(database, tmp_path / "own.db"))
    with serving(own) as address:
        page.goto(f"{address}{session_url(session_id)}{query}")
        kept = page.locator(TURNS).first
        kept.evaluate("element => { element.kept = true; }")
        now = 4_000_000_000
        write(own, batch([started(now)], [running(now, session_id=session_id, name="next")]))
        turn = page.locator(f"#t-{trace_id(now)}")
        expect(turn).to_be_visible()
        expect(page.locator(TURNS)).to_have_count(turns + 1)
        expect(page.locator("header .facts")).to_contain_text(
            re.compile(rf"traces\s*{turns + 1 if not query else LONG_TURNS + 1}")
        )
        page.evaluate("id => getSelection().selectAllChildren(document.getElementById(id))", f"t-{trace_id(now)}")
        write(own, batch([span(now, outputs=b'"It is *done*."')], [patch(now, session_id=session_id, name="next")]))
        page.wait_for_timeout(3_000)
        expect(turn.locator("em")).to_have_count(0)  # somebody is about to copy from it
        page.evaluate("getSelection().removeAllRanges()")
        expect(turn.locator("em")).to_have_text("done")
        assert kept.evaluate("element => element.kept")  # what is as it was stays in the page


def test_keys_walk_the_sessions_and_their_traces(page: Any, site: str) -> None:
    page.goto(f"{site}/sessions")
    for key in ("j", "j", "j", "k", "k"):
        page.keyboard.press(key)
    expect(page.locator(":focus")).to_have_text(CHAT)
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{session_url(CHAT)}")
    for _ in range(3):
        page.keyboard.press("j")
    expect(page.locator(":focus")).to_have_text("support_agent")
    page.keyboard.press("?")
    expect(page.locator("#help")).to_contain_text("next, previous trace")
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")
    page.wait_for_url("**/traces/*")


def test_an_unknown_session_says_so(page: Any, site: str) -> None:
    page.goto(f"{site}/sessions/nobody")
    expect(page.locator("h1")).to_have_text("No such session")
    page.get_by_role("link", name="To the sessions").click()
    expect(page.locator(SESSIONS)).to_have_count(50)


# --- for everybody ----------------------------------------------------------------------------------------------------


def test_it_all_reads_without_scripts(new_page: Callable[..., Any], site: str) -> None:
    page = new_page(java_script_enabled=False)
    page.goto(f"{site}/sessions")
    page.get_by_role("link", name="Older").click()
    page.get_by_role("link", name=LONG).click()
    page.get_by_role("link", name="Latest").first.click()
    expect(page.locator(TURNS).last).to_contain_text(f"question {LONG_TURNS}")


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (400, "dark")])
def test_axe_finds_nothing(new_page: Callable[..., Any], site: str, scheme: str, width: int) -> None:
    page = new_page(color_scheme=scheme, viewport={"width": width, "height": 900}, bypass_csp=True)
    for address in ("/sessions", session_url(CHAT), f"/sessions/{LONG}"):
        page.goto(f"{site}{address}")
        assert axe_violations(page) == [], address
        assert page.evaluate("document.documentElement.scrollWidth") <= width, address
