"""Plugins, loaded one by one: what each registered, what failed and whose fault it is; one bad one harms no other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import cache, partial
from importlib import metadata
from types import ModuleType
from typing import Any, Generic, Literal, TypeVar

from agenthost.agents import Placement
from agenthost.auth import Authenticator
from agenthost.blame import Blame, count, labels
from agenthost.distributions import Declarations, normalise, scan
from agenthost.errors import LoadError
from agenthost.hookspecs import PROJECT, Adapter, Dialect
from agenthost.importing import Importer, import_object, load_module
from agenthost.registering import REGISTRARS, HookFailure, Outcome, call_hooks

T = TypeVar("T")

PluginState = Literal["loaded", "loading", "failed", "blocked"]

ALL_HOOKS = tuple(REGISTRARS)


@dataclass(frozen=True, slots=True)
class Registered(Generic[T]):
    """An accepted object, the name it goes by, and whose it is."""

    value: T
    name: str
    plugin: str
    distribution: str
    version: str

    @property
    def label(self) -> str:
        """`acme-billing 2.1`."""
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True, slots=True)
class PluginProblem:
    """What is wrong with a plugin; `hook` is None where it concerns all of it, `entry_point` is empty for metadata."""

    entry_point: str
    distribution: str
    version: str
    hook: str | None
    error: LoadError


@dataclass(frozen=True, slots=True)
class Plugin:
    """One entry point of the group `agenthost.plugins`, or a built-in; `value` is its module.

    `failed` means it brought nothing; one that is `loaded` may still have a hook among the problems. `turn` is 0 for
    built-ins, 1 for plugins that were there when the start went on, more for those that came later.
    """

    name: str
    value: str
    distribution: str
    version: str
    state: PluginState
    turn: int = 1
    outcome: Outcome = field(default_factory=Outcome)

    @property
    def label(self) -> str:
        """`acme-billing 2.1`."""
        return f"{self.distribution} {self.version}"

    @property
    def blame(self) -> Blame:
        """How an error names it, and how an operator gets rid of it."""
        otherwise = f'[plugins] block = ["{self.distribution}"]' if self.turn else ""
        return Blame(f"plugin {self.name!r} ({self.label})", self.distribution, self.version, otherwise)

    def owns(self, registered: Registered[Any]) -> bool:
        """Whether this plugin registered that."""
        offers = self.outcome.offers.values()
        return any(registered.value is offered.get(registered.name) for offered in offers)

    def with_outcome(self, outcome: Outcome) -> Plugin:
        """Return this plugin after its hooks were called."""
        return replace(self, state="loaded" if outcome.hooks else "failed", outcome=outcome)

    def with_result(self, future: Future[Outcome]) -> Plugin:
        """Return this plugin as its import ended."""
        error = future.exception()
        failed = Outcome(failures=(HookFailure(None, error),)) if isinstance(error, LoadError) else None
        return self.with_outcome(failed or future.result())


class Plugins:
    """The plugins of one host, and everything they registered.

    `block` names distributions that are not loaded. What it offers is published whole, as new mappings, whenever a
    plugin arrives: readers on other threads never see half of it, and must not change it.
    """

    def __init__(self, block: Collection[str] = ()) -> None:
        self.blocked = frozenset(normalise(distribution) for distribution in block)
        self.declared = Declarations()
        self.problems: list[PluginProblem] = []
        self.agents: Mapping[str, list[Registered[Any]]] = {}
        self.adapters: Mapping[str, Registered[Adapter]] = {}
        self.authenticators: Mapping[str, Registered[Authenticator]] = {}
        self.dialects: Mapping[str, Registered[Dialect]] = {}
        self.placements: Mapping[str, Registered[Placement]] = {}
        self._plugins: list[Plugin] = []
        self._reported: dict[str, PluginProblem] = {}
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)

    def load(
        self,
        config: Any,
        *,
        importer: Importer,
        builtins: Sequence[object] = (),
        timeout: float = 30.0,
        hooks: Collection[str] = ALL_HOOKS,
        installed: bool = True,
        on_late: Callable[[Plugin], None] | None = None,
    ) -> None:
        """Call the hooks of `builtins`, then of every installed plugin, sorted by name; never raises for a plugin.

        Blocks, once per object, and returns at most the importer's patience after the last quick plugin. A slower one
        is `loading`: what it registers within `timeout` seconds is added when it comes, else it is a problem; either
        way `on_late(plugin)` is then called, in another thread. `hooks` are those of installed plugins that are called:
        a worker wants `register_adapters` alone. Without `installed` only the built-ins count, and no metadata is read.
        """
        self.declared = scan() if installed else Declarations()
        plugins = [_built_in(builtin, config) for builtin in builtins]
        going: dict[int, Future[Outcome]] = {}
        for entry in self.declared.plugins:
            blocked = normalise(entry.distribution) in self.blocked
            state: PluginState = "blocked" if blocked else "loading"
            plugin = Plugin(entry.name, entry.value, entry.distribution, entry.version, state)
            if not blocked:
                run = partial(_import_and_call, plugin, config, hooks)
                going[len(plugins)] = importer.submit(plugin.blame, run, timeout=timeout)
            plugins.append(plugin)
        importer.settle(going.values())
        late = {index: future for index, future in going.items() if not future.done()}
        for index in going.keys() - late.keys():
            plugins[index] = plugins[index].with_result(going[index])
        with self._lock:
            self._plugins = plugins
            self._publish()
        for index, future in late.items():
            future.add_done_callback(partial(self._arrive, index, on_late))

    @property
    def pending(self) -> list[Plugin]:
        """The plugins that are still being imported."""
        return [plugin for plugin in self._plugins if plugin.state == "loading"]

    def wait_until(self, found: Callable[[], bool]) -> None:
        """Block until `found()`, or until no plugin is being imported any more; each has its time limit."""
        with self._arrived:
            self._arrived.wait_for(lambda: found() or not self.pending)

    def protocol_failed(self, name: str, raised: BaseException, failed: str) -> LoadError | None:
        """Add the failure of a registered dialect to the problems; None where the same has been told before."""
        with self._lock:
            registered = self.dialects[name]
            plugin = next(plugin for plugin in self._plugins if plugin.owns(registered))
            subject = f"protocol '{name}' ({registered.label})"
            error = replace(plugin.blame, subject=subject).error(raised, failed=failed)
            if error.message in self._reported:
                return None
            self._reported[error.message] = problem = _problem(plugin, "register_protocols", error)
            self.problems = [*self.problems, problem]
        return error

    @property
    def authenticator_problem(self) -> PluginProblem | None:
        """The first failure to register an authenticator: with one, the host refuses to start."""
        return next((problem for problem in self.problems if problem.hook == "register_authenticators"), None)

    def suspects(self, hook: str) -> list[Plugin]:
        """Return the plugins that may be why something is missing: still loading, blocked, or failed in `hook`."""
        return [
            plugin
            for plugin in self._plugins
            if plugin.state != "loaded" or any(failure.hook == hook for failure in plugin.outcome.failures)
        ]

    def describe(self) -> list[dict[str, Any]]:
        """Return what `GET /plugins` shows, one dict per distribution, in JSON values, sorted by name."""
        distributions: dict[str, dict[str, Any]] = {}
        with self._lock:
            plugins, problems = list(self._plugins), list(self.problems)

        def of(distribution: str, version: str) -> dict[str, Any]:
            empty = {
                "distribution": distribution,
                "version": version,
                "blocked": normalise(distribution) in self.blocked,
            }
            return distributions.setdefault(
                normalise(distribution), empty | {"agents": {}, "plugins": [], "registered": {}, "problems": []}
            )

        for entry in self.declared.agents:
            of(entry.distribution, entry.version)["agents"][entry.name] = entry.value
        for plugin in plugins:
            shown = {
                "name": plugin.name,
                "module": plugin.value,
                "state": plugin.state,
                "hooks": [*plugin.outcome.hooks],
            }
            of(plugin.distribution, plugin.version)["plugins"].append(shown)
        for kind, registered in self._everything():
            of(registered.distribution, registered.version)["registered"].setdefault(kind, []).append(registered.name)
        for problem in problems:
            error = {"entry_point": problem.entry_point, "hook": problem.hook}
            error |= {"error": problem.error.message, "hint": problem.error.hint}
            of(problem.distribution, problem.version)["problems"].append(error)
        return [distributions[name] for name in sorted(distributions)]

    def _everything(self) -> Iterable[tuple[str, Registered[Any]]]:
        yield from (("agents", registered) for offers in self.agents.values() for registered in offers)
        for kind in ("adapters", "authenticators", "dialects", "placements"):
            yield from ((kind, registered) for registered in getattr(self, kind).values())

    def _arrive(self, index: int, on_late: Callable[[Plugin], None] | None, future: Future[Outcome]) -> None:
        with self._lock:
            turn = 1 + max(plugin.turn for plugin in self._plugins)
            plugin = replace(self._plugins[index].with_result(future), turn=turn)
            self._plugins[index] = plugin
            self._publish()
            self._arrived.notify_all()
        if on_late is not None:
            on_late(plugin)

    def _publish(self) -> None:
        """Put what all plugins brought in the place of what was offered before; called with the lock held."""
        problems = [
            PluginProblem("", error.distribution or "", error.version or "", None, error)
            for error in self.declared.problems
        ]
        for plugin in self._plugins:
            problems += [_problem(plugin, failure.hook, failure.error) for failure in plugin.outcome.failures]
        agents: dict[str, list[Registered[Any]]] = {}
        for name, offers in _offers(self._plugins, "register_agents").items():
            agents[name] = [_registered(plugin, "register_agents", name) for plugin in offers]
        self.agents = agents
        self.adapters = _settle(self._plugins, "register_adapters", "adapter", problems)
        self.authenticators = _settle(self._plugins, "register_authenticators", "authenticator", problems)
        self.dialects = self._apart(_settle(self._plugins, "register_protocols", "protocol", problems), problems)
        self.placements = _settle(self._plugins, "register_placements", "placement", problems)
        self.problems = [*problems, *self._reported.values()]

    def _apart(
        self, dialects: Mapping[str, Registered[Dialect]], problems: list[PluginProblem]
    ) -> Mapping[str, Registered[Dialect]]:
        """Return the dialects whose addresses are theirs alone: built-ins keep theirs, then the first by name does."""
        turns = {name: next(one.turn for one in self._plugins if one.owns(it)) for name, it in dialects.items()}
        kept: dict[str, Registered[Dialect]] = {}
        for name in sorted(dialects, key=lambda name: (turns[name], name)):
            offer = dialects[name]
            holder = next((other for other in kept.values() if _overlap(other.value, offer.value)), None)
            if holder is None:
                kept[name] = offer
                continue
            plugin = next(plugin for plugin in self._plugins if plugin.owns(offer))
            reason = f"prefix {offer.value.prefix!r} is taken by protocol {holder.name!r} ({holder.label})"
            error = plugin.blame.error(reason, "give it another prefix", failed=f"cannot register protocol {name!r}")
            problems.append(_problem(plugin, "register_protocols", error))
        return kept


def _overlap(one: Dialect, other: Dialect) -> bool:
    """Whether a path could be both dialects' by their prefixes; '' holds only what its routes name."""
    if one.scope != other.scope or not (one.prefix and other.prefix):
        return one.scope == other.scope and one.prefix == other.prefix
    first, second = f"{one.prefix}/", f"{other.prefix}/"
    return first.startswith(second) or second.startswith(first)


