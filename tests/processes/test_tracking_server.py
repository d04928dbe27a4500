"""Services and tracking servers as real processes: nothing that was acknowledged is lost, and nothing is stored twice.

What tells whether something was stored twice are losses: they are added up, where a span that comes again is the same.
"""

from __future__ import annotations

import resource
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes.script import Script, assert_intact, query, run, run_quietly, states
from tests.processes.serving import LossyProxy, Served
from tracer.testing import FakeOpenAI

# Each span comes with one loss. Prints how many spans are acknowledged.
LOAD = """
from tracer._runtime import runtime
from tracer.capture.records import Rank

logging.getLogger("tracer").setLevel("CRITICAL")  # what happens here is said there

def work(count, flush_each=10):
    for number in range(1, count + 1):
        record(str(number))
        runtime.pipeline.refuse(Rank.START)
        if number % flush_each == 0:
            if tracer.sync.flush(20):
                os.write(1, b"acknowledged %d\\n" % number)
"""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path) as server:
        yield server


def environment(tmp_path: Path, url: str, **more: str) -> dict[str, str]:
    return {"TRACER_TRACKING_URI": url, "XDG_STATE_HOME": str(tmp_path / "state"), "TRACER_TOKEN": "", **more}


def names(tmp_path: Path) -> list[int]:
    return sorted(int(name) for name in query(tmp_path, "SELECT name FROM traces"))


def losses(tmp_path: Path) -> int:
    return int(query(tmp_path, "SELECT ifnull(sum(count), 0) FROM loss WHERE reason = 'start'")[0])


def waiting(tmp_path: Path) -> list[str]:
    return [file.name for file in (tmp_path / "state").rglob("*") if file.is_file()]


def test_a_service_sends_and_reads_back_through_the_server(tmp_path: Path, served: Served) -> None:
    with FakeOpenAI() as provider:
        ended = run_quietly(
            tmp_path,
            """
            import asyncio, openai, urllib.request
            tracer.set_tracking_uri(sys.argv[1])
            tracer.autolog()

            @tracer.trace
            async def answer(question):
                client = openai.AsyncOpenAI()
                async with client:
                    return (await client.chat.completions.create(
                        model="gpt-5", messages=[{"role": "user", "content": question}]
                    )).choices[0].message.content

            async def main():
                await answer("a word to be found")
                trace = await tracer.get_trace(tracer.get_last_active_trace_id())
                assert [span.name for span in trace.data.spans] == ["answer", "AsyncCompletions"], trace
                assert trace.info.token_usage["total_tokens"] > 0
                assert trace.info.state == "OK"
                (found,) = await tracer.search_traces(text="found", filter_string="name = 'answer'")
                assert found.info.trace_id == trace.info.trace_id
                await tracer.set_trace_tag(trace.info.trace_id, "env", "test")
                await tracer.log_feedback(trace.info.trace_id, "helpful", True)
                assert (await tracer.get_trace(trace.info.trace_id)).info.tags == {"env": "test"}
                page = urllib.request.urlopen(sys.argv[1] + "/traces/" + trace.info.trace_id).read().decode()
                assert "a word to be found" in page

            asyncio.run(main())
            """,
            served.url,
            **environment(tmp_path, "sqlite:///not-this.db", **provider.env()),
        )
    assert ended.code == 0
    assert states(tmp_path) == {"OK": 1}
    assert not (tmp_path / "not-this.db").exists()
    assert waiting(tmp_path) == []
    assert served.errors.read_text() == ""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_a_server_that_ends_under_load_and_comes_back_loses_nothing_and_has_nothing_twice(
    number: signal.Signals, tmp_path: Path, served: Served
) -> None:
    rest = 'work(100)\nassert tracer.sync.flush(25)\nprint("all", flush=True)'
    script = Script(tmp_path, LOAD + rest, **environment(tmp_path, served.url))
    for acknowledged in (10, 50):
        script.wait_for(f"acknowledged {acknowledged}")
        served.stop(number)
        assert len(names(tmp_path)) >= acknowledged
        served.start()
    script.wait_for("all")
    assert script.end().code == 0
    assert names(tmp_path) == list(range(1, 101))
    assert losses(tmp_path) == 100
    assert_intact(tmp_path)
    assert waiting(tmp_path) == []


def test_answers_that_are_lost_on_the_way_store_nothing_twice(tmp_path: Path, served: Served) -> None:
    proxy = LossyProxy(served.port, lost={0, 2, 3, 6, 10, 11, 12, 15})
    rest = "work(60, flush_each=5)\nassert tracer.sync.flush(25)"
    assert run_quietly(tmp_path, LOAD + rest, **environment(tmp_path, proxy.url)).code == 0
    assert proxy.dropped == 8
    assert names(tmp_path) == list(range(1, 61))
    assert losses(tmp_path) == 60
    proxy.close()


