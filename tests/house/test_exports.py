"""What `from agenthost import …` offers, and what it costs."""

from __future__ import annotations

import ast
import statistics
import subprocess
import sys
import time
from importlib import import_module

import pytest

import agenthost
from tests.house.tree import PACKAGE, ROOT

MOST_NAMES = 40
WEIGHTY = {"fastapi", "starlette", "uvicorn", "pydantic", "sqlalchemy", "click", "rich", "httpx", "orjson"}
MAY_BE_SLOW = {"create_app", "AgentServer", "Client", "AsyncClient"}
"""Names that stand for a server or talk to one: all others an agent's module can import for next to nothing."""

BOUND = 0.060
"""Seconds `import agenthost` may add to the start of Python."""


def test_the_table_is_the_one_list_of_names():
    assert sorted(agenthost._HOME) == agenthost.__all__
    assert len(agenthost.__all__) <= MOST_NAMES
    assert not [name for name in agenthost.__all__ if name.startswith("_")]


@pytest.mark.parametrize("name", agenthost.__all__)
def test_a_name_is_what_its_module_calls_so(name: str):
    assert getattr(agenthost, name) is getattr(import_module(f"{PACKAGE}.{agenthost._HOME[name]}"), name)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'agenthost' has no attribute 'Agents'"):
        _ = agenthost.Agents


def test_type_checkers_are_told_the_same():
    stub = ast.parse((ROOT / PACKAGE / "__init__.pyi").read_text())
    told = {
        alias.asname: (node.module or "").removeprefix(f"{PACKAGE}.")
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }
    assert told == agenthost._HOME


def _loaded_by(program: str) -> set[str]:
    report = f"{program}; import sys; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    command = [sys.executable, "-c", report]
    return set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())


def test_importing_it_loads_no_framework():
    assert not WEIGHTY & (_loaded_by("import agenthost") - _loaded_by("pass"))


def test_what_an_agent_imports_loads_no_framework():
    names = ", ".join(sorted(set(agenthost.__all__) - MAY_BE_SLOW))
    assert not WEIGHTY & (_loaded_by(f"from agenthost import {names}") - _loaded_by("pass"))


def _seconds(program: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
    return time.perf_counter() - began


def test_importing_it_is_quick():
    """In pairs with a Python that imports nothing, since machines are busy; one good series of a few is enough."""
    medians = []
    for _attempt in range(5):
        pairs = [_seconds("import agenthost") - _seconds("pass") for _ in range(7)]
        medians.append(statistics.median(pairs))
        if medians[-1] <= BOUND:
            return
    raise AssertionError(f"import agenthost took {min(medians) * 1000:.0f} ms, over {BOUND * 1000:.0f} ms")
