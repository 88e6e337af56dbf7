"""First-party plugins are ordinary ones: they have what each needs, and no private way in."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.house.tree import PLUGINS, ROOT, Module, plugin_modules

MAY_IMPORT = {"agenthost", "agenthost.protocols", "agenthost.testing"}
IMPORTED_AS = {
    "langgraph": {"langgraph", "langchain_core", "pydantic"},
    "locus-sdk": {"locus"},
    "openai-agents": {"agents", "openai"},
    "pydantic-ai-slim": {"pydantic_ai", "pydantic", "pydantic_core"},
}
"""What a distribution that is not called like its module brings: its modules, and those of what it stands on."""
PLUGIN_FOLDERS = sorted(path for path in PLUGINS.iterdir() if path.is_dir())

folder_of_a_plugin = pytest.mark.parametrize("folder", PLUGIN_FOLDERS, ids=lambda folder: folder.name)


def _project(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text())


def _own(module: Module) -> set[str]:
    """The plugin's own packages, and what its pyproject says it needs; its tests also what the root has for them."""
    folder = PLUGINS / module.path.relative_to(PLUGINS).parts[0]
    needed = _project(folder)["project"]["dependencies"]
    if "tests" in module.path.parts:
        root = tomllib.loads((ROOT / "pyproject.toml").read_text())
        needed = [*needed, *root["dependency-groups"]["dev"], *root["project"]["dependencies"]]
    packages = {path.name for path in folder.iterdir() if (path / "__init__.py").is_file()}
    if "tests" in module.path.parts:
        packages |= {beside.stem for beside in module.path.parent.glob("*.py")}  # its doubles
    names = [re.split(r"[^\w-]", need)[0] for need in needed]
    return packages.union(*(IMPORTED_AS.get(name, {name.replace("-", "_")}) for name in names)) - {"agenthost"}


@pytest.mark.parametrize("module", plugin_modules(), ids=lambda module: module.shown)
def test_a_plugin_imports_what_every_plugin_may(module: Module):
    assert not [
        f"{module.shown}:{imported.line} imports {imported.target}"
        for imported in module.imports
        if imported.target not in MAY_IMPORT and imported.top not in sys.stdlib_module_names | _own(module)
    ]


@folder_of_a_plugin
def test_a_plugin_has_what_it_needs(folder: Path):
    package = folder / folder.name.replace("-", "_")
    wanted = [folder / "pyproject.toml", folder / "README.md", package / "__init__.py", package / "py.typed"]
    assert not [path for path in wanted if not path.is_file()]
    assert list((folder / "tests").glob("test_*.py"))


@folder_of_a_plugin
def test_a_plugin_says_what_it_is(folder: Path):
    project = _project(folder)["project"]
    assert project["name"] == folder.name
    assert re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", project["version"])
    assert project["description"].endswith(".")
    assert project["readme"] == "README.md"
    assert project["license"] == "Apache-2.0"
    assert any(re.split(r"[^\w-]", need)[0] == "agenthost" for need in project["dependencies"])
    assert set(project["entry-points"]) <= {"agenthost.agents", "agenthost.plugins"}


@folder_of_a_plugin
def test_tools_are_configured_once_at_the_root(folder: Path):
    assert set(_project(folder).get("tool", {})) <= {"hatch"}
    assert not [name for name in ("ruff.toml", "mypy.ini", "pytest.ini", "setup.cfg") if (folder / name).exists()]


def test_every_plugin_is_a_member_of_the_workspace_and_installed_for_the_tests():
    root = tomllib.loads((ROOT / "pyproject.toml").read_text())
    names = {folder.name for folder in PLUGIN_FOLDERS}
    assert root["tool"]["uv"]["workspace"]["members"] == ["plugins/*"]
    assert set(root["tool"]["uv"]["sources"]) == names | {"agenthost"}
    groups = root["dependency-groups"]
    assert names <= {*groups["dev"], *groups["frameworks"]}
