"""The corpus of recorded exchanges: its records, and its server.

The corpus lies beside the repository (``../shared/corpus``). It is not ours to publish, so nothing of it is copied.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import uvicorn

__all__ = ["FOLDER", "Corpus", "Record", "recorded_file", "serve_corpus"]

FOLDER = Path(__file__).parents[3] / "shared" / "corpus"

_OPERATIONS = {
    ("POST", "/v1/chat/completions"): "chat",
    ("POST", "/v1/responses"): "responses",
    ("POST", "/v1/responses/compact"): "compact",
    ("POST", "/v1/completions"): "completions",
    ("POST", "/v1/embeddings"): "embeddings",
    ("POST", "/v1/moderations"): "moderations",
    ("POST", "/v1/images/generations"): "images",
    ("POST", "/v1/images/edits"): "images",
    ("POST", "/v1/images/variations"): "images",
    ("POST", "/v1/audio/speech"): "speech",
    ("POST", "/v1/audio/transcriptions"): "transcriptions",
    ("POST", "/v1/audio/translations"): "transcriptions",
}
_RUNS = re.compile(r"/v1/threads/(?:[^/]+/)?runs(?:/[^/]+/submit_tool_outputs)?")
_POLLS = re.compile(r"/v1/(responses|threads/[^/]+/runs)/[^/]+")


class Record(msgspec.Struct, frozen=True):
    """One exchange, as ``../shared/corpus/README.md`` describes it."""

    id: str
    method: str
    path: str
    query: dict[str, str]
    family: str
    stream: bool
    status: int
    request_encoding: str | None = None
    request_json: Any = None
    response_content_type: str | None = None
    response_body: str | None = None
    response_body_b64: str | None = None
    azure_deployment: str | None = None
    tags: list[str] = []
    is_alone: bool = True  # no other record is about the same job; if one is, their order decides what is recorded

    @property
    def operation(self) -> str | None:
        """Which SDK method sends it; None if it is no model call of the kinds that are traced so far."""
        if self.method == "GET" and self.stream and self.path.startswith("/v1/responses/"):
            return "retrieve"
        if self.method == "POST" and _RUNS.fullmatch(self.path):
            return "runs"
        if self.tells_an_end and self.is_alone:
            return "responses" if self.path.startswith("/v1/responses") else "runs"
        return _OPERATIONS.get((self.method, self.path))

    @property
    def tells_an_end(self) -> bool:
        """A poll that sees that a job has ended; for other responses, it only reads again what is known already."""
        if self.method != "GET" or self.stream or self.status != 200 or not _POLLS.fullmatch(self.path):
            return False
        body = json.loads(self.response_body or "{}")
        is_job = body.get("object") == "thread.run" or body.get("background") is True
        return is_job and body.get("status") not in ("queued", "in_progress", "cancelling")

    @property
    def body(self) -> bytes:
        """The response's body, as the server sends it."""
        if self.response_body_b64 is not None:
            return base64.b64decode(self.response_body_b64)
        return (self.response_body or "").encode("utf-8", "surrogatepass")

    @property
    def is_event_stream(self) -> bool:
        """The server answered with server-sent events."""
        return "event-stream" in (self.response_content_type or "")


class Corpus:
    """The records, and where they are served."""

    def __init__(self, url: str, records: list[Record], seen: dict[str, dict[str, Any]]) -> None:
        self.url = url
        self.records = records
        self._seen = seen

    def select(self, wanted: Callable[[Record], bool]) -> list[Record]:
        """The records that `wanted` says yes to; there is at least one."""
        chosen = [record for record in self.records if wanted(record)]
        assert chosen, "no record of the corpus fits"
        return chosen

    def of(self, *operations: str) -> list[Record]:
        """The records of some operations."""
        return self.select(lambda record: record.operation in operations)

    def received(self, record: Record) -> dict[str, Any]:
        """What the server saw last of a record: method, path, query, content_type, body (what GET /__last/ID tells).

        The boundary of a form, which the client chooses anew for each request, is replaced by ``BOUNDARY``.
        """
        seen = self._seen[record.id]
        _, form, boundary = (seen["content_type"] or "").partition("multipart/form-data; boundary=")
        if not form:
            return seen
        return {key: value and value.replace(boundary, "BOUNDARY") for key, value in seen.items()}


def recorded_file(value: Any) -> tuple[str, bytes, str | None] | None:
    """The name, the bytes and the content type of a file in a recorded form; None for any other field."""
    file = value.get("$file") if isinstance(value, dict) else None
    if file is None:
        return None
    kind = file["content_type"]  # one source has recorded another header in its place
    return file["filename"], base64.b64decode(file["base64"]), kind if kind and ":" not in kind else None


@contextmanager
def serve_corpus() -> Iterator[Corpus]:
    """Serve the corpus on a free port of the loopback interface, by its own replay server."""
    replay = _import_replay_server()
    replay.load([str(FOLDER / "dev.jsonl")])
    config = uvicorn.Config(replay.app, host="127.0.0.1", port=0, log_config=None, access_log=False, lifespan="off")
    # A connection that a test has cut is an exception in the replay server, which uvicorn would log.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="corpus", daemon=True)
    thread.start()
    try:
        host, port = _address(server, thread)
        records = [_convert(record, list(replay.RECORDS.values())) for record in replay.RECORDS.values()]
        yield Corpus(f"http://{host}:{port}", records, replay.LAST)
    finally:
        server.should_exit = True
        thread.join(10)


def _convert(record: dict[str, Any], others: list[dict[str, Any]]) -> Record:
    job = record["path"].rpartition("/")[2] if record["method"] == "GET" else None
    related = [other for other in others if job and job in f"{other['path']}{other.get('response_body')}"]
    return msgspec.convert({**record, "is_alone": len(related) <= 1}, Record)


def _import_replay_server() -> Any:
    spec = importlib.util.spec_from_file_location("corpus_replay_server", FOLDER / "replay_server.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _address(server: uvicorn.Server, thread: threading.Thread) -> tuple[str, int]:
    deadline = time.monotonic() + 20
    while not server.started:
        assert thread.is_alive(), "the replay server did not start"
        assert time.monotonic() < deadline, "the replay server did not start in 20 s"
        time.sleep(0.01)
    host, port = server.servers[0].sockets[0].getsockname()[:2]
    return host, port
