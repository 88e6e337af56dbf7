"""`agenthost env`: environments of agents' own, made ahead, shown, and removed once no agent has them any more."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

import click

from agenthost.agents import AgentSpec, EnvironmentSpec
from agenthost.blame import did_you_mean
from agenthost.cli.listing import config_option, show_table
from agenthost.cli.terminal import complain, murmur, say
from agenthost.config import Config, load_environments
from agenthost.discovery import discover
from agenthost.environments import Environments, Kept, home, kept, told
from agenthost.errors import LoadError
from agenthost.finding import installed
from agenthost.plugins import Plugins


@click.group()
def env() -> None:
    """Make, show and remove environments that agents have to themselves."""


@env.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@config_option
def build(names: tuple[str, ...], config_file: Path | None) -> int:
    """Make the environments of all enabled agents of agents.toml, or of those that are NAMEd, if they are not there.

    For images, and to have them before a start. Needs no secrets that agents.toml names elsewhere. Exits 1 if any
    environment cannot be made; the others are.
    """
    specs = _with_environments(load_environments(config_file))
    if unknown := [name for name in names if name not in {spec.name for spec in specs}]:
        near = did_you_mean(unknown[0], [spec.name for spec in specs])
        raise click.UsageError(f"no agent {unknown[0]!r} has an environment of its own" + (f"; {near}" if near else ""))
    wanted = [spec for spec in specs if spec.name in names or (not names and spec.enabled)]
    problems = asyncio.run(_build(wanted))
    for problem in problems:
        complain(problem.describe())
        if problem.traceback:
            complain(problem.traceback)
    if not wanted:
        say("no agent has an environment of its own")
    return 1 if problems else 0


async def _build(specs: Sequence[AgentSpec]) -> list[LoadError]:
    """Make one after another, each as long as it takes; returns what failed."""
    environments = Environments(limit=None, announce=lambda agent, what: murmur(f"{agent}: {what}"))
    problems = []
    for spec in specs:
        try:
            python = await environments.interpreter(spec)
        except LoadError as problem:
            problems.append(problem)
        else:
            say(f"{spec.name}: {python}")
    environments.close()
    return problems


@env.command(name="list")
@config_option
def list_environments(config_file: Path | None) -> None:
    """Show the environments that agents.toml asks for, and those that are kept though no agent has them any more."""
    config = load_environments(config_file)
    rows = []
    for (name, _asked), specs in _shared(_with_environments(config)).items():
        environment = specs[0].environment
        assert environment is not None
        agents = ", ".join(spec.name for spec in specs)
        rows.append((name or "-", agents, _state(config, environment), told(environment)))
    unused = _unused(config)
    rows += [(one.name, "-", _unused_state(one), made.asked if (made := one.made()) else "") for one in unused]
    if rows:
        show_table(("environment", "agents", "state", "asked for"), rows)
    else:
        say("no agent has an environment of its own")
    if unused:
        murmur("`agenthost env prune` removes what is not used")


@env.command()
@config_option
def prune(config_file: Path | None) -> int:
    """Remove environments that no agent of agents.toml has any more, and what is left of those made by half.

    What a running host uses stays. Exits 1 if one cannot be removed.
    """
    failed = False
    unused = _unused(load_environments(config_file))
    for one in unused:
        try:
            gone = one.remove()
        except OSError as error:
            failed = True
            complain(f"{one.name} cannot be removed: {error}")
        else:
            say(f"{one.name}: {'removed' if gone else 'in use by a running host, kept'}")
    if not unused:
        say("nothing to remove")
    return 1 if failed else 0


def _with_environments(config: Config) -> list[AgentSpec]:
    """The agents that have an environment, found without importing anything."""
    specs = discover(config, Plugins(config.plugins.block), installed=installed(config.plugins.block))
    return [spec for spec in specs if spec.environment is not None]


def _shared(specs: Iterable[AgentSpec]) -> dict[tuple[str, str], list[AgentSpec]]:
    """Agents by the environment they share."""
    found: dict[tuple[str, str], list[AgentSpec]] = defaultdict(list)
    for spec in specs:
        if spec.environment is not None:
            found[spec.environment.name, told(spec.environment)].append(spec)
    return found


def _state(config: Config, environment: EnvironmentSpec) -> str:
    if environment.venv is not None:
        return "made elsewhere" if Path(environment.venv).is_dir() else "not there"
    if not environment.name:
        return "the lock file cannot be read"
    made = Kept(home(config.base_dir) / environment.name).made()
    return f"made {_when(made.at)}, Python {made.python}" if made else "not made yet"


def _unused(config: Config) -> list[Kept]:
    """What is kept and no agent has, disabled ones included."""
    used = {spec.environment.name for spec in _with_environments(config) if spec.environment is not None}
    return [one for one in kept(home(config.base_dir)) if one.name not in used]


def _unused_state(one: Kept) -> str:
    if one.in_use():
        return "not in agents.toml, in use by a running host"
    made = one.made()
    return f"not used, made {_when(made.at)}" if made else "not used, made by half"


def _when(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M")
