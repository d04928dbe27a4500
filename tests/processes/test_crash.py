"""What was recorded survives the process, whatever ends it: the next one on that database takes it over, once."""

from __future__ import annotations

import json
import random
import signal
import time
import urllib.request
from pathlib import Path

import pytest

from tests.processes.script import Script, assert_intact, query, run, run_quietly, states
from tests.scripted_store import eventually
from tracer.pipeline._ring_file import find_rings

READ = "from tracer.cli import main\nsys.argv = ['tracer', 'traces', 'list', '--limit', '1']\nmain()"
MARKED = """
import mmap
file = open("progress", "w+b")
file.truncate(8)
made = mmap.mmap(file.fileno(), 8)
"""


def take_over(directory: Path) -> None:
    run_quietly(directory, READ)
    assert_intact(directory)


@pytest.mark.parametrize("moment", [0.0, 0.05, 0.3, 1.0])
def test_kill_9_costs_no_span_that_had_ended(tmp_path: Path, moment: float) -> None:
    script = Script(
        tmp_path,
        MARKED
        + """
        record("warm")
        tracer.sync.flush()
        print("ready", flush=True)
        number = 0
        while True:
            with tracer.start_span(f"call {number + 1}") as span:
                is_accepted = span.is_recording  # a full queue refuses spans, and counts them
            if is_accepted:
                number += 1
                made[:] = number.to_bytes(8, "little")
            else:
                time.sleep(0.001)
        """.replace("\n        ", "\n"),
    )
    script.wait_for("ready")
    time.sleep(moment + random.uniform(0, 0.1))
    script.send(signal.SIGKILL)
    script.process.communicate()
    made = int.from_bytes((tmp_path / "progress").read_bytes(), "little")
    take_over(tmp_path)
    names = query(tmp_path, "SELECT name FROM spans WHERE end_time_ns IS NOT NULL")
    assert len(names) == len(set(names))
    assert {f"call {number}" for number in range(1, made + 1)} <= set(names)


@pytest.mark.parametrize(
    "end", ["os._exit(3)", "os.kill(os.getpid(), 9)", "os.execv('/bin/true', ['true'])", "os.abort()"]
)
def test_no_way_to_end_costs_anything(tmp_path: Path, end: str) -> None:
    run(tmp_path, f"record('first')\ntime.sleep(0.3)\nfor _ in range(100): record()\n{end}")
    take_over(tmp_path)
    assert states(tmp_path) == {"OK": 101}


def test_python_that_becomes_another_python(tmp_path: Path) -> None:
    """The new program has the process id and the start time of the old one."""
    run_quietly(
        tmp_path,
        """
        if "again" not in sys.argv:
            record("before")
            os.execv(sys.executable, [sys.executable, __file__, "again"])
        record("behind")
        """,
    )
    take_over(tmp_path)
    assert states(tmp_path) == {"OK": 2}


@pytest.mark.parametrize("first", ["tracer.sync.flush()", "tracer.configure(redact=str.upper)"])
def test_there_is_a_ring_whatever_was_done_first(tmp_path: Path, first: str) -> None:
    run(
        tmp_path,
        f"""
        record("early") if "configure" in {first!r} else None
        tracer.sync.flush()
        {first}
        record("one")
        tracer.sync.flush()
        for _ in range(10):
            with tracer.start_span("last", span_type="TOOL"):
                pass
        os._exit(0)
        """,
        TRACER_TRACKING_URI=f"sqlite:///{tmp_path}/new/t.db",
    )
    run_quietly(tmp_path, READ, TRACER_TRACKING_URI=f"sqlite:///{tmp_path}/new/t.db")
    assert query(tmp_path / "new", "SELECT count(*) FROM spans WHERE span_type = 'TOOL' AND end_time_ns > 0") == [10]


