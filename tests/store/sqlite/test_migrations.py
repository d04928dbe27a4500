"""Files of every earlier schema version are migrated, whatever happens to the processes that do it."""

from __future__ import annotations

import hashlib
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.store.sqlite.old_files import make_old_file
from tracer.store.sqlite._schema import SCHEMA_VERSION

ROOT = Path(__file__).parent.parent.parent
SAMPLED = {0, 1, SCHEMA_VERSION // 2, SCHEMA_VERSION - 1}
RELEASED = {  # `sqlite_schema` without comments, as a hash
    1: "05f3416c8d80",
    2: "6193125ecb32",
    3: "4353858b6ddd",
    4: "118a5a85d68d",
    5: "1430b9dbc460",
    6: "35ee2f16b657",
    7: "2102964c73a7",
    8: "1e0ab1645f9b",
    9: "54a64b3f8498",
    10: "7e354158f2bc",
}


@pytest.mark.skipif(sys.platform != "linux", reason="ends processes by RLIMIT_FSIZE")
@pytest.mark.parametrize("version", range(SCHEMA_VERSION))
def test_a_migration_that_is_killed_at_any_step_is_finished_by_the_next_process(
    version: int, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """Also two processes that migrate at once. `dying_migrations` has the checks."""
    thorough = pytestconfig.getoption("thorough")
    if not thorough and version not in SAMPLED:
        pytest.skip("only with --thorough")
    command = [sys.executable, "-m", "tests.store.sqlite.dying_migrations", str(version), str(tmp_path)]
    done = subprocess.run(
        [*command, "1" if thorough else "16"], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    at_a_statement, in_a_write, while_indexing = map(int, done.stdout.split())
    assert at_a_statement >= 1
    assert in_a_write >= 2
    assert while_indexing >= (version > 0)


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
def test_the_schema_of_a_version_never_changes(version: int, tmp_path: Path) -> None:
    """Users have files of it. A change needs a migration of its own, also a new key in `USAGE_KEYS`."""
    make_old_file(tmp_path / "t.db", version)
    with closing(sqlite3.connect(tmp_path / "t.db")) as connection:
        found = connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name").fetchall()
    without_comments = [re.sub(r"\s+", " ", re.sub(r"--.*", "", sql)) for (sql,) in found]
    assert hashlib.sha256("\n".join(without_comments).encode()).hexdigest()[:12] == RELEASED[version]
