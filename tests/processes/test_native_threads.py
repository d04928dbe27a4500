"""gevent and eventlet replace threads by greenlets: gevent is traced, eventlet is not, and neither is ever held up."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.processes.script import assert_intact, needs, query, run_bare, run_quietly, states

ORDERS = {
    "patched before tracer is imported": "{patch}\nimport tracer\n",
    "patched before the first span": "import tracer\ntracer.autolog()\n{patch}\n",
    "patched while the worker runs": """
import tracer
with tracer.start_span("early"):
    pass
assert tracer.sync.flush()
{patch}
""",
}
IN_ANY_ORDER = pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
# There gevent's patch_all() hangs if openai was imported before it, tracer or no tracer.
NEEDS_PATCH_AFTER_OPENAI = [
    pytest.param(order, id=name, marks=pytest.mark.skipif(
        "autolog" in order and sys.version_info[:3] == (3, 13, 0), reason="gevent itself hangs on CPython 3.13.0"
    ))
    for name, order in ORDERS.items()
]  # fmt: skip
GEVENT_IN_ANY_ORDER = pytest.mark.parametrize("order", NEEDS_PATCH_AFTER_OPENAI)

WORK = """
import asyncio, os, threading, time

def work():
    for _ in range(10):
        with tracer.start_span("greenlet's") as span:
            time.sleep(0)
    assert tracer.sync.flush()
    assert tracer.sync.get_trace(span.trace_id).info.state == "OK"

greenlets = [threading.Thread(target=work) for _ in range(10)]
for greenlet in greenlets:
    greenlet.start()
for greenlet in greenlets:
    greenlet.join()

async def search():
    assert await tracer.flush()
    return await tracer.search_traces(name="greenlet's", max_results=1000)

assert len(asyncio.run(search())) == 100

child = os.fork()
with tracer.start_span("child's" if child == 0 else "after the fork"):
    pass
if child:
    assert os.waitpid(child, 0)[1] == 0
"""


GEVENT = "from gevent import monkey\nmonkey.patch_all()"
FIRST, *_ = ORDERS.values()


@needs("gevent")
@GEVENT_IN_ANY_ORDER
def test_gevent_is_traced(order: str, tmp_path: Path) -> None:
    """The last span is written at the exit, which the child reaches as well."""
    ended = run_bare(tmp_path, order.format(patch=GEVENT) + WORK)
    assert "nothing is traced" not in ended.err
    assert "records" not in ended.err
    assert states(tmp_path) == {"OK": 103 if "early" in order else 102}
    assert_intact(tmp_path)


@needs("gevent", "eventlet")
@pytest.mark.parametrize(
    "patch",
    [
        "from gevent import monkey\nmonkey.patch_all(thread=False)",
        "import eventlet\neventlet.monkey_patch(thread=False)",
    ],
    ids=["gevent", "eventlet"],
)
def test_patches_that_leave_threads_alone_are_traced(patch: str, tmp_path: Path) -> None:
    ended = run_bare(tmp_path, FIRST.format(patch=patch) + WORK)
    assert "nothing is traced" not in ended.err
    assert states(tmp_path) == {"OK": 102}


@needs("gevent")
def test_greenlets_go_on_while_one_waits_for_a_locked_database(tmp_path: Path) -> None:
    """The waiting greenlet gets its answer only if the other greenlet, which holds the lock, can run."""
    ended = run_bare(
        tmp_path,
        FIRST.format(patch=GEVENT)
        + """
import os, sqlite3, threading, time
assert tracer.sync.search_traces() is not None  # makes the file
other = sqlite3.connect("t.db", isolation_level=None, check_same_thread=False)
other.execute("BEGIN IMMEDIATE")
with tracer.start_span("waits"):
    pass

def unlock():
    print("unlocks")
    other.execute("COMMIT")

