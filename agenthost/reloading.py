"""A reload: new versions are opened and asked how they are, then everything changes in one step, or nothing does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from agenthost.agents import AgentSpec
from agenthost.auth import Authenticator
from agenthost.config import Config
from agenthost.discovery import discover
from agenthost.entries import AgentEntry
from agenthost.errors import AgentUnavailable, ConfigError, HostError, RequestError
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


@contextmanager
def _refusing() -> Iterator[None]:
    """Raise `ReloadFailed` for what goes wrong before anything has changed."""
    try:
        yield
    except ReloadFailed:
        raise
    except HostError as problem:
        failed = ReloadFailed(problem.message, hint=problem.hint)
        failed.files = problem.files
        raise failed from problem


async def planned(host: Host, read: Callable[[], Config]) -> Plan:
    """Read the configuration again and say what it changes. Raises `ReloadFailed` for one that cannot be used.

    Installed distributions are looked for again, plugins are not: they register once.
    """

    def look() -> tuple[Config, list[AgentSpec]]:
        try:
            config = read()
        except OSError as problem:  # the folder that the host was started in is gone
            raise ConfigError(f"the configuration cannot be read: {problem}") from problem
        return config, discover(config, host.plugins, installed=installed(host.plugins.blocked))

    with _refusing():
        config, specs = await asyncio.to_thread(look)
    return plan_of(host.config, config, host.entries, specs)


async def looked_over(host: Host, plan: Plan, admit: Admit) -> None:
    """Raise `ReloadFailed` where it is certain that a plan cannot be carried out; opens no agent to find out."""
    with _refusing():
        await _admitted(host, plan, admit)
        _raise_any([spec.problem for spec in plan.built if spec.problem is not None])
        for spec in plan.built:
            host.registry.check(spec)


async def carried_out(host: Host, plan: Plan, admit: Admit) -> None:
    """Do what is planned. Raises `ReloadFailed`, and nothing has changed, where any part of it cannot be done."""
    host.environments.keep_only(entry.spec for entry in (*host.entries.values(), *host.registry.draining.entries))
    with _refusing():
        let_in = await _admitted(host, plan, admit)
        built = await _built(host, plan)
    # From here on there is nothing that can fail, nor anybody else's turn.
    let_in()
    _list(host, plan, built)
    for entry in host.entries.values():
        host.runs.admission.fill(entry)


async def _admitted(host: Host, plan: Plan, admit: Admit) -> Callable[[], None]:
    """Puts in force who may ask, once it is called; raises `HostError` for what could not be served."""
    config = plan.config
    authenticators = await asyncio.to_thread(host.authenticators_of, config)  # which may wait for a plugin
    let_in = admit(config, authenticators)
    for spec in plan.adjusted:
        if "protocols" in plan.changed.get(spec.name, ()):
            host.registry.check(spec)

    def in_force() -> None:
        host.config, host.authenticators = config, authenticators
        let_in()

    return in_force


def _list(host: Host, plan: Plan, built: Collection[AgentEntry]) -> None:
    registry = host.registry
    former = dict(registry.entries)
    for entry in built:
        registry.replace(entry)
    for spec in plan.listed:
        if registry.entries.get(spec.name) not in built:
            registry.put(spec)
    for spec in plan.adjusted:
        registry.entries[spec.name].spec = spec
    for name in plan.removed:
        registry.remove(name)
    for name in (*plan.unchanged, *(spec.name for spec in plan.adjusted)):
        entry = registry.entries[name]
        if entry.state == "failed":
            registry.load(entry)
    for entry in former.values():
        if entry.gone and entry.ref is None:  # what was promised to begin once it is loaded will not
            refused = AgentUnavailable(f"agent '{entry.name}' was unloaded, and is no longer served")
            host.runs.admission.send_away_from(entry, refused)


async def _built(host: Host, plan: Plan) -> list[AgentEntry]:
    """Open all that is to be opened, side by side, and then what else has come to serve meanwhile.

    Raises one `HostError` with what is wrong with any, and leaves none open then.
    """
    builds: dict[str, asyncio.Future[AgentEntry]] = {}
    specs, whole = plan.built, False
    try:
        while specs:
            builds |= {spec.name: asyncio.ensure_future(host.registry.build(spec)) for spec in specs}
            await asyncio.wait(builds.values())
            _raise_any([problem for build in builds.values() if (problem := _problem(build)) is not None])
            serving = {name for name, entry in host.entries.items() if entry.ref is not None}
            specs = [spec for spec in plan.listed if spec.enabled and spec.name in serving - builds.keys()]
        whole = True
    finally:
        if not whole:
            await _undone(host, builds.values())
    return [build.result() for build in builds.values()]


def _problem(build: asyncio.Future[AgentEntry]) -> HostError | None:
    """Why an agent was not opened, or is lost by now."""
    try:
        return build.result().reason
    except HostError as problem:
        return problem


def _raise_any(problems: Sequence[HostError]) -> None:
    """Raise one `HostError` that says all of them, if there are any."""
    if problems:
        hint = problems[0].hint if len(problems) == 1 else None
        all_of_them = HostError("\n".join(problem.message for problem in problems), hint=hint)
        all_of_them.files = {file: at for problem in problems for file, at in (problem.files or {}).items()}
        raise all_of_them


async def _undone(host: Host, builds: Collection[asyncio.Future[AgentEntry]]) -> None:
    """Close what has been opened for nothing; what is still being opened closes itself."""
    for build in builds:
        build.cancel()
    if builds:
        await asyncio.wait(builds)
    opened = [build.result() for build in builds if not build.cancelled() and build.exception() is None]
    await asyncio.gather(*(host.registry.close_one(entry, CLOSE_GRACE) for entry in opened))
