"""Installed distributions and what they declare for the host, read from their metadata without importing anything."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import PurePath

from agenthost.blame import Blame, summary
from agenthost.errors import LoadError

AGENTS = "agenthost.agents"
"""Entry-point group of agents: `name = "module:attribute"`."""

PLUGINS = "agenthost.plugins"
"""Entry-point group of plugins: `name = "module"`, a module of hook implementations."""

AGENT_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
"""What an agent may be called: it stands in addresses, logs and file names."""

AGENT_NAME_RULE = "an agent's name is made of a-z, 0-9 and '-', at most 63 of them, not '-' first"


def normalise(distribution: str) -> str:
    """Return a distribution's name in the form that compares (PEP 503): `Acme_Billing` is `acme-billing`."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


@dataclass(frozen=True, slots=True)
class Declared:
    """One entry point: `name = value` in `group`, and whose it is; `summary` is the distribution's one-line summary."""

    group: str
    name: str
    value: str
    distribution: str
    version: str
    summary: str = ""

    @property
    def label(self) -> str:
        """`acme-billing 2.1`."""
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True, slots=True)
class Declarations:
    """What all installed distributions declare, sorted by name and distribution, and whose metadata is broken."""

    agents: tuple[Declared, ...] = ()
    plugins: tuple[Declared, ...] = ()
    problems: tuple[LoadError, ...] = ()


def scan() -> Declarations:
    """Read both groups of every distribution on `sys.path`; broken metadata is a problem, never an exception.

    Of two copies of one distribution the first on `sys.path` counts, as for imports. Only distributions that declare
    something for the host have their METADATA parsed.
    """
    found: list[Declared] = []
    problems: list[LoadError] = []
    seen: set[str] = set()
    for distribution in metadata.distributions():
        try:
            if not _speaks_to_us(distribution):
                continue
        except (OSError, ValueError) as error:
            problems.append(_unreadable(distribution, "entry_points.txt", error))
            continue
        name, version, summary_line, problem = _identify(distribution)
        if normalise(name) in seen or _is_shadowed(distribution, name):
            continue
        seen.add(normalise(name))
        problems += [problem] if problem else []
        try:
            found += [Declared(*entry, name, version, summary_line) for entry in _entries(distribution)]
        except Exception as error:  # noqa: BLE001 - the parser raises whatever a garbled line leads it to
            problems.append(_unreadable(distribution, "entry_points.txt", error))
    found.sort(key=lambda entry: (entry.name, normalise(entry.distribution)))
    problems += [_bad_name(entry) for entry in found if entry.group == AGENTS and not AGENT_NAME.fullmatch(entry.name)]
    return Declarations(
        tuple(entry for entry in found if entry.group == AGENTS),
        tuple(entry for entry in found if entry.group == PLUGINS),
        tuple(problems),
    )


def _speaks_to_us(distribution: metadata.Distribution) -> bool:
    """Whether entry_points.txt names one of the groups; raises if it may, and cannot be read."""
    try:
        text = distribution.read_text("entry_points.txt") or ""
    except UnicodeDecodeError as error:
        if b"[agenthost." in error.object:
            raise
        return False
    return "[agenthost." in text


def _entries(distribution: metadata.Distribution) -> Iterator[tuple[str, str, str]]:
    for entry in distribution.entry_points:
        if entry.group in {AGENTS, PLUGINS}:
            yield entry.group, entry.name, entry.value


def _identify(distribution: metadata.Distribution) -> tuple[str, str, str, LoadError | None]:
    """Return name, version and summary; from the folder's name, and with a problem, where METADATA has none."""
    reason: str | Exception = "METADATA has no Name or no Version"
    try:
        fields = distribution.metadata
        if fields["Name"] and fields["Version"]:
            return fields["Name"], fields["Version"], fields["Summary"] or "", None
    except Exception as error:  # noqa: BLE001 - a missing file is a TypeError on 3.11, other things elsewhere
        reason = error
    name, version = _folder_name(distribution)
    return name, version, "", _unreadable(distribution, "METADATA", reason)


def _folder_name(distribution: metadata.Distribution) -> tuple[str, str]:
    # importlib.metadata keeps the folder to itself; without METADATA nothing else knows the name.
    folder = PurePath(str(getattr(distribution, "_path", "unknown"))).stem
    name, _, version = folder.partition("-")
    return normalise(name), version or "0"


def _is_shadowed(distribution: metadata.Distribution, name: str) -> bool:
    """Whether another copy of this distribution comes earlier on `sys.path`, perhaps one that declares nothing."""
    try:
        first = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return str(first.locate_file("")) != str(distribution.locate_file(""))


def _unreadable(distribution: metadata.Distribution, file: str, reason: str | Exception) -> LoadError:
    name, version = _folder_name(distribution)
    why = summary(reason) if isinstance(reason, Exception) else reason
    blame = Blame(f"distribution '{name}' ({name} {version})", name, version)
    return blame.error(why, f"pip install --force-reinstall {name}", failed=f"has an unusable {file}")


def _bad_name(entry: Declared) -> LoadError:
    blame = Blame(f"agent {entry.name!r} ({entry.label})", entry.distribution, entry.version)
    return blame.error(
        AGENT_NAME_RULE, f"rename it in the entry points of {entry.distribution}", failed="cannot be served"
    )
