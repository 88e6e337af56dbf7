"""What an agent's `use` stands for: an entry point, what a plugin registered, or code by its path."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from agenthost.agents import AgentSource
from agenthost.blame import Blame, count, did_you_mean, labels
from agenthost.distributions import AGENT_NAME, AGENT_NAME_RULE, Declarations, normalise, scan
from agenthost.errors import LoadError
from agenthost.importing import MODULE_PATH, import_object
from agenthost.plugins import Plugin, Plugins


@dataclass(frozen=True, slots=True)
class InstalledAgent:
    """An entry point of the group `agenthost.agents`: known from metadata, not imported, not necessarily served.

    `problem` says why it cannot be served whatever agents.toml says: its distribution is blocked, or its name is bad.
    """

    name: str
    distribution: str
    version: str
    value: str
    summary: str = ""
    problem: LoadError | None = None


def installed(block: Collection[str] = (), declared: Declarations | None = None) -> list[InstalledAgent]:
    """List the agents that are installed, sorted by name; `declared` is a scan made before, `block` distributions."""
    blocked = {normalise(distribution) for distribution in block}
    agents = []
    for entry in (declared or scan()).agents:
        blame = Blame(f"agent {entry.name!r} ({entry.label})", entry.distribution, entry.version)
        problem = None
        if normalise(entry.distribution) in blocked:
            problem = _blocked(blame)
        elif not AGENT_NAME.fullmatch(entry.name):
            problem = blame.error(AGENT_NAME_RULE, failed="cannot be served")
        agents.append(
            InstalledAgent(entry.name, entry.distribution, entry.version, entry.value, entry.summary, problem)
        )
    return agents


def find_source(name: str, use: str, plugins: Plugins, base_dir: Path) -> AgentSource:
    """Return where the code of agent `name` comes from, as a worker finds it again; raises `LoadError`."""
    found = Finder(name, use, Offers(plugins), base_dir).find()
    if isinstance(found, LoadError):
        raise found
    return found


@dataclass(frozen=True, slots=True)
class _Offer:
    """An agent that may be asked for: an entry point's `value`, or the `agent` that a plugin registered."""

    name: str
    distribution: str
    version: str
    value: str | None = None
    agent: Any = None
    problem: LoadError | None = None

    @property
    def label(self) -> str:
        return f"{self.distribution} {self.version}"

    @property
    def key(self) -> tuple[str, str]:
        return normalise(self.distribution), self.name

    @property
    def module(self) -> str:
        if self.value is not None:
            return self.value.partition(":")[0].strip()
        module: object = getattr(type(self.agent), "__module__", "")
        return module if isinstance(module, str) else ""

    def load(self, blame: Blame) -> Any:
        return self.agent if self.value is None else import_object(self.value, blame=blame)


class Offers:
    """Everything that is on offer in this environment, by name, and the plugins that may be why something is not."""

    def __init__(self, plugins: Plugins, agents: Iterable[InstalledAgent] | None = None) -> None:
        self.suspects = plugins.suspects("register_agents")
        self.all: list[_Offer] = []
        for agent in installed(plugins.blocked, plugins.declared) if agents is None else agents:
            value = agent.value.partition("[")[0]  # without extras, which only pip understands
            self.all.append(_Offer(agent.name, agent.distribution, agent.version, value, None, agent.problem))
        for registered in chain.from_iterable(plugins.agents.values()):
            self.all.append(
                _Offer(registered.name, registered.distribution, registered.version, None, registered.value)
            )
        self._by_name: dict[str, list[_Offer]] = {}
        for offer in self.all:
            self._by_name.setdefault(offer.name, []).append(offer)

    def named(self, name: str, distribution: str | None) -> list[_Offer]:
        """Return the offers of that name, those of one distribution if one is given."""
        offers = self._by_name.get(name, [])
        return [offer for offer in offers if distribution in {None, normalise(offer.distribution)}]


