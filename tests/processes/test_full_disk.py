"""A full disk costs nothing but time, and fills neither the log nor the terminal."""

from __future__ import annotations

from pathlib import Path

from tests.processes.script import assert_intact, query, run

FULL = """
import resource

def limit(size):  # to a process, a file that may not grow is a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

{before}
limit(0)
for number in range(50):
    record(f"full {{number}}")
while tracer.stats().retries < 4:
    time.sleep(0.01)
print(tracer.stats().dropped["lost"])
limit(resource.RLIM_INFINITY)
assert tracer.sync.flush(20)
"""


def test_full_disk_is_one_line_in_the_log_and_loses_nothing(tmp_path: Path) -> None:
    before = "record('before'); assert tracer.sync.flush(20)"
    ended = run(tmp_path, FULL.format(before=before))
    assert (ended.code, ended.out.split()) == (0, ["0"]), ended.err
    (line,) = ended.err.splitlines()
    assert "records wait for their store" in line
    assert query(tmp_path, "SELECT count(*) FROM traces") == [51]
    assert_intact(tmp_path)


def test_start_on_a_full_disk_is_one_line_in_the_log_and_loses_nothing(tmp_path: Path) -> None:
    ended = run(tmp_path, FULL.format(before=""))
    assert (ended.code, ended.out.split()) == (0, ["0"]), ended.err
    (line,) = ended.err.splitlines()
    assert "records wait for their store" in line
    assert query(tmp_path, "SELECT count(*) FROM traces") == [50]
    assert_intact(tmp_path)
