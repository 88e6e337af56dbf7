"""What is installed, for the commands that speak of it: agents on offer, and the line that serves one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from agenthost.blame import did_you_mean
from agenthost.config import Config, config_path, default_config, load_config
from agenthost.errors import ConfigError
from agenthost.finding import InstalledAgent, installed
from agenthost.importing import Importer
from agenthost.plugins import Plugins


def config_or_default(path: Path | None) -> Config:
    """Read the configuration; the defaults where no file was named and there is none here. Raises `ConfigError`."""
    if path is None and not os.environ.get("AGENTHOST_CONFIG") and not config_path().exists():
        return default_config()
    return load_config(path)


def agent_plugins(config: Config) -> Plugins:
    """Load the plugins of this environment as far as they register agents."""
    plugins = Plugins(config.plugins.block)
    plugins.load(config, importer=Importer(), hooks=("register_agents",))
    return plugins


def on_offer(plugins: Plugins) -> list[InstalledAgent]:
    """Every agent that is installed, by entry point or by a plugin's hook, sorted by name."""
    registered = [
        InstalledAgent(one.name, one.distribution, one.version, one.plugin)
        for offers in plugins.agents.values()
        for one in offers
    ]
    return sorted([*installed(plugins.blocked, plugins.declared), *registered], key=lambda agent: agent.name)


def label(agent: InstalledAgent) -> str:
    """`acme-billing 2.1`."""
    return f"{agent.distribution} {agent.version}"


def what_to_add(agents: Sequence[InstalledAgent]) -> tuple[str, str]:
    """Say in a line what is installed, and with which line one of it is served."""
    usable = [agent for agent in agents if agent.problem is None]
    if not usable:
        install = "pip install agenthost-echo, then `agenthost add echo`"
        return "no agent is installed", f"{install}; or `agenthost dev FILE.py:OBJECT` for an agent in a file"
    shown = ", ".join(f"{agent.name} ({label(agent)})" for agent in usable[:10])
    more = f", and {len(usable) - 10} more (`agenthost list`)" if len(usable) > 10 else ""
    return f"installed: {shown}{more}", f"agenthost add {usable[0].name}"


def not_installed(name: str, agents: Sequence[InstalledAgent]) -> ConfigError:
    """The refusal of a name that nothing installed has."""
    near = did_you_mean(name, [agent.name for agent in agents])
    otherwise = f"pip install its distribution, or say where it is: agenthost add {name} --use module:attribute"
    return ConfigError(f"no agent {name!r} is installed", hint=", or ".join(part for part in (near, otherwise) if part))
