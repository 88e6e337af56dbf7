"""How long modules and functions may be; the tables of exceptions only shrink."""

from __future__ import annotations

import statistics

from tests.house.tree import Function, modules

LONGEST_MODULE = 400
MEDIAN_MODULE = 150
LONGEST_FUNCTION = 40
MOST_FUNCTIONS = 25
"""What 95 functions of 100 keep to."""

LONG_MODULES: dict[str, int] = {}
"""Modules that are longer, and how long they may be."""

LONG_FUNCTIONS: dict[str, int] = {}
"""Functions that are longer, and how long they may be."""


def _lines(function: Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def test_modules_are_short():
    lengths = {name: len(module.text.splitlines()) for name, module in modules().items()}
    assert statistics.median(lengths.values()) <= MEDIAN_MODULE
    _only_shrinks({name: length for name, length in lengths.items() if length > LONGEST_MODULE}, LONG_MODULES)


def test_functions_are_short():
    lengths = {
        f"{module.name}:{name}": _lines(function)
        for module in modules().values()
        for name, function in module.functions()
    }
    assert sorted(lengths.values())[len(lengths) * 95 // 100] <= MOST_FUNCTIONS
    _only_shrinks({name: length for name, length in lengths.items() if length > LONGEST_FUNCTION}, LONG_FUNCTIONS)


def _only_shrinks(found: dict[str, int], allowed: dict[str, int]) -> None:
    """What is too long is listed, no longer than listed; what is listed is still too long."""
    grown = {name: length for name, length in found.items() if length > allowed.get(name, 0)}
    assert not grown, "too long: make it shorter"
    assert not set(allowed) - set(found), "short enough now: take it off the list"
