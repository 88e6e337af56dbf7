"""What a reload would change: a configuration and its agents against those that are in force. Does nothing of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from agenthost.agents import AgentSpec
from agenthost.config import Config
from agenthost.config.keys import KeyConfig, Section
from agenthost.entries import AgentEntry
from agenthost.placement.authors import DEV

ADJUSTED = frozenset(
    {
        "title",
        "description",
        "owner",
        "required",
        "protocols",
        "timeout",
        "load_timeout",
        "concurrency",
        "queue",
        "on_busy_thread",
        "interrupt_ttl",
        "load",
    }
)
"""Fields of an `AgentSpec` that are the host's own affair: where they change, the agent goes on as it is."""

FIXED: Mapping[str, Collection[str]] = {
    "server": ("host", "port", "drain"),
    "store": ("url", "durability", "run_retention", "thread_retention"),
    "plugins": ("block",),
}
"""Keys by table that a host has as it was started with them."""

_KEPT_STATES = frozenset({"draining", "unloaded"})
"""States of a listed agent that an operator has unloaded: it stays so."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done to have `config` in force.

    `built` are agents to be opened before anything changes, `listed` those that are served or named without that,
    `adjusted` those that get another spec and go on. `changed` says, for each agent that has one, which of its keys
    differ; `restart` what only a restart would change.
    """

    config: Config
    built: Sequence[AgentSpec] = ()
    listed: Sequence[AgentSpec] = ()
    adjusted: Sequence[AgentSpec] = ()
    added: Sequence[str] = ()
    removed: Sequence[str] = ()
    changed: Mapping[str, Sequence[str]] = field(default_factory=dict)
    unchanged: Sequence[str] = ()
    keys: Mapping[str, Sequence[str]] = field(default_factory=dict)
    settings: Sequence[str] = ()
    restart: Sequence[str] = ()

    def report(self) -> dict[str, Any]:
        """The plan as JSON, without any value of the file."""
        return {
            "added": list(self.added),
            "removed": list(self.removed),
            "changed": {name: list(keys) for name, keys in self.changed.items()},
            "unchanged": list(self.unchanged),
            "keys": {kind: list(ids) for kind, ids in self.keys.items()},
            "settings": list(self.settings),
            "needs_restart": list(self.restart),
        }


def plan_of(old: Config, new: Config, entries: Mapping[str, AgentEntry], specs: Sequence[AgentSpec]) -> Plan:
    """What leads from `old` and the agents that are listed to `new` and `specs`, its agents."""
    fixed, restart = _with_what_is_fixed(old, new)
    named = {spec.name for spec in specs}
    changed: dict[str, list[str]] = {}
    kinds: dict[str, list[AgentSpec]] = {"built": [], "listed": [], "adjusted": []}
    for asked in specs:
        entry = entries.get(asked.name)
        spec, stale = (asked, None) if entry is None else _as_imported(entry, asked)
        restart += [stale] if stale else []
        differing = [] if entry is None else differences(entry.spec, spec)
        if entry is None or differing:
            kinds[_kind(entry, spec, differing)].append(spec)
        if differing:
            changed[spec.name] = differing
    return Plan(
        config=fixed,
        **kinds,
        added=[spec.name for spec in specs if spec.name not in entries],
        removed=sorted(entries.keys() - named),
        changed=changed,
        unchanged=sorted(entries.keys() & named - changed.keys()),
        keys=_keys(old.auth.keys, new.auth.keys),
        settings=[*_settings(old, fixed, "server"), *_settings(old, fixed, "auth")],
        restart=restart,
    )


def _kind(entry: AgentEntry | None, spec: AgentSpec, differing: Collection[str]) -> str:
    """What is to be done about an agent that is new, or differs."""
    if not spec.enabled:
        return "listed"
    if entry is not None and entry.state in _KEPT_STATES:
        return "adjusted"
    if spec.problem is not None and (entry is None or entry.state != "failed"):
        return "built"  # which cannot be: what serves, or waits for its first request, goes on
    if entry is None or entry.state in {"disabled", "discovered"}:
        return "built" if spec.load == "eager" else "listed"
    if ADJUSTED.issuperset(differing):
        return "adjusted"
    return "built" if entry.ref is not None else "listed"  # what does not serve is loaded as at a start


def differences(one: AgentSpec, other: AgentSpec) -> list[str]:
    """The keys of agents.toml by which two specs of an agent differ; `version` for another release of its code."""
    found = []
    for name in (known.name for known in fields(AgentSpec)):
        ours, theirs = getattr(one, name), getattr(other, name)
        if name == "source":
            found += [
                part for part in ("use", "distribution", "version") if getattr(ours, part) != getattr(theirs, part)
            ]
        elif name == "problem":
            found += ["use"] if (ours and ours.message) != (theirs and theirs.message) else []
        elif ours != theirs:
            found.append(name)
    return list(dict.fromkeys(found))


def _as_imported(entry: AgentEntry, spec: AgentSpec) -> tuple[AgentSpec, str | None]:
    """The spec as this process can have it: code that is imported stays as it is, whatever is installed meanwhile."""
    ours, theirs = entry.spec.source, spec.source
    same = (ours.use, ours.distribution) == (theirs.use, theirs.distribution)
    here = entry.ref is not None and entry.spec.placement == spec.placement in {"in-process", DEV}
    here = here and not getattr(entry.ref, "pids", ())
    if not (same and here) or ours.version == theirs.version:
        return spec, None
    stale = f"agent '{spec.name}': {theirs.label} is installed, and {ours.version} is imported"
    return replace(spec, source=ours), stale


def _with_what_is_fixed(old: Config, new: Config) -> tuple[Config, list[str]]:
    """The new configuration as it can be in force, and what of it cannot."""
    changes: dict[str, Section] = {}
    restart = []
    for table, names in FIXED.items():
        had, wanted = getattr(old, table), getattr(new, table)
        restart += [f"[{table}] {name}" for name in names if getattr(had, name) != getattr(wanted, name)]
        changes[table] = wanted.model_copy(update={name: getattr(had, name) for name in names})
    return new.model_copy(update=changes), restart


def _settings(old: Config, new: Config, table: str) -> Iterator[str]:
    had, has = getattr(old, table), getattr(new, table)
    for name in type(had).model_fields:
        if name != "keys" and getattr(had, name) != getattr(has, name):
            yield f"[{table}] {name}"


def _keys(old: Sequence[KeyConfig], new: Sequence[KeyConfig]) -> dict[str, list[str]]:
    had, has = {key.id: key for key in old}, {key.id: key for key in new}
    found = {
        "added": [name for name in has if name not in had],
        "removed": [name for name in had if name not in has],
        "changed": [name for name in has if name in had and has[name] != had[name]],
    }
    return {kind: ids for kind, ids in found.items() if ids}
