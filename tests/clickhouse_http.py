"""ClickHouse's HTTP interface over the engine in this process, so that the real client speaks real HTTP with it.

As much of it as clickhouse-connect uses: a query with its values in a form, a statement in the body, an insert whose
body is several lz4 frames in a row. Settings in the URL are not applied. A password is asked for if there is one.
"""

from __future__ import annotations

import base64
import contextlib
import email.message
import socket
import tempfile
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.clickhouse import ChdbEngine

__all__ = ["http_interface"]

Answer = tuple[int, dict[str, str], bytes]

_RESULTS = ("SELECT", "SHOW", "DESCRIBE", "WITH", "EXPLAIN")


class _Interface:
    def __init__(self, engine: ChdbEngine, password: str) -> None:
        import chdb

        self._engine = engine
        self._password = password
        self._connection: Any = chdb.connect(str(engine.directory))
        self._turn = threading.Lock()

    def close(self) -> None:
        self._connection.close()

    def answer(
        self, options: dict[str, str], headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body."""
        if self._password and self._password not in _told_password(headers):
            return 403, {"X-ClickHouse-Exception-Code": "516"}, b"Code: 516. DB::Exception: Authentication failed"
        if headers.get("content-encoding") == "lz4":
            body = _unpacked(body)
        if headers.get("content-type", "").startswith("multipart/form-data"):
            options, body = {**options, **_form(headers["content-type"], body)}, b""
        values = {name.removeprefix("param_"): value for name, value in options.items() if name.startswith("param_")}
        if "query" in options:
            statement, data = options["query"], b""
        else:  # a statement; behind the first line of an insert come its rows
            first, _, data = body.partition(b"\n") if body.startswith(b"INSERT INTO") else (body, b"", b"")
            statement = first.decode()
        try:
            with self._turn:
                found = self._run(options.get("database"), statement, data, values)
        except Exception as error:  # the engine's own words
            code = str(error).partition("Code: ")[2].partition(".")[0] or "1"
            return 500, {"X-ClickHouse-Exception-Code": code}, str(error).encode()
        told = {"X-ClickHouse-Summary": "{}", "X-ClickHouse-Query-Id": uuid.uuid4().hex, "X-ClickHouse-Timezone": "UTC"}
        if statement.lstrip().upper().startswith(_RESULTS):
            told["X-ClickHouse-Format"] = "Native" if "FORMAT Native" in statement else "TabSeparated"
        return 200, told, found

    def _run(self, database: str | None, statement: str, data: bytes, values: dict[str, str]) -> bytes:
        if database:
            self._connection.query(f"USE `{database}`", "TabSeparated")
        if not data:
            return self._asked(statement, values)
        with tempfile.NamedTemporaryFile(suffix=".native") as rows:
            rows.write(data)
            rows.flush()
            return self._asked(statement.replace("FORMAT Native", f"FROM INFILE '{rows.name}' FORMAT Native"), values)

    def _asked(self, statement: str, values: dict[str, str]) -> bytes:
        return bytes(self._connection.query(statement, "TabSeparated", params=values).bytes() or b"")


def _told_password(headers: dict[str, str]) -> str:
    login = headers.get("authorization", "").removeprefix("Basic ")
    return base64.b64decode(login).decode() + headers.get("x-clickhouse-key", "")


def _unpacked(body: bytes) -> bytes:
    """Undo all frames that follow one another: who reads the first one only loses rows without a word."""
    import lz4.frame

    found = b""
    while body:
        frame = lz4.frame.LZ4FrameDecompressor()
        found += frame.decompress(body)
        body = frame.unused_data or b""
    return found


def _form(content_type: str, body: bytes) -> dict[str, str]:
    message = email.message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    parts = message.get_payload()
    form = {}
    for part in parts if isinstance(parts, list) else ():
        assert isinstance(part, email.message.Message)
        name = part.get_param("name", header="content-disposition")
        value = part.get_payload(decode=True)
        form[str(name)] = value.decode() if isinstance(value, bytes) else ""
    return form


@contextlib.contextmanager
def http_interface(engine: ChdbEngine, password: str = "") -> Iterator[str]:
    """Serve the engine in this block; gives ``host:port``."""
    interface = _Interface(engine, password)

    async def handle(request: Request) -> Response:
        body = await request.body()
        given = dict(request.query_params), dict(request.headers), body
        status, headers, found = await run_in_threadpool(interface.answer, *given)
        return Response(found, status, headers)

    app = Starlette(routes=[Route("/{path:path}", handle, methods=["GET", "POST", "HEAD"])])
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, ws="none", log_config=None, access_log=False, lifespan="off"))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
        interface.close()
