"""Arithmetic that cannot run away: whole numbers are exact up to a number of digits, all else is a finite float."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

Number = int | float

CONSTANTS: Mapping[str, Number] = {"pi": math.pi, "e": math.e}

FUNCTIONS: Mapping[str, tuple[int, int | None]] = {
    "sqrt": (1, 1),
    "abs": (1, 1),
    "round": (1, 2),
    "min": (1, None),
    "max": (1, None),
}
"""The fewest and the most values each function takes; None: any number."""

MAX_ROUND_DIGITS = 15
"""`round(5, -10**9)` would build a number of a billion digits before anything could refuse it."""

_FLOAT_TOO_LARGE = "too large: beyond 1.8e308, the largest number with decimals"


class CannotCompute(ValueError):
    """An expression has no answer; the message says why, to the person who wrote it."""


class Expensive(Exception):
    """A power that somebody should be asked about first; `digits` is about how many its result would have."""

    def __init__(self, digits: int) -> None:
        super().__init__(digits)
        self.digits = digits


class Call(NamedTuple):
    """One operation of a program: its operator or function, and how many values it takes from the stack."""

    operation: str
    takes: int


class Arithmetic:
    """The operations of a calculator whose whole numbers have at most `max_digits` digits.

    A power of over `ask_above` digits (None: no limit) raises `Expensive` instead of being computed.
    """

    def __init__(self, max_digits: int, ask_above: int | None = None) -> None:
        self._limit = 10**max_digits
        self._ask_above = ask_above
        self._too_large = f"too large: a whole number of more than {max_digits} digits"
        self._operations: Mapping[str, Callable[..., Any]] = {
            "+": operator.add,
            "-": operator.sub,
            "*": operator.mul,
            "/": _divide,
            "//": operator.floordiv,
            "%": operator.mod,
            "**": self._power,
            "negate": operator.neg,
            "sqrt": _square_root,
            "abs": abs,
            "round": _round,
            "min": lambda *values: min(values),
            "max": lambda *values: max(values),
        }

    def execute(self, step: Number | Call, stack: list[Number]) -> None:
        """Put a number on the stack, or replace what a call takes by its result; raises `CannotCompute`."""
        if not isinstance(step, Call):
            stack.append(self._bounded(step))
            return
        values = stack[-step.takes :]
        del stack[-step.takes :]
        stack.append(self._apply(step.operation, values))

    def _apply(self, operation: str, values: Sequence[Number]) -> Number:
        try:
            result = self._operations[operation](*values)
        except ZeroDivisionError:
            raise CannotCompute("division by zero") from None
        except OverflowError:
            raise CannotCompute(_FLOAT_TOO_LARGE) from None
        return self._bounded(result)

    def _bounded(self, value: Number) -> Number:
        if isinstance(value, int):
            if abs(value) >= self._limit:
                raise CannotCompute(self._too_large)
        elif not math.isfinite(value):
            raise CannotCompute(_FLOAT_TOO_LARGE)
        return value

    def _power(self, base: Number, exponent: Number) -> Number:
        if isinstance(base, int) and isinstance(exponent, int) and abs(base) > 1:
            least_bits = (base.bit_length() - 1) * exponent  # of the result, known before it is computed
            if least_bits > self._limit.bit_length():
                raise CannotCompute(self._too_large)
            digits = int(math.log10(abs(base)) * exponent) + 1
            if self._ask_above is not None and digits > self._ask_above:
                raise Expensive(digits)
        result: Number | complex = base**exponent
        if isinstance(result, complex):
            raise CannotCompute("no real result: a negative number to a power that is not whole")
        return result


def _divide(left: Number, right: Number) -> Number:
    """Divide; whole numbers that divide evenly stay whole, so they stay exact."""
    if isinstance(left, int) and isinstance(right, int):
        quotient, remainder = divmod(left, right)
        return left / right if remainder else quotient
    return left / right


def _square_root(value: Number) -> Number:
    """Take the root; that of a square of a whole number is whole."""
    if value < 0:
        raise CannotCompute("no real result: the square root of a negative number")
    if isinstance(value, int):
        root = math.isqrt(value)
        return root if root * root == value else math.sqrt(value)
    return math.sqrt(value)


def _round(value: Number, digits: Number = 0) -> Number:
    """Round halves to even, as Python does; without digits, or with none, to a whole number."""
    if not isinstance(digits, int) or abs(digits) > MAX_ROUND_DIGITS:
        raise CannotCompute(f"round takes a whole number of decimals from -{MAX_ROUND_DIGITS} to {MAX_ROUND_DIGITS}")
    return round(value, digits) if digits else round(value)
