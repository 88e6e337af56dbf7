"""Reads agents.toml into a `Config`, or says everything that is wrong with it."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from agenthost.config.checking import KEY_VARIABLE, Checker, key_from_environment
from agenthost.config.keys import AuthConfig, Config
from agenthost.config.problems import Problems
from agenthost.errors import ConfigError

FILE_NAME = "agents.toml"
FILE_VARIABLE = "AGENTHOST_CONFIG"
DEEPEST = 40
"""Levels of nesting in agents.toml."""

_AT_LINE = re.compile(r" \(at (?:line (?P<line>[0-9]+), column (?P<column>[0-9]+)|end of document)\)$")


def config_path(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Path:
    """Return where the configuration is looked for: `path`, else `AGENTHOST_CONFIG`, else agents.toml right here."""
    return Path(path or environ.get(FILE_VARIABLE) or FILE_NAME)


def load_config(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Config:
    """Read the configuration from `config_path(path, environ)` and add the key of `AGENTHOST_API_KEY`, if it is set.

    Keeps nothing between calls: a reload calls it again and compares. Raises `ConfigError` with every problem found.
    """
    return _load(path, environ, dict)


def load_environments(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Config:
    """Like `load_config`, of what says which agents there are and what environments they have.

    Whoever makes environments ahead, for an image, has no secrets there, and needs none. Raises `ConfigError` with
    every problem of that part.
    """
    without_key = {name: value for name, value in environ.items() if name != KEY_VARIABLE}
    return _load(path, without_key, _environments_alone)


def _load(path: Path | None, environ: Mapping[str, str], part: Callable[[dict[str, Any]], dict[str, Any]]) -> Config:
    file = config_path(path, environ)
    shown = shown_path(file)
    text = read_text(file, shown, named=path is None and bool(environ.get(FILE_VARIABLE)))
    tree = part(parse(text, shown))
    problems = Problems(shown, text)
    checker = Checker(Path(os.path.abspath(file)), environ, problems)
    config = checker.config(tree)
    problems.raise_any([str(file) for file in checker.forms.files])
    return config


def _environments_alone(tree: dict[str, Any]) -> dict[str, Any]:
    """The part of agents.toml that says which agents there are and what environments they have."""

    def only(table: Any, *keys: str) -> Any:
        return {key: table[key] for key in keys if key in table} if isinstance(table, dict) else table

    agents = tree.get("agents", {})
    if isinstance(agents, dict):
        agents = {name: only(agent, "use", "enabled", "placement", "environment") for name, agent in agents.items()}
    return {
        **only(tree, "plugins"),
        "server": only(tree.get("server", {}), "serve"),
        "defaults": only(tree.get("defaults", {}), "placement", "environment"),
        "agents": agents,
    }


def default_config(environ: Mapping[str, str] = os.environ) -> Config:
    """Return the configuration of a host that has no file: every default, and the key of `AGENTHOST_API_KEY`.

    Raises `ConfigError` if that key is empty or too short.
    """
    problems = Problems(FILE_NAME, "")
    keys = key_from_environment(environ, problems)
    problems.raise_any()
    return Config(auth=AuthConfig(keys=keys))


def shown_path(file: Path) -> str:
    """Return `file` as messages call it: as it was given, but relative where it lies under the current directory."""
    try:
        here = Path.cwd()
    except OSError:  # the folder that this process was started in is gone
        return str(file)
    return str(file.relative_to(here)) if file.is_relative_to(here) else str(file)


def read_text(file: Path, shown: str, *, named: bool = False) -> str:
    """Return the text of the file. Raises `ConfigError` if it is missing, unreadable or not UTF-8."""
    hint = "`agenthost add NAME` writes one; `agenthost dev FILE.py:OBJECT` needs none"
    try:
        raw = file.read_bytes()
    except FileNotFoundError:
        where = f"named by {FILE_VARIABLE}" if named else f"looked in {Path(os.path.abspath(file)).parent}"
        problem = f"{shown}: no such file ({where})"
    except OSError as error:
        problem, hint = f"{shown}: cannot be read: {error.strerror}", "make it a file this user may read"
    except ValueError:
        problem, hint = f"{shown!r}: cannot be read: not a path", "name a file"
    else:
        return _decoded(raw, shown)
    raise ConfigError(problem, hint=hint)


def _decoded(raw: bytes, shown: str) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
    else:
        if not text.startswith("\ufeff"):
            return text
        raise ConfigError(f"{shown}:1: starts with a byte order mark; save it as UTF-8 without one")
    raise ConfigError(f"{shown}:{line}: not UTF-8; save it as UTF-8")


def parse(text: str, shown: str) -> dict[str, Any]:
    """Return the tree of a TOML text. Raises `ConfigError` with the line of a syntax error."""
    try:
        tree = tomllib.loads(text)
    except RecursionError:
        told = None
    except ValueError as error:
        told = str(error)
    else:
        if not _too_deep(tree):
            return tree
        told = None
    if told is None:
        raise ConfigError(f"{shown}: nested more than {DEEPEST} levels deep")
    found = _AT_LINE.search(told)
    what = told[: found.start()] if found else told
    if found is None:
        raise ConfigError(f"{shown}: not TOML: {what}")
    if found["line"] is None:
        raise ConfigError(f"{shown}:{len(text.splitlines()) or 1}: not TOML: {what}, at the end of the file")
    raise ConfigError(f"{shown}:{found['line']}: not TOML: {what}, at column {found['column']}")


def _too_deep(tree: dict[str, Any]) -> bool:
    level: list[Any] = [tree]
    for _ in range(DEEPEST):
        inner = (node.values() if isinstance(node, dict) else node for node in level)
        level = [node for node in chain.from_iterable(inner) if isinstance(node, dict | list)]
        if not level:
            return False
    return True