def test_a_reader_leaves_a_living_process_its_ring(tmp_path: Path) -> None:
    script = Script(
        tmp_path,
        """
        record("first")
        tracer.sync.flush()
        print("ready", flush=True)
        sys.stdin.readline()
        record("last")
        os._exit(0)
        """,
    )
    script.wait_for("ready")
    run_quietly(tmp_path, READ)
    script.answer()
    script.end()
    take_over(tmp_path)
    assert states(tmp_path) == {"OK": 2}


def test_a_job_that_leaves_by_exit_keeps_its_trace(tmp_path: Path) -> None:
    """As RQ's work horse does: one fork a job, and `os._exit` at its end."""
    run_quietly(
        tmp_path,
        """
        record("parent's")
        for job in range(10):
            if not (child := os.fork()):
                with tracer.start_span(f"job {job}"):
                    record("step")
                os._exit(0)
            os.waitpid(child, 0)
        """,
    )
    take_over(tmp_path)
    assert states(tmp_path) == {"OK": 11}


def test_a_pool_that_kills_its_workers(tmp_path: Path) -> None:
    run_quietly(
        tmp_path,
        """
        import multiprocessing
        record("parent's")

        if __name__ == "__main__":
            with multiprocessing.get_context("fork").Pool(2) as pool:
                pool.map(record, [f"task {number}" for number in range(50)])
        """,
    )
    take_over(tmp_path)
    assert states(tmp_path) == {"OK": 51}


def test_an_end_finds_its_start_that_was_stored_long_ago(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
        with tracer.start_span("long") as span:
            span.set_inputs({"question": "why?"})
            assert tracer.sync.flush()
            for _ in range(50):
                record("short")
            assert tracer.sync.flush()
            span.set_outputs("because")
        os._exit(0)
        """,
    )
    assert query(tmp_path, "SELECT name FROM spans WHERE end_time_ns IS NULL") == ["long"]
    take_over(tmp_path)
    assert query(tmp_path, "SELECT inputs, outputs, status_code FROM spans WHERE name = 'long'") == [
        ('{"question":"why?"}', '"because"', "OK")
    ]
    assert states(tmp_path) == {"OK": 1}


@pytest.mark.parametrize(
    "work",
    [
        "with tracer.start_span('large', attributes={'key': 'x' * 70_000}): pass",
        "with tracer.start_span('large', attributes={'one': 'x' * 40_000, 'two': 'y' * 40_000}): pass",
        "tracer.trace(lambda text: None, name='large')('x' * 65_450)",
        "with tracer.start_span('large') as span: span.set_outputs('x' * 100_000)",
    ],
)
def test_a_span_that_is_too_large_for_the_ring_is_kept_without_its_content(tmp_path: Path, work: str) -> None:
    run(tmp_path, f"record('warm')\ntracer.sync.flush()\n{work}\nos._exit(0)")
    take_over(tmp_path)
    assert query(tmp_path, "SELECT name, status_code FROM spans WHERE name = 'large'") == [("large", "OK")]


def test_a_change_of_the_ring_costs_no_open_span_its_end(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
        with tracer.start_span("long") as span:
            span.set_inputs("asked")
            assert tracer.sync.flush()
            tracer.configure(redact=str.upper)
            record()
            assert tracer.sync.flush()
        os._exit(0)
        """,
    )
    take_over(tmp_path)
    assert query(tmp_path, "SELECT inputs, status_code FROM spans WHERE name = 'long'") == [('"asked"', "OK")]
    assert states(tmp_path) == {"OK": 1}


def test_a_ring_that_somebody_deletes_is_replaced(tmp_path: Path) -> None:
    ended = run(
        tmp_path,
        """
        import pathlib
        record()
        tracer.sync.flush()
        place = pathlib.Path(tracer.stats().crash_ring.rsplit(" (", 1)[0])
        place.unlink()
        record()
        tracer.sync.flush()
        record()
        assert tracer.stats().crash_ring.rsplit(" (", 1)[0] != str(place)
        os._exit(0)
        """,
    )
    assert ended.code == 0, ended.err
    take_over(tmp_path)
    assert states(tmp_path) == {"OK": 3}


