"""Which agents are asked for: agents.toml, and what is installed, become `AgentSpec`s."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from agenthost.agents import AgentSource, AgentSpec, EnvironmentSpec, ProcessOptions
from agenthost.config import AgentConfig, Config, EnvironmentConfig
from agenthost.environments import environment_name
from agenthost.errors import LoadError
from agenthost.finding import Finder, InstalledAgent, Offers, unloadable
from agenthost.placement.authors import DEV
from agenthost.plugins import Plugins


def discover(config: Config, plugins: Plugins, *, installed: Sequence[InstalledAgent] | None = None) -> list[AgentSpec]:
    """Return the agents that agents.toml names (all that are installed, with `serve = "all"`), sorted by name.

    Imports nothing: `spec.source.load` does. An agent that cannot be found, or not without doubt, has `spec.problem`;
    one that is not enabled is only listed. One with an environment of its own is looked for there, by its worker: here
    its source is no more than its `use`, and a process is where it runs unless another place is named. Call it again
    when a late plugin has arrived. Never raises.
    """
    offers = Offers(plugins, installed)
    specs = []
    taken: set[tuple[str, str]] = set()
    for name, agent in config.agents.items():
        finder = Finder(name, agent.use or name, offers, config.base_dir)
        taken.update(offer.key for offer in finder.candidates)
        specs.append(_spec(finder, agent))
    if config.server.serve == "all":
        rest = {offer.name for offer in offers.all if offer.key not in taken and offer.problem is None}
        finders = [Finder(name, name, offers, config.base_dir) for name in rest - config.agents.keys()]
        specs += [_spec(finder, config.defaults) for finder in finders]
    return sorted(specs, key=lambda spec: spec.name)


def _spec(finder: Finder, agent: AgentConfig) -> AgentSpec:
    """Map one agent's configuration, key by key, and say where it comes from."""
    environment = _environment(agent.environment, finder.base_dir)
    found = finder.find() if environment is None else _elsewhere(finder)
    problem = found if isinstance(found, LoadError) else None
    return AgentSpec(
        name=finder.name,
        source=unloadable(finder.use, found) if isinstance(found, LoadError) else found,
        title=agent.title,
        description=agent.description,
        owner=agent.owner,
        enabled=agent.enabled,
        required=agent.required,
        protocols=agent.protocols,
        settings=agent.settings,
        placement="process" if environment and agent.placement in {"in-process", DEV} else agent.placement,
        environment=environment,
        env=agent.env,
        process=ProcessOptions(agent.process.workers, agent.process.max_memory),
        timeout=agent.timeout,
        load_timeout=agent.load_timeout,
        interrupt_ttl=agent.interrupt_ttl,
        concurrency=agent.concurrency,
        queue=agent.queue,
        on_busy_thread=agent.on_busy_thread,
        load=agent.load,
        # An agent that is switched off need not be there.
        problem=problem if agent.enabled else None,
    )


def _elsewhere(finder: Finder) -> AgentSource:
    """The source of an agent that is found in its own environment, by its worker."""
    problem = LoadError(
        f"agent {finder.name!r} ({finder.use}) has an environment of its own and cannot be loaded into the host",
        hint=f'placement = "process" under [agents.{finder.name}]',
    )
    return unloadable(finder.use, problem)


def _environment(asked: EnvironmentConfig | None, folder: Path) -> EnvironmentSpec | None:
    """Packages of an agent's own, paths made absolute, under the name that their content gives them now."""
    if asked is None:
        return None
    lock, venv = (path and os.path.abspath(folder / path) for path in (asked.lock, asked.venv))
    spec = EnvironmentSpec(folder=os.path.abspath(folder), requirements=asked.requirements or (), lock=lock, venv=venv)
    with suppress(OSError):  # whoever makes it says why it cannot be read
        return replace(spec, name=environment_name(spec))
    return spec
