"""`agenthost list` and `agenthost plugins`: what is installed, what of it is served, and what each brings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from agenthost.agents import AgentSpec
from agenthost.cli.installed import agent_plugins, config_or_default, label, on_offer, what_to_add
from agenthost.cli.terminal import complain, harmless, say
from agenthost.discovery import discover
from agenthost.distributions import normalise
from agenthost.environments import told
from agenthost.errors import StartError
from agenthost.finding import InstalledAgent
from agenthost.http.app import WebHost

WIDEST = 1000
"""Columns of a table that no terminal shows: lines that a program reads are not wrapped."""

config_option = click.option("--config", "config_file", type=click.Path(path_type=Path), help="Another agents.toml.")


def show_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under headings, in columns."""
    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = WIDEST
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*map(harmless, row))
    console.print(table)


@click.command(name="list")
@config_option
def list_agents(config_file: Path | None) -> None:
    """Show every agent that is installed, and as what agents.toml serves it or which line would add it."""
    config = config_or_default(config_file)
    plugins = agent_plugins(config)
    offers, specs = on_offer(plugins), discover(config, plugins)
    origins = {_origin(offer) for offer in offers}
    rows = [(offer.name, label(offer), _served_as(offer, specs), offer.summary) for offer in offers]
    rows += [(spec.name, _from(spec), _status(spec), "") for spec in specs if _source(spec) not in origins]
    if rows:
        show_table(("agent", "from", "served as", "what it is"), rows)
    problems = [one.error for one in plugins.problems]
    problems += [offer.problem for offer in offers if offer.problem]
    for text in dict.fromkeys([*(one.describe() for one in problems), *_refusals(specs)]):
        complain(text)
    if config.path is None:
        what, line = what_to_add(offers)
        say(("\n" if offers else f"{what}\n") + f"nothing is served: there is no agents.toml here\n  → {line}")


def _origin(agent: InstalledAgent) -> tuple[str, str]:
    return normalise(agent.distribution), agent.name


def _from(spec: AgentSpec) -> str:
    """Where an agent comes from that nothing installed here offers."""
    return spec.source.label if spec.environment is None else f"its own environment: {told(spec.environment)}"


def _source(spec: AgentSpec) -> tuple[str, str]:
    """Which installed agent this is; nobody's for one that comes from a module or a file."""
    source = spec.source
    return normalise(source.distribution or ""), source.use.rpartition(":")[2]


def _served_as(offer: InstalledAgent, specs: Sequence[AgentSpec]) -> str:
    served = [_status(spec) for spec in specs if _source(spec) == _origin(offer)]
    if served:
        return ", ".join(served)
    if offer.problem:
        return "cannot be served"
    if any(spec.name == offer.name for spec in specs):
        return f"not served: agenthost add NAME --use {offer.distribution}:{offer.name}"
    return f"not served: agenthost add {offer.name}"


def _status(spec: AgentSpec) -> str:
    if not spec.enabled:
        return f"{spec.name} (disabled)"
    return f"{spec.name} (cannot be served)" if spec.problem else spec.name


def _refusals(specs: Sequence[AgentSpec]) -> list[str]:
    return [spec.problem.describe() for spec in specs if spec.problem]


@click.command()
@config_option
def plugins(config_file: Path | None) -> None:
    """Show what every installed distribution registered with the host, and what is wrong with any of them."""
    host = WebHost(config_or_default(config_file))
    with suppress(StartError):  # it is among the problems
        host.load()
    described = host.plugins.describe()
    rows = [
        (one["distribution"], one["version"], _agents(one), _registered(one), _state(one))
        for one in described
        if one["distribution"]
    ]
    show_table(("distribution", "version", "agents", "registers", "state"), rows)
    for problem in host.plugins.problems:
        complain(problem.error.describe())


def _agents(described: Mapping[str, Any]) -> str:
    return ", ".join(dict.fromkeys([*described["agents"], *described["registered"].get("agents", ())]))


def _registered(described: Mapping[str, Any]) -> str:
    kinds = described["registered"].items()
    return "; ".join(f"{kind}: {', '.join(names)}" for kind, names in kinds if kind != "agents")


def _state(described: Mapping[str, Any]) -> str:
    if described["blocked"]:
        return "blocked"
    if described["problems"]:
        return "failed"
    return ", ".join(dict.fromkeys(plugin["state"] for plugin in described["plugins"])) or "installed"
