"""Forked processes record their own spans: nothing is lost, nothing is written twice, nobody hangs."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.processes.script import assert_intact, query, run, run_quietly, states

pytestmark = pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs os.fork")

BUSY = """
stop = threading.Event()
made = [0]

def work():
    while not stop.is_set():
        record("parent's")
        made[0] += 1
        time.sleep(0.0005)

thread = threading.Thread(target=work, daemon=True)
thread.start()

def wait_for(children):
    for child in children:
        deadline = time.monotonic() + 30
        while os.waitpid(child, os.WNOHANG) == (0, 0):
            assert time.monotonic() < deadline, f"child {child} hangs"
            time.sleep(0.005)
"""


def names(directory: Path) -> Counter[str]:
    return Counter(query(directory, "SELECT name FROM traces"))


@pytest.mark.parametrize("ending", ["sys.exit()", "tracer.sync.flush(); os._exit(0)", "raise SystemExit(0)"])
def test_twenty_forks_of_a_process_with_a_busy_worker(ending: str, tmp_path: Path) -> None:
    ended = run(
        tmp_path,
        BUSY
        + f"""
children = []
for _ in range(20):
    time.sleep(0.01)
    child = os.fork()
    if not child:
        for _ in range(50):
            record("child's")
        assert tracer.stats().accepted >= 99, tracer.stats()  # while the worker takes one, it is in neither count
        {ending}
    children.append(child)
wait_for(children)
stop.set()
thread.join()
print(made[0])
""",
    )
    assert ended.code == 0, ended.err
    # On a slow machine twenty children may need more than the five seconds of an exit for their one database.
    assert not ended.err or "for the next process that opens it" in ended.err, ended.err
    run_quietly(tmp_path, "tracer.sync.search_traces(max_results=1)")
    made = int(ended.out)
    assert made > 20
    assert names(tmp_path) == {"parent's": made, "child's": 20 * 50}
    assert states(tmp_path) == {"OK": made + 20 * 50}
    assert query(tmp_path, "SELECT count(*) FROM spans") == [made + 20 * 50]
    assert_intact(tmp_path)


def test_a_child_that_never_traces_ends_at_once(tmp_path: Path) -> None:
    run_quietly(
        tmp_path,
        BUSY
        + """
children = [child for child in [os.fork() for _ in range(1)] if child]
if not children:
    assert threading.active_count() == 1
    sys.exit()