def test_an_exit_on_a_full_disk_leaves_what_waits_in_the_ring(tmp_path: Path) -> None:
    ended = run(
        tmp_path,
        """
        import resource
        record()
        tracer.sync.flush()
        for _ in range(20):
            record()
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))  # as on a full disk
        """,
    )
    assert "what the crash ring has of them is written by the next process" in ended.err
    take_over(tmp_path)
    assert states(tmp_path) == {"OK": 21}


def test_what_was_open_is_interrupted(tmp_path: Path) -> None:
    run(
        tmp_path, "with tracer.start_span('open') as span:\n    span.set_inputs('asked')\n    record()\n    os._exit(0)"
    )
    take_over(tmp_path)
    assert states(tmp_path) == {"INTERRUPTED": 1}
    assert query(tmp_path, "SELECT inputs FROM spans WHERE name = 'open'") == ['"asked"']


def test_commands_take_over_too(tmp_path: Path) -> None:
    run(tmp_path, "record('first')\ntracer.sync.flush()\nfor _ in range(20): record()\nos._exit(0)")
    ended = run(tmp_path, "from tracer.cli import main\nsys.argv = ['tracer', 'traces', 'list', '--json']\nmain()")
    assert ended.out.count('"trace_id"') == 21, ended.err


def test_a_check_of_the_database_takes_over(tmp_path: Path) -> None:
    run(tmp_path, "record('first')\ntracer.sync.flush()\nfor _ in range(20): record()\nos._exit(0)")
    ended = run(tmp_path, "from tracer.cli import main\nsys.argv = ['tracer', 'db', 'check']\nmain()")
    assert "no damage found" in ended.out, ended.err
    assert states(tmp_path) == {"OK": 21}


def test_a_page_that_is_open_shows_what_a_killed_process_recorded(tmp_path: Path) -> None:
    run_quietly(tmp_path, "record('first')")
    ui = Script(
        tmp_path,
        "sys.argv = ['tracer', 'ui', '--port', '0', '--no-token', '--json']\nfrom tracer.cli import main\nmain()",
    )
    assert ui.process.stdout is not None
    url = json.loads(ui.process.stdout.readline())["url"]

    def listed() -> int:
        with urllib.request.urlopen(f"{url}api/traces?limit=100", timeout=20) as answer:
            return len(json.load(answer)["traces"])

    assert listed() == 1
    run(tmp_path, "for _ in range(20): record()\nos._exit(0)")
    eventually(lambda: listed() == 21)
    ui.send(signal.SIGTERM)
    ui.end()


@pytest.mark.parametrize("setting", ["redact=hide", "capture_content=False"])
def test_where_texts_must_not_be_stored_no_ring_holds_them(tmp_path: Path, setting: str) -> None:
    """What remains of such a span is its place in the tree, its times and how it ended."""
    ended = run(
        tmp_path,
        f"""
        import pathlib

        def hide(text):
            return text.replace("CANARY", "[hidden]")

        tracer.configure({setting})
        record("warm")
        assert tracer.sync.flush()
        place = tracer.stats().crash_ring.rsplit(" (", 1)[0]
        try:
            with tracer.start_span("outer") as outer:
                outer.set_inputs("CANARY 1")
                tracer.update_current_trace(tags={{"CANARY": "CANARY 2"}})
                with tracer.start_span("CANARY 0", span_type="TOOL", attributes={{"CANARY": "CANARY 3"}}) as inner:
                    inner.set_outputs({{"answer": "CANARY 4"}})
                    inner.add_event("CANARY 5", {{"CANARY": "CANARY 6"}})
                    inner.set_status("ERROR", "CANARY 7")
                raise LookupError("CANARY 8")
        except LookupError:
            pass
        print(*[word in pathlib.Path(place).read_bytes() for word in (b"CANARY", b"TOOL")])
        sys.stdout.flush()
        os._exit(0)
        """,
    )
    hides_names = "redact" in setting
    assert ended.out == ("False True\n" if hides_names else "True True\n")  # names of spans are no content
    take_over(tmp_path)
    rows = query(tmp_path, "SELECT span_type, status_code, end_time_ns IS NOT NULL FROM spans ORDER BY start_time_ns")
    assert rows == [("UNKNOWN", "OK", 1), ("UNKNOWN", "ERROR", 1), ("TOOL", "ERROR", 1)]
    assert bool(query(tmp_path, "SELECT * FROM spans WHERE name LIKE '%CANARY%'")) is not hides_names
    assert not query(tmp_path, "SELECT * FROM spans WHERE inputs LIKE '%CANARY%' OR outputs LIKE '%CANARY%'")


