"""What an expression is worth: Python's own arithmetic as the measure, and an error text for everything else."""

import ast
import math
import operator
from collections.abc import Callable
from typing import Any

import pytest
from agenthost_calculator.arithmetic import Arithmetic, CannotCompute, Number
from agenthost_calculator.expression import parse
from hypothesis import example, given
from hypothesis import strategies as st


def compute(source: str, *, ans: Number | None = None, max_digits: int = 1000) -> Number:
    """The value of `source`; raises `CannotCompute`."""
    arithmetic = Arithmetic(max_digits)
    stack: list[Number] = []
    for step in parse(source, ans):
        arithmetic.execute(step, stack)
    (value,) = stack
    return value


def refusal(source: str, **given_: Any) -> str:
    """The text of the error that `source` gets."""
    with pytest.raises(CannotCompute) as caught:
        compute(source, **given_)
    return str(caught.value)


# ── against Python ──────────────────────────────────────────────────────────────────────────────────────────────────


def exact_quotient(left: Number, right: Number) -> Number:
    if isinstance(left, int) and isinstance(right, int) and right and left % right == 0:
        return left // right
    return left / right


def real_power(base: Number, exponent: Number) -> Number:
    if isinstance(base, int) and isinstance(exponent, int) and abs(base) > 1 and exponent > 10_000:
        raise OverflowError
    result = base**exponent
    if isinstance(result, complex):
        raise ArithmeticError
    return result


BINARY: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: exact_quotient,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: real_power,
}
NAMES: dict[str, Any] = {"abs": abs, "round": round, "pi": math.pi, "e": math.e}
NAMES |= {"min": lambda *values: min(values), "max": lambda *values: max(values)}


def reference(node: ast.expr) -> Any:
    """Python's parser and Python's operators; only whole quotients stay whole, and the same bounds hold."""
    match node:
        case ast.Constant(value):
            result = value
        case ast.BinOp(left, sign, right):
            result = BINARY[type(sign)](reference(left), reference(right))
        case ast.UnaryOp(ast.USub(), operand):
            result = -reference(operand)
        case ast.UnaryOp(_, operand):
            result = reference(operand)
        case ast.Call(ast.Name(name), arguments):
            result = NAMES[name](*map(reference, arguments))
        case ast.Name(name):
            result = NAMES[name]
        case other:
            raise AssertionError(other)
    if isinstance(result, float) and not math.isfinite(result):
        raise OverflowError
    if isinstance(result, int) and abs(result) >= 10**1000:
        raise OverflowError
    return result


def expected(source: str) -> Any:
    """The reference's value, or the beginning of the error text that should come in its place."""
    try:
        return reference(ast.parse(source.strip(), mode="eval").body)
    except ZeroDivisionError:
        return "division by zero"
    except OverflowError:
        return "too large"
    except ArithmeticError:
        return "no real result"


numbers = (
    st.integers(0, 30).map(str)
    | st.floats(0, 100, allow_nan=False).map(repr)
    | st.sampled_from(["0", "1", "2.", ".5", "1e3", "2E-2", "pi", "e", "123456789012345678901234567890"])
)
expressions = st.recursive(
    numbers,
    lambda inner: st.one_of(
        st.builds(
            lambda left, sign, right, gap: f"{left}{gap}{sign}{gap}{right}",
            inner,
            st.sampled_from(["+", "-", "*", "/", "//", "%", "**"]),
            inner,
            st.sampled_from(["", " ", "  "]),
        ),
        inner.map(lambda operand: f"({operand})"),
        inner.map(lambda operand: f"-{operand}"),
        inner.map(lambda operand: f"+{operand}"),
        inner.map(lambda operand: f"abs({operand})"),
        inner.map(lambda operand: f"round({operand})"),
        st.lists(inner, min_size=1, max_size=3).map(lambda values: f"max({', '.join(values)})"),
        st.lists(inner, min_size=1, max_size=3).map(lambda values: f"min({','.join(values)})"),
    ),
    max_leaves=12,
)


@given(expressions)
@example("-2**2")
@example("2**-1**2")
@example("2**3**2")
@example("2*-3**2")
@example("--3--2")
@example("7//-2%3")
@example("(-8)**.5")
@example("9**9**9")
def test_every_expression_is_worth_what_python_says_or_fails_for_the_same_reason(source: str) -> None:
    wanted = expected(source)

    if isinstance(wanted, str):
        assert refusal(source).startswith(wanted)
    else:
        value = compute(source)
        assert value == wanted
        assert type(value) is type(wanted)


