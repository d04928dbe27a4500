"""What holds each row of the matrix: one defence of each row, and how to take it out.

``python -m tests.faults without [row …]`` takes each of them out of a copy of this tree, and runs the tests of its row:
the row must go red.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["DEFENCES", "Defence"]


class Defence(NamedTuple):
    """A piece of our code (`text`, which occurs once in `file`), and what takes its place when it is out.

    `tests` are those of the row that are run; all of them if there are none.
    """

    row: int
    what: str
    file: str
    text: str
    without: str
    tests: tuple[str, ...] = ()


_RING = "            self._queue.set_ring(ring)\n"
_EXIT = "atexit.register(self._at_exit)"
_GATE = "forks.register(_hold_all, _release_all, _leave_to_parent)"
_CHILD_EXIT = "call_before_child_exits(self._flush_at_exit)"

DEFENCES = (
    Defence(1, "the crash ring", "tracer/pipeline/crash_ring.py", _RING, ""),
    Defence(2, "what is done at exit", "tracer/_runtime.py", _EXIT, "pass"),
    Defence(
        3,
        "the exit is after the end of all threads",
        "tracer/_runtime.py",
        _EXIT,
        "threading._register_atexit(self._at_exit)",
    ),
    Defence(4, "connections are closed before a fork", "tracer/store/sqlite/_gate.py", _GATE, ""),
    Defence(5, "children of libraries flush before they exit", "tracer/_runtime.py", _CHILD_EXIT, "pass"),
    Defence(
        6,
        "the child of a server has a pipeline of its own",
        "tracer/_runtime.py",
        "self.current, self._retired = None, weakref.WeakSet()\n",
        "self._retired = weakref.WeakSet()\n",
    ),
    Defence(
        7,
        "the child of a child has a pipeline of its own",
        "tracer/_runtime.py",
        "self.current, self._retired = None, weakref.WeakSet()\n",
        "self._retired = weakref.WeakSet()\n",
    ),
    Defence(
        8,
        "what the queue refuses is counted",
        "tracer/pipeline/_queue.py",
        "            self._refused[rank].add()\n            return False",
        "            return False",
    ),
    Defence(
        9,
        "what finds the database locked is tried again",
        "tracer/store/sqlite/_connection.py",
        '_LOCKED = ("locked", "busy")',
        '_LOCKED = ("nothing",)',
    ),
    Defence(
        10,
        "the spool",
        "tracer/pipeline/spool.py",
        "if self._database is None or fcntl is None or not self._max_bytes():",
        "if True:",
    ),
    Defence(
        11,
        "a full disk is taken for something that passes",
        "tracer/store/sqlite/_connection.py",
        "any(word in text for word in _TRANSIENT)",
        "any(word in text for word in _LOCKED)",
    ),
    Defence(
        12,
        "a damaged file is moved aside",
        "tracer/store/sqlite/_file_problem.py",
        "return self.kind is Kind.DAMAGED and self.why_kept is None",
        "return False",
    ),
    Defence(
        13,
        "a migration is one transaction",
        "tracer/store/sqlite/_schema.py",
        "    with transaction(connection):\n        version = _version(connection)",
        "    if True:\n        version = _version(connection)",
    ),
    Defence(
        14,
        "the worker starts again after an error",
        "tracer/pipeline/worker.py",
        "                self._stopping.wait(RESTART_AFTER)\n",
        "                break\n",
    ),
    Defence(
        15,
        "an answer comes in the loop that asked",
        "tracer/pipeline/bridge.py",
        "            loop.call_soon_threadsafe(done.set)",
        "            pass",
    ),
    Defence(
        16,
        "a dropped stream ends its span",
        "tracer/openai/_stream.py",
        "makes one queue append.\n        self._end(Ending.COLLECTED)\n",
        "        pass\n",
    ),
    Defence(
        17,
        "the guard between tracer and the user's call",
        "tracer/spans/guard.py",
        "            report(what)\n            return None",
        "            raise",
    ),
    Defence(
        18,
        "times within a trace are monotonic",
        "tracer/spans/live_span.py",
        "end_ns = trace.clock_offset + trace.perf_counter_ns()",
        "end_ns = trace.pipeline.clock.time_ns()",
    ),
    Defence(
        19,
        "a body has a largest size",
        "tracer/pipeline/pipeline.py",
        "        return Payload(_WIRE, body) if size <= limit else Payload(_WIRE, body[:limit], size - limit)",
        "        return Payload(_WIRE, body)",
    ),
    Defence(
        20,
        "what msgspec refuses is copied by hand",
        "tracer/capture/snapshots.py",
        "    shortened = _encode(copier.copy(value))",
        "    shortened = _encode(value)",
    ),
    Defence(
        21,
        "the caller's options are copied before they are changed",
        "tracer/openai/_patch.py",
        "    options = model_copy(options)  # the caller may reuse the original\n",
        "",
    ),
    Defence(
        22,
        "a call that raises ends its span",
        "tracer/openai/_calls.py",
        "                self._raised(error)",
        "                pass",
    ),
    Defence(
        23,
        "credentials are taken out of bodies",
        "tracer/assembly/_privacy.py",
        "        data = without_credentials(payload.data, truncated=payload.truncated)",
        "        data = payload.data",
    ),
    Defence(
        24,
        "a hook's failure withholds the text",
        "tracer/interpret/privacy.py",
        "            return REDACTION_FAILED\n        return text",
        "            return text\n        return text",
    ),
    Defence(
        25,
        "media are named by their hash",
        "tracer/interpret/media.py",
        "    digest = sha256(data).hexdigest()",
        "    digest = sha256(data + str(start).encode()).hexdigest()",
    ),
    Defence(
        26,
        "other users' rights are taken away",
        "tracer/store/sqlite/_private.py",
        "            os.chmod(file, mode & ~_OTHERS)",
        "            pass",
    ),
    Defence(
        28,
        "a read waits for what was recorded before it",
        "tracer/pipeline/pipeline.py",
        "                await worker.settle_accepted()",
        "                pass",
    ),
    Defence(
        29,
        "the worker's thread is a daemon",
        "tracer/process/native_threads.py",
        "threading.Thread(target=target, name=name, daemon=True)",
        "threading.Thread(target=target, name=name)",
    ),
    Defence(
        30,
        "only exact host names pass",
        "tracer/server/_security.py",
        "        return len(given) == 1 and",
        "        return bool(given) or",
    ),
    Defence(
        31,
        "changes come from our own page",
        "tracer/server/_security.py",
        "not _is_same_origin(request.headers)",
        "False",
    ),
    Defence(
        32,
        "HTML of models is cleaned",
        "tracer/render/_markdown.py",
        "    return Markup(clean)",
        "    return Markup(text)",
    ),
    Defence(33, "filters have a largest size", "tracer/store/filter.py", "    _check_size(text)\n", ""),
    Defence(
        34,
        "static files come from their folder",
        "tracer/server/app.py",
        "        answer = await super().get_response(path, scope)",
        "        answer = __import__('starlette.responses').responses.FileResponse(f'{self.directory}/{path}')",
    ),
    Defence(
        35,
        "a body has a largest size",
        "tracer/server/feedback.py",
        "        if len(content) > _MOST_BODY:",
        "        if False:",
    ),
    Defence(
        36,
        "a token is asked for",
        "tracer/server/_security.py",
        "        if access is None or request.url.path.startswith(_OPEN):",
        "        if True:",
    ),
    Defence(
        37,
        "no open address without a token",
        "tracer/server/run.py",
        "    if not token and not _is_loopback(host):",
        "    if False:",
    ),
    Defence(
        38,
        "no inherited connection is used",
        "tracer/store/sqlite/_gate.py",
        "        _inherited_in_use = _inherited_in_use or gate.is_used\n",
        "",
    ),
    Defence(
        39,
        "a replaced file is noticed",
        "tracer/store/sqlite/store.py",
        "                if self._database.is_open and not self._database.is_current:",
        "                if False:",
    ),
    Defence(40, "what a hook does is not traced", "tracer/spans/opening.py", "    if own_work.get():", "    if False:"),
    Defence(
        41,
        "forks of C code are noticed",
        "tracer/process/forks.py",
        "    page[0] = 1\n    return page",
        "    return {0: 1}",
    ),
    Defence(
        42,
        "the worker keeps the system's threads",
        "tracer/process/native_threads.py",
        "    if _gevent() is None:\n        threading.Thread",
        "    if True:\n        threading.Thread",
    ),
    Defence(43, "what is done at exit", "tracer/_runtime.py", _EXIT, "pass"),
    Defence(
        44,
        "aiosqlite, which logs what it runs, sees no values",
        "tracer/store/sqlite/_thread.py",
        "    def __call__(self) -> None:\n",
        "    def __repr__(self) -> str:\n        return repr(self.__dict__)\n\n    def __call__(self) -> None:\n",
    ),
    Defence(
        45,
        "the number of open spans has a limit",
        "tracer/assembly/assembler.py",
        "        if len(self._open) > OPEN_SPANS:",
        "        if False:",
        ("tests/assembly/test_assembler.py::test_of_too_many",),
    ),
    Defence(
        46,
        "a query that nobody waits for is stopped",
        "tracer/store/sqlite/_thread.py",
        "                self._running.interrupt()",
        "                pass",
    ),
    Defence(
        47,
        "a batch that is stored is not stored again",
        "tracer/store/sqlite/store.py",
        "            if not any(at >= batch.sources[name] for name, at in reached.items()):",
        "            if True:",
        ("tests/store/test_http.py::test_a_batch_that_is_sent_twice",),
    ),
)
