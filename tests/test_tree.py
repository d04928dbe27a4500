"""What lies in the repository: text that somebody wrote, and pictures. A database that a test left is not committed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PICTURES = "docs/images/"
MAY_BE_EMPTY = ("__init__.py", "py.typed")


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("this is no git checkout")
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_binary_and_no_empty_file_was_committed_by_accident() -> None:
    stray = []
    for name in tracked():
        data = (ROOT / name).read_bytes()
        is_picture = name.startswith(PICTURES) and data.startswith(b"\x89PNG")
        is_empty = not data and Path(name).name not in MAY_BE_EMPTY
        if (b"\0" in data and not is_picture) or is_empty:
            stray.append(name)
    assert stray == []