def _built_in(builtin: object, config: Any) -> Plugin:
    module = getattr(builtin, "__name__", type(builtin).__name__)
    plugin = Plugin(module.rpartition(".")[2], module, PROJECT, own_version(), "loading", turn=0)
    return plugin.with_outcome(call_hooks(builtin, plugin.name, plugin.blame, config, ALL_HOOKS))


@cache
def own_version() -> str:
    """Return the version of agenthost that is installed; `0` where it is not."""
    try:
        return metadata.version(PROJECT)
    except metadata.PackageNotFoundError:  # run from a checkout that was not installed
        return "0"


def _import_and_call(plugin: Plugin, config: Any, hooks: Collection[str]) -> Outcome:
    module: Any
    if ":" in plugin.value:
        module = import_object(plugin.value, blame=plugin.blame)
    else:
        module = load_module(plugin.value.strip(), None, plugin.blame)
    if not isinstance(module, ModuleType):
        advice = f'write {plugin.name} = "{plugin.value.partition(":")[0]}" in its entry points'
        reason = f"{plugin.value!r} is of type {type(module).__name__}, where a module is wanted"
        raise plugin.blame.error(reason, advice)
    return call_hooks(module, plugin.name, plugin.blame, config, hooks)


def _problem(plugin: Plugin, hook: str | None, error: LoadError) -> PluginProblem:
    return PluginProblem(plugin.name, plugin.distribution, plugin.version, hook, error)


