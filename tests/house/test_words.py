"""What the source says about itself: docstrings, reasons beside suppressions, no open ends, nothing of one machine."""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterator

import pytest

from tests.house.tree import ROOT, Function, Module, modules, plugin_modules, tracked

SHIPPED = [*modules().values(), *(module for module in plugin_modules() if "tests" not in module.path.parts)]

OPEN_ENDS = re.compile(r"\b(TODO|FIXME|XXX|(?<!except )NotImplementedError)\b")
SUPPRESSION = re.compile(r"#\s*(?P<kind>noqa|type:\s*ignore|pragma|pylint|mypy:|ruff:)(?P<rest>.*)", re.IGNORECASE)
NAMED_WITH_REASON = {
    "noqa": re.compile(r": [A-Z]+[0-9]+(, [A-Z]+[0-9]+)* (-|#) \w.{7,}"),
    "type": re.compile(r"\[[a-z-]+(, ?[a-z-]+)*\]  # \w.{7,}"),
}

OF_ONE_MACHINE = re.compile(
    r"(?<![\w.])/(?:wor[k]|roo[t]|hom[e]|User[s]|far[m]|opt/whee[l]s|tmp/[a-z]{3,}/)[/\w]|bash_job[s]"
)
REGISTRY = re.compile(r"(?:pypi|pythonhosted|npmjs|debian)\.(?:org|com)")


def _comments(module: Module) -> Iterator[tuple[int, str]]:
    with module.path.open("rb") as source:
        for token in tokenize.tokenize(source.readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string


def test_nothing_is_left_open():
    assert not [module.shown for module in SHIPPED if OPEN_ENDS.search(module.text)]


def test_every_suppression_names_its_rule_and_its_reason():
    bare = [
        f"{module.shown}:{line}: {comment}"
        for module in SHIPPED
        for line, comment in _comments(module)
        if (found := SUPPRESSION.search(comment)) and not _reasoned(found)
    ]
    assert not bare


def _reasoned(found: re.Match[str]) -> bool:
    kind = found["kind"].partition(":")[0].lower()
    return kind in NAMED_WITH_REASON and NAMED_WITH_REASON[kind].match(found["rest"]) is not None


def test_an_except_that_catches_all_and_goes_on_says_why():
    """Ruff finds them; here only that none slips through as a bare `except:`."""
    assert not [
        f"{module.shown}:{node.lineno}"
        for module in SHIPPED
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]


@pytest.mark.parametrize("module", SHIPPED, ids=lambda module: module.shown)
def test_a_module_says_in_a_line_what_it_is(module: Module):
    assert module.first_line, "it has no docstring"
    assert len(module.first_line) <= 120
    assert module.first_line[-1] in ".:", "the first line is no whole sentence"


def test_public_classes_and_functions_say_what_they_do():
    assert not [f"{module.shown}: {name}" for module in modules().values() for name in _undocumented(module)]


def _undocumented(module: Module) -> Iterator[str]:
    for node in module.tree.body:
        if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_"):
            if ast.get_docstring(node) is None and not _overloaded(node):
                yield node.name
            if isinstance(node, ast.ClassDef):
                yield from (f"{node.name}.{method.name}" for method in _public_methods(node) if not _told(method, node))


def _public_methods(kind: ast.ClassDef) -> Iterator[Function]:
    for node in kind.body:
        if isinstance(node, Function) and not node.name.startswith(("_", "test_")):  # a test's name is its sentence
            yield node


def _overloaded(node: ast.AST) -> bool:
    return any("overload" in ast.dump(decorator) for decorator in getattr(node, "decorator_list", ()))


def _told(method: Function, kind: ast.ClassDef) -> bool:
    """Whether it has a docstring, here or where a base class of this package first had the method."""
    if ast.get_docstring(method) is not None:
        return True
    bases = {getattr(base, "id", None) for base in kind.bases} - {None}
    return any(
        isinstance(node, ast.ClassDef)
        and node.name in bases
        and any(isinstance(one, Function) and one.name == method.name and ast.get_docstring(one) for one in node.body)
        for module in modules().values()
        for node in module.tree.body
    )


def _texts() -> Iterator[tuple[str, str]]:
    for path in tracked():
        try:
            yield path.relative_to(ROOT).as_posix(), path.read_text()
        except UnicodeDecodeError:
            continue


def test_no_file_names_a_path_of_one_machine_or_a_registry():
    assert not [
        f"{shown}:{number}: {line.strip()[:100]}"
        for shown, text in _texts()
        for number, line in enumerate(text.splitlines(), 1)
        if OF_ONE_MACHINE.search(line) or REGISTRY.search(line)
    ]
