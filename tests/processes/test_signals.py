"""Signals: tracer handles none, unless `flush_on_signal` asks for it; then what would have happened still happens."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.processes.script import Script, query, run, run_quietly, states

# Without a crash ring, what the worker has not written when the process is killed is lost.
NO_RING = {"TRACER_CRASH_RING_BYTES": "0", "TRACER_BATCH_INTERVAL": "20"}


def test_no_signal_is_handled_by_default(tmp_path: Path) -> None:
    run_quietly(
        tmp_path,
        """
        import signal
        def handlers():
            return {number: signal.getsignal(number) for number in signal.valid_signals()}
        before = handlers()
        tracer.autolog()
        record()
        tracer.sync.flush()
        assert handlers() == before
        """,
    )


@pytest.mark.parametrize("way", ["signal.raise_signal(signal.SIGTERM)", "os.kill(os.getpid(), signal.SIGTERM)"])
@pytest.mark.parametrize("calls", [0, 1, 2])
def test_what_waits_is_written_before_the_signal_ends_the_process(calls: int, way: str, tmp_path: Path) -> None:
    ended = run(
        tmp_path,
        """
        import signal
        for _ in range(int(sys.argv[1])):
            tracer.flush_on_signal(signal.SIGTERM, timeout=20)
        record()
        tracer.sync.flush()
        for _ in range(100):
            record()
        exec(sys.argv[2])
        """,
        calls,
        way,
        **NO_RING,
    )
    assert (ended.code, ended.err) == (-signal.SIGTERM, "")
    assert states(tmp_path) == {"OK": 101 if calls or "raise" in way else 1}


@pytest.mark.parametrize("child", ["", "if os.fork(): sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))"])
def test_a_signal_that_a_process_raises_at_itself_ends_it_when_all_is_written(child: str, tmp_path: Path) -> None:
    """As uvicorn's workers do."""
    ended = run(
        tmp_path,
        """
        import signal
        record()
        exec(sys.argv[1])
        for _ in range(100):
            record()
        signal.raise_signal(signal.SIGTERM)
        """,
        child,
        **NO_RING,
    )
    assert (ended.code % 256, ended.err) == (-signal.SIGTERM % 256, "")
    assert states(tmp_path) == {"OK": 101}


def test_a_raised_signal_is_nobody_elses_business(tmp_path: Path) -> None:
    """One that is handled, ignored, or that asks for a core dump, is as quick as before, and a wrong one is refused."""
    run_quietly(
        tmp_path,
        """
        import signal
        seen = []
        record()
        tracer.sync.flush()
        record()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.raise_signal(signal.SIGHUP)
        signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGCONT)
        assert seen == [signal.SIGTERM] and tracer.stats().queued > 0
        for wrong in (-1, 10_000):
            try:
                signal.raise_signal(wrong)
            except OSError:
                seen.append(wrong)
        assert seen[1:] == [-1, 10_000]
        """,
        **NO_RING,
    )


def test_a_handler_that_was_there_is_called_after_the_flush_and_once(tmp_path: Path) -> None:
    run_quietly(
        tmp_path,
        """
        import signal, sqlite3
        seen = []
        def handler(number, frame):
            seen.append((number, frame is not None, tracer.stats().queued))
        signal.signal(signal.SIGTERM, handler)
        tracer.flush_on_signal()
        tracer.flush_on_signal(timeout=20)
        for _ in range(3):
            record()
            signal.raise_signal(signal.SIGTERM)
        assert seen == 3 * [(signal.SIGTERM, True, 0)], seen
        """,
        **NO_RING,
    )
    assert states(tmp_path) == {"OK": 3}


def test_ctrl_c_is_still_a_keyboard_interrupt(tmp_path: Path) -> None:
    run_quietly(
        tmp_path,
        """
        import signal
        tracer.flush_on_signal(signal.SIGINT, timeout=20)
        record()
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            assert tracer.stats().queued == 0
            os._exit(0)
        """,
        **NO_RING,
    )
    assert states(tmp_path) == {"OK": 1}


def test_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    run_quietly(
        tmp_path,
        """
        import signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        tracer.flush_on_signal(signal.SIGTERM, timeout=20)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        signal.raise_signal(signal.SIGTERM)
        """,
    )


