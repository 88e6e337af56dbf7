"""What JSON can carry, in one table: the host's encoder and a worker's say the same to every row."""

from __future__ import annotations

import enum
import json
from collections import OrderedDict, defaultdict, namedtuple
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import reduce
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenthost import encoding, events
from agenthost.events import MAX_DEPTH, NotJSON

ENCODERS = [events.encode_json, encoding.encode_json]

Point = namedtuple("Point", "x y")


class Word(str):
    pass


class Number(int):
    pass


class Measure(float):
    pass


class Table(dict):
    pass


class Row(list):
    pass


class Colour(enum.Enum):
    RED = "red"
    RGB = (255, 0, 0)
    NONE = None
    PRICE = Decimal("1.50")
    ODD = object()


class Level(enum.IntEnum):
    HIGH = 3


class Kind(enum.StrEnum):
    A = "a"


class Flags(enum.IntFlag):
    ONE = 1
    TWO = 2


@dataclass
class Record:
    x: int = 1


class Unreadable:
    def __repr__(self) -> str:
        raise AssertionError("a refusal must not look at the value")

    __str__ = __repr__


def nested(levels: int, leaf: Any = 1, kind: type = list) -> Any:
    wrap = {list: lambda inner: [inner], dict: lambda inner: {"k": inner}, tuple: lambda inner: (inner,)}[kind]
    return reduce(lambda inner, _level: wrap(inner), range(levels), leaf)


def cycle(kind: type) -> Any:
    if kind is list:
        found: Any = []
        found.append(found)
    else:
        found = {}
        found["again"] = found
    return found


DEEP = b"[" * MAX_DEPTH + b"1" + b"]" * MAX_DEPTH

ENCODED: list[tuple[str, Any, bytes]] = [
    ("none", None, b"null"),
    ("true", True, b"true"),
    ("false", False, b"false"),
    ("int", -17, b"-17"),
    ("largest signed", 2**63 - 1, b"9223372036854775807"),
    ("smallest signed", -(2**63), b"-9223372036854775808"),
    ("largest unsigned", 2**64 - 1, b"18446744073709551615"),
    ("float", 0.1, b"0.1"),
    ("whole float", 3.0, b"3.0"),
    ("minus nought", -0.0, b"-0.0"),
    ("nan", float("nan"), b"null"),
    ("infinity", float("inf"), b"null"),
    ("minus infinity", [float("-inf")], b"[null]"),
    ("str", "word", b'"word"'),
    ("empty str", "", b'""'),
    ("not ascii", "é\U0001f600", '"é\U0001f600"'.encode()),
    ("line separators", "\u2028\u2029\u0085", '"\u2028\u2029\u0085"'.encode()),
    ("escapes", '\x00\x1f\x7f"\\/\b\f\n\r\t', b'"\\u0000\\u001f\x7f\\"\\\\/\\b\\f\\n\\r\\t"'),
    ("list", [1, [2], []], b"[1,[2],[]]"),
    ("tuple", (1, (2,), ()), b"[1,[2],[]]"),
    ("dict", {"a": 1, "b": {"c": None}}, b'{"a":1,"b":{"c":null}}'),
    ("dict keeps its order", {"z": 1, "a": 2}, b'{"z":1,"a":2}'),
    ("subclass of str", Word("w"), b'"w"'),
    ("subclass of int", Number(5), b"5"),
    ("subclass of float", Measure(1.5), b"1.5"),
    ("subclass of float, nan", Measure("nan"), b"null"),
    ("subclass of dict", Table(a=1), b'{"a":1}'),
    ("subclass of list", Row([1]), b"[1]"),
    ("ordered dict", OrderedDict(a=1), b'{"a":1}'),
    ("default dict", defaultdict(int, a=1), b'{"a":1}'),
    ("named tuple", Point(1, 2), b"[1,2]"),
    ("datetime", datetime(2026, 1, 2, 3, 4, 5, 6), b'"2026-01-02T03:04:05.000006"'),
    ("datetime with zone", datetime(2026, 1, 2, tzinfo=UTC), b'"2026-01-02T00:00:00+00:00"'),
    ("date", date(2026, 1, 2), b'"2026-01-02"'),
    ("time", time(1, 2, 3), b'"01:02:03"'),
    ("time with zone", time(1, 2, tzinfo=UTC), b'"01:02:00+00:00"'),
    ("uuid", UUID(int=5), b'"00000000-0000-0000-0000-000000000005"'),
    ("decimal", Decimal("1.10"), b'"1.10"'),
    ("decimal that is not a number", Decimal("NaN"), b'"NaN"'),
    ("enum", Colour.RED, b'"red"'),
    ("enum of a tuple", Colour.RGB, b"[255,0,0]"),
    ("enum of none", Colour.NONE, b"null"),
    ("enum of a decimal", Colour.PRICE, b'"1.50"'),
    ("int enum", Level.HIGH, b"3"),
    ("str enum", Kind.A, b'"a"'),
    ("flags", Flags.ONE | Flags.TWO, b"3"),
    ("as deep as allowed", nested(MAX_DEPTH), DEEP),
    ("as deep as allowed, with a decimal", nested(MAX_DEPTH, Decimal(1)), DEEP.replace(b"1", b'"1"')),
    ("as deep as allowed, with a named tuple", nested(MAX_DEPTH - 1, Point(1, 2)), DEEP.replace(b"1", b"1,2")),
    ("as deep as allowed, mixed", nested(100, nested(150, 1, dict), tuple),
     b"[" * 100 + b'{"k":' * 150 + b"1" + b"}" * 150 + b"]" * 100),
    ("many, but not deep", [[] for _ in range(1000)], b"[" + b",".join([b"[]"] * 1000) + b"]"),
    ("brackets in text", "[{" * 500, b'"' + b"[{" * 500 + b'"'),
]  # fmt: skip

