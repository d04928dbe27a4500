"""How quick the web page is over very many traces.

    python -m benchmarks.page                        1,000,000 traces: makes 2 GB in the temporary folder, minutes
    python -m benchmarks.page --traces 20000         a quick look
    python -m benchmarks.page --database million.db  keeps the database, and uses it again
    python -m benchmarks.page --json > page.json

The real server runs in a process of its own and is asked over loopback HTTP. Debian's Chromium (apt-get install
chromium) tells when a page is painted, and when a new trace shows. Goals are the design's.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import httpx

import tracer
from benchmarks._environment import describe, load_average
from benchmarks._million import RARE_WORD, fill, large_trace
from benchmarks._report import format_footer, format_header, format_row, format_titles, to_json
from benchmarks._results import Estimate, Goal, Result
from benchmarks._statistics import median_interval

__all__ = ["main"]

CHROMIUM = Path("/usr/bin/chromium")
ASKED = 9  # times, of which the median counts
IDLE_SECONDS = 10.0
LARGE, HUGE = 500, 5_000  # spans

LIST = Goal(design=200, stage=200)
SEARCH = Goal(design=300, stage=300)
PAINTED = Goal(design=300, stage=300)
VISIBLE = Goal(design=2, stage=2)
STARTED = Goal(design=1, stage=1)
SIZE = Goal(design=100, stage=100)
IDLE = Goal(design=0.5, stage=0.5)  # % of a core; less can't be told from nothing

SEARCHES: dict[str, dict[str, str]] = {
    "status": {"status": "ERROR"},
    "model": {"model": "gpt-4o"},
    "name and time": {"name": "summarize", "since": "2026-11-01"},
    "tag": {"tag": "release=1.3"},
    "user": {"user_id": "user-77"},
    "numbers": {"filter": "duration > 5 AND total_tokens > 3000"},
    "either or": {"filter": "status = 'ERROR' OR cost > 0.004"},
    "text in the request": {"filter": "request LIKE '%warehouse%'"},
    "a common word": {"text": "customer"},
    "a rare word": {"text": RARE_WORD},
    "two words and a status": {"text": "queue worker", "status": "ERROR"},
    "no match": {"text": "xylophone"},
}
ORDERS = (
    "duration",
    "cost",
    "total_tokens",
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "time_to_first_token",
)
NOT_MEASURED = ("other browsers, a network, several people at once", "JavaScript's own time but for what is painted")


class Site(NamedTuple):
    """A running server."""

    url: str
    pid: int
    started: float


@contextlib.contextmanager
def _serving(database: Path) -> Iterator[Site]:
    code = "import sys; from tracer.server.run import serve_ui; serve_ui(sys.argv[1], port=0, token=None)"
    begun = time.perf_counter()
    command = [sys.executable, "-u", "-c", code, f"sqlite:///{database}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip().rstrip("/")
            yield Site(url, process.pid, time.perf_counter() - begun)
        finally:
            process.terminate()


# --- over HTTP ----------------------------------------------------------------------------------------------------


def _asked(client: httpx.Client, name: str, path: str, goal: Goal | None) -> Result:
    """Ask for a page again and again; the time of the first request, when nothing is cached, goes into the details."""
    times = []
    for _ in range(ASKED + 1):
        begun = time.perf_counter()
        answer = client.get(path)
        times.append(1e3 * (time.perf_counter() - begun))
        answer.raise_for_status()
    details = {"first_ms": times[0], "kB": int(answer.headers.get("content-length", len(answer.content))) / 1e3}
    return Result(name=name, estimate=median_interval(times[1:]), unit="ms", goal=goal, details=details)


def _lists(client: httpx.Client) -> Iterator[Result]:
    yield _asked(client, "list", "/", LIST)
    for order in ORDERS:
        yield _asked(client, f"list by {order}", f"/?order_by={order}+desc", LIST)
    for name, query in SEARCHES.items():
        yield _asked(client, f"search: {name}", f"/?{urlencode(query)}", SEARCH)
    yield _asked(client, "beside the list: facets", "/facets", None)
    yield _asked(client, "beside the list: histogram", "/histogram", None)


def _sizes(client: httpx.Client, pages: dict[str, str]) -> Iterator[Result]:
    for name, path in pages.items():
        with client.stream("GET", path) as answer:
            size = sum(len(piece) for piece in answer.iter_raw())
        yield Result(name=f"size of {name}", estimate=Estimate(size / 1e3), unit="kB, compressed", goal=SIZE)


# --- in the browser -----------------------------------------------------------------------------------------------

_PAINTED_AT = """() => {
    const [loaded] = performance.getEntriesByType("navigation");
    const [paint] = performance.getEntriesByName("first-contentful-paint");
    return paint && loaded.loadEventEnd && Math.max(loaded.loadEventEnd, paint.startTime);
}"""


def _painted(browser: Any, name: str, site: Site, path: str, goal: Goal | None) -> Result:
    """Open a page in a browser that knows the site; return its first paint, or its load event if that is later.

    The server sends complete pages, so the first paint shows everything that is in sight.
    """
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    times = []
    for _ in range(ASKED + 1):
        page.goto(f"{site.url}/experiments")
        page.goto(site.url + path)
        times.append(page.wait_for_function(_PAINTED_AT).json_value())
    page.close()
    estimate, details = median_interval(times[1:]), {"first_ms": times[0]}
    return Result(name=f"{name}, painted", estimate=estimate, unit="ms", goal=goal, details=details)


def _visible(browser: Any, site: Site, record: Callable[[], str]) -> Result:
    """Have the list open, record a trace, and wait until its row is there."""
    page = browser.new_page()
    page.goto(site.url)
    page.wait_for_timeout(1_000)
    times = []
    for _ in range(ASKED):
        begun = time.perf_counter()
        page.wait_for_selector(f"tr[data-id='{record()}']", state="attached")
        times.append(time.perf_counter() - begun)
    page.close()
    return Result(name="a new trace shows in the open list", estimate=median_interval(times), unit="s", goal=VISIBLE)


def _idle(browser: Any, site: Site) -> Result:
    """Keep the list open while nothing happens; return what the server's process used."""
    page = browser.new_page()
    page.goto(site.url)
    page.wait_for_timeout(3_000)
    begun = _cpu_seconds(site.pid)
    page.wait_for_timeout(1_000 * IDLE_SECONDS)
    used = 100 * (_cpu_seconds(site.pid) - begun) / IDLE_SECONDS
    page.close()
    return Result(name="server's CPU while a page idles", estimate=Estimate(used), unit="% of a core", goal=IDLE)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _record() -> str:
    with tracer.start_span("made while you look") as span:
        span.set_inputs({"question": "who?"})
    return span.trace_id


