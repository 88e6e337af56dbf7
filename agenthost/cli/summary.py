"""What a host says when it has started: every agent, its state, its address and why not; then where things are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import indent
from types import MappingProxyType

import click

from agenthost.api_keys import ApiKeys
from agenthost.cli.terminal import harmless
from agenthost.config.loading import shown_path
from agenthost.entries import AgentEntry
from agenthost.hookspecs import Dialect
from agenthost.host import Host, store_url
from agenthost.plugins import own_version

LISTED = 30
"""Agents that are listed one by one; of more, those that serve are counted."""

COLOURS = {"ready": "green", "failed": "red", "degraded": "yellow", "loading": "yellow"}

LOCAL_ONLY = (
    "everybody on this machine, without a key; put nothing in front of it (no proxy, tunnel or published port): "
    "that takes `agenthost serve`"
)


def start_summary(
    host: Host, url: str, *, dev: bool, served: str = "", notes: Mapping[str, str] = MappingProxyType({})
) -> str:
    """The text for a terminal.

    `url` is the bound address, `served` where agents come from if not from agents.toml, `notes` what else there is to
    say, by a word of at most eight letters; those that are empty are left out.
    """
    source = served or (shown_path(host.config.path) if host.config.path else "no agents.toml")
    lines = [f"agenthost {own_version()} · {'dev' if dev else 'serve'} · {url} · {harmless(source)}", ""]
    called = url if dev else host.config.server.public_url.rstrip("/") or url
    lines += _agents(sorted(host.entries.values(), key=lambda entry: entry.name), called)
    lines += ["", f"  store    {_store(host)}", f"  callers  {LOCAL_ONLY if dev else _callers(host)}"]
    lines += _protocols(host.dialects.values(), called)
    lines += [f"  {word:<8} {harmless(note)}" for word, note in notes.items() if note]
    for problem in host.plugins.problems:
        lines += ["", indent(harmless(problem.error.describe()), "  ")]
    return "\n".join([*lines, ""])


def counts(entries: Sequence[AgentEntry]) -> str:
    """`12 agents: 10 ready, 1 loading, 1 failed`."""
    states = sorted((entry.state for entry in entries), key=_weight)
    said = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    return f"{len(states)} agent{'' if len(states) == 1 else 's'}" + (f": {said}" if said else "")


def _weight(state: str) -> int:
    order = ("ready", "degraded", "loading", "failed")
    return order.index(state) if state in order else len(order)


def _agents(entries: Sequence[AgentEntry], url: str) -> Iterator[str]:
    """Lines for every agent; where there are many, for those that do not serve, and at most for `LISTED` of them."""
    if not entries:
        yield "  no agents: `agenthost list` shows what is installed, `agenthost add NAME` names one"
        return
    shown = entries
    if len(entries) > LISTED:
        shown = [entry for entry in entries if not entry.serving and entry.state != "disabled"][:LISTED]
    width = max((len(entry.name) for entry in shown), default=0)
    state_width = max((len(entry.state) for entry in shown), default=0)
    for entry in shown:
        yield from _agent(entry, url, width, max(8, state_width))
    if len(shown) < len(entries):
        yield f"  {counts(entries)}; {url}/agents lists them, each is at {url}/agents/NAME"


def _agent(entry: AgentEntry, url: str, width: int, state_width: int) -> Iterator[str]:
    state = click.style(f"{entry.state:<{state_width}}", fg=COLOURS.get(entry.state))
    about = f"{url}/agents/{entry.name}"
    if entry.state == "disabled":
        about = f"enabled = false under [agents.{entry.name}]"
    elif entry.reason is not None:
        about = harmless(entry.reason.describe())
    first, *rest = about.split("\n")
    yield f"  {entry.name:<{width}}  {state}  {first}"
    yield from (" " * (width + state_width + 6) + line for line in rest)


def _protocols(dialects: Iterable[Dialect], url: str) -> Iterator[str]:
    """A line for every protocol with an address of its own, as one would type it for an agent called NAME."""
    told: set[str] = set()
    for dialect in sorted(dialects, key=lambda one: bool(one.part_of)):
        if dialect.prefix and dialect.protocol not in told:
            told.add(dialect.protocol)
            place = dialect.prefix if dialect.scope == "host" else f"/agents/NAME{dialect.prefix}"
            yield f"  {harmless(dialect.protocol):<8} {url}{place}"


def _store(host: Host) -> str:
    url = store_url(host.config)
    if url == "memory:":
        return "memory: nothing is kept when the host stops"
    return harmless(shown_path(Path(url.removeprefix("sqlite:///"))))


def _callers(host: Host) -> str:
    """Who may call: how many keys for how many principals, and which other authenticators are asked."""
    keys = host.config.auth.keys
    others = [
        name
        for name in host.config.auth.use
        if name in host.plugins.authenticators and not isinstance(host.plugins.authenticators[name].value, ApiKeys)
    ]
    said = [f"those that {name} knows" for name in others]
    if keys:
        principals = len({key.principal for key in keys})
        said.insert(0, f"{_count(len(keys), 'key')} for {_count(principals, 'principal')}")
    return ", ".join(said) or "anybody who reaches it, without a key ([auth] allow_unauthenticated = true)"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
