"""Which line of a TOML text each key stands on, which the standard library's parser does not tell."""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right

Keys = tuple[str | int, ...]
"""The way from the root of a TOML document to a value: keys, and positions (from 0) inside arrays."""

_BETWEEN = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_KEY = re.compile(
    r"""[ \t]*(?:(?P<bare>[^\s.=\[\]"'#]+)|'(?P<literal>[^'\n]*)'|(?P<quoted>"(?:\\.|[^"\\\n])*"))[ \t]*"""
)
_STRING = re.compile(
    r"""
    \"{3} (?: \\. | [^\\] )*? \"{3,5} (?!\")  # up to two quotes may stand before the three that end it
    | '{3} .*? '{3,5} (?!')
    | \" (?: \\. | [^"\\\n] )* \"
    | ' [^'\n]* '
    """,
    re.DOTALL | re.VERBOSE,
)
_SCALAR = re.compile(r"[^,\]}\n#]+")


def key_lines(text: str) -> dict[Keys, int]:
    """Return the line (from 1) of every key, table and array item of `text`, which must be valid TOML.

    A table written with a header stands on its header's line, else where its name first occurs. Raises `ValueError`
    where the text is not TOML, and `RecursionError` where it is nested deeper than the parser itself could go.
    """
    scan = _Scan(text)
    scan.document()
    return scan.lines


class _Scan:
    """One walk over a text, from its first character to its last."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Keys, int] = {}
        self.newlines = [found.start() for found in re.finditer("\n", text)]
        self.repeated: dict[Keys, int] = {}

    def document(self) -> None:
        table: Keys = ()
        while self.skip() < len(self.text):
            if self.text[self.at] == "[":
                table = self.header()
            else:
                self.pair(table)

    def header(self) -> Keys:
        """Read `[a.b]` or `[[a.b]]`; a name of an array of tables means its newest item."""
        start = self.at
        repeats = self.text.startswith("[[", start)
        self.at += 2 if repeats else 1
        *parents, name = self.key()
        self.at += 2 if repeats else 1
        keys: Keys = ()
        for parent in parents:
            keys = self.newest((*keys, parent))
            self.mark(keys, start)
        keys = (*keys, name)
        if repeats:
            self.mark(keys, start)
            self.repeated[keys] = self.repeated.get(keys, 0) + 1
            keys = self.newest(keys)
        self.lines[keys] = self.line(start)
        return keys

    def newest(self, keys: Keys) -> Keys:
        return (*keys, self.repeated[keys] - 1) if keys in self.repeated else keys

    def pair(self, table: Keys) -> None:
        """Read `a.b = value` under `table`."""
        start = self.at
        keys = table
        for name in self.key():
            keys = (*keys, name)
            self.mark(keys, start)
        self.expect("=")
        self.value(keys)

    def key(self) -> list[str]:
        """Read a dotted key, each part bare or quoted."""
        parts = []
        while True:
            found = self.match(_KEY)
            if (quoted := found["quoted"]) is not None:
                parts.append(next(iter(tomllib.loads(f"{quoted} = 0"))))
            else:
                parts.append(found["bare"] if found["literal"] is None else found["literal"])
            if not self.text.startswith(".", self.at):
                return parts
            self.at += 1

    def value(self, keys: Keys) -> None:
        self.skip()
        first = self.text[self.at : self.at + 1]
        if first == "[":
            self.array(keys)
        elif first == "{":
            self.inline_table(keys)
        else:
            self.match(_STRING if first in {'"', "'"} else _SCALAR)

    def array(self, keys: Keys) -> None:
        self.expect("[")
        position = 0
        while not self.closes("]"):
            item = (*keys, position)
            self.mark(item, self.at)
            self.value(item)
            position += 1

    def inline_table(self, keys: Keys) -> None:
        self.expect("{")
        while not self.closes("}"):
            self.pair(keys)

    def closes(self, bracket: str) -> bool:
        """Step over what stands before the next item; whether the closing bracket came instead of one."""
        self.skip()
        if self.text.startswith(",", self.at):
            self.at += 1
            self.skip()
        if self.at >= len(self.text):
            raise ValueError(f"no {bracket} in line {self.line(self.at)}")
        if self.text[self.at] != bracket:
            return False
        self.at += 1
        return True

    def skip(self) -> int:
        """Step over blanks, newlines and comments; return where that leads."""
        self.at = self.match(_BETWEEN).end()
        return self.at

    def expect(self, character: str) -> None:
        if not self.text.startswith(character, self.at):
            raise ValueError(f"no {character} in line {self.line(self.at)}")
        self.at += 1

    def match(self, pattern: re.Pattern[str]) -> re.Match[str]:
        found = pattern.match(self.text, self.at)
        if found is None:
            raise ValueError(f"not TOML in line {self.line(self.at)}")
        self.at = found.end()
        return found

    def mark(self, keys: Keys, position: int) -> None:
        if keys not in self.lines:
            self.lines[keys] = self.line(position)

    def line(self, position: int) -> int:
        return bisect_right(self.newlines, position - 1) + 1
