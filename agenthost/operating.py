"""What operators do to a host that serves: load and unload an agent, read agents.toml again. One thing at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from agenthost.config import Config
from agenthost.draining import LOOK, is_quiet
from agenthost.entries import NOT_READY, AgentEntry
from agenthost.errors import AgentNotReady, AgentUnavailable, ConfigError, HostError, NotFound
from agenthost.host import CLOSE_GRACE, Host
from agenthost.planning import Plan
from agenthost.reloading import Admit, ReloadFailed, carried_out, looked_over, planned
from agenthost.run import TERMINAL_AFTER

T = TypeVar("T")

log = logging.getLogger("agenthost.host")


class Operations:
    """What may be asked of a running host, besides runs. `read` reads its configuration again, if it came from a file.

    Whoever asks may leave: what has begun goes on, and a stop of the host ends it. `learning` are called with each
    configuration that was read, before any of it is tried.
    """

    def __init__(self, host: Host, read: Callable[[], Config] | None, admit: Admit) -> None:
        self.last_reload: dict[str, Any] | None = None
        """When, by whom, whether it was applied, and what it changed or why not."""
        self.learning: list[Callable[[Config], None]] = []
        self.read_from: Mapping[Path, float] = {}
        """The files that a configuration was read from, and before when; also those of one that was refused."""
        self.mended_by: Mapping[str, float] = {}
        """Files of authors' own that may be why the last reload was not applied; unchanged since when."""
        self._host = host
        self._read = read
        self._admit = admit
        self._turn = asyncio.Lock()
        self._asked_for = False
        self._then: list[Callable[[], None]] = []

    async def load(self, name: str) -> AgentEntry:
        """Load an agent that is not loaded, and wait until that has been tried; returns it as it then is.

        Raises `NotFound` for one that is not there, or is disabled.
        """
        return await self._done(self._load(name), f"load {name}")

    async def unload(self, name: str, by: str) -> tuple[AgentEntry, int]:
        """Let an agent take no more runs, wait for those it has, at most `[server] drain`, and close it.

        Returns it, and how many runs were cut off. What waits in its queue is refused, but for what was promised by
        `POST /runs`: that begins once the agent is loaded again. Raises `NotFound`.
        """
        return await self._done(self._unload(name, by), f"unload {name}")

    async def plan(self) -> Plan:
        """What a reload would do now. Raises `ReloadFailed` where it is certain that it would do nothing but that."""
        plan = await planned(self._host, self._reader())
        await looked_over(self._host, plan, self._admit)
        return plan

    async def reload(self, by: str) -> dict[str, Any]:
        """Have agents.toml as it now is in force; returns what that changed. Raises `ReloadFailed`: nothing did."""
        return await self._done(self._reload(by), "reload")

    def ask_for_reload(self, by: str, then: Callable[[], None] | None = None) -> None:
        """Reload beside everything else; the log says how that went. One that has not begun is for all who ask.

        `then` is called, whatever came of it.
        """
        if self._host.runs.stopping:
            return
        if then is not None:
            self._then.append(then)
        if not self._asked_for:
            self._asked_for = True
            self._host.background(self._reload_quietly(by), "reload")

    async def _done(self, work: Coroutine[Any, Any, T], name: str) -> T:
        if self._host.runs.stopping:
            work.close()
            raise AgentNotReady("the host is stopping", retry_after=NOT_READY)
        task = self._host.background(work, name)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.cancelled():
                raise
            raise AgentNotReady("the host is stopping", retry_after=NOT_READY) from None

    def _reader(self) -> Callable[[], Config]:
        if self._read is None:
            raise ReloadFailed("this host was not started from a file: there is nothing to read again")
        return self._read

    async def _reload_quietly(self, by: str) -> None:
        async with self._turn:
            self._asked_for = False
            follow, self._then = self._then, []
            with suppress(ReloadFailed):  # the log says so, and so does /health
                await self._reload_now(by)
        for then in follow:
            then()

    async def _reload(self, by: str) -> dict[str, Any]:
        async with self._turn:
            return await self._reload_now(by)

    async def _reload_now(self, by: str) -> dict[str, Any]:
        at = time.time()
        asked = {"at": at, "by": by}
        try:
            plan = await planned(self._host, self._reader())
            read_from = dict.fromkeys(plan.config.files, at)
            self.read_from = {**self.read_from, **read_from}
            for learn in self.learning:
                learn(plan.config)
            await carried_out(self._host, plan, self._admit)
        except ReloadFailed as failed:
            if isinstance(failed.__cause__, ConfigError):
                self.read_from = {**self.read_from, **dict.fromkeys(map(Path, failed.__cause__.named), at)}
            self.mended_by = failed.files or {}
            self.last_reload = {**asked, "applied": False, "problem": failed.message, "hint": failed.hint}
            log.error("not reloaded (%s), nothing has changed: %s", by, failed.describe())
            raise
        self.read_from, self.mended_by = read_from, {}
        self.last_reload = {**asked, "applied": True, **plan.report()}
        log.info("reloaded (%s): %s", by, told(plan))
        return self.last_reload

    def _listed(self, name: str) -> AgentEntry:
        entry = self._host.entries.get(name)
        if entry is None or entry.state == "disabled":
            raise NotFound("no agent by that name")
        return entry

    async def _load(self, name: str) -> AgentEntry:
        registry = self._host.registry
        entry = await self._closed(name)
        if not entry.serving and entry.state != "loading":
            registry.load(entry)
        while True:
            await registry.tried(entry, registry.outer_limit(entry.spec))
            if entry.successor is None:
                return entry
            entry = entry.newest  # a reload came, and that one is loading now

    async def _closed(self, name: str) -> AgentEntry:
        """An agent that is not just being unloaded, and no reload is going on."""
        while True:
            async with self._turn:
                entry = self._listed(name)
            if entry.serving or (entry.ref is None and entry.state != "draining"):
                return entry
            await asyncio.sleep(LOOK)

    async def _unload(self, name: str, by: str) -> tuple[AgentEntry, int]:
        host, reason, refusal = self._host, HostError(f"unloaded by '{by}'"), _unloaded(name)
        entry = await self._closed(name)
        host.registry.give_up(entry)
        entry.become("unloaded" if entry.ref is None else "draining", reason)
        await _quiet(entry, host.config.server.drain if entry.ref is not None else 0.0)
        entry.become("unloaded", reason)  # no slot is given away any more
        host.runs.admission.send_away_from(entry, refusal)
        cut = host.runs.cut(entry, refusal)
        if entry.ref is not None:
            await _quiet(entry, TERMINAL_AFTER * 2)
            await host.registry.close_one(entry, CLOSE_GRACE)
        if entry.gone:  # by a reload meanwhile
            host.runs.admission.send_away_from(entry, refusal)
        log.info("agent '%s' was unloaded by '%s'; runs cut off: %d", name, by, cut, extra={"agent": name})
        return entry, cut


def _unloaded(name: str) -> AgentUnavailable:
    return AgentUnavailable(f"agent '{name}' was unloaded before this run ended")


async def _quiet(entry: AgentEntry, seconds: float) -> None:
    """Wait until nothing goes on at an agent, at most so long."""
    end = time.monotonic() + seconds
    while not is_quiet(entry) and time.monotonic() < end:  # noqa: ASYNC110 - so that no run pays for an event
        await asyncio.sleep(LOOK)


def told(plan: Plan) -> str:
    """A plan in a line: `added billing; changed echo (timeout); keys removed: web`."""
    parts = [f"added {', '.join(plan.added)}"] if plan.added else []
    parts += [f"removed {', '.join(plan.removed)}"] if plan.removed else []
    parts += [f"changed {name} ({', '.join(keys)})" for name, keys in plan.changed.items()]
    parts += [f"keys {kind}: {', '.join(ids)}" for kind, ids in plan.keys.items()]
    parts += [f"changed {', '.join(plan.settings)}"] if plan.settings else []
    said = "; ".join(parts) or "nothing has changed"
    return f"{said}; only a restart changes {', '.join(plan.restart)}" if plan.restart else said