def test_a_server_that_is_away_at_the_start_gets_everything_later(tmp_path: Path) -> None:
    served = Served(tmp_path)
    script = Script(
        tmp_path,
        LOAD
        + """
tracer.configure(queue_max_records=200, batch_max_records=50)
for number in range(1, 2_001):
    record(str(number))
    runtime.pipeline.refuse(Rank.START)
    while tracer.stats().queued > 150:
        time.sleep(0.002)
assert tracer.stats().spooled > 500, tracer.stats()
print("recorded", flush=True)
sys.stdin.readline()
assert tracer.sync.flush(25), tracer.stats()
assert len(tracer.sync.search_traces(max_results=3_000)) == 2_000
""",
        **environment(tmp_path, served.url),
    )
    script.wait_for("recorded")
    with served:
        script.answer()
        assert script.end().code == 0
    assert names(tmp_path) == list(range(1, 2_001))
    assert losses(tmp_path) == 2_000
    assert waiting(tmp_path) == []


@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), 9)", "pass"])
def test_what_a_process_could_not_send_is_sent_by_the_next_one(end: str, tmp_path: Path) -> None:
    served = Served(tmp_path)
    given = environment(tmp_path, served.url)
    rest = "record('1')\ntime.sleep(0.3)\nfor number in range(2, 51): record(str(number))"
    script = Script(tmp_path, f"{LOAD}\n{rest}\n{end}", **given)
    script.end()
    with served:
        run_quietly(
            tmp_path,
            "record('51')\nassert len(tracer.sync.search_traces()) == 51, tracer.sync.search_traces()\nrecord('52')",
            **given,
        )
        assert names(tmp_path) == list(range(1, 53))
        assert states(tmp_path) == {"OK": 52}
    assert waiting(tmp_path) == []


@pytest.mark.parametrize("rest", ["", "assert tracer.sync.flush(20)"], ids=["at the exit", "before"])
def test_a_name_is_looked_up_also_while_the_interpreter_exits(rest: str, tmp_path: Path, served: Served) -> None:
    given = environment(tmp_path, served.url.replace("127.0.0.1", "localhost"))
    run_quietly(tmp_path, f"record('1')\n{rest}", **given)
    assert states(tmp_path) == {"OK": 1}
    assert waiting(tmp_path) == []


def test_a_name_that_nobody_knows_is_told(tmp_path: Path) -> None:
    ended = run_quietly(
        tmp_path,
        """
        import anyio
        from tracer.store import open_store
        try:
            anyio.run(open_store("http://nobody.invalid:5151").experiments)
        except tracer.StoreError as error:
            assert "http://nobody.invalid:5151 did not answer" in str(error), error
        else:
            raise AssertionError
        """,
    )
    assert ended.code == 0


def test_a_wrong_token_is_told_and_hinders_no_call(tmp_path: Path) -> None:
    with Served(tmp_path, TRACER_TOKEN="the right one") as served:
        ended = run_quietly(
            tmp_path,
            """
            lines = []
            handler = logging.Handler()
            handler.emit = lambda line: lines.append(line.getMessage())
            log = logging.getLogger("tracer")
            log.addHandler(handler)
            log.propagate = False
            for _ in range(50):
                record("1")
            assert not tracer.sync.flush(20)
            try:
                tracer.sync.get_trace("0" * 32)
            except tracer.StoreError as error:
                assert "the token is not known here" in str(error), error
            else:
                raise AssertionError
            told = [line for line in lines if "the token is not known here" in line]
            assert len(told) == 1, lines
            assert "guess" not in str(lines)
            assert tracer.stats().dropped["lost"] == 0
            """,
            **environment(tmp_path, served.url.replace("//", "//guess@")),
        )
        assert ended.code == 0
        good = environment(tmp_path, served.url, TRACER_TOKEN="the right one")
        run_quietly(tmp_path, "assert len(tracer.sync.search_traces()) == 50", **good)  # nothing was lost by it
    assert all(b"guess" not in name.encode() for name in waiting(tmp_path))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate by openssl")
def test_over_tls_a_certificate_that_is_not_trusted_is_told(tmp_path: Path) -> None:
    certificate, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    make += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate]
    subprocess.run(make, check=True, capture_output=True)
    with Served(tmp_path, "--ssl-certfile", certificate, "--ssl-keyfile", key) as served:
        given = environment(tmp_path, served.url)
        run_quietly(
            tmp_path,
            """
            logging.getLogger("tracer").setLevel("CRITICAL")
            import anyio
            from tracer.store import open_store
            record("1")
            record("2")
            try:
                anyio.run(open_store(tracer.get_tracking_uri()).experiments)
            except tracer.StoreError as error:
                assert "certificate verify failed" in str(error).lower(), error
            else:
                raise AssertionError
            os._exit(0)
            """,
            **given,
        )
        run_quietly(tmp_path, "assert len(tracer.sync.search_traces()) == 2", **given, SSL_CERT_FILE=certificate)


def test_two_servers_may_share_one_database(tmp_path: Path, served: Served) -> None:
    with Served(tmp_path) as other:
        scripts = [
            Script(tmp_path, f"{LOAD}\nwork({count})\nassert tracer.sync.flush(25)", **environment(tmp_path, url))
            for count, url in ((100, served.url), (100, other.url), (100, other.url))
        ]
        assert [script.end().code for script in scripts] == [0, 0, 0]
        assert names(tmp_path) == sorted([*range(1, 101)] * 3)
        assert losses(tmp_path) == 300
        pages = [urllib.request.urlopen(f"{url}/api/traces?limit=1000").read() for url in (served.url, other.url)]
        assert pages[0] == pages[1]


