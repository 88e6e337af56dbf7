"""The repository's own files: license, tests that mirror modules, one command per job."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

from agenthost.registering import REGISTRARS
from tests.house.tree import ROOT, modules, tracked

OF_THE_WHOLE = {"benchmarks", "contracts", "docs", "hooks", "house", "journeys"}
"""Folders of tests that are not about one module."""

ABOUT_NO_MODULE = {
    "http.mutated_requests",  # thousands of requests that are nearly right
    "http.openapi",  # what the documents promise, kept
    "store.faults",  # full, locked, read-only and torn disks
}
"""Test files that are named after what happens, beside the modules it happens to. This list only shrinks."""

WITHOUT_TESTS_OF_THEIR_OWN = """
    hookspecs store.records
"""
"""Modules whose behaviour is tested through others only. This list only shrinks."""


def test_the_license_is_there():
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Version 2.0" in text
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"] == "Apache-2.0"
    assert project["license-files"] == ["LICENSE"]


def test_the_top_level_is_what_the_layout_says():
    shown = {path.relative_to(ROOT).parts[0] for path in tracked()}
    assert {name for name in shown if not name.startswith(".")} == {
        "LICENSE",
        "README.md",
        "agenthost",
        "agents.toml",
        "plugins",
        "pyproject.toml",
        "tests",
    }
    assert {name for name in shown if name.startswith(".")} == {".ci", ".github", ".gitignore"}


def _tested() -> dict[str, Path]:
    """Test files by the module they are named after: `tests/store/test_lock.py` is about `store.lock`."""
    found = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        *folders, file = path.relative_to(ROOT / "tests").parts
        if not folders or folders[0] not in OF_THE_WHOLE:
            found[".".join([*folders, file.removeprefix("test_").removesuffix(".py")])] = path
    return found


def test_every_test_file_is_named_after_a_module():
    assert set(_tested()) - set(modules()) == ABOUT_NO_MODULE


def test_every_module_has_a_test_file_named_after_it():
    code = {name for name, module in modules().items() if not module.is_package}
    assert code - set(_tested()) == set(WITHOUT_TESTS_OF_THEIR_OWN.split())


def test_every_hook_has_a_test_file_named_after_it():
    files = {path.stem.removeprefix("test_") for path in (ROOT / "tests" / "hooks").glob("test_*.py")}
    assert files == set(REGISTRARS)


def test_no_test_file_is_empty():
    assert not [
        path.relative_to(ROOT)
        for path in (ROOT / "tests").rglob("test_*.py")
        if not re.search(r"^def test_|^    def test_", path.read_text(), re.MULTILINE)
    ]


def test_ci_runs_the_test_command_of_the_readme_and_may_be_run():
    ci = ROOT / ".ci" / "run"
    assert os.access(ci, os.X_OK)
    assert f"\n{_test_command()}\n" in ci.read_text()


def _test_command() -> str:
    """README's one command that runs the tests."""
    commands = re.findall(r"^(?:\$ )?(python3 -m venv .*pytest.*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(commands) == 1
    return commands[0]