def test_a_signal_that_ends_nothing_by_default_flushes_each_time(tmp_path: Path) -> None:
    run_quietly(
        tmp_path,
        """
        import signal
        tracer.flush_on_signal(signal.SIGCONT, timeout=20)
        for _ in range(2):
            record()
            signal.raise_signal(signal.SIGCONT)
            assert tracer.stats().queued == 0
        os._exit(0)
        """,
        **NO_RING,
    )
    assert states(tmp_path) == {"OK": 2}


def test_mistakes_are_errors_that_say_what_to_do(tmp_path: Path) -> None:
    run_quietly(
        tmp_path,
        """
        import faulthandler, signal
        def message(*arguments, **options):
            try:
                tracer.flush_on_signal(*arguments, **options)
            except tracer.ConfigurationError as error:
                return str(error)
        assert "got 9: " in message(9)
        assert "got 9999: " in message(9999)
        assert "got 'TERM': " in message("TERM")
        assert "timeout must be" in message(signal.SIGTERM, timeout=None)
        assert "timeout must be" in message(signal.SIGTERM, timeout=-1)
        faulthandler.enable()
        assert "SIGSEGV has a handler that is not Python's" in message(signal.SIGSEGV)
        said = []
        thread = threading.Thread(target=lambda: said.append(message(signal.SIGTERM)))
        thread.start()
        thread.join()
        assert "must be called in the main thread" in said[0]
        """,
    )


def test_a_forked_child_flushes_as_well(tmp_path: Path) -> None:
    run_quietly(
        tmp_path,
        """
        import signal
        tracer.flush_on_signal(signal.SIGTERM, timeout=20)
        record("parent")
        child = os.fork()
        if not child:
            record("child")
            signal.raise_signal(signal.SIGTERM)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM
        """,
        **NO_RING,
    )
    assert sorted(query(tmp_path, "SELECT name FROM traces")) == ["child", "parent"]


@pytest.mark.parametrize("first", ["tracer", "asyncio"])
def test_beside_a_handler_of_asyncio(first: str, tmp_path: Path) -> None:
    """asyncio's handler is called in any case. If it came last, it has replaced the flush."""
    run_quietly(
        tmp_path,
        """
        import asyncio, signal

        async def main():
            stopped = asyncio.Event()
            if sys.argv[1] == "tracer":
                tracer.flush_on_signal(signal.SIGTERM, timeout=20)
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
            if sys.argv[1] == "asyncio":
                tracer.flush_on_signal(signal.SIGTERM, timeout=20)
            record()
            signal.raise_signal(signal.SIGTERM)
            assert (tracer.stats().queued == 0) == (sys.argv[1] == "asyncio")
            await stopped.wait()

        asyncio.run(main())
        """,
        first,
        **NO_RING,
    )
    assert states(tmp_path) == {"OK": 1}


def test_a_signal_in_the_middle_of_the_start_of_the_worker(tmp_path: Path) -> None:
    """The interrupted code holds a lock that the flush would wait for. So nothing is written, and it may say so."""
    ended = run(
        tmp_path,
        """
        import signal
        from tracer.pipeline import worker
        start_thread = worker.start_thread
        def interrupted(*arguments):
            signal.raise_signal(signal.SIGTERM)
            return start_thread(*arguments)
        worker.start_thread = interrupted
        tracer.flush_on_signal(signal.SIGTERM)
        record()
        """,
    )
    assert ended.code == -signal.SIGTERM, ended.err


@pytest.mark.parametrize("signals", [1, 2])
def test_a_locked_database_holds_the_signal_up_for_the_timeout_and_costs_nothing(signals: int, tmp_path: Path) -> None:
    run_quietly(tmp_path, "record()")
    with closing(sqlite3.connect(tmp_path / "t.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        script = Script(
            tmp_path,
            """
            import signal
            tracer.flush_on_signal(signal.SIGTERM, timeout=5)
            record()
            print("recorded", flush=True)
            while True:
                time.sleep(0.05)  # a wait without end may begin just after the signal came, and never notice it
            """,
            **NO_RING,
        )
        script.wait_for("recorded")
        for _ in range(signals):
            script.send(signal.SIGTERM)
        ended = script.end()
        other.execute("COMMIT")
    assert ended.code == -signal.SIGTERM
    assert "Traceback" not in ended.err.partition("waits beside it")[2]
    run_quietly(tmp_path, "record()")
    assert states(tmp_path) == {"OK": 3}
