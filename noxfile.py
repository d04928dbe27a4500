"""The range of openai packages that is supported: ``nox``, or one of them: ``nox -s 'tests_openai(oldest)'``.

``make test-openai-versions`` runs a part of it, as CI does; ``make test`` runs everything with the newest SDK.
"""

from __future__ import annotations

import nox

nox.options.sessions = ["tests_openai"]
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = True

RANGE = {
    # Up to 1.55.2 the SDK needs an httpx before 0.28. Our other dependencies are as old as pyproject.toml lets them be.
    "oldest": ["openai==1.40.0", "httpx<0.28", "msgspec==0.19.0", "anyio==4.5.0", "aiosqlite==0.20.0"],
    "responses": ["openai[realtime]==1.66.0", "msgspec==0.19.0", "anyio==4.5.0", "aiosqlite==0.20.0"],
    "newest-2": ["openai[realtime]<3"],
    "newest": ["openai[realtime]"],
}
TESTS = ["pytest>=8.3", "pytest-xdist>=3.6", "hypothesis>=6.100", "starlette>=0.40", "trio>=0.27", "httpx>=0.27"]


@nox.session
@nox.parametrize("version", list(RANGE), ids=list(RANGE))
def tests_openai(session: nox.Session, version: str) -> None:
    """Run the instrumentor's tests with one version of the SDK. Arguments after ``--`` go to pytest."""
    session.install("--editable", ".[cost,redact,search,testing]", *TESTS, *RANGE[version])
    older = [] if version == "newest" else ["--older-sdk"]
    session.run("python", "-m", "pytest", "-q", *older, *(session.posargs or ["tests/openai"]))