wait_for(children)
stop.set()
""",
    )
    assert set(names(tmp_path)) == {"parent's"}


def test_a_fork_inside_a_span(tmp_path: Path) -> None:
    run_quietly(
        tmp_path,
        """
        with tracer.start_span("outer"):
            child = os.fork()
            with tracer.start_span("inner of the " + ("parent" if child else "child")):
                pass
        if child:
            os.waitpid(child, 0)
        """,
    )
    assert states(tmp_path) == {"OK": 1}
    rows = query(
        tmp_path,
        "SELECT span.name, parent.name FROM spans span LEFT JOIN spans parent ON parent.span_id = span.parent_id",
    )
    assert sorted(rows, key=str) == [
        ("inner of the child", "outer"),
        ("inner of the parent", "outer"),
        ("outer", None),
    ]
    assert query(tmp_path, "SELECT name FROM traces") == ["outer"]


def test_a_child_does_not_end_its_parents_span(tmp_path: Path) -> None:
    run_quietly(
        tmp_path,
        """
        with tracer.start_span("outer") as span:
            child = os.fork()
            if child:
                os.waitpid(child, 0)
                assert tracer.sync.get_trace(span.trace_id).info.state == "IN_PROGRESS"
            else:
                record("inner")
        tracer.sync.flush()
        """,
    )
    assert states(tmp_path) == {"OK": 1}


def test_ids_of_children_differ(tmp_path: Path) -> None:
    run_quietly(
        tmp_path,
        """
        record()
        children = []
        for _ in range(5):
            child = os.fork()
            if not child:
                record()
                sys.exit()
            children.append(child)
        for child in children:
            os.waitpid(child, 0)
        """,
    )
    assert states(tmp_path) == {"OK": 6}


def test_a_fork_in_a_fork(tmp_path: Path) -> None:
    run_quietly(
        tmp_path,
        """
        record("parent")
        child = os.fork()
        if not child:
            record("child")
            grandchild = os.fork()
            if not grandchild:
                record("grandchild")
                sys.exit()
            os.waitpid(grandchild, 0)
            record("child again")
            sys.exit()
        os.waitpid(child, 0)
        record("parent again")
        """,
    )
    assert names(tmp_path) == dict.fromkeys(["parent", "child", "grandchild", "child again", "parent again"], 1)


def test_a_read_in_the_child_of_a_process_that_reads(tmp_path: Path) -> None:
    run_quietly(
        tmp_path,
        """
        record("parent")
        assert len(tracer.sync.search_traces()) == 1
        child = os.fork()
        record("parent again" if child else "child")
        if child:
            os.waitpid(child, 0)
        names = {trace.info.name for trace in tracer.sync.search_traces()}
        assert names >= {"parent", "child"}, names  # to the child the parent's second may be there already
        assert not child or len(names) == 3, names
        """,
    )
    assert sum(states(tmp_path).values()) == 3


def test_a_fork_while_a_shut_down_runs_and_after_it(tmp_path: Path) -> None:
    run_quietly(
        tmp_path,
        """
        record("parent")
        tracer.sync.shutdown()
        child = os.fork()
        if child:
            os.waitpid(child, 0)
        else:
            record("child")
        """,
    )
    assert names(tmp_path) == {"parent": 1, "child": 1}


METHODS = pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])


@METHODS
def test_children_of_multiprocessing(method: str, tmp_path: Path) -> None:
    run_quietly(
        tmp_path,
        f"""
        import multiprocessing

        def work(number):
            for _ in range(50):
                record("child's")

        if __name__ == "__main__":
            context = multiprocessing.get_context("{method}")
            if "{method}" == "fork":
                record("parent's")
            children = [context.Process(target=work, args=(number,)) for number in range(3)]
            for child in children:
                child.start()
            for child in children:
                child.join(30)
                assert child.exitcode == 0, child.exitcode
        """,
    )
    assert names(tmp_path)["child's"] == 150
    assert_intact(tmp_path)


@METHODS
def test_a_pool_whose_workers_live_for_one_task(method: str, tmp_path: Path) -> None:
    run_quietly(
        tmp_path,
        f"""
        import multiprocessing

        def work(number):
            record("child's")
            return number

        if __name__ == "__main__":
            context = multiprocessing.get_context("{method}")
            pool = context.Pool(2, maxtasksperchild=1)
            assert sorted(pool.map(work, range(6), chunksize=1)) == list(range(6))
            pool.close()
            pool.join()
        """,
    )
    assert names(tmp_path) == {"child's": 6}


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="fork is no longer the default there")
def test_a_pool_of_processes_of_concurrent_futures(tmp_path: Path) -> None:
    run_quietly(
        tmp_path,
        """
        import concurrent.futures

        def work(number):
            record("child's")
            return number

        if __name__ == "__main__":
            record("parent's")
            with concurrent.futures.ProcessPoolExecutor(2) as pool:
                assert list(pool.map(work, range(40))) == list(range(40))
        """,
    )
    assert names(tmp_path) == {"parent's": 1, "child's": 40}


COMPLETE = "def current_process():\n    return None\n\ndef Finalize(*arguments, **options):\n    pass\n"
IN_THE_MIDDLE = "import threading, time\nthreading.importing.set()\ntime.sleep(1000)\n"


@pytest.mark.parametrize(
    ("library", "complete", "half"), [("multiprocess", "util", "process"), ("billiard", "process", "pool")]
)
def test_a_fork_while_another_thread_imports_a_library_that_starts_processes(
    library: str, complete: str, half: str, tmp_path: Path
) -> None:
    """In the child, half of that module is missing for ever: the thread that imported it is not there."""
    package = tmp_path / library
    package.mkdir()
    (package / "__init__.py").write_text(f"from . import {complete}, {half}\n")
    (package / f"{complete}.py").write_text(COMPLETE)
    (package / f"{half}.py").write_text(IN_THE_MIDDLE)
    run_quietly(
        tmp_path,
        f"""
        threading.importing = threading.Event()
        sys.path.insert(0, {str(tmp_path)!r})
        record("parent's")
        threading.Thread(target=__import__, args=({library!r},), daemon=True).start()
        assert threading.importing.wait(20)
        child = os.fork()
        record("parent's" if child else "child's")
        if child:
            assert os.waitpid(child, 0)[1] == 0
            tracer.sync.flush()
            os._exit(0)  # and not by way of the thread that sleeps in an import
        """,
    )
    assert names(tmp_path) == {"parent's": 2, "child's": 1}


def test_no_thread_of_ours_can_hold_an_import_lock_at_a_fork(tmp_path: Path) -> None:
    """In a child a module's import lock that another thread held is never released.

    anyio 4.16 imports its names when they are first used, which takes such a lock up to CPython 3.10.
    """
    run_quietly(
        tmp_path,
        """
        import contextlib, gzip, importlib
        import httpx, openai
        from tracer.process import forks
        tracer.autolog()

        STREAM = b'data: {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o", "choices": ['\
            b'{"index": 0, "delta": {"content": "hi"}}]}\\n\\ndata: [DONE]\\n\\n'

        def answer(request):
            coding = codings.pop()
            headers = {"content-type": "text/event-stream", "content-encoding": coding}
            return httpx.Response(200, content=gzip.compress(STREAM) if coding == "gzip" else STREAM, headers=headers)

        client = openai.OpenAI(api_key="k", http_client=httpx.Client(transport=httpx.MockTransport(answer)))
        find, found = importlib._bootstrap._find_and_load, []

        def note(name, *rest):
            if threading.current_thread() is not threading.main_thread() and not forks._delaying._is_owned():
                found.append(name)
            return find(name, *rest)

        importlib._bootstrap._find_and_load = note
        record()
        messages = [{"role": "user", "content": "hi"}]
        codings = ["gzip", "compress, zstd"]  # not installed, or not what it says: the worker looks for a decoder
        while codings:
            with contextlib.suppress(httpx.DecodingError):  # a decoder for it is installed
                list(client.chat.completions.create(model="gpt-4o", messages=messages, stream=True))
        assert tracer.sync.flush()
        (trace, *_) = tracer.sync.search_traces()
        assert trace.data.spans
        tracer.sync.search_traces(filter_string="status = 'OK'")
        tracer.sync.shutdown()
        assert found == [], found
        """,
    )


def test_a_fork_waits_for_an_import_of_ours(tmp_path: Path) -> None:
    run_quietly(
        tmp_path,
        """
        from tracer.process import forks
        begun, may_end = threading.Event(), threading.Event()

        def work():
            with forks.delayed():
                begun.set()
                may_end.wait(20)
                work.ended = True

        work.ended = False
        thread = threading.Thread(target=work)
        thread.start()
        begun.wait(20)
        threading.Timer(0.2, may_end.set).start()
        child = os.fork()
        if not child:
            assert work.ended
            with forks.delayed():  # the child has a lock of its own
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        thread.join()
        with forks.delayed():
            pass
        os.waitpid(os.fork() or os._exit(0), 0)
        """,
    )
