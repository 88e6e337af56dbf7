"""A reload: new versions are opened and asked how they are, then everything changes in one step, or nothing does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence

from agenthost.agents import AgentSpec
from agenthost.auth import Authenticator
from agenthost.config import Config
from agenthost.discovery import discover
from agenthost.entries import AgentEntry
from agenthost.errors import AgentUnavailable, HostError, RequestError
from agenthost.finding import installed
from agenthost.host import CLOSE_GRACE, Host
from agenthost.planning import Plan, plan_of

Admit = Callable[[Config, tuple[Authenticator, ...]], Callable[[], None]]
"""Works out who may ask under a configuration, raising `StartError`; what it returns puts that in force."""


class ReloadFailed(RequestError):
    """The configuration in force is the old one; the message says why."""

    code = "reload_failed"
    status = 422
    title = "The configuration was not reloaded"


async def planned(host: Host, read: Callable[[], Config]) -> Plan:
    """Read the configuration again and say what it changes. Raises `HostError` for one that cannot be used.

    Installed distributions are looked for again, plugins are not: they register once.
    """

    def look() -> tuple[Config, list[AgentSpec]]:
        config = read()
        return config, discover(config, host.plugins, installed=installed(host.plugins.blocked))

    config, specs = await asyncio.to_thread(look)
    return plan_of(host.config, config, host.entries, specs)


async def carried_out(host: Host, plan: Plan, admit: Admit) -> None:
    """Do what is planned. Raises `ReloadFailed`, and nothing has changed, where any part of it cannot be done."""
    built: list[AgentEntry] = []
    host.environments.keep_only(entry.spec for entry in (*host.entries.values(), *host.registry.draining.entries))
    try:
        authenticators = await asyncio.to_thread(host.authenticators_of, plan.config)  # which may wait for a plugin
        let_in = admit(plan.config, authenticators)
        for spec in plan.adjusted:
            if "protocols" in plan.changed.get(spec.name, ()):
                host.registry.check(spec)
        built = await _built(host, plan.built)
    except HostError as problem:
        failed = ReloadFailed(problem.message, hint=problem.hint)
        failed.files = problem.files
        raise failed from problem
    # From here on there is nothing that can fail, nor anybody else's turn.
    host.config, host.authenticators = plan.config, authenticators
    let_in()
    _list(host, plan, built)
    for entry in host.entries.values():
        host.runs.admission.fill(entry)


def _list(host: Host, plan: Plan, built: Collection[AgentEntry]) -> None:
    registry = host.registry
    former = dict(registry.entries)
    for entry in built:
        registry.replace(entry)
    for spec in plan.listed:
        registry.put(spec)
    for spec in plan.adjusted:
        registry.entries[spec.name].spec = spec
    for name in plan.removed:
        registry.remove(name)
    for name in (*plan.unchanged, *(spec.name for spec in plan.adjusted)):
        entry = registry.entries[name]
        if entry.state == "failed" and entry.spec.problem is None:
            registry.load(entry)
    for entry in former.values():
        if entry.gone and entry.ref is None:  # what was promised to begin once it is loaded will not
            refused = AgentUnavailable(f"agent '{entry.name}' was unloaded, and is no longer served")
            host.runs.admission.send_away_from(entry, refused)


async def _built(host: Host, specs: Sequence[AgentSpec]) -> list[AgentEntry]:
    """Open all of them, side by side; raises one `HostError` with what is wrong with any, and leaves none open then."""
    builds = [asyncio.ensure_future(host.registry.build(spec)) for spec in specs]
    problems: list[HostError] = []
    whole = False
    try:
        for build in builds:
            try:
                await build
            except HostError as problem:
                problems.append(problem)
        whole = not problems
    finally:
        if not whole:
            await _undone(host, builds)
    if problems:
        hint = problems[0].hint if len(problems) == 1 else None
        all_of_them = HostError("\n".join(problem.message for problem in problems), hint=hint)
        all_of_them.files = {file: at for problem in problems for file, at in (problem.files or {}).items()}
        raise all_of_them
    return [build.result() for build in builds]


async def _undone(host: Host, builds: Collection[asyncio.Future[AgentEntry]]) -> None:
    """Close what has been opened for nothing; what is still being opened closes itself."""
    for build in builds:
        build.cancel()
    if builds:
        await asyncio.wait(builds)
    opened = [build.result() for build in builds if not build.cancelled() and build.exception() is None]
    await asyncio.gather(*(host.registry.close_one(entry, CLOSE_GRACE) for entry in opened))