def _registered(plugin: Plugin, hook: str, name: str) -> Registered[Any]:
    return Registered(plugin.outcome.offers[hook][name], name, plugin.name, plugin.distribution, plugin.version)


def _offers(plugins: Iterable[Plugin], hook: str) -> dict[str, list[Plugin]]:
    """Return who offers what, by name, built-ins first and late ones last."""
    offers: dict[str, list[Plugin]] = {}
    for plugin in sorted(plugins, key=lambda plugin: plugin.turn):
        for name in plugin.outcome.offers.get(hook, ()):
            offers.setdefault(name, []).append(plugin)
    return offers


def _settle(
    plugins: Iterable[Plugin], hook: str, what: str, problems: list[PluginProblem]
) -> dict[str, Registered[Any]]:
    """Return what each name stands for; two claims of the same turn are both refused, a later one is refused alone."""
    settled: dict[str, Registered[Any]] = {}
    for name, offers in _offers(plugins, hook).items():
        first = [plugin for plugin in offers if plugin.turn == offers[0].turn]
        if len(first) == 1:
            settled[name] = _registered(first[0], hook, name)
            holder, refused = f"{first[0].label} has that name already", offers[1:]
            for plugin in refused:
                failed = f"cannot register {what} {name!r}"
                problems.append(
                    _problem(plugin, hook, plugin.blame.error(holder, "give it another name", failed=failed))
                )
            continue
        for plugin in offers:
            blame = Blame(f"{count(offers)} plugins", plugin.distribution, plugin.version)
            advice = f'keep one: [plugins] block = ["{offers[-1].distribution}"]'
            error = blame.error(labels(offers), advice, failed=f"register {what} {name!r}")
            problems.append(_problem(plugin, hook, error))
    return settled
