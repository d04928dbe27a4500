"""Application servers and task queues, started as users start them: all is served, all is stored, they stop at once.

Needs the extra `servers`; what is not installed is skipped.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.processes.script import LIMIT, assert_intact, needs, query, run_bare, states
from tests.scripted_store import eventually
from tracer.testing import FakeOpenAI

DOCS = Path(__file__).parent.parent.parent / "docs/servers.md"

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")

APP = """
import os
import openai
import tracer

tracer.autolog()
client = openai.OpenAI()

def ask(text):
    client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": text}])

if os.environ.get("ASK_WHILE_LOADING"):
    ask("loading")

def application(environ, start_response):
    ask(environ["QUERY_STRING"])
    start_response("200 OK", [("content-type", "text/plain")])
    return [b"ok"]

async def asgi_application(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    ask(scope["query_string"].decode())
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})
"""

CELERY_APP = """
import openai
import tracer
from celery import Celery

tracer.autolog()
client = openai.OpenAI()
app = Celery("tasks", broker="filesystem://", backend="file://{results}")
app.conf.broker_transport_options = dict(
    data_folder_in="{queue}", data_folder_out="{queue}", control_folder="{queue}"
)

@app.task
def work(task):
    for call in range(5):
        client.chat.completions.create(model="gpt-5", messages=[dict(role="user", content=f"{{task}}.{{call}}")])