def test_an_error_that_quotes_an_api_key_is_kept_without_its_text(tmp_path: Path) -> None:
    ended = run_quietly(
        tmp_path,
        """
        import pathlib
        record("warm")
        assert tracer.sync.flush()
        place = tracer.stats().crash_ring.rsplit(" (", 1)[0]
        try:
            with tracer.start_span("failed") as span:
                raise PermissionError("Incorrect API key provided: sk-proj-CANARY0123456789")
        except PermissionError:
            pass
        print(*[word in pathlib.Path(place).read_bytes() for word in (b"CANARY", b"PermissionError")])
        """,
    )
    assert ended.out == "False True\n"


def test_a_span_whose_texts_must_not_be_stored_ends_their_keeping(tmp_path: Path) -> None:
    ended = run_quietly(
        tmp_path,
        """
        import pathlib
        record("warm")
        assert tracer.sync.flush()
        place = tracer.stats().crash_ring.rsplit(" (", 1)[0]
        from tracer._runtime import runtime
        runtime.pipeline.withhold_texts()
        with tracer.start_span("private") as span:
            span.set_inputs("CANARY")
        print(*[word in pathlib.Path(place).read_bytes() for word in (b"CANARY", b"private")])
        """,
    )
    assert ended.out == "False True\n"


def test_texts_that_the_ring_holds_go_with_it_when_a_hook_comes(tmp_path: Path) -> None:
    ended = run_quietly(
        tmp_path,
        """
        with tracer.start_span("early") as span:
            span.set_inputs("CANARY")
        assert tracer.sync.flush()
        place = tracer.stats().crash_ring.rsplit(" (", 1)[0]
        tracer.configure(redact=str.upper)
        record("late")
        assert tracer.sync.flush()
        print(os.path.exists(place))
        """,
    )
    assert ended.out == "False\n"


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    ended = run_quietly(
        tmp_path,
        "tracer.configure(crash_ring_bytes=0)\nrecord()\ntracer.sync.flush()\nprint(tracer.stats().crash_ring)",
    )
    assert ended.out == "None\n"


def test_a_normal_end_leaves_no_ring(tmp_path: Path) -> None:
    ended = run_quietly(tmp_path, "record()\ntracer.sync.flush()\nprint(tracer.stats().crash_ring.split()[0])")
    assert not Path(ended.out.strip()).exists()
    assert query(tmp_path, "SELECT count(*) FROM taken_over") == [0]


def test_no_process_that_ends_normally_leaves_a_ring(tmp_path: Path) -> None:
    run_quietly(
        tmp_path,
        """
        import multiprocessing
        record("parent's")

        if __name__ == "__main__":
            context = multiprocessing.get_context("fork")
            children = [context.Process(target=record, args=("child's",)) for _ in range(4)]
            for child in children:
                child.start()
            for child in children:
                child.join()
            for number in range(20):
                tracer.set_tracking_uri(f"sqlite:///t{number % 2}.db")
                record()
        """,
    )
    assert [find_rings(tmp_path / name) for name in ("t.db", "t0.db", "t1.db")] == [[], [], []]
    assert query(tmp_path, "SELECT * FROM taken_over") == []
