"""Ctrl-C (KeyboardInterrupt) that the program survives, as in a notebook: no span stays current, none stays open."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.processes.script import query, run_quietly, states

WORK = """
import asyncio, gc, warnings
from tracer.spans.context import current_span
from tracer.openai._calls import current_call

warnings.simplefilter("ignore")  # of coroutines that an interrupt kept from being awaited

class Wrong(Exception):
    pass

def block():
    with tracer.start_span("work"):
        pass

def failing_block():
    try:
        with tracer.start_span("work"):
            raise Wrong
    except Wrong:
        pass

async def async_block():
    async with tracer.start_span("work"):
        pass

@tracer.trace(name="work")
def function():
    return 1

@tracer.trace(name="work")
def failing():
    raise Wrong

def failing_function():
    try:
        failing()
    except Wrong:
        pass

@tracer.trace(name="work")
async def coroutine():
    return 1

@tracer.trace(name="work")
def numbers():
    yield 1
    yield 2

def generator():
    list(numbers())

@tracer.trace(name="work")
async def async_numbers():
    yield 1
    yield 2

async def async_generator():
    async for _ in async_numbers():
        pass

def drive(make):
    def work():
        try:
            make().send(None)
        except StopIteration:
            pass
    return work

WORKS = {
    "block": block, "failing_block": failing_block, "async_block": drive(async_block), "function": function,
    "failing_function": failing_function, "coroutine": drive(coroutine), "generator": generator,
    "async_generator": drive(async_generator),
}

def check(where):
    \"\"\"What comes now is below nothing that the interrupt left.\"\"\"
    with tracer.start_span("after") as after:
        pass
    assert after.parent_id is None, f"a span after an interrupt {where} is below a dead one"
    assert tracer.get_current_active_span() is None, f"a span is current after an interrupt {where}"
    assert current_call.get() is None, f"a call is current after an interrupt {where}"
"""

AT_EVERY_POINT = """
import dis

FOLDER = os.path.dirname(tracer.__file__) + os.sep
FILES = {"context.py", "decorator.py", "live_span.py", "opening.py", "pipeline.py", "_queue.py", "_calls.py",
         "_patch.py", "_stream.py"}

POINTS = ("CALL",) if sys.version_info >= (3, 11) else ("CALL", "POP_JUMP", "JUMP_ABSOLUTE")

def is_in_finalizer(frame):
    while frame is not None and frame.f_code.co_name != "__del__":
        frame = frame.f_back
    return frame is not None

def interrupt(work, number):
    \"\"\"Do work, with a KeyboardInterrupt at the n-th point where Python looks for signals; return where that was.

    These are the begin of each function, and what follows each call; on Python 3.10 also what follows a jump. Not in
    finalizers, where any exception is lost.
    \"\"\"
    count, where, previous = 0, None, {}

    def look(frame, is_point):
        nonlocal count, where
        count += is_point
        if is_point and where is None and count == number:
            where = f"in {frame.f_code.co_name}, {frame.f_code.co_filename}:{frame.f_lineno}"
            raise KeyboardInterrupt

    def trace(frame, event, _):
        file = frame.f_code.co_filename
        is_ours = file.startswith(FOLDER) and os.path.basename(file) in FILES
        if event != "call" or where or not is_ours or is_in_finalizer(frame):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        look(frame, sys.version_info >= (3, 11) or frame.f_lasti < 0)  # 3.10 also tells of generators that go on
        return trace_inside

    def trace_inside(frame, event, _):
        if event == "opcode":
            name = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            before, previous[frame] = previous.get(frame, ""), name
            look(frame, before.startswith(POINTS))
        elif event == "exception":
            previous.pop(frame, None)  # it goes to its handler: Python does not look on the way
        return trace_inside

    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(None)
        previous.clear()
    return where

def interrupt_everywhere(work):
    work()
    points = 0
    while where := interrupt(work, points + 1):
        points += 1
        check(where)
    gc.collect()
    return points
"""


def assert_nothing_is_left(tmp_path: Path) -> None:
    assert set(states(tmp_path)) <= {"OK", "ERROR"}
    assert query(tmp_path, "SELECT count(*) FROM spans WHERE end_time_ns IS NULL") == [0]
    assert query(tmp_path, "SELECT count(*) FROM spans WHERE name = 'after' AND parent_id IS NOT NULL") == [0]


IN_MEMORY = """
from openai import OpenAI, _base_client

# Over sockets a hundred calls under a trace function take too long.
http = getattr(_base_client, "httpx2", None) or _base_client.httpx
chat = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}

def answer(request):
    if b'"stream"' in request.content:
        return http.Response(200, headers={"content-type": "text/event-stream"}, stream=Body())
    return http.Response(200, json={"id": "x", "object": "chat.completion", "choices": [], "data": []})

