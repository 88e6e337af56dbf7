"""Lines of keys: the scanner finds every key that the parser finds, on the line where it stands."""

from __future__ import annotations

import contextlib
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenthost.config.lines import Keys, key_lines


def paths(node: Any, keys: Keys = ()) -> Iterator[Keys]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*keys, key)
        yield from paths(value, (*keys, key))


def leaves(node: Any, keys: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else None
    if items is None:
        yield keys, node
        return
    for key, value in items:
        yield from leaves(value, (*keys, key))


NASTY = [
    ("a = 1", {("a",): 1}),
    ("\n\n# c = 1\n  a = 1  # [b]\n", {("a",): 4}),
    ("[a]\n[a.b]\nc = 1", {("a",): 1, ("a", "b"): 2, ("a", "b", "c"): 3}),
    ("[a.b.c]\nd = 1\n[a]\ne = 2", {("a",): 3, ("a", "b"): 1, ("a", "b", "c"): 1, ("a", "e"): 4}),
    ("a.b . c = 1\n'x y'.\"z\\u0041\" = 2", {("a",): 1, ("a", "b", "c"): 1, ("x y", "zA"): 2}),
    ("[[k]]\nx = 1\n[k.t]\ny = 1\n[[k]]\nx = 2", {("k", 0, "t", "y"): 4, ("k", 1): 5, ("k", 1, "x"): 6, ("k",): 1}),
    ("[[a]]\n[[a.b]]\n[[a.b]]\nc = 1\n[[a]]\n[[a.b]]\nc = 2", {("a", 0, "b", 1, "c"): 4, ("a", 1, "b", 0, "c"): 7}),
    ('a = """\n[b]\nc = 1\n"""\nd = 1', {("a",): 1, ("d",): 5}),
    ('a = """x"""""\nd = 1', {("a",): 1, ("d",): 2}),
    ('a = """"x""y\\""" " \\\\"""\nd = 1', {("a",): 1, ("d",): 2}),
    ("a = '''\n'' # \"\"\" \\'''''\nd = 1", {("a",): 1, ("d",): 3}),
    ("a = ''\nb = \"\"\nc = ''''''\nd = \"\"\"\"\"\"\ne = 1", {("b",): 2, ("d",): 4, ("e",): 5}),
    ('a = "# no comment \\" ] }" # yes\nb = 1', {("b",): 2}),
    ("a = [\n  1, # one\n\n  [2,\n 3],\n]\nb = 1", {("a", 0): 2, ("a", 1): 4, ("a", 1, 1): 5, ("b",): 7}),
    ("a = [{ x = 1 }, { y.z = [\n1,\n2] }]\nb = 1", {("a", 0, "x"): 1, ("a", 1, "y", "z", 1): 3, ("b",): 4}),
    ("a = { b = { c = '}' }, 'd' = ']' }\ne = 1", {("a", "b", "c"): 1, ("a", "d"): 1, ("e",): 2}),
    ("a = 1979-05-27 07:32:00 # when\nb = 07:32:00\nc = -1.5e+3\nd = inf", {("b",): 2, ("c",): 3, ("d",): 4}),
    ('[ "a.b" . c ]\nd = 1', {("a.b",): 1, ("a.b", "c"): 1, ("a.b", "c", "d"): 2}),
    ("[x]\r\na = '''\r\n1'''\r\nb = 1\r\n", {("x", "a"): 2, ("x", "b"): 4}),
    ("1.2 = 3\ntrue = 4\n-5 = 6", {("1", "2"): 1, ("true",): 2, ("-5",): 3}),
    ("\"\" = 1\n[a]\n'' = 2", {("",): 1, ("a", ""): 3}),
    ("a = []\nb = {}\nc = [ # empty\n]\nd = 1", {("b",): 2, ("c",): 3, ("d",): 5}),
    ("", {}),
]


@pytest.mark.parametrize(("text", "expected"), NASTY)
def test_each_key_is_found_on_its_line(text: str, expected: dict[Keys, int]) -> None:
    lines = key_lines(text)
    assert {keys: lines[keys] for keys in expected} == expected
    assert set(lines) == set(paths(tomllib.loads(text)))


VALUES = [
    "1",
    "1.5",
    "true",
    "'a # b'",
    '"[\\"]"',
    '"""\n[x]\ny = 1 # \\"""\n"" """',
    "'''\n= '' ]]\n'''",
    "[]",
    "[1, [2], ]",
    "[ # c [\n 1,\n # }\n '''\n''', { a = [\n] }, ]",
    "{}",
    "{ a.b = 1, \"c d\" = { e = 'f' }, 'g' = [ {}, [ {} ] ] }",
    "2020-01-01",
    "2020-01-01 10:00:00.5+01:00",
]
NAMES = ["a", "b-c", "1", "'d.e'", '"f\\"g"', '"\\u00e9"', "a.b", "a . 'b' . c"]
HEADERS = ["[{}]", "[[{}]]", " [ {} ] # c", "[[ {} ]]"]

statement = st.one_of(
    st.builds("{} = {}".format, st.sampled_from(NAMES), st.sampled_from(VALUES)),
    st.builds(lambda header, name: header.format(name), st.sampled_from(HEADERS), st.sampled_from(NAMES)),
    st.sampled_from(["", "# [c]", "\t# '''", "  "]),
)


@given(st.lists(statement, max_size=12), st.sampled_from(["\n", "\r\n"]))
def test_the_scanner_finds_what_the_parser_finds(statements: list[str], newline: str) -> None:
    good: list[str] = []
    for line in statements:  # keep what the parser accepts, so that no example is wasted
        try:
            tomllib.loads("\n".join([*good, line]))
        except tomllib.TOMLDecodeError:
            continue
        good.append(line)
    text = "\n".join(good).replace("\n", newline)
    assert set(key_lines(text)) == set(paths(tomllib.loads(text)))


class Writer:
    """Writes a tree as TOML in a style drawn for each value; every leaf is a number that stands in one line only."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.count = 1000

    def pick(self, *options: str) -> str:
        return self.draw(st.sampled_from(options))

    def leaf(self) -> str:
        self.count += 1
        return self.pick("{0}", "'{0}'", '"""{0}\n[a]\nb = 1\n"""', "'''{0}\n]\n'''", "{0} # c").format(self.count)

    def value(self, depth: int) -> str:
        kind = self.pick("leaf", "leaf", "array", "inline") if depth else "leaf"
        if kind == "leaf":
            return self.leaf().partition(" #")[0]
        if kind == "array":
            items = [self.value(depth - 1) for _ in range(self.draw(st.integers(0, 3)))]
            return "[" + self.pick(",", ",\n", ", # ]\n").join(items) + self.pick("]", "\n]")
        pairs = [f"k{n} = {self.value(depth - 1)}" for n in range(self.draw(st.integers(0, 3)))]
        return "{ " + ", ".join(pairs) + " }"

    def document(self) -> str:
        parts = []
        for n in range(self.draw(st.integers(1, 4))):
            header = self.pick(f"[t{n}]", f"[t{n}.'x.y']", "[[many]]", f"[u.v{n}]")
            pairs = [f"{self.pick('k', 'k.l.')}{m} = {self.value(2)}" for m in range(self.draw(st.integers(0, 3)))]
            parts += [self.pick("", "# c", "\n"), header, *pairs]
        return "\n".join(parts)


@st.composite
def documents(draw: Any) -> str:
    return Writer(draw).document()


@given(documents())
def test_every_leaf_is_on_the_line_where_its_text_is(text: str) -> None:
    lines = key_lines(text)
    for keys, value in leaves(tomllib.loads(text)):
        marker = str(value).split("\n")[0].strip()
        if marker.isdigit():
            assert text.split("\n")[lines[keys] - 1].count(marker) == 1


@given(st.text(alphabet="a=[]{}\"'#\n.,\\ 1", max_size=40))
def test_what_is_not_toml_ends_with_a_value_error_or_not_at_all(text: str) -> None:
    with contextlib.suppress(ValueError):
        key_lines(text)


def test_a_text_that_stops_inside_an_array_is_an_error_with_its_line() -> None:
    with pytest.raises(ValueError, match=r"no \] in line 2"):
        key_lines("a = [1,\n2")
