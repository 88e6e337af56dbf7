"""Code that is an author's own, not an installed package's: which files of it this process has read, or looked for.

An author's own is what lies neither among installed packages, nor in the standard library, nor in this package.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

import pluggy

from agenthost.blame import encodable

INSTALLED = frozenset({"site-packages", "dist-packages", "__pycache__"})
"""Folders that no file of an author's own is in."""

_OTHERS = tuple(
    folder + os.sep
    for folder in (
        os.path.dirname(os.__file__),
        os.path.dirname(__file__),
        os.path.dirname(pluggy.__file__ or ""),
    )
)


def is_own(file: str) -> bool:
    """Whether a file, or a folder, is an author's own, by its absolute path."""
    return os.path.isabs(file) and not file.startswith(_OTHERS) and INSTALLED.isdisjoint(file.split(os.sep))


def own_files() -> set[str]:
    """The author's own files among those that modules were made of in this process, as far as their names are text."""
    found = set()
    for module in tuple(sys.modules.values()):
        if issubclass(type(module), ModuleType):  # what only says that it is one (cffi's libraries do) is none
            # as they are: a module that loads itself when it is first asked for anything is not to be asked
            file = ModuleType.__getattribute__(module, "__dict__").get("__file__")
            if isinstance(file, str) and encodable(file) == file and is_own(file):
                found.add(file)
    return found


def own_code(module: str, base_dir: Path) -> str | None:
    """The file of an author's own that `module` is: a dotted name, or `file.py` below `base_dir`; imports nothing.

    None where it is somebody else's, or cannot be found. A file need not be there.
    """
    if module.endswith(".py"):
        named = os.path.join(os.path.abspath(base_dir), module)
        return named if is_own(named) else None
    try:
        file = _file_of(module, [str(base_dir), *sys.path])
    except (ImportError, ValueError, AttributeError):  # a finder of somebody else's
        return None
    return file if file is not None and is_own(file) else None


def _file_of(module: str, path: Sequence[str]) -> str | None:
    """What a module would be made of; the package's file where a module is not in its package."""
    name, file = "", None
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        spec = PathFinder.find_spec(name, path)
        if spec is None and name == part:
            spec = importlib.util.find_spec(name)  # what is installed so that a finder of its own finds its folder
        if spec is None:
            return file
        file = spec.origin if spec.has_location else None
        path = list(spec.submodule_search_locations or ())
    return file


class Sought(MetaPathFinder):
    """Notes what is imported, and finds nothing itself: first on `sys.meta_path`, it knows what was not there."""

    def __init__(self) -> None:
        self._names: dict[str, Sequence[str] | None] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        """Note a name, and where it is looked for."""
        self._names.setdefault(fullname, path)
        return None

    def missing(self) -> Iterator[str]:
        """The files of an author's own, there or not, that would be the modules which could not be imported."""
        for name, path in tuple(self._names.items()):
            if name in sys.modules:
                continue
            leaf = name.rpartition(".")[2]
            for folder in sys.path if path is None else path:
                if is_own(folder):
                    yield encodable(os.path.join(folder, f"{leaf}.py"))
                    yield encodable(os.path.join(folder, leaf, "__init__.py"))