class Body(http.SyncByteStream):
    def __iter__(self):
        yield b'data: {"id": "x", "object": "chat.completion.chunk", "choices": []}\\n\\n'
        yield b"data: [DONE]\\n\\n"

client = OpenAI(api_key="sk-x", http_client=http.Client(transport=http.MockTransport(answer)), max_retries=0)
tracer.autolog()
"""

END = """
assert tracer.sync.flush(20)
stats = tracer.stats()
assert (stats.open_spans, stats.dropped["lost"]) == (0, 0), stats
"""


@pytest.mark.parametrize(
    "work",
    [
        "block",
        "failing_block",
        "async_block",
        "function",
        "failing_function",
        "coroutine",
        "generator",
        "async_generator",
    ],
)
def test_an_interrupt_at_any_point_of_a_span_leaves_nothing(work: str, tmp_path: Path) -> None:
    run_quietly(
        tmp_path,
        WORK
        + AT_EVERY_POINT
        + f"assert interrupt_everywhere(WORKS[{work!r}]) > 20"  # else it interrupts nothing any more
        + END,
    )
    assert_nothing_is_left(tmp_path)


@pytest.mark.parametrize(
    "call",
    [
        "client.chat.completions.create(**chat)",
        "list(client.chat.completions.create(stream=True, **chat))",
        "client.get('/models', cast_to=object)",
    ],
    ids=["plain", "stream", "untraced"],
)
def test_an_interrupt_at_any_point_of_a_call_leaves_nothing(call: str, tmp_path: Path) -> None:
    run_quietly(
        tmp_path,
        WORK
        + AT_EVERY_POINT
        + IN_MEMORY
        + f"""
def work():
    {call}

assert interrupt_everywhere(work) > 2
"""
        + END,
    )
    assert_nothing_is_left(tmp_path)


def test_real_signals_at_random_moments_leave_nothing(tmp_path: Path) -> None:
    run_quietly(
        tmp_path,
        WORK
        + """
import random, signal

signal.signal(signal.SIGALRM, signal.default_int_handler)
moments = random.Random(1)
deadline = time.monotonic() + 5
interrupts = 0
while interrupts < 3_000 and time.monotonic() < deadline:
    name, work = moments.choice(list(WORKS.items()))
    try:
        signal.setitimer(signal.ITIMER_REAL, moments.uniform(2e-6, 80e-6))
        work()
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        interrupts += 1
    finally:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt:
            pass
    if interrupts % 50 == 0:
        tracer.sync.flush(20)  # a span that a full queue refuses shows nothing
    check(f"of {name}")
gc.collect()
assert interrupts > 100
"""
        + END,
    )
    assert_nothing_is_left(tmp_path)


def test_ctrl_c_stops_a_blocking_search(tmp_path: Path) -> None:
    run_quietly(
        tmp_path,
        """
import signal
from tracer._runtime import runtime

for _ in range(300):
    record("a" * 900)
tracer.sync.flush()
tracer.sync.search_traces(max_results=1)
readers = runtime.pipeline._worker.store._database._readers

def press():
    while not readers.taken:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=press).start()
try:
    tracer.sync.search_traces(filter_string=" OR ".join(f"name RLIKE 'a*a*{letter}$'" for letter in "bcdefghijklmnopq"))
except KeyboardInterrupt:
    while readers.taken:
        time.sleep(0.001)
    assert len(tracer.sync.search_traces(max_results=5)) == 5
else:
    raise AssertionError("nobody pressed Ctrl-C")
""",
    )


def test_an_interrupt_at_any_point_of_a_blocking_read_leaves_no_query(tmp_path: Path) -> None:
    run_quietly(
        tmp_path,
        WORK
        + AT_EVERY_POINT
        + """
from tracer._runtime import runtime
from tracer.pipeline.bridge import blocking, wait

FILES = {"bridge.py", "pipeline.py", "worker.py", "_jobs.py"}
record("any")
tracer.sync.flush()
pipeline = runtime.pipeline
jobs = pipeline._worker._jobs

async def endless(store):
    await asyncio.sleep(3_600)

async def ask():
    return await wait(pipeline.question(endless, barrier=True))

points, where = 0, ""
while "in _wait_in_thread" not in where:
    points += 1
    where = interrupt(blocking(ask), points)
    tracer.sync.flush()  # wakes the worker: nobody else may do that once the question is withdrawn
    give_up_at = time.monotonic() + 20
    while jobs.running or jobs.waiting:
        assert time.monotonic() < give_up_at, f"a query goes on after an interrupt {where}"
        time.sleep(0.001)
assert points > 10
"""
        + END,
    )
