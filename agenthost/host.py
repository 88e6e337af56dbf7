"""Host: configuration, plugins, registry, store and runs, put together, started and stopped; no HTTP."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from agenthost.agents import AgentEntry, AgentSpec, Placement
from agenthost.api_keys import ApiKeys, digest
from agenthost.auth import Authenticator, Principal
from agenthost.config import Config
from agenthost.discovery import discover
from agenthost.errors import AgentNotReady, AuthError, ConfigError, Forbidden, HostError, NotFound
from agenthost.health import agent_report, not_ready
from agenthost.hookspecs import Adapter, Dialect, RegisterAuthenticator, RegisterPlacement, hookimpl
from agenthost.importing import Importer
from agenthost.lifespans import LifespanTask
from agenthost.placement.in_process import InProcess
from agenthost.plugins import Plugin, Plugins
from agenthost.registry import Registry
from agenthost.runs import Runs
from agenthost.store import Store
from agenthost.telemetry import HostCollector, RunMetrics, render_metrics

SETTLE = 0.5
"""Seconds that a start waits for agents to load before it serves those that have; the others come when they come."""

CLOSE_GRACE = 5.0
"""Seconds an agent, or a dialect, has to leave its lifespan."""

log = logging.getLogger("agenthost.host")


class Builtins:
    """The host's own authenticator and placement, registered through the same door as everybody's."""

    def __init__(self, importer: Importer, adapters: Callable[[], Sequence[Adapter]]) -> None:
        self._importer = importer
        self._adapters = adapters

    @hookimpl
    def register_authenticators(self, register: RegisterAuthenticator, config: Config) -> None:
        """Register `api-keys`."""
        register("api-keys", ApiKeys(_keys(config)))

    @hookimpl
    def register_placements(self, register: RegisterPlacement) -> None:
        """Register `in-process`."""
        register("in-process", InProcess(self._importer, self._adapters))


def _keys(config: Config) -> list[tuple[bytes, Principal]]:
    keys = []
    for key in config.auth.keys:
        principal = Principal(
            key.principal, agents=tuple(key.agents), admin=key.admin, key_id=key.id, concurrency=key.concurrency
        )
        if key.secret is not None:
            keys.append((digest(key.secret.get_secret_value()), principal))
        elif key.sha256 is not None:
            keys.append((bytes.fromhex(key.sha256), principal))
    return keys


class Host:
    """One host. `prepare` does what may refuse the start and needs no loop, `start` and `stop` run on one.

    `builtins` are hook implementations of the street (the native dialect); `specs`, where given, takes the place of
    discovery: exactly those agents are served.
    """

    def __init__(
        self, config: Config, *, builtins: Sequence[object] = (), specs: Sequence[AgentSpec] | None = None
    ) -> None:
        self.config = config
        self.plugins = Plugins(config.plugins.block)
        self.importer = Importer()
        self.metrics = RunMetrics()
        self.authenticators: tuple[Authenticator, ...] = ()
        self.registry = Registry(self._placements, self._dialect_names)
        self.store: Store
        self.runs: Runs
        self._builtins = (Builtins(self.importer, self._adapters), *builtins)
        self._specs = specs
        self._lifespans: list[LifespanTask] = []
        self._prepared = False
        self.started = False

    def _adapters(self) -> list[Adapter]:
        return [registered.value for registered in self.plugins.adapters.values()]

    def _placements(self) -> Mapping[str, Placement]:
        return {name: registered.value for name, registered in self.plugins.placements.items()}

    def _dialect_names(self) -> Collection[str]:
        return self.plugins.dialects.keys()

    @property
    def entries(self) -> Mapping[str, AgentEntry]:
        """Every agent that is configured, by name."""
        return self.registry.entries

    @property
    def dialects(self) -> dict[str, Dialect]:
        """Every dialect that is installed, by name."""
        return {name: registered.value for name, registered in self.plugins.dialects.items()}

    def prepare(self) -> None:
        """Load plugins, check authenticators, open the store; raises `StartError`. Idempotent."""
        if self._prepared:
            return
        self.plugins.load(self.config, importer=self.importer, builtins=self._builtins, on_late=self._plugin_came)
        self.authenticators = self._chosen_authenticators()
        self.store = Store.open(self.config.store.url, self.config.store.durability)
        self.runs = Runs(self.store, self.metrics, self.agent_for)
        self._prepared = True

    def _chosen_authenticators(self) -> tuple[Authenticator, ...]:
        problem = self.plugins.authenticator_problem
        if problem is not None:
            raise AuthError(problem.error.message, hint=problem.error.hint)
        chosen = []
        for name in self.config.auth.use:
            found = self.plugins.authenticators.get(name)
            if found is None:
                known = ", ".join(sorted(self.plugins.authenticators))
                raise ConfigError(f"[auth] use names '{name}', which no plugin registered", hint=f"one of: {known}")
            if not isinstance(found.value, ApiKeys) or len(found.value):
                chosen.append(found.value)
        return tuple(chosen)

    async def start(self, settle: float = SETTLE) -> None:
        """Recover the store, begin to load every agent, and wait up to `settle` seconds for those that are quick."""
        self.prepare()
        self._loop = asyncio.get_running_loop()
        await self.store.recover(frozenset())
        specs = discover(self.config, self.plugins) if self._specs is None else self._specs
        self.registry.start(specs)
        await self._enter_dialects()
        await self.registry.settled(settle)
        self.started = True

    async def _enter_dialects(self) -> None:
        for dialect in self.dialects.values():
            if dialect.lifespan is not None:
                make = dialect.lifespan
                task = LifespanTask(f"protocol {dialect.name}", lambda make=make: make(self))  # type: ignore[misc]  # binds now
                await task.enter()
                self._lifespans.append(task)

    def _plugin_came(self, plugin: Plugin) -> None:
        """A slow plugin has arrived (on its own thread): agents that failed for want of it are tried again."""
        if self.started:
            self._loop.call_soon_threadsafe(self._look_again, plugin)

    def _look_again(self, plugin: Plugin) -> None:
        log.info("plugin '%s' (%s) arrived late", plugin.name, plugin.label)
        if self._specs is not None:
            return
        for spec in discover(self.config, self.plugins):
            entry = self.entries.get(spec.name)
            if entry is not None and entry.state == "failed":
                self.registry.put(spec)

    async def stop(self, drain: float | None = None) -> None:
        """End the runs (see `Runs.stop`), close agents and dialects, flush and close the store."""
        if not self._prepared:
            return
        await self.runs.stop(self.config.server.drain if drain is None else drain)
        await self.registry.close(CLOSE_GRACE)
        for lifespan in reversed(self._lifespans):
            await lifespan.leave(CLOSE_GRACE)
        await asyncio.to_thread(self.store.close)

    def agent_for(self, principal: Principal, name: str) -> AgentEntry:
        """The only way to an agent; raises `Forbidden`, `NotFound` or `AgentNotReady`.

        Whether a name exists is told only to those whose key would allow it.
        """
        entry = self.known_agent(principal, name)
        if not entry.serving:
            raise AgentNotReady(f"agent '{name}' is {entry.state}", retry_after=2.0)
        return entry

    def known_agent(self, principal: Principal, name: str) -> AgentEntry:
        """Like `agent_for`, for questions that an agent which does not serve can answer too."""
        if not principal.may_use(name):
            raise Forbidden(f"'{principal.id}' may not use agent '{name[:63]}'")
        entry = self.entries.get(name)
        if entry is None or entry.state == "disabled":
            raise NotFound(f"no agent '{name[:63]}'")
        return entry

    def agents_of(self, principal: Principal) -> list[AgentEntry]:
        """The agents this caller may use, by name; disabled ones are not there."""
        return [
            entry
            for name, entry in sorted(self.entries.items())
            if entry.state != "disabled" and principal.may_use(name)
        ]

    async def readiness(self) -> list[str]:
        """What keeps the host from being ready, one line each; empty where it is."""
        problems = [f"agent '{entry.name}' is {entry.state}" for entry in not_ready(self.entries.values())]
        if self.runs.stopping:
            problems.append("the host is stopping")
        try:
            await self.store.probe()
        except HostError as problem:
            problems.append(problem.message)
        return problems

    async def report(self) -> dict[str, Any]:
        """What `GET /health` shows operators."""
        problems = await self.readiness()
        return {
            "status": "ok" if not problems else "degraded",
            "problems": problems,
            "agents": {name: agent_report(entry) for name, entry in sorted(self.entries.items())},
            "plugins": [
                {"distribution": problem.distribution, "hook": problem.hook, "error": problem.error.message}
                for problem in self.plugins.problems
            ],
            "runs": len(self.runs.going),
        }

    def metrics_page(self) -> bytes:
        """What `GET /metrics` shows."""
        return render_metrics(self.metrics, HostCollector(self.entries))