threading.Timer(0.2, unlock).start()
assert tracer.sync.flush()
print("flushed")
""",
    )
    assert ended.out.split() == ["unlocks", "flushed"]


@needs("gevent")
@GEVENT_IN_ANY_ORDER
def test_what_the_worker_logs_is_logged_in_the_thread_of_the_greenlets(order: str, tmp_path: Path) -> None:
    """If a thread waits for a gevent lock (every log handler has one), greenlets may then wait for ever."""
    run_bare(
        tmp_path,
        order.format(patch=GEVENT)
        + """
import logging, time
from gevent import monkey
thread = monkey.get_original("_thread", "get_ident")
worker = tracer._runtime.runtime.pipeline._worker
while worker.is_running:  # one that is older than the patch ends when it is idle
    time.sleep(0.1)
    worker.wake()

class Handler(logging.Handler):
    def emit(self, record):
        threads.append(thread())

def hook(text):
    logging.getLogger("tracer").warning("from the worker")
    hooked.append(thread())
    return text

threads, hooked = [], []
logging.getLogger("tracer").addHandler(Handler())
tracer.configure(redact=[hook])
with tracer.start_span("s", attributes={"key": "text"}):
    pass
assert tracer.sync.flush()
while len(threads) < len(hooked):
    time.sleep(0.01)
assert threads, "nothing was logged"
assert set(threads) == {thread()}, (threads, thread())
assert thread() not in hooked
""",
    )


@pytest.mark.parametrize("module", ["gevent.monkey", "eventlet.patcher"])
def test_a_library_that_is_just_being_imported_is_not_looked_into(module: str, tmp_path: Path) -> None:
    """By another thread: only the first lines of such a module have run."""
    package, _, name = module.partition(".")
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").touch()
    slow = """
import time
time.sleep(0.3)
is_module_patched = is_monkey_patched = lambda name: False
get_original = lambda module, name: getattr(__import__(module), name)
"""
    (tmp_path / package / f"{name}.py").write_text(slow)
    run_quietly(
        tmp_path,
        f"""
        record("early")
        assert tracer.sync.flush()
        __import__("{module}")  # meanwhile the worker looks at its empty queue, and whether threads were replaced
        record("late")
        """,
    )


@needs("eventlet")
@IN_ANY_ORDER
def test_eventlet_is_not_traced_and_says_so_once(order: str, tmp_path: Path) -> None:
    """Everything else works as without tracer: other greenlets, an event loop of the user's, a child, the exit."""
    ended = run_bare(
        tmp_path,
        order.format(patch="import eventlet\neventlet.monkey_patch()")
        + """
import asyncio, os, threading, time

def work():
    for _ in range(10):
        with tracer.start_span("greenlet's"):
            time.sleep(0.01)

greenlets = [threading.Thread(target=work) for _ in range(10)]
for greenlet in greenlets:
    greenlet.start()
for greenlet in greenlets:
    greenlet.join()

async def number():
    await asyncio.sleep(0)
    return 7

assert asyncio.run(number()) == 7
while not tracer.stats().dropped["closed"]:  # a worker that ran before ends when it is idle
    time.sleep(0.5)
    with tracer.start_span("greenlet's"):
        pass
assert not tracer.sync.flush()
try:
    tracer.sync.search_traces()
except tracer.StoreError as error:
    assert "eventlet" in str(error)
else:
    raise AssertionError("read without a worker")
stats = tracer.stats()
assert stats.accepted == stats.written + stats.queued + stats.dropped["lost"]
assert "eventlet has replaced" in stats.last_error
child = os.fork()
with tracer.start_span("greenlet's"):
    pass
if child:
    assert os.waitpid(child, 0)[1] == 0
    assert tracer.sync.shutdown() == 0
""",
    )
    lines = [line for line in ended.err.splitlines() if "eventlet has replaced this process's threads" in line]
    assert len(lines) == (2 if "early" in order else 1), ended.err  # the child's is another one if it was the first
    assert "records" not in ended.err
    assert (tmp_path / "t.db").exists() == ("early" in order)
    if "early" in order:
        assert "early" in query(tmp_path, "SELECT name FROM traces WHERE state = 'OK'")
        assert_intact(tmp_path)
