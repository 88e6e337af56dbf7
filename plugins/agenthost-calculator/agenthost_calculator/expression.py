"""An arithmetic expression becomes a program for a stack: a tokenizer and a precedence parser, and no `eval`."""

from __future__ import annotations

import re
from typing import NamedTuple

from agenthost_calculator.arithmetic import CONSTANTS, FUNCTIONS, Call, CannotCompute, Number

MAX_DEPTH = 100
"""Levels of nesting; the parser calls itself once a level, and Python's own stack must bear it."""

_TOKEN = re.compile(
    r"(?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<name>[A-Za-z_][A-Za-z_0-9]*)"
    r"|(?P<sign>\*\*|//|\S)"
)
_NEGATION = 3
_BINARY = {
    # operator: how tightly it binds, and what its right side must bind to be part of it
    "+": (1, 2),
    "-": (1, 2),
    "*": (2, 3),
    "/": (2, 3),
    "//": (2, 3),
    "%": (2, 3),
    "**": (4, 4),  # from the right, and more tightly than the minus in front of it: -2**2 is -4
}
_KNOWN = ", ".join(sorted({*FUNCTIONS, *CONSTANTS, "ans"}))


class Token(NamedTuple):
    """A number, a name or a sign, and where it begins, counted from 1. Past the end: all empty."""

    kind: str
    text: str
    position: int


def tokens(source: str) -> list[Token]:
    """Split any text into tokens; a character that means nothing here is a sign, for the parser to refuse."""
    return [Token(str(found.lastgroup), found.group(), found.start() + 1) for found in _TOKEN.finditer(source)]


def parse(source: str, ans: Number | None = None) -> list[Number | Call]:
    """Compile `source` to numbers and calls in the order a stack takes them; `ans` is the last answer.

    Raises `CannotCompute`, with the character counted from 1, for anything that is not an expression. Time grows with
    the length of `source`, which the caller bounds.
    """
    parser = _Parser(source, ans)
    parser.expression(0)
    if parser.next.text:
        raise parser.unexpected()
    return parser.program


class _Parser:
    def __init__(self, source: str, ans: Number | None) -> None:
        self.program: list[Number | Call] = []
        self._names = CONSTANTS if ans is None else {**CONSTANTS, "ans": ans}
        self._tokens = [*tokens(source), Token("end", "", len(source) + 1)]
        self._at = 0
        self._depth = 0

    @property
    def next(self) -> Token:
        return self._tokens[self._at]

    def unexpected(self) -> CannotCompute:
        token = self.next
        if not token.text:
            return CannotCompute("the expression ends too early")
        hint = "; a power is written **" if token.text == "^" else ""
        return CannotCompute(f"unexpected {token.text[:40]!r} at character {token.position}{hint}")

    def expression(self, binding: int) -> None:
        """Compile an operand and every operator after it that binds at least as tightly as `binding`."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise CannotCompute(f"nested more than {MAX_DEPTH} levels deep")
        self._operand()
        while (found := _BINARY.get(self.next.text)) and found[0] >= binding:
            sign = self._take().text
            self.expression(found[1])
            self.program.append(Call(sign, 2))
        self._depth -= 1

    def _operand(self) -> None:
        token = self.next
        if token.kind == "number":
            self._take()
            whole = token.text.isdigit()
            self.program.append(int(token.text) if whole else float(token.text))
        elif token.kind == "name":
            self._named(self._take())
        elif token.text in {"+", "-"}:
            self._take()
            self.expression(_NEGATION)
            if token.text == "-":
                self.program.append(Call("negate", 1))
        elif token.text == "(":
            self._take()
            self.expression(0)
            self._expect(")")
        else:
            raise self.unexpected()

    def _named(self, token: Token) -> None:
        name = token.text
        if name in FUNCTIONS:
            self.program.append(Call(name, self._arguments(name)))
        elif name in self._names:
            self.program.append(self._names[name])
        elif name == "ans":
            raise CannotCompute("there is no ans yet: it is the last answer of the thread")
        else:
            raise CannotCompute(f"unknown name {name[:40]!r} at character {token.position}; known: {_KNOWN}")

    def _arguments(self, name: str) -> int:
        """Compile what stands in a function's parentheses and return how many values that is."""
        self._expect("(")
        count = 0
        while self.next.text != ")":
            if count:
                self._expect(",")
            self.expression(0)
            count += 1
        self._expect(")")
        fewest, most = FUNCTIONS[name]
        if count < fewest or (most is not None and count > most):
            wanted = f"{fewest} or more" if most is None else f"{fewest}" if fewest == most else f"{fewest} or {most}"
            raise CannotCompute(f"wrong number of values for {name}: {count} instead of {wanted}")
        return count

    def _take(self) -> Token:
        token = self.next
        self._at += 1
        return token

    def _expect(self, sign: str) -> None:
        if self.next.text != sign:
            raise self.unexpected()
        self._take()