def test_a_trace_of_a_killed_service_is_interrupted(tmp_path: Path, served: Served) -> None:
    given = environment(tmp_path, served.url)
    script = Script(
        tmp_path,
        "with tracer.start_span('open'):\n    assert tracer.sync.flush(20)\n    os.kill(os.getpid(), 9)",
        **given,
    )
    script.end()
    run_quietly(tmp_path, "assert tracer.sync.search_traces()[0].info.state == 'INTERRUPTED'", **given)


def test_a_server_stops_at_once_when_it_is_idle_and_leaves_a_whole_file(tmp_path: Path, served: Served) -> None:
    run_quietly(tmp_path, "record('1')", **environment(tmp_path, served.url))
    assert served.stop() in (0, -signal.SIGTERM)
    assert_intact(tmp_path)
    assert states(tmp_path) == {"OK": 1}
    assert not (tmp_path / "t.db-wal").exists() or (tmp_path / "t.db-wal").stat().st_size == 0


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs prlimit")
def test_a_full_disk_at_the_server_loses_nothing(tmp_path: Path, served: Served) -> None:
    """To a process, a file that may not grow is a full disk."""
    script = Script(
        tmp_path,
        """
        record("before")
        assert tracer.sync.flush(20)
        print("full", flush=True)
        sys.stdin.readline()
        for number in range(50):
            record(str(number))
        while tracer.stats().retries < 2:
            time.sleep(0.01)
        assert tracer.stats().dropped["lost"] == 0
        print("room", flush=True)
        sys.stdin.readline()
        assert tracer.sync.flush(20)
        """,
        **environment(tmp_path, served.url),
    )
    assert served.process is not None
    for mark, size in (("full", 0), ("room", resource.RLIM_INFINITY)):
        script.wait_for(mark)
        resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        script.answer()
    ended = script.end()
    assert ended.code == 0, ended.err
    assert "records wait for their store" in ended.err
    assert states(tmp_path) == {"OK": 51}
    assert_intact(tmp_path)
    assert waiting(tmp_path) == []


@pytest.mark.parametrize("hours", [1, -1], ids=["ahead", "behind"])
def test_a_service_whose_clock_is_wrong_by_an_hour_runs_until_it_is_killed(
    hours: int, tmp_path: Path, served: Served
) -> None:
    """Its times are kept as it told them. Whether it lives, the server knows by its own clock."""
    given = environment(tmp_path, served.url)
    script = Script(
        tmp_path,
        """
        from tracer._runtime import runtime
        from tracer.pipeline.clock import SystemClock

        class Wrong(SystemClock):
            def time_ns(self):
                return time.time_ns() + int(sys.argv[1]) * 3_600_000_000_000

        runtime.clock = Wrong()
        with tracer.start_span("open"):
            record("inside")
            assert tracer.sync.flush(20)
            print("open", flush=True)
            sys.stdin.readline()
            os.kill(os.getpid(), 9)
        """,
        hours,
        **given,
    )
    script.wait_for("open")
    look = """
    [trace] = tracer.sync.search_traces()
    print(trace.info.state, len(trace.data.spans), trace.info.start_time_ns)
    """
    state, spans, start = run_quietly(tmp_path, look, **given).out.split()
    assert (state, spans) == ("IN_PROGRESS", "2")
    assert abs(int(start) / 1e9 - hours * 3_600 - time.time()) < 600
    script.answer()
    script.end()
    assert run_quietly(tmp_path, look, **given).out.startswith("INTERRUPTED")


@pytest.mark.parametrize(("megabytes", "is_stored"), [(20, True), (100, False)])
def test_a_span_that_is_too_large_to_be_sent_is_counted_and_holds_up_no_other(
    megabytes: int, is_stored: bool, tmp_path: Path, served: Served
) -> None:
    ended = run(
        tmp_path,
        """
        tracer.configure(max_payload_bytes=200_000_000, queue_max_bytes=500_000_000)
        record("before")
        with tracer.start_span("large") as span:
            span.set_inputs("some words " * (int(sys.argv[1]) * 100_000))
        record("after")
        print(tracer.sync.flush(25), tracer.stats().dropped["lost"] > 0, tracer.stats().queued)
        """,
        megabytes,
        **environment(tmp_path, served.url),
    )
    assert ended.out.split() == [str(is_stored), str(not is_stored), "0"], ended.err
    assert ("a body must have at most" in ended.err) == (not is_stored)
    assert {"before", "after"} <= {*query(tmp_path, "SELECT name FROM traces")}
    sizes = query(tmp_path, "SELECT ifnull(length(inputs), 0) FROM spans WHERE name = 'large'")
    assert (max(sizes, default=0) > megabytes * 1_000_000) == is_stored
    assert_intact(tmp_path)
