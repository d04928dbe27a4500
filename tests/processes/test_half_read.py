"""A program that ends while streams and generators are half read: they are abandoned, with what had arrived."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.processes.script import Script, query, run, run_quietly, states
from tracer.testing import FakeOpenAI, FakeWebSockets, reply

CLIENT = """
import openai
tracer.autolog()
client = openai.OpenAI()
K = {"model": "gpt-5", "messages": [{"role": "user", "content": "Count"}]}

def open_stream():
    return client.chat.completions.create(**K, stream=True)

def read_a_word(chunks):
    for chunk in chunks:
        if chunk.choices[0].delta.content:
            return
"""
TWO_STREAMS = """
stream = open_stream()
read_a_word(stream)

@tracer.trace
def main():
    for chunk in open_stream():
        if chunk.choices[0].delta.content:
            {ending}

main()
"""
ENDS = {
    "the end of the script": ("return", 0, "OK"),
    "sys.exit": ("sys.exit(3)", 3, "ERROR"),
    "an exception": ("raise ValueError('mine')", 1, "ERROR"),
    "Ctrl-C": ("os.kill(os.getpid(), 2)", -2, "ERROR"),
    "a closed pipe": ("r, w = os.pipe(); os.close(r); os.write(w, b'x')", 1, "ERROR"),
    "a signal that becomes SystemExit": (
        "import signal; signal.signal(15, lambda *_: sys.exit(0)); os.kill(os.getpid(), 15)",
        0,
        "ERROR",
    ),
}
# CPython 3.13.0 itself crashes when it frees a half-read stream of httpx2 after `atexit`, with and without tracer.
CRASHES = {-signal.SIGSEGV} if sys.version_info[:2] == (3, 13) else set()
Row = tuple[str, str | None, str | None]


def hold(server: FakeOpenAI, times: int, events: int = 3) -> None:
    """Have the server send the first words, and keep the rest to itself."""
    server.enqueue(*[reply.text("one two three four").held(after_events=events)] * times)


def spans(directory: Path) -> list[Row]:
    """Name, end and text of each span, in the order of their start."""
    found: list[Row] = query(
        directory,
        "SELECT name, finish, coalesce(outputs ->> '$.choices[0].message.content', outputs)"
        " FROM spans ORDER BY start_time_ns",
    )
    return found


def assert_abandoned(row: Row, name: str = "Completions") -> None:
    assert row[:2] == (name, "abandoned")
    assert (row[2] or "").startswith("one"), row


@pytest.mark.parametrize(("ending", "code", "state"), ENDS.values(), ids=ENDS)
def test_streams_that_the_end_of_the_program_leaves_half_read(
    ending: str, code: int, state: str, server: FakeOpenAI, tmp_path: Path
) -> None:
    hold(server, 2)
    ended = run(tmp_path, CLIENT + TWO_STREAMS.format(ending=ending), **server.env())
    assert ended.code in {code, *CRASHES}, ended.err
    assert "could not be written" not in ended.err
    alone, root, below = spans(tmp_path)
    assert_abandoned(alone)
    assert root[:2] == ("main", "completed" if state == "OK" else "failed")
    assert_abandoned(below)
    assert query(tmp_path, "SELECT state FROM traces ORDER BY start_time_ns") == ["OK", state]


def test_every_other_way_to_leave_one_half_read(server: FakeOpenAI, tmp_path: Path) -> None:
    """Raw and managed streams, other APIs, generators around streams, and a loop that is never closed."""
    hold(server, 3)
    hold(server, 1, events=6)
    hold(server, 3)
    run(
        tmp_path,
        f"""{CLIENT}
import asyncio

never_read = open_stream()

raw = client.chat.completions.with_streaming_response.create(**K, stream=True).__enter__()
lines = raw.iter_lines()
while "one" not in next(lines):
    pass

managed = client.chat.completions.stream(**K).__enter__()
read_a_word(event.chunk for event in managed if event.type == "chunk")

responses = client.responses.create(model="gpt-5", input="Count", stream=True)
while next(responses).type != "response.output_text.delta":
    pass

def words():
    for chunk in open_stream():
        if word := chunk.choices[0].delta.content:
            yield word

plain = words()
next(plain)

traced = tracer.trace(words, name="traced")()
next(traced)

async def read():
    global stream
    stream = await openai.AsyncOpenAI().chat.completions.create(**K, stream=True)
    async for chunk in stream:
        if chunk.choices[0].delta.content:
            return

