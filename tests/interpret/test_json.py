from __future__ import annotations

import json
import math
import sqlite3
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.interpret import decode_json, encode_value
from tracer.interpret._json import CIRCULAR, TOO_DEEP

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()), inner, max_size=4),
    max_leaves=20,
)


def accepted_by_sqlite(data: bytes) -> bool:
    connection = sqlite3.connect(":memory:")
    try:
        (valid,) = connection.execute("SELECT json_valid(?)", (data.decode(),)).fetchone()
        return bool(valid)
    finally:
        connection.close()


def nested(depth):
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


@given(JSON)
def test_whatever_is_encoded_sqlite_accepts_and_decodes_to_the_same_again(value):
    data = encode_value(value)
    assert accepted_by_sqlite(data)
    again = decode_json(data)
    assert encode_value(again) == data


@given(JSON.filter(lambda value: "\\ud" not in json.dumps(value) and "NaN" not in json.dumps(value)))
def test_what_json_can_hold_survives(value):
    try:
        expected = json.loads(json.dumps(value, allow_nan=False))
    except ValueError:
        return  # an infinity
    assert decode_json(encode_value(value)) == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a\ud800b", '"a\\\\ud800b"'),
        ({"\ud800": 1}, '{"\\\\ud800":1}'),
        ([math.nan, math.inf, -math.inf, None], '["NaN","Infinity","-Infinity",null]'),
        (10**30, "1" + "0" * 30),
        ({None: 1, True: 2, (1, 2): 3}, '{"None":1,"True":2,"[1, 2]":3}'),
        ((1, {2}), "[1,[2]]"),
        ([uuid.UUID(int=1), "\ud800"], '["00000000-0000-0000-0000-000000000001","\\\\ud800"]'),
    ],
    ids=["surrogate", "surrogate in key", "not finite", "beyond 64 bits", "odd keys", "tuple and set", "uuid"],
)
def test_what_json_cannot_hold_becomes_text(value, text):
    assert encode_value(value) == text.encode()


def test_integer_with_more_digits_than_python_prints_becomes_hexadecimal():
    assert encode_value([10**5000]).startswith(b'["0x')


def test_deep_nesting_ends_in_a_marker():
    data = encode_value(nested(5000))
    assert TOO_DEEP.encode() in data
    assert data.count(b"[") <= 202
    assert accepted_by_sqlite(data)


def test_cycles_end_in_a_marker():
    value: dict[str, object] = {"a": 1}
    value["self"] = [value, value]
    assert json.loads(encode_value(value)) == {"a": 1, "self": [CIRCULAR, CIRCULAR]}


def test_object_whose_str_raises_becomes_its_type():
    class Odd:
        def __str__(self):
            raise RuntimeError

    assert encode_value([Odd()]) == b'["[Odd]"]'


def test_subclasses_of_text_are_texts():
    class Text(str):
        __slots__ = ()

    assert encode_value({Text("a"): Text("b")}) == b'{"a":"b"}'


@pytest.mark.parametrize(
    ("data", "value"),
    [(b'"\\ud800"', "\\ud800"), (b"[NaN, 1e999]", ["NaN", "Infinity"]), (b"\xef\xbb\xbf{}", {})],
    ids=["surrogate", "numbers", "byte order mark"],
)
def test_loose_json_decodes_to_what_strict_json_can_hold(data, value):
    assert decode_json(data) == value


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"hello", b"\xff\xfe\xfd", b"[" * 100_000, b"9" * 5000],
    ids=["nothing", "open", "word", "bytes", "deep", "digits"],
)
def test_what_is_no_json_raises_value_error(data):
    with pytest.raises(ValueError, match=r"."):
        decode_json(data)