PIECES = [
    "0",
    "1",
    "9",
    ".",
    "e",
    "+",
    "-",
    "*",
    "/",
    "**",
    "//",
    "%",
    "(",
    ")",
    ",",
    "sqrt(",
    "round(",
    "min(",
    "ans",
    ";",
]


@given(st.text(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
def test_any_text_at_all_has_a_value_or_a_short_error_text(source: str) -> None:
    try:
        value = compute(source, ans=3)
    except CannotCompute as problem:
        value, text = 0, str(problem)
    else:
        text = "a number"

    assert 0 < len(text) < 200
    assert math.isfinite(value) if isinstance(value, float) else abs(value) < 10**1000


@given(st.integers(0, 10**40))
def test_the_root_of_a_square_is_exact(root: int) -> None:
    assert compute(f"sqrt({root * root})") == root


@given(st.integers(-(10**40), 10**40), st.integers(1, 10**20))
def test_a_quotient_without_remainder_is_exact(quotient: int, divisor: int) -> None:
    assert compute(f"({quotient * divisor}) / {divisor}") == quotient


# ── functions and names ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("(2+3)*4", 20),
        ("7 % 3", 1),
        ("-7 // 2", -4),
        ("sqrt(2)", math.sqrt(2)),
        ("sqrt(16)", 4),
        ("sqrt(2.25)", 1.5),
        ("round(2.5)", 2),
        ("round(pi, 2)", 3.14),
        ("round(1234, -2)", 1200),
        ("min(3)", 3),
        ("max(1, 2.5, -4)", 2.5),
        ("2*ans", 14),
        ("\t1 +\n1 ", 2),
    ],
)
def test_operators_functions_and_names(source: str, value: Number) -> None:
    assert compute(source, ans=7) == value


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("1/0", "division by zero"),
        ("1//0", "division by zero"),
        ("1%0", "division by zero"),
        ("0**-1", "division by zero"),
        ("(-8)**0.5", "no real result: a negative number to a power that is not whole"),
        ("sqrt(-1)", "no real result: the square root of a negative number"),
        ("9**9**9", "too large: a whole number of more than 1000 digits"),
        ("1e400", "too large: beyond 1.8e308, the largest number with decimals"),
        ("1e308*10", "too large: beyond 1.8e308, the largest number with decimals"),
        ("9**999/7", "too large: beyond 1.8e308, the largest number with decimals"),
        ("round(1, -16)", "round takes a whole number of decimals from -15 to 15"),
        ("round(1, 0.5)", "round takes a whole number of decimals from -15 to 15"),
        ("", "the expression ends too early"),
        ("1+", "the expression ends too early"),
        ("(1", "the expression ends too early"),
        ("min(1", "the expression ends too early"),
        ("1)", "unexpected ')' at character 2"),
        ("2 3", "unexpected '3' at character 3"),
        ("2pi", "unexpected 'pi' at character 2"),
        ("1,2", "unexpected ',' at character 2"),
        ("min(1 2)", "unexpected '2' at character 7"),
        ("min(1,)", "unexpected ')' at character 7"),
        ("sqrt 4", "unexpected '4' at character 6"),
        ("2^3", "unexpected '^' at character 2; a power is written **"),
        ("٣", "unexpected '٣' at character 1"),
        ("1_000", "unexpected '_000' at character 2"),
        ("0x10", "unexpected 'x10' at character 2"),
        ("1j", "unexpected 'j' at character 2"),
        ("\x00", "unexpected '\\x00' at character 1"),
        ("\ud800", "unexpected '\\ud800' at character 1"),
        ("1.2.3", "unexpected '.3' at character 4"),
        ("sin(1)", "unknown name 'sin' at character 1; known: abs, ans, e, max, min, pi, round, sqrt"),
        ("ans", "there is no ans yet: it is the last answer of the thread"),
        ("sqrt()", "wrong number of values for sqrt: 0 instead of 1"),
        ("round(1, 2, 3)", "wrong number of values for round: 3 instead of 1 or 2"),
        ("max()", "wrong number of values for max: 0 instead of 1 or more"),
    ],
)
def test_each_mistake_has_its_own_text(source: str, text: str) -> None:
    assert refusal(source) == text


def test_a_whole_number_has_as_many_digits_as_the_settings_allow() -> None:
    assert compute("9999", max_digits=4) == 9999
    assert refusal("9999+1", max_digits=4) == "too large: a whole number of more than 4 digits"
    assert refusal("10000", max_digits=4) == "too large: a whole number of more than 4 digits"


def test_nesting_is_refused_beyond_100_levels() -> None:
    assert compute("(" * 99 + "1" + ")" * 99) == 1
    assert refusal("(" * 100 + "1" + ")" * 100) == "nested more than 100 levels deep"
