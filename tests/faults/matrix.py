"""The fault matrix: what is done to a process, its files and its page, and the tests that do it.

A test is named by its file and the beginning of its name. `lacks` says what of a row no test does yet.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["MATRIX", "Row"]


class Row(NamedTuple):
    """One fault: its number, what is done, the tests that do it, and what they lack."""

    number: int
    fault: str
    tests: tuple[str, ...]
    lacks: str = ""


P = "tests/processes/test_"
MATRIX = (
    Row(1, "kill -9 at random moments", (P + "crash.py::test_kill_9", P + "kill.py::test_")),
    Row(
        2,
        "SIGTERM, os._exit, SIGINT, exception, sys.exit, os.execv; a dead disk",
        (
            P + "exit.py::test_nothing_is_lost",
            P + "exit.py::test_a_locked_database",
            P + "signals.py::test_",
            P + "crash.py::test_no_way_to_end",
            P + "crash.py::test_python_that_becomes",
        ),
    ),
    Row(3, "the exit, while another thread makes calls", (P + "exit.py::test_threads_that_record_after",)),
    Row(4, "os.fork, again and again, under a busy writer", (P + "fork.py::test_twenty_forks",)),
    Row(
        5,
        "multiprocessing: fork, spawn, forkserver, pools",
        (P + "fork.py::test_children_of", P + "fork.py::test_a_pool", P + "crash.py::test_a_pool_that_kills"),
    ),
    Row(6, "gunicorn --preload, uvicorn workers, celery", (P + "servers.py::test_",)),
    Row(7, "a fork in a fork, a fork inside a span or a shut-down", (P + "fork.py::test_a_fork",)),
    Row(
        8,
        "more records than the queue holds",
        (
            "tests/pipeline/test_pipeline.py::test_spans_written_and_dropped_add_up",
            "tests/pipeline/test_queue.py::test_accepted_and_refused_add_up",
            "tests/benchmarks/test_overhead.py::test_a_burst",
        ),
        "the 99th percentile of a push is measured by `python -m benchmarks.overhead`, not asserted",
    ),
    Row(
        9,
        "four processes create one file and write to it",
        (P + "sharing.py::test_what_finds", P + "sharing.py::test_processes_that_race"),
    ),
    Row(
        10,
        "another process locks the database",
        (P + "spool.py::test_", "tests/pipeline/test_pipeline.py::test_a_locked"),
    ),
    Row(11, "a full disk, from the start or later", (P + "full_disk.py::test_",)),
    Row(
        12,
        "read-only or missing directory, garbage, damaged pages, a newer version",
        (P + "unusable_files.py::test_",),
    ),
    Row(
        13,
        "kill -9 in each step of a migration, a torn commit, two processes that migrate",
        ("tests/store/sqlite/test_migrations.py::test_a_migration",),
    ),
    Row(
        14,
        "a commit that takes 0.5 s",
        ("tests/pipeline/test_worker.py::test_",),
        "what a call costs then is not measured",
    ),
    Row(
        15,
        "a hundred loops, threads, uvloop, trio, loops that close",
        (
            "tests/test_runtime.py::test_fifty_loops",
            "tests/test_runtime.py::test_ten_threads",
            "tests/test_runtime.py::test_any_",
        ),
    ),
    Row(16, "streams that are abandoned, broken off, cancelled", ("tests/openai/test_stream_endings.py::test_",)),
    Row(
        17,
        "our own code raises",
        ("tests/openai/test_harmless.py::test_a_hook_that_raises", "tests/pipeline/test_worker.py::test_a_failed_loop"),
    ),
    Row(18, "the clock jumps in the middle of a call", ("tests/spans/test_live_span.py::test_a_wall_clock",)),
    Row(
        19,
        "a prompt of 100 MB",
        ("tests/openai/test_large_prompt.py::test_",),
        "how long the event loop stalls is measured by `python -m benchmarks.bounds prompt`, not asserted",
    ),
    Row(
        20,
        "surrogates, NaN, huge integers, cycles, deep nesting, a repr that raises",
        ("tests/capture/test_snapshots.py::test_", "tests/openai/test_harmless.py::test_odd_texts"),
    ),
    Row(21, "generators and files as arguments", ("tests/openai/test_request_bytes.py::test_",)),
    Row(22, "API errors, time-outs, Ctrl-C, cancellation", ("tests/openai/test_endings.py::test_",)),
    Row(
        23,
        "keys in headers, query, body, URL, exception texts",
        (
            "tests/openai/test_harmless.py::test_secrets",
            "tests/openai/test_credentials.py::test_",
            "tests/test_leaks.py::test_",
            P + "crash.py::test_where_texts",
            P + "crash.py::test_an_error_that_quotes",
        ),
    ),
    Row(
        24,
        "a redact= hook that raises or is slow",
        ("tests/assembly/test_assembler.py::test_a_hook", P + "hooks.py::test_a_slow"),
    ),
    Row(25, "the same image again and again", ("tests/openai/test_media.py::test_one_image", P + "media.py::test_")),
    Row(26, "files that others can read, links, other users' files", (P + "private_files.py::test_",)),
    Row(27, "an OTLP receiver that refuses or hangs", (), "there is no OTLP exporter yet"),
    Row(
        28,
        "a thousand reads, each right after its call",
        (
            "tests/pipeline/test_pipeline.py::test_a_trace_that_has_ended_is_never",
            "tests/pipeline/test_pipeline.py::test_a_locked_database",
        ),
    ),
    Row(
        29,
        "nothing is closed, and the process ends",
        (P + "exit.py::test_a_loop_that_ends", "tests/openai/test_harmless.py::test_a_stream_left_open"),
    ),
    Row(30, "Host headers", ("tests/server/test_security.py::test_o", "tests/server/test_security.py::test_two_names")),
    Row(31, "Origin headers", ("tests/server/test_security.py::test_changes_come",)),
    Row(
        32,
        "scripts in prompts and answers",
        ("tests/browser/test_trace.py::test_hostile", "tests/render/test_hostile.py::test_"),
    ),
    Row(33, "hostile searches", ("tests/store/test_filter.py::test_", "tests/store/test_search.py::test_a_forged")),
    Row(34, "paths that lead out of the folder", ("tests/server/test_security.py::test_static_files",)),
    Row(
        35,
        "compressed, endless and slow requests",
        ("tests/server/test_limits.py::test_", "tests/server/test_tracking.py::test_a_bo"),
    ),
    Row(
        36,
        "every route without a token",
        ("tests/server/test_security.py::test_every_route", "tests/server/test_tracking.py::test_every_route"),
    ),
    Row(
        37,
        "an address that others reach, without a token",
        ("tests/server/test_live.py::test_an_address", "tests/server/test_tracking.py::test_an_open_address"),
    ),
    Row(38, "a fork while the worker is busy for long", (P + "busy_fork.py::test_",)),
    Row(
        39,
        "the file or its directory is moved, replaced, deleted",
        (P + "replaced_files.py::test_",),
    ),
    Row(40, "a hook that calls a model, or hangs", (P + "hooks.py::test_",)),
    Row(
        41,
        "celery, RQ, billiard, multiprocess, jobs that leave by os._exit, libc.fork()",
        (
            P + "servers.py::test_celery",
            P + "servers.py::test_billiard",
            P + "servers.py::test_multiprocess",
            P + "servers.py::test_rq",
            P + "crash.py::test_a_job_that_leaves",
            P + "busy_fork.py::test_a_fork_of_c_code",
        ),
    ),
    Row(
        42,
        "gevent, also under gunicorn; eventlet",
        (P + "native_threads.py::test_", P + "servers.py::test_gunicorn_with_gevent"),
    ),
    Row(
        43,
        "scripts, threads and forks on each Python",
        (P + "exit.py::test_a_script",),
        "run `make test-pythons` for the others",
    ),
    Row(44, "a prompt, and all loggers at DEBUG", ("tests/store/sqlite/test_database.py::test_no",)),
    Row(
        45,
        "huge values, groups of groups of exceptions, spans that never end",
        (
            "tests/spans/test_limits.py::test_",
            "tests/assembly/test_assembler.py::test_of_too_many",
            "tests/benchmarks/test_bounds.py::test_",
        ),
        "`python -m benchmarks.bounds` measures time and memory: the generator takes 134 MB, not 128",
    ),
    Row(
        46,
        "slow searches, clients that leave",
        (
            "tests/server/test_limits.py::test_slow",
            "tests/server/test_limits.py::test_a_search",
            "tests/store/sqlite/test_reads.py::test_",
        ),
    ),
    Row(
        47,
        "a tracking server that is killed, away, or whose answers are lost",
        (P + "tracking_server.py::test_", "tests/store/test_http.py::test_a_batch_that_is_sent_twice"),
    ),
)
