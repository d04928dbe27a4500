"""The user's hooks run in the worker: what they do is not recorded, and one that hangs holds nobody up for ever."""

from __future__ import annotations

import re
from pathlib import Path

from tests.processes.script import Script, query, run, run_quietly

MODEL = """
from tracer.testing import FakeOpenAI
server = FakeOpenAI()
server.__enter__()
client = server.client()
tracer.autolog()

def call(text, model="gpt-4o-mini"):
    return client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}])
"""


def test_a_hook_that_calls_a_model_records_nothing_of_it(tmp_path: Path) -> None:
    ended = run_quietly(
        tmp_path,
        MODEL
        + """
asked = [0]

@tracer.trace
def ask(text):
    asked[0] += 1
    with tracer.start_span("inside"):
        return call(text, "pii-model")

def redact(text):
    ask("Remove names from: " + text)
    return text

def price(priced):
    ask("What does it cost?")
    return 1.0

tracer.configure(redact=redact, prices=price)
call("hello")
assert tracer.sync.flush(20)
made = asked[0]
time.sleep(1.0)
assert asked[0] == made > 1, "the hook has called itself"
stats = tracer.stats()
assert (stats.accepted, stats.unsampled, stats.open_spans) == (2, 0, 0), stats
assert not any(stats.dropped.values()), stats
tracer.sync.set_trace_tag(tracer.get_last_active_trace_id(), "k", "v")
tracer.sync.log_feedback(tracer.get_last_active_trace_id(), "helpful", True, comment="yes")
assert asked[0] > made
print(tracer.stats().accepted)
server.__exit__(None, None, None)
""",
    )
    assert ended.out.strip() == "2"
    assert query(tmp_path, "SELECT model, cost FROM spans") == [("gpt-4o-mini", 1.0)]


HANGS = """
import tracer.pipeline.worker
tracer.pipeline.worker.READ_PATIENCE = 1.0

def hang(text):
    time.sleep(1000)

tracer.configure(redact=hang)
record()
"""


def test_who_reads_is_told_which_hook_hangs(tmp_path: Path) -> None:
    ended = run(
        tmp_path,
        HANGS
        + """
import asyncio, trio

def told(error):
    assert "it waits for the redact= hook __main__.hang, which has been running for" in str(error), error

async def read():
    try:
        await tracer.get_trace("0" * 32)
    except tracer.StoreError as error:
        told(error)
    else:
        raise AssertionError("it answered")
    assert not await tracer.flush()
    assert not await tracer.flush(0.1)

asyncio.run(read())
trio.run(read)
try:
    tracer.sync.search_traces()
except tracer.StoreError as error:
    told(error)
assert not tracer.sync.flush()
assert tracer.stats().slow_hooks["redact= hook __main__.hang"] > 1.0
print("end", flush=True)
""",
    )
    assert ended.code == 0, ended.err
    assert "2 records could not be written within 5 s of the exit" in ended.err
    assert "tracer's worker waits for the redact= hook __main__.hang" in ended.err
    assert 4.0 < ended.seconds < 10.0


def test_a_full_queue_behind_a_hook_that_hangs_names_it(tmp_path: Path) -> None:
    ended = run(
        tmp_path,
        HANGS
        + """
time.sleep(1.2)
tracer.configure(queue_max_records=10)
for _ in range(50):
    record()
os._exit(0)
""",
    )
    assert "redact= hook __main__.hang" in ended.err
    assert ended.err.count("hang") == 1, "told once a minute"


def test_a_slow_hook_is_named_in_the_log_and_in_the_counts(tmp_path: Path) -> None:
    script = Script(
        tmp_path,
        """
        class Slow:
            def __call__(self, text):
                time.sleep(1.1)
                return text

        tracer.configure(redact=Slow())
        record()
        assert tracer.sync.flush(20)
        assert tracer.stats().slow_hooks.keys() == {"redact= hook __main__.Slow"}
        """,
    )
    ended = script.end()
    assert ended.code == 0, ended.err
    assert re.search(r"redact= hook __main__.Slow took \d", ended.err)