# --- the command --------------------------------------------------------------------------------------------------


def _measure(database: Path, traces: int) -> Iterator[Result]:
    begun = time.perf_counter()
    if _count(database) < traces:
        asyncio.run(fill(database, traces))
    large, huge = (asyncio.run(large_trace(database, spans)) for spans in (LARGE, HUGE))
    details = {"traces": _count(database), "GB": database.stat().st_size / 1e9}
    made = Estimate(time.perf_counter() - begun)
    yield Result(name="to make the database, text index included", estimate=made, unit="s", details=details)
    pages = {"the list": "/", f"a trace of {LARGE} spans": f"/traces/{large}", f"one of {HUGE}": f"/traces/{huge}"}
    with _serving(database) as site, httpx.Client(base_url=site.url, timeout=120) as client:
        yield Result(name="server starts", estimate=Estimate(site.started), unit="s", goal=STARTED)
        yield from _lists(client)
        yield _asked(client, f"trace of {LARGE} spans, server alone", f"/traces/{large}", None)
        yield _asked(client, f"trace of {HUGE} spans, server alone", f"/traces/{huge}", None)
        yield from _sizes(client, pages)
        if CHROMIUM.exists():
            yield from _in_browser(site, f"/traces/{large}", f"/traces/{huge}")
        else:
            print(f"{CHROMIUM} is missing: no rows of the browser's", file=sys.stderr)


def _in_browser(site: Site, large: str, huge: str) -> Iterator[Result]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield _painted(browser, "the list", site, "/", None)
        yield _painted(browser, f"a trace of {LARGE} spans", site, large, PAINTED)
        yield _painted(browser, f"a trace of {HUGE} spans", site, huge, None)
        yield _visible(browser, site, _record)
        yield _idle(browser, site)
        browser.close()


def _count(database: Path) -> int:
    if not database.exists():
        return 0
    with contextlib.closing(sqlite3.connect(database)) as connection:
        found: int = connection.execute("SELECT count(*) FROM traces").fetchone()[0]
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run as a command; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--traces", type=int, default=1_000_000, metavar="N", help="how many there are at least")
    parser.add_argument("--database", type=Path, help="keep it here, and use it again; else a temporary one")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    options = parser.parse_args(arguments)
    environment = describe()
    if not options.json:
        print(f"{format_header(environment)}\n\n{format_titles()}", flush=True)
    results = []
    with tempfile.TemporaryDirectory(prefix="tracer-benchmark-") as directory:
        for result in _measure((options.database or Path(directory) / "million.db").absolute(), options.traces):
            results.append(result)
            if not options.json:
                print(format_row(result), flush=True)
        tracer.sync.shutdown()
    load = load_average()
    if options.json:
        print(to_json(environment, results, load, NOT_MEASURED).decode())
    else:
        print(f"\n{format_footer(results, load, NOT_MEASURED)}")


if __name__ == "__main__":
    main(sys.argv[1:])
