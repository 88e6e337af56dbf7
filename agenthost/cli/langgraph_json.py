"""A LangGraph project's langgraph.json: which graphs it names, as agents, and what they need around them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agenthost.config.loading import shown_path
from agenthost.distributions import AGENT_NAME
from agenthost.errors import StartError

FORM = '"graphs": {"NAME": "./file.py:attribute"}'


@dataclass(frozen=True, slots=True)
class Graph:
    """One graph: its own name, where it is (`use` of agents.toml), and what the file says of it."""

    name: str
    use: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class LangGraphProject:
    """What is served of a langgraph.json, the graphs by their agents' names, and what they need.

    `env` is a file of variables, or the variables themselves. `folders` hold what the graphs import: the local ones
    among its dependencies, `src` in each, and what is around one that is no project, and so may be a package itself.
    """

    path: Path
    graphs: Mapping[str, Graph]
    env: Path | Mapping[str, str]
    folders: tuple[Path, ...]

    @property
    def served(self) -> str:
        """What the start summary calls it; with the graphs whose names no agent can have."""
        renamed = ", ".join(f"{graph.name} is {name}" for name, graph in self.graphs.items() if graph.name != name)
        return shown_path(self.path) + (f" ({renamed})" if renamed else "")


def read_langgraph_json(path: Path) -> LangGraphProject:
    """Read one; raises `StartError` for a file that is none, and for two graphs that would be one agent."""
    path = path.absolute()
    shown = shown_path(path)
    try:
        read: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StartError(f"{shown}: no such file", hint="name a langgraph.json: agenthost dev --from FILE") from None
    except OSError as refused:
        raise StartError(f"{shown} cannot be read: {refused.strerror}", hint="make it a readable file") from None
    except (ValueError, RecursionError) as wrong:
        raise StartError(f"{shown} is not JSON: {wrong}", hint="correct it") from None
    if not isinstance(read, dict):
        raise StartError(f"{shown} is no JSON object", hint=f"it names graphs: {FORM}")
    return LangGraphProject(
        path,
        _graphs(read.get("graphs"), path.parent, shown),
        _env(read.get("env", {}), path.parent, shown),
        tuple(dict.fromkeys(_folders(read.get("dependencies", []), path.parent, shown))),
    )


def _graphs(named: Any, folder: Path, shown: str) -> Mapping[str, Graph]:
    if not isinstance(named, dict) or not named:
        raise StartError(f"{shown} names no graphs", hint=f"it needs {FORM}")
    graphs: dict[str, Graph] = {}
    for own, where in named.items():
        graph = _graph(own, where, folder, shown)
        name = agent_name_of(own)
        if not AGENT_NAME.fullmatch(name):
            raise StartError(
                f"{shown}: no agent can be called like graph {own!r}", hint="use a-z, 0-9 and - in its name"
            )
        if name in graphs:
            raise StartError(
                f"{shown}: graphs {graphs[name].name!r} and {own!r} would both be agent '{name}'",
                hint="rename one: agents have names of a-z, 0-9 and -",
            )
        graphs[name] = graph
    return graphs


def agent_name_of(name: str) -> str:
    """A graph's name as an agent's: in small letters, with `-` for all that is no letter or digit."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63]


def _graph(name: str, said: Any, folder: Path, shown: str) -> Graph:
    place = said.get("path") if isinstance(said, dict) else said
    description = said.get("description") if isinstance(said, dict) else None
    if not isinstance(place, str):
        raise StartError(f"{shown}: graph {name!r} does not say where it is", hint=f"it needs {FORM}")
    where, colon, attribute = place.rpartition(":")
    if not colon or not where or not attribute:
        raise StartError(f"{shown}: graph {name!r} is {place!r}, which names no attribute", hint=f"it needs {FORM}")
    if where.endswith(".py"):
        where = str((folder / where).resolve())
    elif "/" in where:
        raise StartError(f"{shown}: graph {name!r} is in {where!r}, which is no Python file", hint=f"it needs {FORM}")
    return Graph(name, f"{where}:{attribute}", description if isinstance(description, str) else "")


def _env(said: Any, folder: Path, shown: str) -> Path | Mapping[str, str]:
    if isinstance(said, str) and said:
        file = folder / said
        if not file.is_file():
            raise StartError(
                f"{shown}: there is no env file {said!r} beside it", hint="create it, or remove the key env"
            )
        return file
    if isinstance(said, dict) and all(isinstance(value, str | int | float) for value in said.values()):
        return {name: str(value) for name, value in said.items()}
    raise StartError(f"{shown}: env is neither a file's name nor variables with their values", hint="correct it")


def _folders(said: Any, folder: Path, shown: str) -> Iterator[Path]:
    """The local folders among the dependencies; what is to be installed, has to be."""
    if not isinstance(said, list) or not all(isinstance(one, str) for one in said):
        raise StartError(f"{shown}: dependencies is no list of texts", hint='such as ["."]')
    around: list[Path] = []
    for one in said:
        if not one.startswith((".", "/")):
            continue
        local = (folder / one).resolve()
        if not local.is_dir():
            raise StartError(f"{shown}: there is no folder {one!r}, which dependencies names", hint="correct it")
        yield local
        if (local / "src").is_dir():
            yield local / "src"
        project = any((local / name).is_file() for name in ("pyproject.toml", "setup.py"))
        if not project and (local != folder.resolve() or (local / "__init__.py").is_file()):
            around.append(local.parent)
    yield from around
