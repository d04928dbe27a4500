"""A pytest plugin: MLflow's own tests of its OpenAI integration, run against ``tracer.mlflow``.

MLflow's tests are in its repository only: ``nox -s tests_mlflow`` fetches it, ``nox -s tests_mlflow -- <folder>`` takes
a copy that is there. Nothing in them is changed. What the plugin does:

- ``import mlflow`` gives `tracer.mlflow`, also in imports from it. With ``TESTED=mlflow`` it gives MLflow itself, for
  comparison.
- Modules that are MLflow's own insides are stand-ins; a test that calls one of them is skipped and says so.
- Tests of runs and models are skipped. MLflow marks them itself, since its own package for tracing alone
  (``mlflow-tracing``) has neither.
- ``httpx`` is the HTTP library that the installed openai package uses, because the tests patch its ``send``.
- The helpers and fixtures that come from other files of MLflow's tests are made here, with the same meaning.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import openai
import pytest

os.environ.setdefault("MLFLOW_ENABLE_ASYNC_TRACE_LOGGING", "false")  # as MLflow's own tests are run
HTTP = importlib.import_module("httpx2" if openai.__version__ >= "3" else "httpx")
INSIDES = [
    "mlflow.openai.autolog",
    "mlflow.openai.utils",
    "mlflow.openai.utils.chat_schema",
    "mlflow.tracing.utils",
    "mlflow.types",
    "mlflow.types.responses_helpers",
]
LIMIT = 60  # seconds until the fake server must have started
IS_TRACER = os.environ.get("TESTED", "tracer") == "tracer"


class Inside(ModuleType):
    """Stands in for a module that only MLflow has."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def refuse(*_: Any, **__: Any) -> None:
            pytest.skip(f"{self.__name__}.{name} is inside MLflow")

        return type(name, (), {"__new__": refuse})


def take_names() -> None:
    """Make ``mlflow`` and what is below it mean `tracer.mlflow`."""
    import tracer.mlflow as ours

    sys.modules["mlflow"] = ours
    for found in pkgutil.walk_packages(ours.__path__, "tracer.mlflow."):
        sys.modules[found.name.removeprefix("tracer.")] = importlib.import_module(found.name)
    for name in INSIDES:
        sys.modules.setdefault(name, Inside(name))
    agents = Inside("mlflow.openai._agent_tracer")
    try:
        from tracer.openai.agents._processor import TracerProcessor
    except ImportError:  # the Agents SDK is not installed
        pass
    else:
        vars(agents)["MlflowOpenAgentTracingProcessor"] = TracerProcessor
    sys.modules[agents.__name__] = agents
    chat = ModuleType("mlflow.types.chat")  # the fake server's; only its constants are used here
    vars(chat)["ChatCompletionRequest"] = dict
    sys.modules["mlflow.types.chat"] = chat
    version = ModuleType("mlflow.version")
    vars(version)["IS_TRACING_SDK_ONLY"] = False  # costs are tested, too
    sys.modules["mlflow.version"] = version


def give_helpers() -> None:
    """Stand in for the modules of MLflow's tests that need the rest of MLflow."""
    mlflow: Any = importlib.import_module("mlflow")

    def purge_traces() -> None:
        found = [trace.info.trace_id for trace in get_traces()]
        if IS_TRACER:
            import tracer

            tracer.sync.delete_traces(found)
        else:
            mlflow.MlflowClient().delete_traces(experiment_id="0", trace_ids=found)

    def get_traces() -> Any:
        mlflow.flush_trace_async_logging()
        return mlflow.search_traces(return_type="list")

    module = ModuleType("tests.tracing.helper")
    vars(module).update(
        get_traces=get_traces,
        purge_traces=purge_traces,
        skip_when_testing_trace_sdk=pytest.mark.skipif(IS_TRACER, reason="needs runs or models"),
    )
    sys.modules["tests.tracing.helper"] = module


if IS_TRACER:
    take_names()
sys.modules["httpx"] = HTTP
give_helpers()


@pytest.fixture(scope="session")
def mock_openai(pytestconfig: pytest.Config) -> Iterator[str]:
    """MLflow's fake server, which needs MLflow itself: in a process of its own."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    program = Path(pytestconfig.rootpath) / "tests" / "openai" / "mock_openai.py"
    with subprocess.Popen(
        [sys.executable, str(program), "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            wait_for(f"http://127.0.0.1:{port}/health", server)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + LIMIT
    while not answers(url):
        if time.monotonic() > ends or server.poll() is not None:
            raise RuntimeError("MLflow's fake server did not start; is mlflow installed?")
        time.sleep(0.1)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (urllib.error.URLError, ConnectionError):
        return False


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path) -> Iterator[None]:
    """An empty database for each test, with autologging off before and after it."""
    mlflow: Any = importlib.import_module("mlflow")

    if IS_TRACER:
        from tracer.testing import isolated

        with isolated(f"sqlite:///{tmp_path}/tracer.db"):
            yield
            mlflow.openai.autolog(disable=True)
        return
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    yield
    mlflow.openai.autolog(disable=True)
    mlflow.tracing.reset()


@pytest.fixture
def mock_litellm_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each token in costs 1 dollar, each token out 2."""
    if IS_TRACER:
        import tracer

        price = {"input": 1_000_000.0, "output": 2_000_000.0}
        tracer.configure(prices={"gpt-4o-mini": price})
        return

    def cost(**usage: Any) -> tuple[float, float]:
        return 1.0 * usage.get("prompt_tokens", 0), 2.0 * usage.get("completion_tokens", 0)

    monkeypatch.setitem(sys.modules, "litellm", type("litellm", (), {"cost_per_token": staticmethod(cost)}))


@pytest.fixture
def monkeypatch() -> Iterator[pytest.MonkeyPatch]:
    """pytest's own, which in MLflow's tests also sets several variables at once."""

    def setenvs(variables: dict[str, str]) -> None:
        for name, value in variables.items():
            patch.setenv(name, value)

    patch = pytest.MonkeyPatch()
    vars(patch)["setenvs"] = setenvs
    yield patch
    patch.undo()
