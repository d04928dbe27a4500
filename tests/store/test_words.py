"""What a text search finds beside whole words of ASCII: other scripts, ids, names, errors; and older files."""

from __future__ import annotations

import random
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer._exceptions import ConfigurationError
from tracer._models import SpanStatusCode
from tracer.store import TraceQuery
from tracer.store.sqlite._text import _PLAIN, _SPAN_WORDS
from tracer.store.sqlite._words import match_expression, spaced, trace_id_range
from tracer.store.sqlite.store import SqliteStore

from .old_files import TRACES, make_old_file, words_of
from .rows import START, batch, patch, query_plan, simple, span, span_id, trace_id

RESPONSE = "resp_68af4030592c81938ec0a5fbab4a3e9f05438e46b5f69a3b"
CHAT = "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT"
REQUEST = "req_4a1b7e2f9c0d4e5f8a6b"
UUID = "0f8fad5b-d9cb-469f-a165-70867728950e"


async def found(store: SqliteStore, text: str, **arguments: Any) -> list[int]:
    page = await store.search_traces(TraceQuery(text=text, order_by="start_time", **arguments))
    return [int(trace.info.trace_id, 16) for trace in page]


@pytest.mark.parametrize(
    ("stored", "asked", "hit"),
    [
        ("東京都の天気は晴れです", "天気", True),
        ("東京都の天気は晴れです", "東京", True),
        ("東京都の天気は晴れです", "京都の天", True),
        ("東京都の天気は晴れです", "です", True),
        ("東京都の天気は晴れです", "気", True),
        ("東京都の天気は晴れです", "す", True),
        ("東京都の天気は晴れです", "東京都の天気は晴れです", True),
        ("東京都の天気は晴れです", "天気 東京", True),
        ("東京都の天気は晴れです", "天気。", True),
        ("東京都の天気は晴れです", "東気", False),
        ("東京都の天気は晴れです", "天晴", False),
        ("東京都の天気は晴れです", "雨", False),
        ("今日は雨。明日は晴れ", '"雨 明日"', True),
        ("我要退货，谢谢", "退货", True),
        ("我要退货，谢谢", "要退货", True),
        ("我要退货，谢谢", "货", True),
        ("我要退货，谢谢", "货谢", False),
        ("이것은 문장입니다.", "문장입니다", True),
        ("이것은 문장입니다.", "문장", True),
        ("이것은 문장입니다.", "장입", True),
        ("이것은 문장입니다.", "문니", False),
        ("이것은 문장입니다.", "이것은 문장", True),
        ("GPTは便利です", "GPT", True),
        ("GPTは便利です", "gptは便利", True),
        ("GPTは便利です", "便利", True),
        ("第3回の会議", "第3回", True),
        ("第3回の会議", "3", True),
        ("コーヒーを飲む", "コーヒー", True),
        ("コーヒーを飲む", "ｺｰﾋｰ", True),
        ("\u304b\u3099っこう", "がっこう", True),
        ("サーバー・エラー", "エラー", True),
        ("人々が集まる", "人々", True),
        ("สวัสดีครับ", "สวัสดี", True),
        ("𠮷野家", "𠮷野", True),
        ("Die Straße ist lang", "STRASSE", True),
        ("STRASSE", "straße", True),
        ("ÉCOLE", "école", True),
        ("ÉCOLE", "ecole", True),
        ("Οδυσσεύς", "ΟΔΥΣΣΕΎΣ", True),
        ("İstanbul", "istanbul", True),
        ("ﬁne", "fine", True),
        ("ＡＢＣ", "abc", True),
        ("МОСКВА", "москва", True),
        ("caf\u0065\u0301", "café", True),
        ("plain ascii", "天気", False),
    ],
)
async def test_words_of_all_scripts_are_found(store: SqliteStore, stored: str, asked: str, hit: bool) -> None:
    await store.write(simple(1, text=stored))
    await store.write(simple(2, text="nothing of this"))
    assert await found(store, asked) == ([1] if hit else [])


@pytest.mark.parametrize(
    ("asked", "hit"),
    [("reimb", True), ("please reimb", True), ('"please reimb"', False), ("ause", False), ("écol", True), ("天", True)],
)
async def test_beginnings_of_words_are_found_if_wanted(store: SqliteStore, asked: str, hit: bool) -> None:
    await store.write(simple(1, text="please reimburse because of école and 天気"))
    assert bool(await found(store, asked, text_prefix=True)) is hit
    if asked != "天":
        assert not await found(store, asked)
    with pytest.raises(ConfigurationError, match="text_prefix must be True or False, got 'yes'"):
        await found(store, asked, text_prefix="yes")


_LETTERS = "東京天気は문장가ａÉßabc1 。"


