"""Imports stand at the top of a module, where a reader and a start-up see them."""

from __future__ import annotations

import ast

from tests.house.tree import modules, plugin_modules

HIDDEN: dict[str, set[str]] = {}
"""Functions that import, and what: optional extras only. This table only shrinks."""

BY_NAME = {
    "agenthost": {"__getattr__"},  # the table of public names: what makes `import agenthost` cheap
    "importing": {"load_module"},  # what an operator or a plugin named
    "cli.debugging": {"begin_debugging"},  # what is only there if somebody installed it
    "cli": {"_imported"},  # a command starts without what the others need
}
"""Functions that import a module by its name."""


def test_no_function_hides_an_import():
    found: dict[str, set[str]] = {}
    for module in (*modules().values(), *(one for one in plugin_modules() if "tests" not in one.path.parts)):
        for imported in module.imports:
            if imported.function and not imported.typing_only:
                found.setdefault(module.name, set()).add(f"{imported.function}: {imported.target}")
    assert found == HIDDEN


def test_modules_are_imported_by_name_only_where_that_is_the_point():
    found: dict[str, set[str]] = {}
    for module in modules().values():
        for name, function in module.functions():
            called = (node.func for node in ast.walk(function) if isinstance(node, ast.Call))
            names = {getattr(one, "id", None) or getattr(one, "attr", None) for one in called}
            if names & {"import_module", "__import__"}:
                found.setdefault(module.name, set()).add(name)
    assert found == BY_NAME
