"""Every test starts with a fresh tracer over its own SQLite file, and fails if tracer logs a warning or an error."""

from __future__ import annotations

import inspect
import logging
import signal
import threading
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import anyio.pytest_plugin
import hypothesis
import pytest

import tracer
from tests.clickhouse import ChdbEngine, running_engine
from tests.leaks import KEYS, find_leaks
from tests.postgres import MISSING, PostgresServer, find_binaries, running_server
from tests.sdk import lacking
from tests.turns import out_of_turn
from tracer.testing import FakeOpenAI, isolated

# If the machine is busy, this is not the test's fault; but Hypothesis would make the test fail.
hypothesis.settings.register_profile("patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.register_profile("fuzz", hypothesis.settings.get_profile("patient"), max_examples=5_000)
hypothesis.settings.load_profile("patient")

# Programs that a shell starts in its background ignore Ctrl+C, and their children inherit this: also the programs in
# which tests press Ctrl+C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

HAS_AUTO_MODE = hasattr(anyio.pytest_plugin, "pytest_addoption")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--older-sdk", action="store_true", help="skip tests of what the installed openai does not have")
    parser.addoption("--clickhouse", action="store_true", help="run the tests of ClickHouse (`make test-clickhouse`)")
    parser.addoption("--thorough", action="store_true", help="take all steps of what is only sampled otherwise")
    if not HAS_AUTO_MODE:
        parser.addini("anyio_mode", "as in later versions of anyio: its plugin takes all async tests")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With ``--clickhouse``, take the tests of ClickHouse only; without it, all others.

    Its engine is in the tests' own process, with threads and 400 MB of memory, and other tests fork their process.
    """
    wanted = config.getoption("clickhouse")
    taken: list[pytest.Item] = []
    left: list[pytest.Item] = []
    for item in items:
        (taken if _is_of_clickhouse(item) == wanted else left).append(item)
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = taken


def _is_of_clickhouse(item: pytest.Item) -> bool:
    values = item.callspec.params.values() if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ()
    return "clickhouse" in values or "chdb_engine" in getattr(item, "fixturenames", ())


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """With ``--older-sdk``, skip a test that fails only because the SDK lacks something."""
    try:
        return (yield)
    except (AttributeError, TypeError, RuntimeError) as error:
        reason = lacking(error) if pyfuncitem.config.getoption("older_sdk") else None
        if reason is None:
            raise
        pytest.skip(reason)


if not HAS_AUTO_MODE:

    @pytest.hookimpl(tryfirst=True)
    def pytest_pycollect_makeitem(collector: Any, name: str, obj: Any) -> None:
        if collector.istestfunction(obj, name):
            inner = obj.hypothesis.inner_test if hasattr(obj, "hypothesis") else obj
            if inspect.iscoroutinefunction(inner):
                pytest.mark.usefixtures("anyio_backend")(obj)


CORPUS = Path(__file__).parent.parent.parent / "shared" / "corpus" / "dev.jsonl"


@pytest.fixture(scope="session", autouse=True)
def no_stored_key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Look for API keys in every database that the session wrote. A failure names the folders of the tests."""
    yield
    leaks = find_leaks(tmp_path_factory.getbasetemp(), KEYS)
    assert not leaks, "credentials were stored:\n" + "\n".join(leaks)


@pytest.fixture
def anyio_backend() -> str:
    """The backend of async tests; a module that runs on trio too overrides this with a parametrized fixture."""
    return "asyncio"


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def tracer_log() -> Iterator[list[logging.LogRecord]]:
    """What tracer logged at WARNING or above. A test that expects something asserts on it and clears the list."""
    collector = _Collector()
    logger = logging.getLogger("tracer")
    logger.addHandler(collector)
    yield collector.records
    logger.removeHandler(collector)


@pytest.fixture(autouse=True)
def fresh_tracer(tmp_path: Path, tracer_log: list[logging.LogRecord]) -> Iterator[None]:
    """Isolate the test; nothing may be left unwritten and nothing unexpected logged when it ends."""
    with isolated(f"sqlite:///{tmp_path}/tracer.db"):
        yield
        tracer.autolog(disable=True)
    unexpected = [f"{record.levelname}: {record.getMessage()}\n{record.exc_text or ''}" for record in tracer_log]
    assert not unexpected, "tracer logged:\n" + "\n".join(unexpected)


@pytest.fixture(autouse=True)
def forks_know_who_is_inside_sqlite() -> Iterator[None]:
    """Fail if the store opened a connection that a fork would not wait for."""
    out_of_turn.clear()
    yield
    assert not out_of_turn, f"sqlite3.connect outside Gate.turn: {out_of_turn}"


@pytest.fixture(scope="session")
def openai_server() -> Iterator[FakeOpenAI]:
    """One fake OpenAI for the whole session; use `server` for one without another test's scripted replies."""
    with FakeOpenAI() as server:
        yield server


@pytest.fixture
def server(openai_server: FakeOpenAI) -> Iterator[FakeOpenAI]:
    """The fake OpenAI, with nothing scripted and no requests recorded."""
    openai_server.clear()
    yield openai_server
    openai_server.clear()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server for the session (of each worker of pytest-xdist)."""
    if (binaries := find_binaries()) is None:
        pytest.skip(MISSING)
    pytest.importorskip("asyncpg")
    with running_server(binaries) as server:
        yield server


@pytest.fixture
def postgres_uri(postgres_server: PostgresServer) -> Iterator[str]:
    """The tracking URI of an empty schema."""
    schema = f"t{uuid.uuid4().hex[:12]}"
    postgres_server.execute(f"CREATE SCHEMA {schema}")
    yield postgres_server.uri(schema)
    postgres_server.execute(f"DROP SCHEMA {schema} CASCADE")


@pytest.fixture(scope="session")
def chdb_engine() -> Iterator[ChdbEngine]:
    """ClickHouse's engine in this process (each worker of pytest-xdist): a process can have one directory only."""
    pytest.importorskip("clickhouse_connect")
    pytest.importorskip("chdb", reason="ClickHouse's engine is not installed: pip install chdb")
    with running_engine() as engine:
        yield engine


@pytest.fixture
def clickhouse_uri(chdb_engine: ChdbEngine) -> Iterator[str]:
    """The tracking URI of an empty database of ClickHouse's."""
    with chdb_engine.database() as name:
        yield chdb_engine.uri(name)
