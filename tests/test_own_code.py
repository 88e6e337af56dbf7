"""What is an author's own code, and which files of it a process has read or looked for."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib import import_module, invalidate_caches
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import agenthost
from agenthost.own_code import Sought, is_own, own_code, own_files


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that modules are imported from; they are forgotten afterwards."""
    (tmp_path / "acme_own").mkdir()
    (tmp_path / "acme_own" / "__init__.py").touch()
    (tmp_path / "acme_own" / "agents.py").write_text("agent = 1\n")
    (tmp_path / "acme_spread").mkdir()
    (tmp_path / "acme_spread" / "agents.py").write_text("agent = 1\n")
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "acme_bought.py").write_text("agent = 1\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(tmp_path / "site-packages"), *sys.path])
    invalidate_caches()
    yield tmp_path
    for name in [one for one in sys.modules if one.startswith("acme_")]:
        del sys.modules[name]


def test_what_lies_among_packages_in_the_library_or_here_is_nobodys_own():
    assert is_own("/srv/ann/project/app.py")
    for other in (
        "/srv/ann/.venv/lib/python3.12/site-packages/acme.py",
        "/usr/lib/python3/dist-packages/acme.py",
        "/srv/ann/project/__pycache__/app.cpython-311.pyc",
        json.__file__,
        agenthost.__file__,
        pytest.__file__,
        "app.py",
    ):
        assert not is_own(other), other


@pytest.mark.parametrize(
    ("module", "file"),
    [
        ("acme_own.agents", "acme_own/agents.py"),
        ("acme_own", "acme_own/__init__.py"),
        ("acme_own.missing", "acme_own/__init__.py"),
        ("acme_spread.agents", "acme_spread/agents.py"),
        ("acme_spread.missing", None),
        ("acme_bought", None),
        ("acme_missing", None),
        ("json", None),
        ("", None),
        ("team/app.py", "team/app.py"),
        ("site-packages/acme_bought.py", None),
    ],
)
def test_the_file_of_a_module_is_found_without_importing_it(folder: Path, module: str, file: str | None):
    before = set(sys.modules)
    assert own_code(module, folder) == (None if file is None else str(folder / file))
    assert set(sys.modules) == before


def test_a_module_beside_agents_toml_is_found_whatever_is_on_the_path(tmp_path: Path):
    (tmp_path / "acme_beside.py").touch()
    assert own_code("acme_beside", tmp_path) == str(tmp_path / "acme_beside.py")


def test_the_files_that_were_read_are_those_of_the_author(folder: Path):
    import_module("acme_own.agents")
    import_module("acme_bought")
    found = {file for file in own_files() if file.startswith(str(folder))}
    assert found == {str(folder / "acme_own" / "__init__.py"), str(folder / "acme_own" / "agents.py")}


def test_a_file_whose_name_is_no_text_is_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch):
    odd = folder / "caf\udce9"
    try:
        odd.mkdir()
    except OSError:
        pytest.skip("file names are text here")
    (odd / "acme_odd.py").touch()
    monkeypatch.setattr(sys, "path", [str(odd), *sys.path])
    import_module("acme_odd")
    assert not [file for file in own_files() if "acme_odd" in file]


def test_what_only_says_that_it_is_a_module_is_left_out(monkeypatch: pytest.MonkeyPatch):
    class Library:
        """As cffi puts one among the modules."""

        __class__ = ModuleType
        __file__ = "/srv/ann/project/app.py"

    library: Any = Library()
    assert isinstance(library, ModuleType)
    monkeypatch.setitem(sys.modules, "acme_library", library)
    assert "/srv/ann/project/app.py" not in own_files()


def test_what_was_looked_for_and_is_not_there_is_where_it_might_be(folder: Path, monkeypatch: pytest.MonkeyPatch):
    sought = Sought()
    monkeypatch.setattr(sys, "meta_path", [sought, *sys.meta_path])
    (folder / "acme_broken.py").write_text("import acme_own.nowhere\n")
    with pytest.raises(ModuleNotFoundError):
        import_module("acme_broken")
    missing = {file for file in sought.missing() if "acme_" in file and file.startswith(f"{folder}/")}
    assert missing == {
        str(folder / file)
        for file in (
            "acme_broken.py",
            "acme_broken/__init__.py",
            "acme_own/nowhere.py",
            "acme_own/nowhere/__init__.py",
        )
    }
