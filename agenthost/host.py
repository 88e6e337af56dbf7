"""Host: configuration, plugins, registry, store and runs, put together, started and stopped; no HTTP."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from agenthost.agents import AgentSpec, Placement
from agenthost.api_keys import ApiKeys, keys_of
from agenthost.auth import Authenticator, Principal
from agenthost.blame import summary
from agenthost.builtin_hooks import BuiltinHooks
from agenthost.checkups import check_up
from agenthost.config import Config
from agenthost.contained_tasks import contain_tasks
from agenthost.discovery import discover
from agenthost.entries import AgentEntry
from agenthost.environments import Environments
from agenthost.errors import AgentNotReady, AuthError, ConfigError, Forbidden, HostError, NotFound
from agenthost.health import agent_report, not_ready, version_report
from agenthost.hookspecs import Adapter, Dialect
from agenthost.importing import Importer
from agenthost.left_runs import LeftRuns
from agenthost.lifespans import LifespanTask
from agenthost.plugins import ALL_HOOKS, Plugin, Plugins
from agenthost.registry import Registry
from agenthost.retention import keep_tidy
from agenthost.runs import Runs
from agenthost.store import Store, StoredRun
from agenthost.telemetry import HostCollector, RunMetrics, render_metrics
from agenthost.watchdog import Watchdog

SETTLE = 0.5
"""Seconds that a start waits for agents to load before it serves those that have; the others come when they come."""

PROBE_EVERY = 1.0
"""Seconds that a look at the store is good for: anybody may ask whether the host is ready, and a look is a commit."""

CLOSE_GRACE = 5.0
"""Seconds an agent, or a dialect, has to leave its lifespan."""

log = logging.getLogger("agenthost.host")

T = TypeVar("T")


def store_url(config: Config) -> str:
    """The store's URL; a relative SQLite path counts from the folder of agents.toml, wherever the host is started."""
    url = config.store.url
    relative = url.removeprefix("sqlite:///")
    if relative == url or relative.startswith("/"):
        return url
    return f"sqlite:///{(config.base_dir / relative).absolute()}"


