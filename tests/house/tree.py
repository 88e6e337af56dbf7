"""The source as the house tests read it: modules with their syntax trees and imports, and the files git tracks."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "agenthost"
PLUGINS = ROOT / "plugins"

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One file of Python; `name` is what follows `agenthost.`, and `agenthost` for the package itself."""

    path: Path
    name: str

    @property
    def shown(self) -> str:
        """The path as people write it, from the root."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def is_package(self) -> bool:
        """Whether this is an `__init__.py`."""
        return self.path.name == "__init__.py"

    @cached_property
    def text(self) -> str:
        """The source."""
        return self.path.read_text()

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree."""
        return ast.parse(self.text, str(self.path))

    @cached_property
    def first_line(self) -> str:
        """The first line of the docstring, empty without one."""
        return (ast.get_docstring(self.tree) or "").partition("\n")[0]

    @cached_property
    def imports(self) -> list[Import]:
        """Every import statement, wherever it stands."""
        inside = self.name if self.is_package and self.name != PACKAGE else self.name.rpartition(".")[0]
        return list(_imports(self.tree, inside, None))

    def functions(self) -> Iterator[tuple[str, Function]]:
        """Every function with its dotted name, methods and nested ones too."""
        yield from _functions(self.tree, "")


@dataclass(frozen=True)
class Import:
    """One imported name: of `import x.y` it is `target`, of `from x import y` it is `target` and `name`."""

    target: str
    name: str | None
    line: int
    function: str | None
    typing_only: bool

    @property
    def top(self) -> str:
        """The top-level package."""
        return self.target.partition(".")[0]


def _imports(node: ast.AST, package: str, function: str | None, typing_only: bool = False) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, None, child.lineno, function, typing_only)
        elif isinstance(child, ast.ImportFrom):
            for alias in child.names:
                yield Import(_absolute(child, package), alias.name, child.lineno, function, typing_only)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _imports(child, package, child.name, typing_only)
        else:
            guarded = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
            yield from _imports(child, package, function, typing_only or guarded)


def _absolute(statement: ast.ImportFrom, package: str) -> str:
    """What `from … import` names; `package` is where a relative one starts from."""
    if not statement.level:
        return statement.module or ""
    steps = [PACKAGE, *filter(None, package.split("."))]
    return ".".join([*steps[: len(steps) - statement.level + 1], *filter(None, [statement.module])])


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, Function]]:
    for child in ast.iter_child_nodes(node):
        named = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        inside = f"{prefix}{child.name}." if named else prefix
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield inside[:-1], child
        yield from _functions(child, inside)


def _module(path: Path, top: Path) -> Module:
    parts = path.relative_to(top).with_suffix("").parts
    name = ".".join(part for part in parts if part != "__init__")
    return Module(path, name or PACKAGE)


@cache
def modules() -> dict[str, Module]:
    """Every module of the package, by name."""
    top = ROOT / PACKAGE
    found = (_module(path, top) for path in sorted(top.rglob("*.py")))
    return {module.name: module for module in found}


@cache
def plugin_modules() -> tuple[Module, ...]:
    """Every module of every first-party plugin, their tests included."""
    return tuple(Module(path, path.stem) for path in sorted(PLUGINS.rglob("*.py")) if ".venv" not in path.parts)


@cache
def edges() -> dict[str, set[str]]:
    """Which module imports which, in this package, at run time; the packages that only hold them are left out."""
    known = modules()
    found: dict[str, set[str]] = {}
    for module in known.values():
        found[module.name] = set()
        for imported in module.imports:
            if imported.top == PACKAGE and not imported.typing_only:
                found[module.name].add(_resolve(imported))
        found[module.name].discard(module.name)
    return found


def _resolve(imported: Import) -> str:
    """The module that an import means: `from package import module` means the module."""
    inner = imported.target.removeprefix(PACKAGE).removeprefix(".")
    if imported.name is not None:
        deeper = f"{inner}.{imported.name}" if inner else imported.name
        if deeper in modules():
            return deeper
    return inner or PACKAGE


@cache
def tracked() -> tuple[Path, ...]:
    """The files that are, or would be, in the repository."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        hidden = {".venv", ".git", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"}
        found = (path for path in ROOT.rglob("*") if not hidden & set(path.parts) and path.is_file())
        return tuple(path for path in sorted(found) if path.name != "uv.lock" and ".db" not in path.name)
    names = sorted(set(listed.stdout.decode().split("\0")) - {""})
    return tuple(ROOT / name for name in names if (ROOT / name).is_file())
