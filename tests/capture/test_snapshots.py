"""A snapshot takes any value, keeps what it can, and never raises."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime
import decimal
import enum
import functools
import math
import subprocess
import sys
import threading
import types
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.capture.limits import COPIED_ITEMS, VALUE_ITEMS
from tracer.capture.records import Payload, SpanUpdated, decode, encode
from tracer.capture.snapshots import encode_attributes, snapshot
from tracer.capture.text import safe_repr, safe_str

LIMIT = 100_000


def kept(value: object, limit: int = LIMIT) -> Any:
    return msgspec.msgpack.decode(snapshot(value, limit).data, strict=False)


class Text(str):
    __slots__ = ()


class Number(int):
    pass


class Fraction(float):
    pass


class Table(dict[str, object]):
    pass


class Items(list[object]):
    pass


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Word(str, enum.Enum):
    HI = "hi"


@dataclasses.dataclass
class Point:
    x: int
    other: object


@attrs.define
class Attrs:
    x: int
    other: object


class Struct(msgspec.Struct):
    x: int
    other: object


class Model(pydantic.BaseModel):
    x: int = 1
    when: datetime.date = datetime.date(2026, 1, 2)


class Open(pydantic.BaseModel, extra="allow", arbitrary_types_allowed=True):
    thing: object = None


class RaisesEverywhere:
    def __getattr__(self, name: str) -> object:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RuntimeError("repr")

    def __str__(self) -> str:
        raise RuntimeError("str")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("eq")

    def __hash__(self) -> int:
        raise RuntimeError("hash")

    def __iter__(self) -> Iterator[object]:
        raise RuntimeError("iter")

    def __len__(self) -> int:
        raise RuntimeError("len")

    def __bool__(self) -> bool:
        raise RuntimeError("bool")


class LiesAboutItsClass:
    @property
    def __class__(self) -> Any:
        raise RuntimeError("class")

    @__class__.setter
    def __class__(self, value: Any) -> None: ...


class RaisingMeta(type):
    def __getattr__(cls, name: str) -> object:
        raise RuntimeError(name)


class OfRaisingMeta(metaclass=RaisingMeta):
    pass


class RaisingMapping(Mapping[str, object]):
    def __getitem__(self, key: str) -> object:
        raise RuntimeError(key)

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("iter")

    def __len__(self) -> int:
        return 3


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def cycle() -> list[Any]:
    value: list[Any] = [1]
    value.append(value)
    return value


def cyclic_dict() -> dict[str, Any]:
    value: dict[str, Any] = {"a": {}}
    value["a"]["up"] = value
    return value


def cyclic_point() -> Point:
    point = Point(1, None)
    point.other = [point]
    return point


def cyclic_model() -> Open:
    model = Open()
    model.thing = {"me": model}
    return model


ODD: dict[str, Callable[[], object]] = {
    "raises": RaisesEverywhere,
    "lies about its class": LiesAboutItsClass,
    "raising metaclass": OfRaisingMeta,
    "raising mapping": RaisingMapping,
    "cyclic list": cycle,
    "cyclic dict": cyclic_dict,
    "cyclic dataclass": cyclic_point,
    "cyclic model": cyclic_model,
    "5,000 deep": lambda: nested(5_000),
    "surrogate": lambda: "\ud800",
    "surrogate as key": lambda: {"\ud800": 1},
    "5,000 digits": lambda: 10**5_000,
    "beyond 64 bits": lambda: [2**64, -(2**63) - 1],
    "tuple as key": lambda: {(1, 2): 3},
    "object as key": lambda: {object(): 3},
    "none as key": lambda: {None: 1, 1.5: 2, b"x": 3},
    "module": lambda: sys,
    "class": lambda: Model,
    "function": lambda: nested,
    "lock": threading.Lock,
    "model without fields": Model.model_construct,
    "not a number": lambda: [math.nan, math.inf, -math.inf],
}


@pytest.mark.parametrize("make", ODD.values(), ids=list(ODD))
def test_odd_values_are_kept_somehow_and_spoil_nothing_beside_them(make: Callable[[], object]) -> None:
    assert len(snapshot(make(), LIMIT).data) > 0
    neighbours = kept({"before": 1, "odd": make(), "after": [2]})
    assert neighbours["before"] == 1
    assert neighbours["after"] == [2]
    decoded = decode(encode(SpanUpdated("0", attributes=encode_attributes({"odd": make()}, 1_000_000)[0])))
    assert isinstance(decoded, SpanUpdated)
    assert (decoded.attributes or {}).keys() == {"odd"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Text("x"), "x"),
        (Number(3), 3),
        (Fraction(1.5), 1.5),
        (Table(a=Text("b")), {"a": "b"}),
        (Items([Number(1)]), [1]),
        (Colour.RED, "red"),
        ([Level.LOW, Word.HI, Text("x")], [1, "hi", "x"]),
        (Point(1, Text("t")), {"x": 1, "other": "t"}),
        (Attrs(1, Text("t")), {"x": 1, "other": "t"}),
        (Struct(1, Text("t")), {"x": 1, "other": "t"}),
        (Model(), {"x": 1, "when": "2026-01-02"}),
        ([Model(x=2)], [{"x": 2, "when": "2026-01-02"}]),
        (Open.model_validate({"thing": Text("t"), "more": 2}), {"thing": "t", "more": 2}),
        (collections.deque([1, Text("t")]), [1, "t"]),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
        (collections.OrderedDict(a=Text("t")), {"a": "t"}),
        ({1}, [1]),
        (datetime.datetime(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05"),
        ([Text("t"), datetime.timedelta(days=1)], ["t", "P1D"]),
        ([Text("t"), decimal.Decimal("1.10"), uuid.UUID(int=5)], ["t", "1.10", str(uuid.UUID(int=5))]),
        ([Text("t"), b"bytes", bytearray(b"b"), memoryview(b"m")], ["t", b"bytes", b"b", b"m"]),
        ({1: "a", (1, 2): Text("b")}, {"1": "a", "(1, 2)": "b"}),
        (2**70, str(2**70)),
        ("a\ud800b", "a\\ud800b"),
        (Model, repr(Model)),
        (cycle(), [1, "<cycle>"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_become_plain_data(value: object, expected: object) -> None:
    assert kept(value) == expected


def test_the_same_object_twice_is_no_cycle() -> None:
    shared = [Text("x")]
    assert kept([shared, shared]) == [["x"], ["x"]]


def test_iterators_are_not_consumed() -> None:
    generator = (number for number in range(3))
    iterator = iter([1, 2])
    assert "generator" in kept([generator, iterator])[0]
    assert list(generator) == [0, 1, 2]
    assert list(iterator) == [1, 2]


def test_models_are_kept_as_they_dump_themselves() -> None:
    class Secretive(pydantic.BaseModel):
        password: pydantic.SecretStr
        hidden: str = pydantic.Field(default="hidden", exclude=True)

    assert kept(Secretive(password=pydantic.SecretStr("swordfish"))) == {"password": "**********"}


def test_a_model_whose_serializer_raises_is_kept_by_its_fields() -> None:
    class Stubborn(pydantic.BaseModel):
        x: int = 1

        @pydantic.field_serializer("x")
        def refuse(self, value: int) -> int:
            raise RuntimeError(value)

    assert kept(Stubborn()) == {"x": 1}


recursive = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(st.characters()), inner)
        | st.builds(Point, st.integers(), inner)
        | st.builds(Text, st.text(st.characters()))
        | st.tuples(inner, inner)
    ),
    max_leaves=20,
)


@settings(max_examples=200)
@given(recursive, st.integers(1, 2_000))
def test_any_value_is_kept_within_about_its_limit_and_what_is_left_out_is_counted(value: object, limit: int) -> None:
    payload = snapshot(value, limit)
    whole = snapshot(value, 10**9)
    assert whole.truncated == 0
    assert len(payload.data) <= 4 * limit + 200  # headers and the marks of what was cut off
    if len(whole.data) <= limit:
        assert payload.truncated == 0
    if payload.truncated == 0:
        assert len(payload.data) >= len(whole.data)


@pytest.mark.parametrize(
    "value",
    [
        "x" * 50_000,
        "é" * 50_000,
        b"x" * 50_000,
        ["y" * 1_000] * 50,
        list(range(50_000)),
        {str(i): i for i in range(20_000)},
        [object()] * 50_000,
        Model.model_construct(x="x" * 50_000),
        {"a": "x" * 50_000, "odd": Text("x")},
    ],
    ids=["str", "two bytes a character", "bytes", "texts", "numbers", "dict", "objects", "model", "by hand"],
)
def test_large_values_are_cut(value: object) -> None:
    payload = snapshot(value, 10_000)
    assert len(payload.data) < 20_000
    assert payload.truncated > 5_000


def test_what_is_cut_off_a_text_is_said_in_place() -> None:
    assert kept("x" * 50, 10).startswith("xxxxxxxxxx… [4")


def test_a_snapshot_is_of_now() -> None:
    value = {"list": [1]}
    payload = snapshot(value, LIMIT)
    value["list"].append(2)
    assert msgspec.msgpack.decode(payload.data) == {"list": [1]}


def linked() -> list[Point]:
    points = [Point(number, None) for number in range(30)]
    for point in points:
        point.other = [*points]
    return points


class Counting(list[object]):
    """Counts how many of its items are read in Python."""

    read = 0

    def __iter__(self) -> Iterator[object]:
        for item in super().__iter__():
            Counting.read += 1
            yield item


@pytest.mark.parametrize(
    "make",
    [
        lambda: [None] * 3_000_000,
        lambda: tuple(range(300_000)),
        lambda: set(range(300_000)),
        lambda: collections.deque(range(300_000)),
        lambda: dict.fromkeys(range(300_000)),
        lambda: types.MappingProxyType(dict.fromkeys(range(300_000))),
        lambda: [{"a": 1, "b": [2]} for _ in range(60_000)],
        lambda: [[[0] * 1_000] * 1_000] * 1_000,
        lambda: Point(1, [0] * 300_000),
        lambda: Model.model_construct(x=[0] * 300_000),
        lambda: Counting([0] * 300_000),
        lambda: [object() for _ in range(100_000)],
        linked,
    ],
    ids=[
        "list", "tuple", "set", "deque", "dict", "mapping", "dicts", "lists of lists", "dataclass", "model", "subclass",
        "objects", "linked",
    ],
)  # fmt: skip
def test_too_many_items_are_cut_and_counted_whatever_they_are(make: Callable[[], object]) -> None:
    value = make()
    payload = snapshot(value, 10**9)
    assert payload.truncated > 0
    assert len(payload.data) < 60 * COPIED_ITEMS
    assert Counting.read == 0


def test_a_snapshot_changes_nothing() -> None:
    value = {"list": [{"a": number} for number in range(2 * VALUE_ITEMS)], "text": Text("x" * 1_000)}
    before = list(value["list"])
    snapshot(value, 500)
    assert value["list"] == before
    assert value["text"] == "x" * 1_000


@pytest.mark.parametrize(
    "value",
    [[0.5] * VALUE_ITEMS, ["text"] * VALUE_ITEMS, [{"a": 1, "b": 2}] * 1_000, [Point(1, ["x"])] * 1_000],
    ids=["numbers", "texts", "dicts", "objects"],
)
def test_values_within_the_limits_are_kept_whole(value: object) -> None:
    payload = snapshot(value, 10**9)
    assert (payload.truncated, payload.data) == (0, msgspec.msgpack.encode(value))


class Renders:
    """Renders whatever it holds, and says that it was asked to."""

    def __init__(self, held: object) -> None:
        self.held = held
        self.asked = False

    def __repr__(self) -> str:
        self.asked = True
        return f"Renders({self.held!r})"


class Slotted(Renders):
    __slots__ = ("in_a_slot",)

    def __init__(self, held: object) -> None:
        super().__init__(None)
        self.in_a_slot = held


@pytest.mark.parametrize("kind", [Renders, Slotted])
@pytest.mark.parametrize(
    "held", [[0] * 1_000_000, {"deep": [["x" * 2_000_000]]}, b"x" * 2_000_000], ids=["items", "text", "bytes"]
)
def test_the_repr_of_an_object_that_holds_too_much_is_not_asked_for(kind: type[Renders], held: object) -> None:
    odd = kind(held)
    payload = snapshot(odd, LIMIT)
    assert not odd.asked
    assert payload.truncated == 1
    assert "too large for repr()" in msgspec.msgpack.decode(payload.data)
    small = kind("held")
    assert "Renders(" in kept(small)
    assert small.asked


@pytest.mark.parametrize(
    "make",
    [
        ValueError,
        lambda held: dict.fromkeys(held).keys(),
        lambda held: functools.partial(print, held),
        lambda held: types.SimpleNamespace(a=held),
        lambda held: array.array("i", held),
        lambda held: [held],
    ],
    ids=["exception", "view", "partial", "namespace", "array", "list"],
)
def test_nor_that_of_a_built_in_object(make: Callable[[Any], object]) -> None:
    large, small = make(range(1_000_000)), make(range(3))
    if not isinstance(large, (array.array, type({}.keys()))):
        large = make([*range(1_000_000)])
    assert "too large for repr()" in safe_repr(large)
    assert "too large for str()" in safe_str(large)
    assert safe_repr(small) == repr(small)


SHRINKS_WHILE_IT_IS_READ = """
from tracer.capture.snapshots import snapshot
class Evil:
    def __repr__(self):
        box.clear(); table.clear()
        return "evil"
for _ in range(50):
    box, table = [], {}
    box += [Evil(), *[("x" * i, i) for i in range(500)]]
    table.update({0: Evil(), **{i: ("x" * i, i) for i in range(1, 500)}})
    snapshot([box, table], 10**6)
"""


def test_a_container_that_shrinks_while_it_is_read_crashes_nothing() -> None:
    subprocess.run([sys.executable, "-c", SHRINKS_WHILE_IT_IS_READ], check=True, timeout=60)


def test_containers_may_change_in_other_threads() -> None:
    table: dict[int, object] = {}
    stop = threading.Event()

    def churn() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            table[number % 100] = object()
            table.pop((number * 7) % 100, None)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        snapshots: list[Payload] = [snapshot(table, LIMIT) for _ in range(200)]
    finally:
        stop.set()
        thread.join()
    assert all(isinstance(msgspec.msgpack.decode(taken.data), dict) for taken in snapshots)


@pytest.mark.parametrize("render", [safe_repr, safe_str])
def test_rendering_is_bounded_and_never_raises(render: Callable[[object], str]) -> None:
    assert len(render("x" * 10_000)) < 1_100
    assert "raised RuntimeError" in render(RaisesEverywhere())
    render("\ud800").encode()
    assert render(nested(100_000))
