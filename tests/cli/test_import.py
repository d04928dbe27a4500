"""``tracer import``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.commands import fails, invoke
from tests.moving.fixtures import HERE, load_sql


@pytest.fixture
def into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    uri = f"sqlite:///{tmp_path}/into.db"
    monkeypatch.setenv("TRACER_TRACKING_URI", uri)
    return uri


@pytest.mark.parametrize("form", ["sqlite:///{}", "{}"], ids=["uri", "path"])
def test_an_mlflow_database(into: str, tmp_path: Path, form: str) -> None:
    path = load_sql("mlflow.sql", tmp_path / "mlflow.db")
    ended = invoke("import", "mlflow", form.format(path))
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("9 traces: 9 copied; now in sqlite:///")
    report = invoke("import", "mlflow", form.format(path), "--json").json
    assert (report["copied"], report["already_there"]) == (0, 9)
    assert len(invoke("traces", "list").rows) == 9


def test_a_phoenix_database(into: str, tmp_path: Path) -> None:
    path = load_sql("phoenix.sql", tmp_path / "phoenix.db")
    assert invoke("import", "phoenix", f"sqlite:///{path}").out.startswith("6 traces: 6 copied; now in sqlite:///")
    assert len(invoke("traces", "list").rows) == 6
    assert "no database of Phoenix" in fails(1, "import", "phoenix", into)


def test_langfuse_exports(into: str) -> None:
    files = [str(HERE / "langfuse_download.json"), str(HERE / "langfuse_observations.jsonl")]
    assert invoke("import", "langfuse", *files, "--experiment", "desk").out.startswith("2 traces: 2 copied; now in ")
    assert len(invoke("traces", "list", "--experiment", "desk").rows) == 2
    assert "FILE" in fails(2, "import", "langfuse")
    assert "neither JSON nor JSON Lines" in fails(1, "import", "langfuse", __file__)


def test_wrong_use_says_what_to_do(into: str, tmp_path: Path) -> None:
    assert "DATABASE must be a file of MLflow" in fails(2, "import", "mlflow", "postgresql://user:secret@host/db")
    assert "secret" not in fails(2, "import", "mlflow", "postgresql://user:secret@host/db")
    assert "there is no" in fails(1, "import", "mlflow", "sqlite:///none.db")
    assert not (tmp_path / "into.db").exists()
