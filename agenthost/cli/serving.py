"""`agenthost dev` and `agenthost serve`: which configuration they serve, and what each refuses."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from agenthost.cli.debugging import without_limits
from agenthost.cli.env_files import EnvFiles
from agenthost.cli.installed import agent_plugins, on_offer, what_to_add
from agenthost.cli.langgraph_json import LangGraphProject, read_langgraph_json
from agenthost.cli.process import Options, run_host
from agenthost.config import AgentConfig, Config, config_path, default_config, load_config
from agenthost.config.loading import FILE_NAME, FILE_VARIABLE
from agenthost.errors import StartError
from agenthost.http.security import is_loopback
from agenthost.placement.authors import DEV

LOOPBACK = "127.0.0.1"

Command = TypeVar("Command", bound=Callable[..., Any])


def serving_options(command: Command) -> Command:
    """Give a command the options of serving."""
    for option in (
        click.option("--access-log/--no-access-log", default=True, help="A line on stdout for each request."),
        click.option("--log-format", type=click.Choice(["text", "json"]), default="text", help="How to log."),
        click.option("--port", type=click.IntRange(0, 65535), help="The port to listen on; 0 takes a free one."),
        click.option("--host", help="The address to listen on."),
        click.option("--config", "config_file", type=click.Path(path_type=Path), help="Another agents.toml."),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("target", metavar="[FILE.py:OBJECT]", required=False)
@click.option("--from", "project", type=click.Path(path_type=Path), help="Serve the graphs of a langgraph.json.")
@serving_options
@click.option(
    "--reload/--no-reload", default=True, help="Reload when agents.toml, a .env or an agent's own code changes."
)
@click.option("--debug", is_flag=True, help="Room for a debugger: no time limits, breakpoint() stops at this terminal.")
def dev(target: str | None, project: Path | None, *, reload: bool, debug: bool, **options: Any) -> int:
    """Serve on this machine only, without a key: the agents of agents.toml, or one object in a file.

    Put nothing in front of it: no proxy, no tunnel, no published port. What others can reach is served by
    `agenthost serve`.
    """
    authors = reload and not debug and os.name == "posix"  # where there are worker processes
    chosen = Options(**options, watch=reload, for_authors=authors, debug=debug)
    if chosen.host is not None and not is_loopback(chosen.host):
        raise StartError(
            f"`agenthost dev` serves this machine only, and {chosen.host} is not a loopback address",
            hint="leave --host out, or serve with keys: agenthost serve",
        )
    if target is not None and project is not None:
        raise click.UsageError(f"either {target} or --from {project}, not both")
    env = EnvFiles(os.environ)

    def read(file: Path | None) -> tuple[Config, str]:
        with env.again():
            config, served = _asked_for(target, project, file, env)
        config = _for_authors(config) if authors else without_limits(config) if debug else config
        host = chosen.host or (config.server.host if is_loopback(config.server.host) else LOOPBACK)
        return _placed(config, host, chosen.port), served

    config, served = read(chosen.config_file)
    again = config.path or chosen.config_file  # by its whole path: this folder may be moved away, and another put here
    return run_host(config, chosen, dev=True, read=lambda: read(again)[0], served=served, env=env)


def _asked_for(target: str | None, project: Path | None, file: Path | None, env: EnvFiles) -> tuple[Config, str]:
    """What `dev` is to serve, and how the summary calls that; reads the `.env` files that belong to it."""
    env.beside(config_path(file))
    if project is not None:
        config, served = _graphs(read_langgraph_json(project), file, env)
    elif target is not None:
        config, served = _one_object(target, file)
    else:
        config, served = _own_config(file), ""
    env.beside_agents(config)
    return config, served


def _for_authors(config: Config) -> Config:
    """The configuration with every agent of which it does not say where it runs placed so that it can be reloaded."""

    def placed(agent: AgentConfig) -> AgentConfig:
        return agent if "placement" in agent.model_fields_set else agent.model_copy(update={"placement": DEV})

    agents = {name: placed(agent) for name, agent in config.agents.items()}
    return config.model_copy(update={"agents": agents, "defaults": placed(config.defaults)})


@click.command()
@serving_options
@click.option("--watch", is_flag=True, help="Reload when agents.toml changes, or a file it refers to.")
def serve(**options: Any) -> int:
    """Serve the agents of agents.toml for real: every caller has a key, or the host does not start."""
    chosen = Options(**options)

    def read(file: Path | None) -> Config:
        config = load_config(file)
        return _placed(config, chosen.host or config.server.host, chosen.port)

    config = read(chosen.config_file)
    return run_host(config, chosen, dev=False, read=lambda: read(config.path), env=EnvFiles({}))


def _placed(config: Config, host: str, port: int | None) -> Config:
    where = {"host": host, "port": config.server.port if port is None else port}
    return config.model_copy(update={"server": config.server.model_copy(update=where)})


def _has_config(path: Path | None) -> bool:
    """Whether there is an agents.toml, or one was named: then it has to be there."""
    return path is not None or bool(os.environ.get(FILE_VARIABLE)) or config_path().exists()


def _own_config(path: Path | None) -> Config:
    """Read agents.toml. Raises `StartError` saying what is installed and what to do, where there is none."""
    if _has_config(path):
        return load_config(path)
    what, line = what_to_add(on_offer(agent_plugins(default_config({}))))
    raise StartError(f"there is no {FILE_NAME} in {Path.cwd()}\n{what}", hint=line)


def _one_object(target: str, path: Path | None) -> tuple[Config, str]:
    """The configuration that serves `FILE.py:OBJECT` alone, and how the summary calls that.

    Everything but [agents] is agents.toml's where there is one; without, nothing is written to the disk.
    """
    where, colon, attribute = target.rpartition(":")
    if not colon or not where or not attribute:
        near = (
            f"did you mean {target}:agent?" if target.endswith(".py") else f"an installed agent: agenthost add {target}"
        )
        raise StartError(f"{target!r} is not of the form FILE.py:OBJECT", hint=near)
    config, note = _without_agents(path)
    if where.endswith(".py") and config.base_dir != Path.cwd():
        target = f"{Path(where).absolute()}:{attribute}"
    agent = config.defaults.model_copy(update={"use": target})
    return _with_agents(config, {agent_name(where, attribute): agent}), f"{where}:{attribute}{note}"


def _graphs(project: LangGraphProject, path: Path | None, env: EnvFiles) -> tuple[Config, str]:
    """The configuration that serves a langgraph.json's graphs, in the surroundings that it asks for."""
    if isinstance(project.env, Path):
        env.read(project.env)
    elif project.env:
        env.take(project.env, project.path)
    sys.path.extend(str(folder) for folder in project.folders if str(folder) not in sys.path)
    config, note = _without_agents(path)
    agents = {
        name: config.defaults.model_copy(update={"use": graph.use, "description": graph.description})
        for name, graph in project.graphs.items()
    }
    return _with_agents(config, agents), f"{project.served}{note}"


def _without_agents(path: Path | None) -> tuple[Config, str]:
    """What agents.toml says of everything but agents, and a note of it; without one nothing is written to the disk."""
    if _has_config(path):
        config = load_config(path)
        return config, f" alone; [agents] of {config.path.name if config.path else FILE_NAME} not used"
    config = default_config()
    store = config.store.model_copy(update={"url": "memory:"})
    return config.model_copy(update={"store": store}), f"; no {FILE_NAME}"


def _with_agents(config: Config, agents: Mapping[str, AgentConfig]) -> Config:
    server = config.server.model_copy(update={"serve": "configured"})
    return config.model_copy(update={"agents": dict(agents), "server": server})


def agent_name(where: str, attribute: str) -> str:
    """What an object of a file is served as: its own name, or the file's where it is just called `agent`."""
    word = attribute.rpartition(".")[2]
    if word == "agent":
        word = Path(where).stem if where.endswith(".py") else where.rpartition(".")[2]
    return re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-")[:63] or "agent"