"""


class Service:
    """A command that serves in a process group of its own."""

    def __init__(self, directory: Path, server: FakeOpenAI, command: list[str], **environment: str) -> None:
        self.directory = directory
        self.port = _free_port()
        self._log = directory / "service.log"
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *(part.format(port=self.port) for part in command)],
                cwd=directory,
                env=_environment(directory, server, **environment),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def get(self, question: str) -> None:
        """Ask once; fails if nobody answers in time."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/?{question}", timeout=LIMIT) as answer:
            assert answer.read() == b"ok"

    def wait_until_it_serves(self) -> None:
        deadline = time.monotonic() + LIMIT
        while not self._listens():
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.05)
        self.get("warm")

    def _listens(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        """Ask it to end, as a supervisor does, and wait for that."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the service does not stop:\n{self.output}") from None

    @property
    def output(self) -> str:
        return self._log.read_text()

    @property
    def told(self) -> list[str]:
        """Every line that speaks of tracing."""
        return [line for line in self.output.splitlines() if "traced" in line or "records" in line]


@contextmanager
def serving(directory: Path, server: FakeOpenAI, command: list[str], **environment: str) -> Iterator[Service]:
    (directory / "app.py").write_text(APP)
    service = Service(directory, server, command, **environment)
    try:
        service.wait_until_it_serves()
        yield service
        service.stop()
    finally:
        _kill(service.process)


def _environment(directory: Path, server: FakeOpenAI, **more: str) -> dict[str, str]:
    return {**os.environ, **server.env(), "TRACER_TRACKING_URI": f"sqlite:///{directory}/t.db", **more}


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def questions(directory: Path) -> list[str]:
    """What was asked in those calls that are stored completely; nobody has to take over anything for that."""
    return sorted(query(directory, "SELECT inputs ->> '$.messages[0].content' FROM spans WHERE finish = 'completed'"))


ASKED = sorted(["warm", *(f"q{number}" for number in range(20))])


@needs("gunicorn")
def test_gunicorn_that_loads_the_application_before_it_forks(server: FakeOpenAI, tmp_path: Path) -> None:
    command = ["gunicorn", "--preload", "-w", "2", "-b", "127.0.0.1:{port}", "app:application"]
    with serving(tmp_path, server, command, ASK_WHILE_LOADING="1") as service:
        for number in range(20):
            service.get(f"q{number}")
    assert questions(tmp_path) == sorted([*ASKED, "loading"])
    assert service.told == []
    assert_intact(tmp_path)


@needs("gunicorn", "gevent")
@pytest.mark.parametrize(
    ("options", "ask_while_loading"),
    [([], ""), (["--preload"], ""), (["--preload"], "1")],
    ids=["loaded by each worker", "loaded before the fork", "traced before the fork"],
)
def test_gunicorn_with_gevent(options: list[str], ask_while_loading: str, server: FakeOpenAI, tmp_path: Path) -> None:
    command = ["gunicorn", *options, "-w", "1", "-k", "gevent", "-b", "127.0.0.1:{port}", "app:application"]
    with serving(tmp_path, server, command, ASK_WHILE_LOADING=ask_while_loading) as service:
        for number in range(20):
            service.get(f"q{number}")
    assert questions(tmp_path) == sorted([*ASKED, *(["loading"] if ask_while_loading else [])])
    assert service.told == []
    assert_intact(tmp_path)


@needs("uvicorn")
def test_uvicorn_with_workers(server: FakeOpenAI, tmp_path: Path) -> None:
    command = ["uvicorn", "--workers", "2", "--port", "{port}", "app:asgi_application"]
    with serving(tmp_path, server, command) as service:
        for number in range(20):
            service.get(f"q{number}")
    assert questions(tmp_path) == ASKED
    assert service.told == []
    assert_intact(tmp_path)


@needs("uvicorn")
def test_uvicorn_with_workers_whose_texts_no_crash_ring_holds(server: FakeOpenAI, tmp_path: Path) -> None:
    """They end by a signal; the longest interval shows that it is not the worker's next batch that has written all."""
    command = ["uvicorn", "--workers", "2", "--port", "{port}", "app:asgi_application"]
    settings = {"TRACER_CRASH_RING_BYTES": "0", "TRACER_BATCH_INTERVAL": "60"}
    with serving(tmp_path, server, command, **settings) as service:
        for number in range(20):
            service.get(f"q{number}")
    assert questions(tmp_path) == ASKED
    assert service.told == []


@needs("celery")
@pytest.mark.parametrize("options", [[], ["--max-tasks-per-child=1"]], ids=["long-lived children", "a child a task"])
def test_celery(options: list[str], server: FakeOpenAI, tmp_path: Path) -> None:
    for folder in ("queue", "results"):
        (tmp_path / folder).mkdir()
    app = CELERY_APP.format(queue=tmp_path / "queue", results=tmp_path / "results")
    (tmp_path / "tasks.py").write_text(app)
    command = ["celery", "-A", "tasks", "worker", "-c", "2", "--without-gossip", "--without-mingle", *options]
    service = Service(tmp_path, server, command)
    try:
        run_bare(
            tmp_path,
            """
            import tasks
            for result in [tasks.work.delay(task) for task in range(4)]:
                result.get(timeout=40)
            """,
            **server.env(),
        )
        service.stop()
    finally:
        _kill(service.process)
    assert questions(tmp_path) == [f"{task}.{call}" for task in range(4) for call in range(5)]
    assert service.told == []
    assert_intact(tmp_path)


CHILDREN = """
import tracer

def work(number):
    for _ in range(20):
        with tracer.start_span("child's"):
            pass
    return number
"""


BILLIARDS_PROCESSES = """
import billiard
if __name__ == "__main__":
    children = [billiard.Process(target=work, args=(number,)) for number in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
"""
BILLIARDS_POOL = """
import billiard
if __name__ == "__main__":
    pool = billiard.Pool(2, maxtasksperchild=1)
    assert sorted(pool.map(work, range(3), chunksize=1)) == [0, 1, 2]
    pool.close()
    pool.join()
"""


@needs("billiard")
@pytest.mark.parametrize("main", [BILLIARDS_PROCESSES, BILLIARDS_POOL], ids=["process", "pool"])
def test_billiard(main: str, tmp_path: Path) -> None:
    assert run_bare(tmp_path, CHILDREN + main).err == ""
    assert states(tmp_path) == {"OK": 60}
    assert_intact(tmp_path)


@needs("multiprocess")
def test_multiprocess(tmp_path: Path) -> None:
    assert run_bare(tmp_path, CHILDREN + BILLIARDS_POOL.replace("billiard", "multiprocess")).err == ""
    assert states(tmp_path) == {"OK": 60}


RQ_JOBS = """
import openai
import tracer

tracer.autolog()

def work(number):
    for call in range(3):
        question = [{"role": "user", "content": f"{number}.{call}"}]
        openai.OpenAI().chat.completions.create(model="gpt-5", messages=question)
"""


RQ_HOOK = re.findall(r"^```python\n(# hooks.py\n.*?)^```", DOCS.read_text(), re.DOTALL | re.MULTILINE)[0]


@needs("rq")
@pytest.mark.skipif(shutil.which("redis-server") is None, reason="needs redis-server")
@pytest.mark.parametrize("worker", ["rq.worker.Worker", "rq.worker.SpawnWorker", "hooks.FlushingWorker"])
def test_rq(worker: str, server: FakeOpenAI, tmp_path: Path) -> None:
    (tmp_path / "jobs.py").write_text(RQ_JOBS)
    (tmp_path / "hooks.py").write_text(RQ_HOOK)
    path = tmp_path / "redis"
    redis = subprocess.Popen(
        ["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--dir", tmp_path],
        stdout=subprocess.DEVNULL,
    )
    try:
        eventually(path.exists)
        run_bare(
            tmp_path,
            f"""
            import jobs, redis, rq
            queue = rq.Queue(connection=redis.Redis(unix_socket_path="{path}"))
            for number in range(2):
                queue.enqueue("jobs.work", number)
            """,
        )
        command = ["rq.cli", "worker", "--burst", "--url", f"unix://{path}", "--worker-class", worker]
        service = Service(tmp_path, server, command)
        assert service.process.wait(4 * LIMIT) == 0, service.output
        assert service.told == []
    finally:
        redis.kill()
        redis.wait()
    if worker != "hooks.FlushingWorker":
        run_bare(tmp_path, "import tracer; tracer.sync.search_traces()")  # takes over what the jobs left
    assert questions(tmp_path) == [f"{job}.{call}" for job in range(2) for call in range(3)]
    assert_intact(tmp_path)
