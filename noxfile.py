"""Runs tests with all supported versions of Python and of the openai package; ``make test`` has one of each.

``nox -s tests`` runs the whole suite with each Python, ``nox -s tests-3.12`` with one of them. In the same way,
``nox -s tests_openai`` runs ``tests/openai`` with each version of the SDK, ``nox -s 'tests_openai(oldest)'`` with one
of them. ``nox -s tests_beside`` runs ``tests/beside``, where other tracing tools are in the same process.
``nox -s tests_strangers`` runs ``tests/strangers``, where others send their spans to tracer; ``nox -s
tests_receivers`` runs ``tests/receivers``, where tracer sends its spans to MLflow's and Phoenix' servers. ``nox -s
tests_mlflow`` runs MLflow's own tests of OpenAI against `tracer.mlflow`. Arguments after ``--`` go to pytest. CI runs a
part of the first two: ``make test-pythons`` and ``make test-openai-versions``.
"""

from __future__ import annotations

import os
from pathlib import Path

import nox

PYTHONS = ["3.10", "3.11", "3.12", "3.13"]

# nox asks pyenv only for the versions that `pyenv global` has switched on. So all installed ones are put on the path.
PYENV = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
INSTALLED = [str(path) for version in PYTHONS for path in PYENV.glob(f"versions/{version}.*/bin")]
os.environ["PATH"] = os.pathsep.join([*INSTALLED, os.environ["PATH"]])

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = True
# A machine with pyenv is expected to have all of them. On other machines, nox says which sessions it skips because
# their Python is missing.
nox.options.error_on_missing_interpreters = bool(INSTALLED)

RANGE = {
    # Up to 1.55.2 the SDK needs an httpx before 0.28. Our other dependencies are the oldest that pyproject.toml allows.
    "oldest": ["openai==1.40.0", "httpx<0.28", "msgspec==0.19.0", "anyio==4.5.0", "aiosqlite==0.20.0"],
    "responses": ["openai[realtime]==1.66.0", "msgspec==0.19.0", "anyio==4.5.0", "aiosqlite==0.20.0"],
    "newest-2": ["openai[realtime]<3"],
    "newest": ["openai[realtime]"],
}
MLFLOW = "3.17.2"
TESTS = ["pytest>=8.3", "pytest-xdist>=3.6", "hypothesis>=6.100", "starlette>=0.40", "trio>=0.27", "httpx>=0.27"]


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run all tests with one version of Python."""
    session.install("--editable", ".[dev]")
    session.run("python", "-m", "pytest", "-q", *(session.posargs or ["-n", "2"]))


@nox.session
@nox.parametrize("version", list(RANGE), ids=list(RANGE))
def tests_openai(session: nox.Session, version: str) -> None:
    """Run the instrumentor's tests with one version of the SDK."""
    session.install("--editable", ".[cost,redact,search,testing]", *TESTS, *RANGE[version])
    older = [] if version == "newest" else ["--older-sdk"]
    session.run("python", "-m", "pytest", "-q", *older, *(session.posargs or ["tests/openai"]))


@nox.session
def tests_beside(session: nox.Session) -> None:
    """Run the tests that have other tracing tools in the process: in any order, switched on and off."""
    session.install("--editable", ".[testing]", *TESTS, "-r", "tests/beside/requirements.txt")
    session.run("python", "-m", "pytest", "-q", *(session.posargs or ["-n", "2"]), "tests/beside")


@nox.session
def tests_mlflow(session: nox.Session) -> None:
    """Run MLflow's own tests of its OpenAI integration against tracer.mlflow; they may be in a folder that is named."""
    session.install("--editable", ".[agents,cost,pandas,search]", "pytest>=8.3", "pytest-asyncio", f"mlflow=={MLFLOW}")
    if session.posargs:
        checkout = Path(session.posargs[0]).absolute()
    else:
        checkout = Path(session.create_tmp()) / f"mlflow-{MLFLOW}"
        if not checkout.exists():
            url, sparse = "https://github.com/mlflow/mlflow", ["--depth", "1", "--filter=blob:none", "--sparse"]
            session.run("git", "clone", *sparse, "--branch", f"v{MLFLOW}", url, str(checkout), external=True)
            session.run("git", "-C", str(checkout), "sparse-checkout", "set", "tests/openai", external=True)
    own = Path(__file__).parent.absolute()
    plugin = ["--noconftest", "-p", "mlflows_tests", "-p", "no:anyio", "-c", os.devnull, "--rootdir", str(checkout)]
    path = os.pathsep.join([str(own), str(own / "tests" / "beside")])
    tests = [str(path) for path in sorted(checkout.glob("tests/openai/test_*autolog.py"))]
    session.run("python", "-m", "pytest", "-q", "-rfs", *plugin, *session.posargs[1:], *tests, env={"PYTHONPATH": path})


@nox.session(python="3.12")
def tests_strangers(session: nox.Session) -> None:
    """Run the tests in which other instrumentations send their spans to tracer."""
    session.install("--editable", ".[cli,otlp,testing,ui]", *TESTS, "-r", "tests/strangers/requirements.txt")
    session.run("python", "-m", "pytest", "-q", *session.posargs, "tests/strangers")


@nox.session(python="3.12")
def tests_receivers(session: nox.Session) -> None:
    """Run the tests in which real servers of others take tracer's spans in."""
    session.install("--editable", ".[cli,otlp-grpc,testing,ui]", *TESTS, "-r", "tests/receivers/requirements.txt")
    # Phoenix' plugin for pytest would import all of it before the first test, and fail on its warnings.
    session.run("python", "-m", "pytest", "-q", "-p", "no:phoenix", *session.posargs, "tests/receivers")
