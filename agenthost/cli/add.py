"""`agenthost add`: an installed agent, or one by its `use`, written into agents.toml."""

from __future__ import annotations

from pathlib import Path

import click

from agenthost.blame import count
from agenthost.cli.installed import agent_plugins, label, not_installed, on_offer
from agenthost.cli.terminal import say
from agenthost.config import AgentConfig, Config, config_path, default_config, load_config
from agenthost.config.editing import add_agent
from agenthost.config.loading import shown_path
from agenthost.discovery import discover
from agenthost.errors import ConfigError
from agenthost.plugins import Plugins


@click.command()
@click.argument("name")
@click.option("--use", help="Where it comes from, if not from the entry point NAME: an entry point, "
              "distribution:entry-point, module:attribute, or file.py:attribute beside agents.toml.")  # fmt: skip
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="The file to write to.")
def add(name: str, use: str | None, config_file: Path | None) -> None:
    """Write an agent into agents.toml, which is made if it is not there.

    NAME is what is installed (`agenthost list`), and the name in addresses. Everything else in the file stays as it is.
    """
    path = config_path(config_file)
    plugins = agent_plugins(_config(path))
    origin = _installed(name, plugins) if use is None else _used(name, use, path, plugins)
    made = not path.exists()
    add_agent(path, name, use)
    shown = shown_path(path)
    follow = "agenthost dev" if path == config_path() else f"agenthost dev --config {shown}"
    say(f"{shown}: {'made, with' if made else 'added'} [agents.{name}] ({origin})\n  → {follow}")


def _config(path: Path) -> Config:
    """What [plugins] blocks counts; a file that says something wrong elsewhere can still be added to."""
    try:
        return load_config(path)
    except ConfigError:
        return default_config({})


def _installed(name: str, plugins: Plugins) -> str:
    """Say whose the agent is. Raises `ConfigError` unless exactly one distribution offers it."""
    known = on_offer(plugins)
    offers = [agent for agent in known if agent.name == name]
    usable = [agent for agent in offers if agent.problem is None]
    if not offers:
        raise not_installed(name, known)
    if not usable and (problem := offers[0].problem):
        raise ConfigError(problem.message, hint=problem.hint)
    if len(usable) > 1:
        claims = ", ".join(map(label, usable))
        choice = f"choose one: agenthost add {name} --use {usable[0].distribution}:{name}"
        raise ConfigError(f"{count(usable)} distributions claim agent {name!r}: {claims}", hint=choice)
    return label(usable[0])


def _used(name: str, use: str, path: Path, plugins: Plugins) -> str:
    """Say whose `use` is, or repeat it. Raises `ConfigError` for what cannot be found without importing it."""
    folder = path.absolute().parent
    source = discover(Config(agents={name: AgentConfig(use=use)}, base_dir=folder), plugins)[0]
    if source.problem is not None:
        raise ConfigError(source.problem.message, hint="`agenthost list` shows what is installed")
    where = use.rpartition(":")[0]
    if source.source.distribution is None and where.endswith(".py") and not (folder / where).is_file():
        raise ConfigError(f"there is no file {where!r} in {folder}", hint="name it as seen from agents.toml")
    return source.source.label
