"""What a text search finds beside whole words of ASCII: other scripts, ids, names, errors; and older files."""

from __future__ import annotations

from typing import Any

import pytest

from tracer._exceptions import ConfigurationError
from tracer._models import SpanStatusCode
from tracer.store import TraceQuery
from tracer.store.base import Store
from tracer.store.words import trace_id_range

from .rows import START, batch, patch, simple, span, span_id, trace_id

RESPONSE = "resp_68af4030592c81938ec0a5fbab4a3e9f05438e46b5f69a3b"
CHAT = "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT"
REQUEST = "req_4a1b7e2f9c0d4e5f8a6b"
UUID = "0f8fad5b-d9cb-469f-a165-70867728950e"


async def found(any_store: Store, text: str, **arguments: Any) -> list[int]:
    page = await any_store.search_traces(TraceQuery(text=text, order_by="start_time", **arguments))
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
async def test_words_of_all_scripts_are_found(any_store: Store, stored: str, asked: str, hit: bool) -> None:
    await any_store.write(simple(1, text=stored))
    await any_store.write(simple(2, text="nothing of this"))
    assert await found(any_store, asked) == ([1] if hit else [])


@pytest.mark.parametrize(
    ("asked", "hit"),
    [("reimb", True), ("please reimb", True), ('"please reimb"', False), ("ause", False), ("écol", True), ("天", True)],
)
async def test_beginnings_of_words_are_found_if_wanted(any_store: Store, asked: str, hit: bool) -> None:
    await any_store.write(simple(1, text="please reimburse because of école and 天気"))
    assert bool(await found(any_store, asked, text_prefix=True)) is hit
    if asked != "天":
        assert not await found(any_store, asked)
    with pytest.raises(ConfigurationError, match="text_prefix must be True or False, got 'yes'"):
        await found(any_store, asked, text_prefix="yes")


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
async def test_ids_names_and_errors_are_found(any_store: Store, text: str, numbers: list[int]) -> None:
    for number in (0xABCDEF0123, 0x0F8FAD5BD9CB469FA16570867728950E):
        await any_store.write(simple(number, start_time_ns=START, end_time_ns=START, span_id=span_id(99)))
    attributes = f'{{"gen_ai.response.id":"{RESPONSE}"}}'.encode()
    await any_store.write(simple(1, span_id="feedfacecafe0001", attributes=attributes))
    await any_store.write(batch([span(1, span_id=span_id(11), name="plan_trip")]))
    failed: dict[str, Any] = {"status_code": SpanStatusCode.ERROR, "text": "a teapot"}
    attributes = f'{{"gen_ai.response.id":"{CHAT}","tracer.response.request_id":"{REQUEST}"}}'.encode()
    described = "RateLimitError: please slow down"
    await any_store.write(simple(2, **failed, status_description=described, attributes=attributes))
    tool = b'{"gen_ai.tool.name":"get_weather","gen_ai.tool.call.id":"call_9x8y7z6w5v"}'
    await any_store.write(batch([span(3, name="tool", span_type="TOOL", attributes=tool)], [patch(3)]))
    await any_store.write(simple(4, attributes=b'{"error.type":"rate_limit_exceeded"}'))
    assert await found(any_store, text) == numbers


def test_what_is_no_trace_id_is_not_taken_for_one() -> None:
    for text in ("deadbee", "deadbeeg", "dead beef", f"{trace_id(1)}0", "00-deadbeef", "", "x" * 32):
        assert trace_id_range(text) is None, text


async def test_attributes_that_are_no_json_and_names_that_change_do_not_disturb(any_store: Store) -> None:
    await any_store.write(simple(1, name="first", attributes=b"{not json", text="one"))
    assert await found(any_store, "one") == [1]
    await any_store.write(simple(1, name="second", attributes=b'{"gen_ai.response.id":"resp_aaaa1111"}'))
    assert await found(any_store, "second") == [1]
    assert await found(any_store, "resp_aaaa1111") == [1]
    await any_store.write(simple(1, attributes=b'{"gen_ai.response.id":"resp_bbbb2222"}'))
    assert await found(any_store, "resp_aaaa1111") == []
    assert await found(any_store, "resp_bbbb2222") == [1]
    await any_store.delete_traces(trace_ids=[trace_id(1)])
    assert await found(any_store, "resp_bbbb2222") == []
