"""Exceptions are taken apart where they are seen, and put into words later."""

from __future__ import annotations

import asyncio
import builtins
import gc
import sys
import traceback
import weakref

import anyio
import anyio.lowlevel
import pytest
import trio

from tracer.assembly._exception_texts import format_failure, left_out_of
from tracer.capture.failures import capture_failure, is_cancellation
from tracer.capture.limits import CAUSES, EXCEPTIONS, FRAMES
from tracer.capture.records import Ending, Failure, SpanEnded, decode, encode


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        if cause is not None:
            raise error from cause
        raise error
    except BaseException as caught:
        return caught


def while_handling(first: BaseException, second: BaseException) -> BaseException:
    try:
        try:
            raise first
        except BaseException:
            raise second  # noqa: B904  the context is what is tested
    except BaseException as caught:
        return caught


@pytest.mark.parametrize(
    "error",
    [
        raised(ValueError("wrong")),
        raised(ValueError()),
        raised(KeyError("key"), cause=OSError("disk")),
        raised(KeyError("key"), cause=raised(OSError("disk"))),
        while_handling(ValueError("one"), TypeError("two")),
    ],
    ids=["plain", "without a message", "from one never raised", "from another", "while handling another"],
)
def test_a_failure_reads_as_python_prints_it(error: BaseException) -> None:
    text = format_failure(capture_failure(error))
    printed = "".join(traceback.format_exception(error)).rstrip()
    without_markers = [line for line in printed.splitlines() if set(line.strip()) - set("^~")]
    assert [line for line in text.splitlines() if line] == [line for line in without_markers if line]


def test_raising_from_none_hides_the_context() -> None:
    error = while_handling(ValueError("hidden"), TypeError("seen"))
    error.__suppress_context__ = True
    assert "hidden" not in format_failure(capture_failure(error))


if sys.version_info >= (3, 11):  # which brought exception groups

    def test_the_members_of_a_group_are_told() -> None:
        group = builtins.BaseExceptionGroup("several", [raised(ValueError("one")), raised(KeyError("two"))])
        text = format_failure(capture_failure(raised(group)))
        assert "ExceptionGroup: several (2 sub-exceptions)" in text
        assert "ValueError: one" in text
        assert "KeyError: 'two'" in text
        assert "Sub-exception 2" in text

    def group_of(depth: int, leaf: BaseException) -> BaseException:
        members = [group_of(depth - 1, leaf) if depth else leaf for _ in range(8)]
        return raised(builtins.BaseExceptionGroup("group", members))

    def kept_in(failure: Failure) -> int:
        inner = failure.members if failure.cause is None else [failure.cause, *failure.members]
        return 1 + sum(map(kept_in, inner))

    def test_of_groups_of_groups_a_part_is_kept_and_says_so() -> None:
        failure = capture_failure(group_of(3, raised(ValueError("leaf"))))
        assert kept_in(failure) <= EXCEPTIONS
        assert left_out_of(failure) > 0
        assert "more not kept]" in format_failure(failure)

    def test_very_deep_or_large_groups_are_cancelled_if_their_members_are() -> None:
        deep: BaseException = asyncio.CancelledError()
        for _ in range(sys.getrecursionlimit() * 2):
            deep = builtins.BaseExceptionGroup("deep", [deep])
        assert is_cancellation(deep)
        assert capture_failure(deep).members
        assert is_cancellation(group_of(3, asyncio.CancelledError()))
        assert not is_cancellation(group_of(3, ValueError()))


def test_neither_the_exception_nor_its_frames_are_kept_alive() -> None:
    class LocalError(Exception):
        pass

    def fail() -> BaseException:
        return raised(LocalError("x"))

    error = fail()
    gone = weakref.ref(error)
    failure = capture_failure(error)
    del error
    gc.collect()
    assert gone() is None
    assert failure.message == "x"


def test_a_message_that_cannot_be_made_is_replaced() -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert "raised RuntimeError" in capture_failure(MuteError()).message
    assert capture_failure(ValueError("a\ud800")).message == "a\\ud800"
    assert len(capture_failure(ValueError("x" * 100_000)).message) < 1_100


def test_deep_stacks_and_long_chains_are_bounded() -> None:
    def recurse(depth: int) -> None:
        if depth:
            recurse(depth - 1)
        raise ValueError

    with pytest.raises(ValueError) as caught:  # noqa: PT011
        recurse(300)
    failure = capture_failure(caught.value)
    assert len(failure.frames) == FRAMES
    assert failure.frames[-1][2] == "recurse"

    chain: BaseException = ValueError(0)
    for number in range(100):
        chain = raised(ValueError(number), cause=chain)
    depth, cause = 0, capture_failure(chain).cause
    while cause is not None:
        depth, cause = depth + 1, cause.cause
    assert depth == CAUSES


def test_a_chain_that_ends_in_itself_is_bounded() -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    failure = capture_failure(one)
    record = SpanEnded("0", 0, Ending.RAISED, failure=failure)
    assert decode(encode(record)) == record


def test_a_source_file_that_is_gone_costs_the_line_only() -> None:
    failure = Failure("ValueError", "x", [("/nowhere/at_all.py", 3, "f")])
    assert format_failure(failure).splitlines()[1:] == ['  File "/nowhere/at_all.py", line 3, in f', "ValueError: x"]


def test_a_frame_at_no_line_names_the_functions_first() -> None:
    """Ctrl-C can come at an instruction that belongs to no line: a traceback's number is None there."""

    def fails() -> None:
        raise ValueError("x")

    nowhere = b"\xff" * 40 if sys.version_info >= (3, 11) else b"\xfe\x80" * 40
    fails.__code__ = fails.__code__.replace(co_linetable=nowhere)
    with pytest.raises(ValueError, match="x") as caught:
        fails()
    assert caught.traceback[-1]._rawentry.tb_lineno in (None, -1)
    failure = capture_failure(caught.value)
    assert failure.frames[-1] == (__file__, fails.__code__.co_firstlineno, "fails")
    assert decode(encode(SpanEnded("0", 0, Ending.RAISED, failure=failure))) is not None


def test_what_counts_as_cancellation() -> None:
    assert is_cancellation(asyncio.CancelledError())
    assert is_cancellation(GeneratorExit())
    assert not is_cancellation(KeyboardInterrupt())
    assert not is_cancellation(ValueError())
    assert not is_cancellation(type("Cancelled", (Exception,), {})())


if sys.version_info >= (3, 11):  # which brought exception groups

    def test_a_group_is_a_cancellation_if_nothing_else_is_in_it() -> None:
        cancelled = asyncio.CancelledError()
        assert is_cancellation(
            builtins.BaseExceptionGroup("", [cancelled, builtins.BaseExceptionGroup("", [cancelled])])
        )
        assert not is_cancellation(builtins.BaseExceptionGroup("", [cancelled, ValueError()]))


def test_trios_cancellation_is_known() -> None:
    seen: list[BaseException] = []

    async def main() -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            try:
                await anyio.lowlevel.checkpoint()
            except BaseException as error:
                seen.append(error)
                raise

    trio.run(main)
    assert [is_cancellation(error) for error in seen] == [True]
