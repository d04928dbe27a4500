"""However a program ends by itself, it ends soon, as it would have without tracer, and loses nothing."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from tests.processes.script import Script, note, query, run, run_quietly, states

SOON = 10.0  # seconds: far more than it takes, far less than the 24 to 71 that others need


@pytest.mark.parametrize(
    ("ending", "code", "last_line"),
    [
        ("pass", 0, None),
        ("sys.exit(3)", 3, None),
        ("sys.exit('why')", 1, "why"),
        ("raise ValueError('mine')", 1, "ValueError: mine"),
        ("os.kill(os.getpid(), 2)", -2, "KeyboardInterrupt"),
    ],
)
def test_nothing_is_lost_and_the_end_is_as_it_would_have_been(
    ending: str, code: int, last_line: str | None, tmp_path: Path, record_property
) -> None:
    ended = run(
        tmp_path,
        f"""
        for _ in range(500):
            record()
        print("end", flush=True)
        {ending}
        """,
    )
    assert ended.code == code
    assert ended.err.splitlines()[-1:] == ([last_line] if last_line else [])
    assert "tracer" not in ended.err.replace(str(tmp_path), "")
    assert states(tmp_path) == {"OK": 500}
    assert ended.seconds < SOON
    note(record_property, seconds=round(ended.seconds, 2))


def test_a_script_that_ends_right_after_its_first_span(tmp_path: Path) -> None:
    run_quietly(tmp_path, "record()")
    assert states(tmp_path) == {"OK": 1}


def test_a_script_that_never_traces_leaves_no_trace(tmp_path: Path) -> None:
    run_quietly(tmp_path, "tracer.get_current_active_span()")
    assert not (tmp_path / "t.db").exists()


def test_a_signal_while_the_program_works(tmp_path: Path) -> None:
    script = Script(
        tmp_path,
        """
        made = 0
        try:
            while True:
                record()
                made += 1
                if made == 100:
                    print("working", flush=True)
                time.sleep(0.001)
        except KeyboardInterrupt:
            print(made)
            raise
        """,
    )
    script.wait_for("working")
    script.send(signal.SIGINT)
    ended = script.end()
    assert ended.code == -signal.SIGINT
    assert ended.seconds < SOON
    # The span that the interrupt hit is stored as failed, or had not begun.
    assert states(tmp_path)["OK"] - int(ended.out.split()[-1]) in (0, 1)


def test_threads_that_record_after_the_main_thread_has_ended(tmp_path: Path) -> None:
    run_quietly(
        tmp_path,
        """
        def work():
            threading.main_thread().join()
            for _ in range(100):
                record()
                time.sleep(0.001)

        for _ in range(3):
            threading.Thread(target=work).start()
        """,
    )
    assert states(tmp_path) == {"OK": 300}


def test_a_daemon_thread_that_never_stops_recording(tmp_path: Path) -> None:
    ended = run_quietly(
        tmp_path,
        """
        def work():
            while True:
                record()
        threading.Thread(target=work, daemon=True).start()
        time.sleep(0.2)
        print("end", flush=True)
        """,
    )
    assert ended.seconds < SOON


def test_a_loop_that_ends_with_pending_tasks(tmp_path: Path) -> None:
    run_quietly(
        tmp_path,
        """
        import asyncio

        @tracer.trace
        async def forever():
            await asyncio.sleep(1000)

        async def main():
            tasks = [asyncio.create_task(forever()) for _ in range(50)]
            await asyncio.sleep(0.01)

        asyncio.run(main())
        """,
    )
    assert states(tmp_path) == {"ERROR": 50}
    assert set(query(tmp_path, "SELECT finish FROM spans")) == {"cancelled"}


def test_spans_of_exit_handlers_that_were_registered_before_and_after_ours(tmp_path: Path) -> None:
    run_quietly(tmp_path, "import atexit\natexit.register(record, 'at exit')")
    assert query(tmp_path, "SELECT name FROM traces") == ["at exit"]


def test_a_span_that_is_open_at_exit_is_interrupted(tmp_path: Path) -> None:
    run_quietly(tmp_path, "scope = tracer.start_span('open')\nscope.__enter__()")
    run_quietly(tmp_path, "print([trace.info.state.value for trace in tracer.sync.search_traces()])")
    assert states(tmp_path) == {"INTERRUPTED": 1}


def test_a_shutdown_by_hand_and_then_the_end(tmp_path: Path) -> None:
    run_quietly(
        tmp_path,
        """
        import asyncio
        record()
        tracer.sync.flush()
        assert asyncio.run(tracer.shutdown()) == 0
        assert tracer.sync.shutdown() == 0
        """,
    )
    assert states(tmp_path) == {"OK": 1}


def test_a_locked_database_holds_the_exit_up_for_five_seconds_and_costs_nothing(
    tmp_path: Path, record_property
) -> None:
    run_quietly(tmp_path, "record()")
    with closing(sqlite3.connect(tmp_path / "t.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        ended = run(
            tmp_path,
            """
            for _ in range(50):
                record()
            print("end", flush=True)
            """,
        )
        other.execute("COMMIT")
    assert ended.code == 0
    assert "t.db-spool for the next process that opens it" in ended.err
    assert "records could not be written" not in ended.err
    assert 4.0 < ended.seconds < SOON
    note(record_property, seconds=round(ended.seconds, 2))
    assert states(tmp_path) == {"OK": 1}
    run_quietly(tmp_path, "record()")
    assert states(tmp_path) == {"OK": 52}
    assert list((tmp_path / "t.db-spool").iterdir()) == []


def test_a_second_interrupt_ends_the_wait_for_a_locked_database(tmp_path: Path) -> None:
    run_quietly(tmp_path, "record()")
    with closing(sqlite3.connect(tmp_path / "t.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        script = Script(
            tmp_path,
            """
            import atexit
            from tracer._runtime import runtime
            record()
            stop_all = runtime._stop_all

            def told(*arguments):
                print("exiting", flush=True)
                return stop_all(*arguments)

            runtime._stop_all = told
            """,
        )
        script.wait_for("exiting")
        script.send(signal.SIGINT)
        ended = script.end()
        other.execute("COMMIT")
    assert ended.code == 0
    assert "what was recorded last waits in" in ended.err
    assert "Traceback" not in ended.err.partition("waits beside it")[2]
    run_quietly(tmp_path, "record()")
    assert states(tmp_path) == {"OK": 3}


def test_a_lock_that_goes_within_the_five_seconds_costs_nothing(tmp_path: Path) -> None:
    run_quietly(tmp_path, "record()")
    with closing(sqlite3.connect(tmp_path / "t.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        script = Script(tmp_path, "for _ in range(50): record()\nprint('recorded', flush=True)")
        script.wait_for("recorded")
        with pytest.raises(subprocess.TimeoutExpired):  # it waits for the lock
            script.process.wait(1)
        other.execute("COMMIT")
        assert script.end().code == 0
    assert states(tmp_path) == {"OK": 51}