class Finder:
    """Finds what one agent's `use` stands for."""

    def __init__(self, name: str, use: str, offers: Offers, base_dir: Path) -> None:
        self.name = name
        self.use = use
        self.base_dir = base_dir
        self.offers = offers
        self.owner, colon, wanted = use.partition(":")
        self.wanted = wanted if colon else use
        self.by_name = not colon and bool(AGENT_NAME.fullmatch(use))
        self.candidates = offers.named(self.wanted, None if self.by_name else normalise(self.owner))
        self.otherwise = f"set enabled = false under [agents.{name}]"

    def find(self) -> AgentSource | LoadError:
        """Return where the agent's code comes from, or why that cannot be said."""
        candidates = [offer for offer in self.candidates if offer.problem is None] or self.candidates
        where = self.use.rpartition(":")[0]
        if not candidates:
            inline = not self.by_name and (where.endswith(".py") or not where or MODULE_PATH.fullmatch(where))
            return self._inline() if inline else self._not_installed()
        if len(candidates) > 1:
            return self._collision(candidates)
        offer = candidates[0]
        if offer.problem:
            return offer.problem
        blame = Blame(f"agent {self.name!r} ({offer.label})", offer.distribution, offer.version, self.otherwise)
        return AgentSource(self.use, partial(offer.load, blame), offer.distribution, offer.version, offer.module)

    def _suspects(self) -> list[Plugin]:
        """The plugins that may be why this agent is not there: any, or the named distribution's."""
        owner = normalise(self.owner)
        return [one for one in self.offers.suspects if self.by_name or normalise(one.distribution) == owner]

    def _inline(self) -> AgentSource:
        otherwise = self.otherwise
        if suspects := self._suspects():
            # `acme:support` may be a module's attribute as well as what distribution acme would have registered.
            otherwise = f"mend plugin {suspects[0].name!r} ({suspects[0].label}) if that has it, or {otherwise}"
        blame = Blame(f"agent {self.name!r} ({self.use})", otherwise=otherwise)
        load = partial(import_object, self.use, self.base_dir, blame=blame)
        return AgentSource(self.use, load, module=self.use.rpartition(":")[0].strip())

    def _collision(self, candidates: list[_Offer]) -> LoadError:
        """Two distributions claim one name, which `use` settles; or one does so twice, which only it can settle."""
        claims = list({normalise(offer.distribution): offer for offer in candidates}.values())
        if len(claims) == 1:
            return LoadError(
                f"{claims[0].label} offers agent {self.wanted!r} {count(candidates)} times",
                hint=f"an entry point and register_agents must not share a name, or {self.otherwise}",
                distribution=claims[0].distribution,
                version=claims[0].version,
            )
        return LoadError(
            f"{count(claims)} distributions claim agent {self.wanted!r}: {labels(claims)}",
            hint=f'choose one: [agents.{self.name}] use = "{claims[0].distribution}:{self.wanted}"',
        )

    def _not_installed(self) -> LoadError:
        suspects = self._suspects()
        culprit = suspects[0] if len(suspects) == 1 else None
        reason, near, remedy = self._absence()
        accused = "".join(f"; plugin {one.name!r} ({one.label}) may have it and {_why(one)}" for one in suspects)
        advice = [near, _way_out(suspects[0]) if suspects else remedy, self.otherwise]
        return LoadError(
            f"agent {self.name!r} is not installed{reason}{accused}",
            hint=", or ".join(part for part in advice if part),
            distribution=culprit.distribution if culprit else None,
            version=culprit.version if culprit else None,
        )

    def _absence(self) -> tuple[str, str, str]:
        """Return what is not there, the nearest that is, and what to install."""
        if self.by_name:
            reason = "" if self.use == self.name else f": nothing that is installed is called {self.use!r}"
            remedy = f'pip install its distribution, or say where it is: [agents.{self.name}] use = "module:attribute"'
            return reason, did_you_mean(self.wanted, [offer.name for offer in self.offers.all]), remedy
        known: list[_Offer | Plugin] = [*self.offers.all, *self.offers.suspects]
        owned = [one for one in known if normalise(one.distribution) == normalise(self.owner)]
        if owned:
            names = [offer.name for offer in self.offers.all if offer in owned]
            return f": {owned[0].label} has no agent {self.wanted!r}", did_you_mean(self.wanted, names), ""
        near = did_you_mean(self.owner, [one.distribution for one in known])
        return f": there is no distribution {self.owner!r}", near, f"pip install {self.owner}"


def unloadable(use: str, problem: LoadError) -> AgentSource:
    """Return the source of an agent that cannot be loaded here: to load it raises `problem`."""

    def refuse() -> Any:
        raise problem

    return AgentSource(use, refuse, problem.distribution, problem.version)


def _blocked(blame: Blame) -> LoadError:
    advice = f'take "{blame.distribution}" out of [plugins] block'
    return blame.error("its distribution is blocked", advice, failed="cannot be served")


def _why(plugin: Plugin) -> str:
    match plugin.state:
        case "loading":
            return "is still being imported"
        case "blocked":
            return "is blocked"
        case "failed":
            return "failed to load"
        case _:
            return "failed in register_agents"


def _way_out(suspect: Plugin) -> str:
    match suspect.state:
        case "loading":
            return "wait for that plugin"
        case "blocked":
            return f'take "{suspect.distribution}" out of [plugins] block'
        case _:
            return "mend that plugin"
