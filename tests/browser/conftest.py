"""Debian's Chromium on a page that `serve_ui` serves, over a database that the real pipeline made."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

playwright_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

CHROMIUM = Path("/usr/bin/chromium")
_SERVE = "import sys; from tracer.server.run import serve_ui; serve_ui(sys.argv[1], port=0, token=None)"


@contextmanager
def serving(database: Path) -> Iterator[str]:
    """Serve the page over a database in a process of its own; yields its address, without a slash at the end."""
    command = [sys.executable, "-u", "-c", _SERVE, f"sqlite:///{database}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip().rstrip("/")
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def made_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of 150 traces. Tests that change it take a `copy_of` it."""
    path = tmp_path_factory.mktemp("browser") / "traces.db"
    subprocess.run([sys.executable, "-m", "tests.browser.database", str(path)], check=True, timeout=120)
    return path


@pytest.fixture(scope="session")
def site(made_database: Path) -> Iterator[str]:
    """The address of a page over `made_database`."""
    with serving(made_database) as address:
        yield address


@pytest.fixture
def own_database(made_database: Path, tmp_path: Path) -> Path:
    """A copy of `made_database` to write to."""
    return Path(shutil.copy(made_database, tmp_path / "own.db"))


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    """The browser. Not for the session: until it is closed, no async test can run in this thread."""
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is missing: apt-get install -y chromium")
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def new_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open pages that fail the test when a script fails, or anything is asked for beyond our own server."""
    problems: list[str] = []
    with ExitStack() as stack:

        def open_page(**options: Any) -> Any:
            context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **options})
            stack.callback(context.close)
            page = context.new_page()
            page.set_default_timeout(15_000)
            page.on("pageerror", lambda error: problems.append(f"script: {error}"))
            page.on(
                "console", lambda message: problems.append(message.text) if "Content Security" in message.text else 0
            )
            page.on(
                "request",
                lambda request: None if request.url.startswith("http://127.0.0.1:") else problems.append(request.url),
            )
            return page

        yield open_page
    assert problems == []


@pytest.fixture
def page(new_page: Callable[..., Any]) -> Any:
    return new_page()