class Host:
    """One host. `prepare` does what may refuse the start and needs no loop, `start` and `stop` run on one.

    `builtins` are hook implementations of the street (the native dialect); `specs`, where given, takes the place of
    discovery: exactly those agents are served. `hooks` are those of installed plugins that are called. Without
    `authenticating` nobody is told apart by authenticators, so none is chosen and a broken one refuses nothing.
    """

    def __init__(
        self,
        config: Config,
        *,
        builtins: Sequence[object] = (),
        specs: Sequence[AgentSpec] | None = None,
        hooks: Collection[str] = ALL_HOOKS,
        authenticating: bool = True,
    ) -> None:
        self.config = config
        self.plugins = Plugins(config.plugins.block)
        self.importer = Importer()
        self.metrics = RunMetrics()
        self.authenticators: tuple[Authenticator, ...] = ()
        self.environments = Environments()
        self.registry = Registry(self._placements, self._dialect_names, self.environments.prepare, self._agent_is_ready)
        self.store: Store
        self.runs: Runs
        ours = BuiltinHooks(self.importer, self._adapters, self.environments.interpreter, dev=not authenticating)
        self._builtins = (ours, *builtins)
        self._specs = specs
        self._hooks = hooks
        self._authenticating = authenticating
        self._lifespans: list[LifespanTask] = []
        self._dialects: tuple[Any, Mapping[str, Dialect]] = (None, {})
        self._tried_dialects: set[str] = set()
        self._entered_dialects: set[str] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._probe: asyncio.Task[str]
        self._probed = float("-inf")
        self._watchdog: Watchdog | None = None
        self._loaded = False
        self._prepared = False
        self.started = False
        self.settle = SETTLE
        self.blocks = False  # whether its loop may stand, at a breakpoint

    def _adapters(self) -> list[Adapter]:
        return [registered.value for registered in self.plugins.adapters.values()]

    def _placements(self) -> Mapping[str, Placement]:
        return {name: registered.value for name, registered in self.plugins.placements.items()}

    def _dialect_names(self) -> Collection[str]:
        return {dialect.protocol for dialect in self.dialects.values()}

    @property
    def entries(self) -> Mapping[str, AgentEntry]:
        """Every agent that is configured, by name."""
        return self.registry.entries

    @property
    def dialects(self) -> Mapping[str, Dialect]:
        """Every dialect that is installed and, from the start on, whose lifespan was entered, by name.

        A new mapping only when that changes.
        """
        registered = self.plugins.dialects
        if registered is not self._dialects[0]:
            entered = registered if self._entered_dialects is None else self._entered_dialects
            there = {name: one.value for name, one in registered.items() if name in entered}
            whole = {name: one for name, one in there.items() if one.protocol in there}
            self._dialects = (registered, whole)
        return self._dialects[1]

    def spoken(self, entry: AgentEntry) -> list[Dialect]:
        """The dialects an agent speaks: those whose protocols it names, or all there are; of both scopes."""
        chosen = entry.spec.protocols
        return [one for one in self.dialects.values() if chosen is None or one.protocol in chosen]

    def protocol_failed(self, dialect: Dialect, raised: BaseException, failed: str) -> None:
        """Log, once, that a dialect is left out, with whose it is, and add it to the plugins' problems."""
        error = self.plugins.protocol_failed(dialect.name, raised, failed)
        if error is not None:
            log.error("%s", error.describe() + (f"\n{error.traceback}" if error.traceback else ""))

    def load(self) -> None:
        """Load plugins and choose authenticators; opens nothing. Raises `StartError`, once plugins are loaded."""
        if not self._loaded:
            self._loaded = True
            self.plugins.load(
                self.config,
                importer=self.importer,
                builtins=self._builtins,
                hooks=self._hooks,
                on_late=self._plugin_came,
            )
        self.authenticators = self.authenticators_of(self.config)

    def prepare(self) -> None:
        """Load plugins, check authenticators, open the store; raises `StartError`. Idempotent."""
        if self._prepared:
            return
        self.load()
        self.store = Store.open(store_url(self.config), self.config.store.durability)
        self.runs = Runs(self.store, self.metrics, self.agent_for)
        self._prepared = True

    def authenticators_of(self, config: Config) -> tuple[Authenticator, ...]:
        """Who tells callers apart under a configuration: its keys, and plugins' as they were registered.

        Raises `StartError` for one that is not there, or whose plugin failed to register it.
        """
        wanted = config.auth.use if self._authenticating else ()
        self.plugins.wait_until(lambda: all(name in self.plugins.authenticators for name in wanted))
        problem = self.plugins.authenticator_problem
        if problem is not None and self._authenticating:
            raise AuthError(problem.error.message, hint=problem.error.hint)
        chosen = []
        for name in wanted:
            found = self.plugins.authenticators.get(name)
            if found is None:
                raise self._no_authenticator(name)
            keys = ApiKeys(keys_of(config))
            if not isinstance(found.value, ApiKeys):
                chosen.append(found.value)
            elif len(keys):
                chosen.append(keys)
        return tuple(chosen)

    def _no_authenticator(self, name: str) -> ConfigError:
        suspects = self.plugins.suspects("register_authenticators")
        known = ", ".join(sorted(self.plugins.authenticators))
        why = "".join(f"; plugin '{plugin.name}' ({plugin.label}) is {plugin.state}" for plugin in suspects)
        return ConfigError(f"[auth] use names '{name}', which no plugin registered{why}", hint=f"one of: {known}")

    async def start(self, settle: float | None = None) -> None:
        """Recover the store, begin to load every agent, and wait up to `settle` seconds for those that are quick."""
        self.prepare()
        self._loop = asyncio.get_running_loop()
        contain_tasks(self._loop)
        self._watchdog = None if self.blocks else Watchdog(self.runs.of_task, self.entries)
        left = await self.store.recover()
        pending = self.plugins.pending
        specs = discover(self.config, self.plugins) if self._specs is None else self._specs
        self._entered_dialects = set()
        await self._enter_dialects()
        self.registry.start(specs)
        if left:
            taking_up = LeftRuns(self.runs, self.registry, self._who_started).take_up(left)
            self.background(taking_up, "runs of a lost host")
        kept = self.config.store
        self.background(check_up(self.entries.values), "checkups")
        self.background(keep_tidy(self.store, kept.run_retention, kept.thread_retention), "retention")
        await self.registry.settled(self.settle if settle is None else settle)
        self.started = True
        if pending:
            self._look_again()

    async def _enter_dialects(self) -> None:
        """Enter the lifespans of dialects that are new, side by side, and serve those that were entered."""
        new = [one.value for name, one in self.plugins.dialects.items() if name not in self._tried_dialects]
        self._tried_dialects |= {dialect.name for dialect in new}
        if new:
            await asyncio.gather(*map(self._enter_dialect, new))
            self._dialects = (None, {})

    async def _enter_dialect(self, dialect: Dialect) -> None:
        """Enter a dialect's lifespan; one that fails, or takes as long as no agent may, is a dialect that is absent."""
        make = dialect.lifespan
        assert self._entered_dialects is not None
        if make is None:
            self._entered_dialects.add(dialect.name)
            return
        task = LifespanTask(f"protocol {dialect.name}", lambda: make(self))
        try:
            async with asyncio.timeout(self.config.defaults.load_timeout):
                await task.enter()
        except BaseException as raised:  # whatever a plugin raises, the other dialects are served
            current = asyncio.current_task()
            if isinstance(raised, asyncio.CancelledError) and current is not None and current.cancelling():
                raise  # the host's own start is given up; a dialect may raise the same by itself
            self.protocol_failed(dialect, raised, "did not start and is not served")
        else:
            self._lifespans.append(task)
            self._entered_dialects.add(dialect.name)

    def _plugin_came(self, plugin: Plugin) -> None:
        """A slow plugin has arrived (on its own thread): agents that failed for want of it are tried again."""
        log.info("plugin '%s' (%s) arrived late: %s", plugin.name, plugin.label, plugin.state)
        if self.started:
            with suppress(RuntimeError):  # the loop is closed: it came too late for this host
                self._loop.call_soon_threadsafe(self._look_again)

    def _look_again(self) -> None:
        if self.runs.stopping:
            return
        self._retry_failed()
        if self.plugins.dialects.keys() - self._tried_dialects:
            self.background(self._welcome(), "late protocols")

    def _agent_is_ready(self, entry: AgentEntry) -> None:
        if self._prepared:
            self.runs.admission.fill(entry)

    def background(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Do something beside everything else; a stop cancels it."""
        task = self._loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _who_started(self, run: StoredRun) -> Principal:
        """Who started a run, with what the keys of today let them do, or what they could then where keys do not decide.

        Where only keys let anybody in, somebody whose last key is gone may do nothing any more.
        """
        own = [principal for _digest, principal in keys_of(self.config) if principal.id == run.principal]
        if own:
            return replace(own[0], agents=tuple(name for principal in own for name in principal.agents))
        if self.authenticators and all(isinstance(one, ApiKeys) for one in self.authenticators):
            return Principal(run.principal)
        caller = run.input.get("caller") or {}
        return Principal(run.principal, groups=tuple(caller.get("groups", ())), agents=tuple(caller.get("agents", ())))

    async def _welcome(self) -> None:
        """Serve the dialects of a late plugin, and try the agents again that may have failed for want of them."""
        await self._enter_dialects()
        self._retry_failed()

    def _retry_failed(self) -> None:
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
        for task in tuple(self._tasks):
            task.cancel()
            await asyncio.wait((task,), timeout=CLOSE_GRACE)
        await self.registry.close(CLOSE_GRACE)
        self.environments.close()
        for lifespan in reversed(self._lifespans):
            failure = await lifespan.leave(CLOSE_GRACE)
            if failure is not None:
                log.error("%s failed while closing: %s", lifespan.name, summary(failure))
        if self._watchdog is not None:
            self._watchdog.stop()
        await asyncio.to_thread(self.store.close)

    def agent_for(self, principal: Principal, name: str) -> AgentEntry:
        """The only way to an agent; raises `Forbidden`, `NotFound` or `AgentNotReady`.

        Whether a name exists is told only to those whose key would allow it. One that loads, or is lazy and will, may
        be there in a moment: `AgentEntry.awake` waits for that, and so does whatever starts a run.
        """
        entry = self.known_agent(principal, name)
        if not entry.expected:
            raise AgentNotReady(f"agent '{name}' is {entry.state}", retry_after=2.0)
        return entry

    def known_agent(self, principal: Principal, name: str) -> AgentEntry:
        """Like `agent_for`, for questions that an agent which does not serve can answer too."""
        if not principal.may_use(name):
            raise Forbidden(f"'{principal.id}' may not use this agent")
        entry = self.entries.get(name)
        if entry is None or entry.state == "disabled":
            raise NotFound("no agent by that name")
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
        if time.monotonic() - self._probed >= PROBE_EVERY:
            self._probed = time.monotonic()
            self._probe = self._loop.create_task(self._try_store(), name="store probe")
        problem = await asyncio.shield(self._probe)
        return [*problems, problem] if problem else problems

    async def _try_store(self) -> str:
        """What is wrong with the store; empty where it takes what is written."""
        try:
            await self.store.probe()
        except HostError as problem:
            return problem.message
        return ""

    async def report(self) -> dict[str, Any]:
        """What `GET /health` shows operators."""
        problems = await self.readiness()
        return {
            "status": "ok" if not problems else "degraded",
            "problems": problems,
            "agents": {name: agent_report(entry) for name, entry in sorted(self.entries.items())},
            "draining": [version_report(entry) for entry in self.registry.draining.entries],
            "plugins": [
                {"distribution": problem.distribution, "hook": problem.hook, "error": problem.error.message}
                for problem in self.plugins.problems
            ],
            "runs": len(self.runs.going),
        }

    def metrics_page(self) -> bytes:
        """What `GET /metrics` shows."""
        watched = () if self._watchdog is None else (self._watchdog,)
        return render_metrics(self.metrics, HostCollector(self.entries), *watched)
