"""`agenthost check`: the configuration, the plugins and every agent, tried for real; all that is wrong at once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import indent

import click

from agenthost.cli.calling import of_a_host, with_client
from agenthost.cli.plan import show_plan
from agenthost.cli.terminal import complain, murmur, say
from agenthost.config import config_path, load_config
from agenthost.config.loading import shown_path
from agenthost.discovery import discover
from agenthost.environments import BUILD_LIMIT
from agenthost.errors import ConfigError, HostError, StartError
from agenthost.host import CLOSE_GRACE, store_url
from agenthost.http.app import WebHost
from agenthost.store import StoreOpenError, stored_agents

PLUGINS_MAY_TAKE = 31.0
"""Seconds to wait for plugins that are slow to import: a little more than what a start grants them."""


@click.command()
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="Another agents.toml.")
@click.option("--plan", is_flag=True, help="Ask a running host what a reload would change there, and do nothing else.")
@of_a_host
def check(config_file: Path | None, plan: bool, url: str, key: str | None) -> int:
    """Read agents.toml, load plugins and agents as a start would, and print everything that is wrong.

    Serves nothing and leaves the store alone, so it can run beside a host. Exits 1 if anything is wrong.
    """
    if plan:
        if config_file is not None:
            raise click.UsageError("--plan is about the file that the host was started with; leave --config out")
        return with_client(url, key, show_plan)
    shown = shown_path(config_path(config_file))
    try:
        config = load_config(config_file)
    except ConfigError as unusable:
        complain(unusable.describe())
        return _verdict(shown, len(unusable.problems), " in the file; plugins and agents were not tried")
    host = WebHost(config)
    with _unlogged():
        problems = _load_plugins(host)
        loaded = asyncio.run(_load_agents(host))
    problems += [problem.error for problem in host.plugins.problems]
    problems += [entry.reason for entry in host.entries.values() if entry.reason is not None]
    try:
        notes = list(_notes(host))
    except StoreOpenError as unreadable:
        problems, notes = [*problems, unreadable], []
    problems = [*{problem.message: problem for problem in problems}.values()]
    for problem in problems:
        complain(problem.describe())
        if trace := getattr(problem, "traceback", None):
            complain(indent(trace.rstrip(), "    "))
    for note in notes:
        complain(f"note: {note}")
    return _verdict(shown, len(problems), f"; {loaded} of {len(host.entries)} agents load")


def _verdict(shown: str, problems: int, more: str) -> int:
    if problems:
        complain(f"{shown}: {problems} problem{'' if problems == 1 else 's'}{more}")
        return 1
    say(f"{shown}: ok{more}")
    return 0


@contextmanager
def _unlogged() -> Iterator[None]:
    """Keep quiet about what is printed afterwards."""
    registry = logging.getLogger("agenthost.registry")
    registry.disabled = True
    try:
        yield
    finally:
        registry.disabled = False


def _load_plugins(host: WebHost) -> list[HostError]:
    """Load every plugin, the slow ones too; returns why the host would not start, if so."""
    refused: list[HostError] = []
    try:
        host.load()
    except StartError as refusal:
        refused.append(refusal)
    deadline = time.monotonic() + PLUGINS_MAY_TAKE
    while host.plugins.pending and time.monotonic() < deadline:
        time.sleep(0.05)
    return refused


async def _load_agents(host: WebHost) -> int:
    """Load every agent once and close it again; returns how many loaded. The others' entries say why not."""
    specs = discover(host.config, host.plugins)
    host.environments.announce = lambda agent, what: murmur(f"{agent}: {what}")
    host.registry.start(specs)
    for entry in host.entries.values():
        if entry.state == "discovered":  # it would wait for a request
            host.registry.load(entry)
    making = BUILD_LIMIT if any(spec.environment for spec in specs) else 0.0
    await host.registry.settled(1.0 + making + max(map(host.registry.outer_limit, specs), default=0.0))
    loaded = sum(entry.serving for entry in host.entries.values())
    await host.registry.close(CLOSE_GRACE)
    host.environments.close()
    return loaded


def _notes(host: WebHost) -> Iterator[str]:
    """What is no fault, and worth knowing. Raises `StoreOpenError` for a store that no host could use."""
    config = host.config
    if not host.authenticators and not config.auth.allow_unauthenticated:
        yield "nothing tells callers apart yet: `agenthost dev` serves, `agenthost serve` will refuse to"
    for name in sorted(stored_agents(store_url(config)) - host.entries.keys()):
        yield f"threads or runs are kept for agent '{name}', which agents.toml does not name"