@given(st.text(_LETTERS, min_size=1, max_size=12), st.data())
def test_each_part_of_a_run_is_found_and_nothing_else(text: str, data: st.DataObject) -> None:
    """Against a plain search for the characters."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE VIRTUAL TABLE t USING fts5 (x, tokenize = 'unicode61 remove_diacritics 2')")
        connection.execute("INSERT INTO t VALUES (?)", (spaced(text),))
        run = data.draw(st.text("東京天気は문장가", min_size=1, max_size=3))
        (hits,) = connection.execute("SELECT count(*) FROM t WHERE t MATCH ?", (match_expression(run),)).fetchone()
    assert bool(hits) is (run in text)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        (trace_id(0xABCDEF0123), [0xABCDEF0123]),
        (trace_id(0xABCDEF0123).upper(), [0xABCDEF0123]),
        (f"00-{trace_id(0xABCDEF0123)}-{span_id(7)}-01", [0xABCDEF0123]),
        ("0f8fad5bd9cb469fa16570867728950e", [0x0F8FAD5BD9CB469FA16570867728950E]),
        (UUID, [0x0F8FAD5BD9CB469FA16570867728950E]),
        ("0f8fad5b", [0x0F8FAD5BD9CB469FA16570867728950E]),
        ("0f8fad5bd9", [0x0F8FAD5BD9CB469FA16570867728950E]),
        ("0f8fad5c", []),
        ("feedfacecafe0001", [1]),
        ("feedface", [1]),
        ("FEEDFACE", [1]),
        (RESPONSE, [1]),
        ("resp_68af4030", [1]),
        ("68af4030", [1]),
        (CHAT, [2]),
        ("chatcmpl-B9MBs8Cj", [2]),
        ("B9MBs8Cj", [2]),
        (REQUEST, [2]),
        ("req_4a1b7e2f", [2]),
        ("4a1b7e2f", [2]),
        ("call_9x8y7z6w5", [3]),
        ("RateLimitError", [2]),
        ("rate_limit_exceeded", [4]),
        ('"slow down"', [2]),
        ("slow teapot", [2]),  # of the error and of the text
        ("get_weather", [3]),
        ("weather", [3]),
        ("plan_trip", [1]),
        ("deadbeef", []),
    ],
)
async def test_ids_names_and_errors_are_found(store: SqliteStore, text: str, numbers: list[int]) -> None:
    for number in (0xABCDEF0123, 0x0F8FAD5BD9CB469FA16570867728950E):
        await store.write(simple(number, start_time_ns=START, end_time_ns=START, span_id=span_id(99)))
    attributes = f'{{"gen_ai.response.id":"{RESPONSE}"}}'.encode()
    await store.write(simple(1, span_id="feedfacecafe0001", attributes=attributes))
    await store.write(batch([span(1, span_id=span_id(11), name="plan_trip")]))
    failed: dict[str, Any] = {"status_code": SpanStatusCode.ERROR, "text": "a teapot"}
    attributes = f'{{"gen_ai.response.id":"{CHAT}","tracer.response.request_id":"{REQUEST}"}}'.encode()
    described = "RateLimitError: please slow down"
    await store.write(simple(2, **failed, status_description=described, attributes=attributes))
    tool = b'{"gen_ai.tool.name":"get_weather","gen_ai.tool.call.id":"call_9x8y7z6w5v"}'
    await store.write(batch([span(3, name="tool", span_type="TOOL", attributes=tool)], [patch(3)]))
    await store.write(simple(4, attributes=b'{"error.type":"rate_limit_exceeded"}'))
    assert await found(store, text) == numbers


@pytest.mark.parametrize(("few", "most_listed"), [(1_000, 1_000), (1, 1_000), (1, 1)])
async def test_an_id_that_many_have_is_found_alike(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, few: int, most_listed: int
) -> None:
    alike = range(0xABCDEF01 << 96, (0xABCDEF01 << 96) + 5)
    await store.write(simple(*alike, start_time_ns=START, end_time_ns=START, span_id=span_id(99)))
    await store.write(simple(7, 8, text="of abcdef0123 too"))
    await store.write(simple(9))
    monkeypatch.setattr("tracer.store.sqlite._query.FEW", few)
    monkeypatch.setattr("tracer.store.sqlite._sql._MOST_LISTED", most_listed)
    assert len(await found(store, "abcdef01")) == 7


def test_what_is_no_trace_id_is_not_taken_for_one() -> None:
    for text in ("deadbee", "deadbeeg", "dead beef", f"{trace_id(1)}0", "00-deadbeef", "", "x" * 32):
        assert trace_id_range(text) is None, text


async def test_attributes_that_are_no_json_and_names_that_change_do_not_disturb(store: SqliteStore) -> None:
    await store.write(simple(1, name="first", attributes=b"{not json", text="one"))
    assert await found(store, "one") == [1]
    await store.write(simple(1, name="second", attributes=b'{"gen_ai.response.id":"resp_aaaa1111"}'))
    assert await found(store, "second") == [1]
    assert await found(store, "resp_aaaa1111") == [1]
    await store.write(simple(1, attributes=b'{"gen_ai.response.id":"resp_bbbb2222"}'))
    assert await found(store, "resp_aaaa1111") == []
    assert await found(store, "resp_bbbb2222") == [1]
    await store.delete_traces(trace_ids=[trace_id(1)])
    assert await found(store, "resp_bbbb2222") == []


def expected_words(path: Path) -> list[tuple[Any, ...]]:
    """What the index of this file must hold: that of a new index."""
    with closing(sqlite3.connect(path)) as stored, closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE VIRTUAL TABLE t USING fts5 (text, tokenize = 'unicode61 remove_diacritics 2')")
        rows = stored.execute(f"SELECT key, {_SPAN_WORDS} FROM spans").fetchall()
        connection.executemany("INSERT INTO t (rowid, text) VALUES (?, ?)", [(key, spaced(text)) for key, text in rows])
        connection.execute("CREATE VIRTUAL TABLE temp.places USING fts5vocab (main, t, instance)")
        return sorted(connection.execute("SELECT term, doc, offset FROM temp.places").fetchall())


@pytest.mark.parametrize("version", range(1, 9))
async def test_in_an_older_file_all_is_found(path: Path, version: int) -> None:
    make_old_file(path, version)
    store = SqliteStore(f"sqlite:///{path}")
    every = [*range(1, 3), *range(4, TRACES + 1)]  # the third was changed
    assert await found(store, "天気") == every
    assert await found(store, "word7") == [7]
    assert await found(store, "resp_11") == [11]
    assert await found(store, "changed") == [3]
    assert await found(store, "Responses") == list(range(1, TRACES + 1))
    while await store.tidy():
        pass
    await store.aclose()
    assert words_of(path) == expected_words(path)


@pytest.mark.parametrize("seed", range(6))
async def test_an_index_that_is_made_anew_follows_changes_meanwhile(path: Path, seed: int) -> None:
    """Traces come, change and go between any two steps."""
    chance = random.Random(seed)
    make_old_file(path, 8)
    store = SqliteStore(f"sqlite:///{path}")
    texts = ("天気は晴れ", "Straße", "plain words", None)
    for _ in range(40):
        number = chance.randint(1, 20)
        match chance.randrange(4):
            case 0:
                await store.delete_traces(trace_ids=[trace_id(number)])
            case 1 | 2:
                attributes = f'{{"gen_ai.response.id":"resp_{chance.randrange(9)}"}}'.encode()
                await store.write(simple(number, text=chance.choice(texts), attributes=attributes))
            case _:
                await store.index_text(chance.randint(1, 4))
    while await store.index_text(3):
        pass
    await store.aclose()
    assert words_of(path) == expected_words(path)


async def test_a_large_older_file_is_indexed_anew_in_small_steps(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search takes one of them, whatever is left, and finds what the old index has."""
    make_old_file(path, 8)
    monkeypatch.setattr("tracer.store.sqlite.store._INDEX_ROWS", 4)
    store = SqliteStore(f"sqlite:///{path}")
    await store.open()
    left = []
    for number in (1, 2, 6, 12):
        assert await found(store, f"word{number}") == [number]
        left.append(await store._database.read(lambda reader: reader.execute(_PLAIN).fetchone()[0]))
    await store.aclose()
    assert left == [4, 2, 0, 0]  # of the six that were indexed


async def test_a_step_of_the_index_reads_its_own_spans_only(path: Path) -> None:
    """With 100,000 traces, a step that looked at the others took up to a second."""
    make_old_file(path, 8)
    store = SqliteStore(f"sqlite:///{path}")
    await store.open()
    seen: list[str] = []
    await store._database.write(sqlite3.Connection.set_trace_callback, seen.append)
    while await store.index_text(4):
        pass
    await store._database.write(sqlite3.Connection.set_trace_callback, None)
    statements = [sql.strip() for sql in seen if "text_index" in sql and "EXISTS" not in sql]
    assert sum("LIMIT 4" in sql for sql in statements) >= 2
    assert sum("BETWEEN" in sql for sql in statements) >= 6
    for statement in statements:
        plan = [row[3] for row in await store._database.write(query_plan, statement)]
        read = [step for step in plan if re.match(r"(SCAN|SEARCH) spans\b", step)]
        assert not [step for step in read if step.startswith("SCAN")], (statement, plan)
        bounded = re.search(r"ORDER BY|min\(indexed_to", statement) is not None
        assert bounded or all("rowid=?" in step or "rowid<?" in step for step in read), (statement, plan)
    await store.aclose()
