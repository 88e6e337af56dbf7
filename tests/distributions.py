"""Real distributions in a folder on `sys.path`: modules and the metadata that pip would have written."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from types import TracebackType

GATE = "import threading\nopened = threading.Event()\n"
"""A module whose `opened` another one waits for: how a test makes an import hang, and lets it go on."""


class Site:
    """A folder that is on `sys.path` within `with`; what was imported from it is forgotten at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    def __enter__(self) -> Site:
        self.folder.mkdir(parents=True, exist_ok=True)
        sys.path.insert(0, str(self.folder))
        importlib.invalidate_caches()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.path[:] = [entry for entry in sys.path if not Path(entry).is_relative_to(self.folder)]
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if file and Path(file).is_relative_to(self.folder):
                del sys.modules[name]
        importlib.invalidate_caches()

    def write(self, modules: Mapping[str, str]) -> None:
        """Write files, `acme` as acme.py, `acme/sub.py` as it stands; sources may be indented."""
        for name, source in modules.items():
            path = self.folder / _file(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(source))
        importlib.invalidate_caches()

    def install(
        self,
        name: str,
        version: str = "1.0",
        *,
        plugins: Mapping[str, str] | None = None,
        agents: Mapping[str, str] | None = None,
        modules: Mapping[str, str] | None = None,
        entry_points: str | bytes | None = None,
        metadata: str | None = None,
    ) -> Path:
        """Install a distribution and return its `dist-info` folder.

        `plugins` and `agents` are its entry points; `entry_points` and `metadata` are these files as they are, where a
        test wants them broken (an empty `metadata`: no such file).
        """
        self.write(modules or {})
        info = self.folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        if metadata is None:
            metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: {name} for tests\n"
        if metadata:
            (info / "METADATA").write_text(metadata)
        if entry_points is None:
            entry_points = _section("agenthost.plugins", plugins) + _section("agenthost.agents", agents)
        raw = entry_points if isinstance(entry_points, bytes) else entry_points.encode()
        (info / "entry_points.txt").write_bytes(raw)
        files = [_file(found) for found in modules or ()]
        files += [f"{info.name}/{path.name}" for path in info.iterdir()]
        (info / "RECORD").write_text("".join(f"{file},,\n" for file in [*files, f"{info.name}/RECORD"]))
        importlib.invalidate_caches()
        return info


def _file(module: str) -> str:
    return module if module.endswith(".py") else f"{module}.py"


def _section(group: str, entries: Mapping[str, str] | None) -> str:
    lines = "".join(f"{name} = {value}\n" for name, value in (entries or {}).items())
    return f"[{group}]\n{lines}\n" if lines else ""
