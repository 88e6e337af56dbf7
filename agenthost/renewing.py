"""Agents whose own code has changed are opened anew, in a worker of their own, and take the place of those that serve.

One that cannot be opened leaves the one that serves as it is, until its code changes again. Others do not notice.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Collection
from contextlib import suppress
from functools import cache
from importlib.util import cache_from_source
from pathlib import Path

from agenthost.entries import AgentEntry
from agenthost.errors import HostError
from agenthost.host import CLOSE_GRACE, Host
from agenthost.own_code import own_code
from agenthost.placement.authors import DEV

_LET_BE = frozenset({"disabled", "discovered", "draining", "unloaded"})
"""States of an agent that reads its code when it is loaded, which it is not now."""

_path = cache(Path)
"""Each is asked for ten times a second."""

log = logging.getLogger("agenthost.registry")


class Renewing:
    """Does that for one host; to be used on its loop."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._going: dict[str, asyncio.Task[None]] = {}

    def agents(self) -> list[str]:
        """The names of the agents that are opened anew when their code changes."""
        return [name for name, entry in sorted(self._host.entries.items()) if self._is_authors(entry)]

    def files(self) -> dict[Path, float]:
        """The files that they are made of, or would be; and the time since when they are."""
        entries = self._host.entries.values()
        return {_path(file): at for entry in entries for file, at in self._files_of(entry).items()}

    def changed(self, files: Collection[Path]) -> None:
        """Open those anew that are made of any of these files."""
        told = {str(file) for file in files}
        for name, entry in self._host.entries.items():
            its = told & self._files_of(entry).keys()
            if its:
                _forget_bytecode(its)
                self._begin(name, _shown(its, self._host.config.base_dir))

    def surroundings_changed(self, why: str) -> None:
        """Open those anew that have the host's environment."""
        for name, entry in self._host.entries.items():
            if entry.spec.placement == DEV and self._is_authors(entry):
                self._begin(name, why)

    def _is_authors(self, entry: AgentEntry) -> bool:
        if entry.ref is not None:
            return bool(getattr(entry.ref, "files", None))
        return entry.state != "disabled" and self._code_of(entry) is not None

    def _code_of(self, entry: AgentEntry) -> str | None:
        """The file that the agent itself is in, where that is its author's and is not imported into this process."""
        if entry.spec.placement not in {DEV, "process"}:
            return None
        return own_code(entry.spec.source.module, self._host.config.base_dir)

    def _files_of(self, entry: AgentEntry) -> dict[str, float]:
        code = self._code_of(entry) if entry.ref is None and entry.state not in _LET_BE else None
        found = {} if code is None else {code: entry.since}
        for problem in (entry.reason, entry.outdated):
            found |= (problem.files if problem else None) or {}
        return found | getattr(entry.ref, "files", {})

    def _begin(self, name: str, why: str) -> None:
        """Open one anew; what is just being opened of it has read older code, and is given up."""
        former = self._going.pop(name, None)
        if former is not None:
            former.cancel()
        task = self._going[name] = self._host.background(self._renew(name, why), f"renew {name}")
        task.add_done_callback(lambda done: self._going.pop(name) if self._going.get(name) is done else None)

    async def _renew(self, name: str, why: str) -> None:
        registry, spoken = self._host.registry, {"agent": name}
        while True:
            entry = registry.entries.get(name)
            if entry is None or entry.state in _LET_BE or entry.spec.problem is not None:
                return
            if entry.ref is None:
                registry.load(entry)
                return
            try:
                newer = await registry.build(entry.spec)
            except HostError as problem:
                entry.outdated = problem
                trace = f"\n{problem.traceback}" if problem.traceback else ""
                told = f"{problem.describe()}{trace}"
                log.warning("%s: not reloaded, the version before goes on serving\n%s", why, told, extra=spoken)
                return
            if registry.entries.get(name) is not entry or entry.ref is None:
                await registry.close_one(newer, CLOSE_GRACE)  # a reload of agents.toml, or an operator, came first
                continue
            registry.replace(newer)
            self._host.runs.admission.fill(newer)
            log.info("%s: agent '%s' is reloaded", why, name, extra=spoken)
            return


def _forget_bytecode(files: Collection[str]) -> None:
    """Remove what was compiled of files: Python takes it for new code that is as long and of the same second."""
    for file in filter(lambda name: name.endswith(".py"), files):
        with suppress(OSError):
            for compiled in Path(cache_from_source(file)).parent.glob(f"{Path(file).stem}.*.pyc"):
                compiled.unlink(missing_ok=True)


def _shown(files: Collection[str], base_dir: Path) -> str:
    """Which files have changed, as a sentence begins: `app.py has changed`."""
    first, *more = sorted(os.path.relpath(file, base_dir) for file in files)
    return f"{first} and {len(more)} more have changed" if more else f"{first} has changed"