TOO_DEEP = f"more than {MAX_DEPTH} levels deep"
KEY = "a dict with a key that is not a str"

REFUSED: list[tuple[str, Any, str]] = [
    ("int over 64 bits", 2**64, "an int over 64 bits"),
    ("int under 64 bits", -(2**63) - 1, "an int over 64 bits"),
    ("subclass of int over 64 bits", Number(2**70), "an int over 64 bits"),
    ("lone surrogate", "\ud800", "a str with a lone surrogate"),
    ("lone surrogate in a subclass", Word("\ud800"), "a str with a lone surrogate"),
    ("lone surrogate in a key", {"\ud800": 1}, "a str with a lone surrogate"),
    ("key that is an int", {1: 2}, KEY),
    ("key that is none", {None: 1}, KEY),
    ("key of a subclass of str", {Word("k"): 1}, KEY),
    ("key that is an enum", {Kind.A: 1}, KEY),
    ("bytes", b"x", "bytes"),
    ("bytearray", bytearray(b"x"), "bytearray"),
    ("set", {1}, "set"),
    ("range", range(3), "range"),
    ("complex", 1j, "complex"),
    ("timedelta", timedelta(1), "timedelta"),
    ("object", object(), "object"),
    ("class", Record, "type"),
    ("dataclass", Record(), "Record"),
    ("enum of an object", Colour.ODD, "object"),
    ("exception", ValueError("sk-secret"), "ValueError"),
    ("object in a list in a dict", {"a": [1, object()]}, "object"),
    ("one that cannot be shown", Unreadable(), "Unreadable"),
    ("list that holds itself", cycle(list), TOO_DEEP),
    ("dict that holds itself", cycle(dict), TOO_DEEP),
    ("one level too deep", nested(MAX_DEPTH + 1), TOO_DEEP),
    ("one level too deep, dicts", nested(MAX_DEPTH + 1, 1, dict), TOO_DEEP),
    ("one level too deep, a named tuple", nested(MAX_DEPTH, Point(1, 2)), TOO_DEEP),
    ("too deep below a named tuple", Point(nested(MAX_DEPTH), 1), TOO_DEEP),
    ("too deep, and not JSON", nested(MAX_DEPTH + 1, object()), TOO_DEEP),
    ("far too deep", nested(100_000), TOO_DEEP),
]


@pytest.mark.parametrize("encode", ENCODERS, ids=["worker", "host"])
@pytest.mark.parametrize(("value", "expected"), [row[1:] for row in ENCODED], ids=[row[0] for row in ENCODED])
def test_what_json_carries(encode: Any, value: Any, expected: bytes) -> None:
    assert encode(value) == expected


@pytest.mark.parametrize("encode", ENCODERS, ids=["worker", "host"])
@pytest.mark.parametrize(("value", "problem"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_json_does_not_carry_is_named_by_its_type_or_the_limit_it_breaks(
    encode: Any, value: Any, problem: str
) -> None:
    with pytest.raises(NotJSON) as refused:
        encode(value)
    assert str(refused.value) == problem


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_floats_are_the_same_number_and_from_a_ten_thousandth_up_the_same_bytes(value: float) -> None:
    ours, workers = encoding.encode_json(value), events.encode_json(value)
    assert orjson.loads(ours) == orjson.loads(workers) == json.loads(ours) == json.loads(workers)
    if abs(value) >= 1e-4 or value == 0:  # below, orjson spells an exponent with fewer noughts
        assert ours == workers


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text() | st.dates() | st.decimals() | st.binary()
    | st.sampled_from([Colour.RED, Colour.RGB, Colour.ODD, Level.HIGH, Kind.A, Word("w"), Point(1, Word("x")), 0.5]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner, inner),
    max_leaves=30,
)  # fmt: skip


@given(JSON)
def test_both_encoders_agree_about_any_value(value: Any) -> None:
    assert answer(encoding.encode_json, value) == answer(events.encode_json, value)


@given(JSON)
def test_what_is_encoded_is_what_json_value_says(value: Any) -> None:
    try:
        plain = events.json_value(value)
    except NotJSON:
        return
    assert orjson.loads(encoding.encode_json(value)) == plain


def answer(encode: Any, value: Any) -> bytes | str:
    try:
        found: bytes = encode(value)
    except NotJSON as refused:
        return str(refused)
    return found
