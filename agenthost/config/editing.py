"""Adds an agent to agents.toml, leaving every other byte as it is."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from agenthost.config.loading import parse, read_text, shown_path
from agenthost.config.problems import key_text
from agenthost.config.values import agent_name_problem
from agenthost.errors import ConfigError


def add_agent(path: Path, name: str, use: str | None = None, description: str | None = None) -> None:
    """Write `[agents.NAME]` at the end of the file at `path`, making the file (mode 0644) if there is none.

    The file is replaced in one step, through symbolic links, and keeps its mode and, where this user may give it away,
    its owner. Raises `ConfigError`, the file untouched, if the name is no name for an agent or has a table already, if
    the file is not TOML or cannot take a table there, or if it cannot be written.
    """
    shown = shown_path(path)
    if problem := agent_name_problem(name):
        raise ConfigError(f"{key_text(name)} {problem}")
    target = Path(os.path.realpath(path))
    before = read_text(target, shown) if target.exists() else ""
    tree = parse(before, shown)
    agents = tree.get("agents", {})
    if isinstance(agents, dict) and name in agents:
        raise ConfigError(f"{shown}: [agents.{name}] is there already")
    after = before + _table(name, use, description, before)
    _verify(after, shown, tree, name)
    try:
        _replace(target, after.encode())
    except UnicodeEncodeError as error:
        raise ConfigError(f"{shown}: 'use' or 'description' holds what UTF-8 cannot") from error
    except OSError as error:
        raise ConfigError(f"{shown}: cannot be written: {error.strerror}") from error


def _table(name: str, use: str | None, description: str | None, before: str) -> str:
    """The text of the new table, apart from what stands `before` it by one empty line, with that file's newlines."""
    newline = "\r\n" if "\r\n" in before else "\n"
    keys = {"use": use, "description": description}
    lines = [f"[agents.{name}]", *(f"{key} = {_string(value)}" for key, value in keys.items() if value)]
    apart = newline if before.strip() else ""
    unended = newline if before and not before.endswith("\n") else ""
    return unended + apart + newline.join(lines) + newline


def _string(value: str) -> str:
    """A TOML string; JSON's are the same but for DEL, which TOML wants escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _verify(after: str, shown: str, tree: dict[str, object], name: str) -> None:
    """Make sure that the new text says what the old one did, and the new agent besides."""
    try:
        changed = parse(after, shown)
        del changed["agents"][name]
    except (ConfigError, KeyError, TypeError):
        changed = {}
    if changed != {"agents": {}, **tree}:
        raise ConfigError(
            f"{shown}: [agents.{name}] cannot be added, because 'agents' is no table with a header there; "
            "write each agent as [agents.NAME]"
        )


def _replace(target: Path, raw: bytes) -> None:
    """Put `raw` in the place of the file: written beside it, flushed to the disk, renamed over it."""
    old = target.stat() if target.exists() else None
    descriptor, beside = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(raw)
            file.flush()
            os.fchmod(descriptor, stat.S_IMODE(old.st_mode) if old else 0o644)
            if old:
                with suppress(PermissionError):
                    os.fchown(descriptor, old.st_uid, old.st_gid)
            os.fsync(descriptor)
        os.replace(beside, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(beside)
        raise
