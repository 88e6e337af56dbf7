"""Packages for uv to install without an index: wheels written on the spot, and a project whose build waits."""

from __future__ import annotations

import os
import subprocess
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from agenthost.agents import AgentSource, AgentSpec, EnvironmentSpec
from agenthost.environments import environment_name

HOSTS_OWN = ("agenthost>=999", "pluggy>=999")
"""What a plugin requires that no index has: an environment is made all the same, because the host brings both."""

AGENT = "async def agent(ctx):\n    yield 'hello'\n"

SHOW = (
    "import importlib.metadata as m;"
    "print(*(f'{e.name}={e.value}' for e in m.entry_points(group='agenthost.agents')),"
    "*sorted(f'{d.name}-{d.version}' for d in m.distributions()))"
)
"""A program that prints the agents that an environment brings, and what is installed there."""

_BACKEND = """\
import os, pathlib, shutil, time
HERE = pathlib.Path(__file__).parent
WHEEL = "slow-1.0-py3-none-any.whl"

def get_requires_for_build_wheel(config_settings=None):
    return []

def build_wheel(directory, config_settings=None, metadata_directory=None):
    (HERE / "begun.new").write_text(str(os.getpid()))
    os.replace(HERE / "begun.new", HERE / "begun")
    while not (HERE / "go").exists():
        time.sleep(0.01)
    shutil.copy(HERE / WHEEL, directory)
    return WHEEL
"""


def wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    *,
    modules: Mapping[str, str] | None = None,
    agents: Mapping[str, str] | None = None,
    requires: tuple[str, ...] = (),
) -> Path:
    """Write a wheel into `folder` and return its path; `agents` are its entry points of the group agenthost.agents."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{name.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {one}" for one in requires)]
    entries = "".join(f"{agent} = {value}\n" for agent, value in (agents or {}).items())
    files = {f"{module}.py": source for module, source in (modules or {}).items()} | {
        f"{info}/METADATA": "\n".join(["Metadata-Version: 2.1", *lines, ""]),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[agenthost.agents]\n{entries}",
    }
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
    return path


class SlowProject:
    """A project in a folder whose build begins, and waits for `let_go`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        wheel(folder, "slow", agents={"slow": "slow:agent"}, modules={"slow": AGENT})
        (folder / "backend.py").write_text(_BACKEND)
        (folder / "pyproject.toml").write_text(
            '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
            '[project]\nname = "slow"\nversion = "1.0"\n'
        )

    @property
    def pid(self) -> int | None:
        """The process that builds, once it does."""
        begun = self.folder / "begun"
        return int(begun.read_text()) if begun.exists() else None

    def builds(self) -> bool:
        """Whether that process is there still."""
        return self.pid is not None and Path(f"/proc/{self.pid}").exists()

    def let_go(self) -> None:
        """Let every build go on."""
        (self.folder / "go").touch()


def specified(folder: Path, *requirements: str, name: str = "agent", **options: Any) -> AgentSpec:
    """An agent with such an environment; `lock` and `venv` are paths, the other options fields of an `AgentSpec`."""
    paths = {key: str(options.pop(key)) for key in ("lock", "venv") if key in options}
    environment = EnvironmentSpec(folder=str(folder), requirements=requirements, **paths)
    with suppress(OSError):
        environment = replace(environment, name=environment_name(environment))
    return AgentSpec(name=name, source=AgentSource(name, lambda: None), environment=environment, **options)


def offline(**more: str) -> dict[str, str]:
    """This environment, in which uv asks no index for anything."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AGENTHOST_", "UV_"))}
    return {**kept, "UV_OFFLINE": "1", **more}


def shows(python: Path) -> str:
    """What an environment brings, as its own Python says."""
    done = subprocess.run([python, "-I", "-c", SHOW], capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.strip()