loop = asyncio.new_event_loop()
loop.run_until_complete(read())
""",
        **server.env(),
    )
    assert states(tmp_path) == {"OK": 7}
    rows = spans(tmp_path)
    assert rows.pop(0) == ("Completions", "abandoned", None)
    assert [name for name, *_ in rows] == [
        *["Completions"] * 2, "Responses", "Completions", "traced", "Completions", "AsyncCompletions",
    ]  # fmt: skip
    for name, finish, text in rows:
        assert finish == "abandoned", name
        assert "one" in (text or ""), name


def test_traced_generators_keep_their_items(tmp_path: Path) -> None:
    run_quietly(
        tmp_path,
        """
        import asyncio

        @tracer.trace
        def count():
            yield from range(9)

        @tracer.trace(output_reducer=sum)
        def reduced():
            yield from range(9)

        @tracer.trace
        async def async_count():
            for number in range(9):
                yield number

        async def step(numbers):
            await anext(numbers)
            await anext(numbers)

        kept = count(), reduced(), async_count()
        for numbers in kept[:2]:
            next(numbers)
            next(numbers)
        loop = asyncio.new_event_loop()
        loop.run_until_complete(step(kept[2]))
        loop.close()
        unstarted = count()
        unread = tracer.trace(lambda: (number for number in range(9)), name="unread")()
        """,
    )
    ended = [("count", "abandoned", "[0,1]"), ("reduced", "abandoned", "1"), ("async_count", "abandoned", "[0,1]")]
    assert spans(tmp_path) == [*ended, ("unread", "abandoned", None)]


def test_threads_that_go_on_reading_while_the_process_ends(server: FakeOpenAI, tmp_path: Path) -> None:
    hold(server, 1)
    server.enqueue(reply.text(" ".join(["word"] * 20_000)))
    ended = run(
        tmp_path,
        f"""{CLIENT}
waiting, reading = threading.Event(), threading.Event()

def read(event, wanted):
    for chunk in open_stream():
        if chunk.choices[0].delta.content:
            event.set()

threading.Thread(target=read, args=(waiting, "one"), daemon=True).start()
waiting.wait()
threading.Thread(target=read, args=(reading, "word"), daemon=True).start()
reading.wait()

@tracer.trace
def count():
    while True:
        yield 1
        counting.set()

counting = threading.Event()
threading.Thread(target=lambda: [None for _ in count()], daemon=True).start()
counting.wait()
print("end", flush=True)
""",
        **server.env(),
    )
    assert ended.code in {0, *CRASHES}, ended.err
    assert {finish for _, finish, _ in spans(tmp_path)} == {"abandoned"}
    assert states(tmp_path) == {"OK": 3}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_child_ends_its_own_streams_and_not_its_parents(server: FakeOpenAI, tmp_path: Path) -> None:
    hold(server, 3)
    script = Script(
        tmp_path,
        f"""{CLIENT}
import multiprocessing

def child():
    global kept
    kept = open_stream()
    read_a_word(kept)

stream = open_stream()
read_a_word(stream)
process = multiprocessing.get_context("fork").Process(target=child)
process.start()
process.join()
if not (pid := os.fork()):
    child()
    sys.exit()
os.waitpid(pid, 0)
print("children have ended", flush=True)
input()
list(stream)
""",
        **server.env(),
    )
    script.wait_for("children have ended")
    assert [finish for _, finish, _ in spans(tmp_path)][1:] == ["abandoned"] * 2
    server.release(3)
    script.answer()
    assert script.end().code in {0, *CRASHES}
    assert [finish for _, finish, _ in spans(tmp_path)] == ["completed", "abandoned", "abandoned"]


def test_a_session_that_is_never_closed(tmp_path: Path) -> None:
    source = f"{CLIENT}session = client.realtime.connect(model='gpt-realtime').enter()"
    with FakeWebSockets() as server:
        ended = run(tmp_path, source, **server.env())
    assert ended.code == 0, ended.err
    assert [row[:2] for row in spans(tmp_path)] == [("Realtime.connect", "abandoned")]


def test_a_killed_process_is_still_interrupted(server: FakeOpenAI, tmp_path: Path) -> None:
    hold(server, 1)
    source = f"{CLIENT}stream = open_stream()\nread_a_word(stream)\nprint('reading', flush=True)\ninput()"
    script = Script(tmp_path, source, **server.env())
    script.wait_for("reading")
    script.send(signal.SIGKILL)
    script.end()
    run_quietly(tmp_path, "print([trace.info.state.value for trace in tracer.sync.search_traces()])")
    assert states(tmp_path) == {"INTERRUPTED": 1}
