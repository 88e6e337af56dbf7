"""What `agenthost doctor` makes of the machine and of a store: one finding for each thing it looked at."""

from __future__ import annotations

import os
import platform
import pwd
import resource
import shlex
import sqlite3
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from typing import Any, Literal

from agenthost.plugins import own_version
from agenthost.store.inspection import NEWEST, Contents, Folder, Holder, LastFailure, StoreFile, StoreLook

Level = Literal["ok", "note", "warning", "problem"]

LIBRARIES = ("fastapi", "starlette", "uvicorn", "uvloop", "httptools", "pydantic", "sqlalchemy", "pluggy", "click")
"""Distributions whose versions a bug report needs."""

FEW_FILES = 4096
"""Open files below which a host runs out of them sooner than of anything else: each connection takes one."""

LITTLE_SPACE = 1 << 30
"""Bytes of free disk below which it is said."""

LITTLE_SHARE = 0.1
"""Share of free disk below which it is said."""

RACE_SINCE = (3, 7, 0)
RACE_FIXED = ((3, 51, 3), (3, 50, 7), (3, 44, 6))
"""Two connections that write, or move the log into the file, at the same moment may damage it: in SQLite from
`RACE_SINCE` on, but for these and what came after the first of them, and after the others under the same minor number.
Told in SQLite's page on write-ahead logs, under "The WAL-Reset Bug"."""

DAMAGE_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one thing, and what to do; `facts` is the same for programs, of JSON's types."""

    name: str
    level: Level
    said: str
    hint: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def of_versions() -> Iterator[Finding]:
    """The programs that a host is made of."""
    yield Finding("agenthost", "ok", own_version(), facts={"version": own_version()})
    python = f"{platform.python_implementation()} {platform.python_version()}"
    yield Finding("python", "ok", f"{python}, {sys.executable}", facts={"version": python})
    yield Finding("platform", "ok", platform.platform())
    versions = {name: version for name in LIBRARIES if (version := _version(name))}
    missing = [name for name in LIBRARIES if name not in versions and name != "uvloop"]
    said = ", ".join(f"{name} {version}" for name, version in versions.items())
    yield Finding("libraries", "ok", said, facts=versions)
    if missing:
        yield Finding("libraries", "problem", f"not installed: {', '.join(missing)}", "pip install agenthost")


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except (metadata.PackageNotFoundError, KeyError, TypeError):  # the latter two where its metadata is broken
        return None


def has_wal_race(version: Sequence[int]) -> bool:
    """Whether a SQLite of this version, of three numbers, may damage a file that two programs write to."""
    given = tuple(version)
    newest, *others = RACE_FIXED
    return RACE_SINCE <= given < newest and not any(given[:2] == one[:2] and given >= one for one in others)


def of_sqlite(version: tuple[int, int, int] = sqlite3.sqlite_version_info) -> Finding:
    """The SQLite that Python brings, and whether it has the race of `RACE_FIXED`."""
    shown = ".".join(map(str, version))
    facts = {"version": shown, "wal_reset_race": has_wal_race(version)}
    if not has_wal_race(version):
        return Finding("sqlite", "ok", shown, facts=facts)
    newest, *others = (".".join(map(str, one)) for one in RACE_FIXED)
    return Finding(
        "sqlite",
        "note",
        f"{shown}, which has the WAL-reset race: two connections that write at the same moment can damage the file. "
        "A host writes through one, under a lock file, so only other programs that write to the store can meet it",
        f"let no other program write to the store while a host serves; SQLite {newest} and newer is without it, "
        f"as are {' and '.join(others)}",
        facts,
    )


def of_open_files(limits: tuple[int, int] | None = None) -> Finding:
    """How many files a host may have open; `limits` are the soft and the hard one."""
    soft, hard = limits or resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = hard == resource.RLIM_INFINITY
    facts = {"soft": soft, "hard": None if unlimited else hard}
    said = f"{'any number of' if unlimited else hard} open files and connections (a start raises the limit from {soft})"
    if unlimited or hard >= FEW_FILES:
        return Finding("open files", "ok", said, facts=facts)
    hint = "raise it: `ulimit -Hn`, LimitNOFILE= of a systemd unit, --ulimit nofile= of a container"
    return Finding("open files", "warning", said, hint, facts)


def of_store(look: StoreLook) -> Iterator[Finding]:
    """Everything that a look at a store tells."""
    if look.path is None:
        yield Finding("store", "note", "memory: nothing is kept when the host stops")
        return
    path = str(look.path)
    if look.problem is not None:
        yield Finding("store", "problem", look.problem.message, look.problem.hint, {"path": path})
    elif look.folder is None:
        hint = f"mkdir -p {shlex.quote(str(look.path.parent))}, or name another file in [store] url"
        yield Finding("store", "problem", f"{path} has no directory to be in", hint, {"path": path})
    elif look.file is None:
        yield Finding("store", "note", f"{path} is not there yet; the next start makes it", facts={"path": path})
    if look.file is not None:
        if look.problem is None:
            log = f", and {size(look.file.log_size)} in its log" if look.file.log_size else ""
            facts = {"path": path, "bytes": look.file.size, "log_bytes": look.file.log_size}
            yield Finding("store", "ok", f"{path}, {size(look.file.size)}{log}", facts=facts)
        yield of_file(path, look.file, ours=look.version is not None)
    if look.folder is not None:
        yield from of_folder(str(look.path.parent), look.folder)
    yield of_holder(look.holder)
    yield from _of_database(look)


def of_file(path: str, file: StoreFile, user: int | None = None, *, ours: bool = True) -> Finding:
    """Who may read and write the file; `user` is the uid that asks, else this process's.

    Who may read what is not known to be `ours` is its own program's business.
    """
    asking = os.geteuid() if user is None else user
    owner, quoted = _user(file.owner), shlex.quote(path)
    facts = {"mode": f"{file.mode:04o}", "owner": owner, "writable": file.writable}
    said = f"mode {file.mode:04o}, owner {owner}"
    if not file.writable:
        hint = f"run as {owner}, or make it writable for the host's user"
        return Finding("store file", "problem", f"{said}: {_user(asking)} may not write to it", hint, facts)
    if ours and file.mode & 0o077:
        said += ": others than its owner may open it, and what was said to agents is in it"
        return Finding("store file", "warning", said, f"chmod 600 {quoted}*", facts)
    if asking not in {file.owner, 0}:
        hint = f"run the host as {owner}, or chown {_user(asking)} {quoted}*"
        return Finding("store file", "warning", f"{said}, but this is {_user(asking)}", hint, facts)
    return Finding("store file", "ok", said, facts=facts)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def of_folder(path: str, folder: Folder) -> Iterator[Finding]:
    """Whether the store's directory takes its log and lock file, how much space there is, and whether it is local."""
    facts = {"path": path, "writable": folder.writable}
    if folder.writable:
        yield Finding("directory", "ok", f"{path} is writable", facts=facts)
    else:
        hint = "make it writable for the host's user: the store's log and lock file are in it"
        yield Finding("directory", "problem", f"{path} is not writable for {_user(os.geteuid())}", hint, facts)
    share = folder.free / folder.total if folder.total else 0.0
    said = f"{size(folder.free)} free of {size(folder.total)} ({share:.0%})"
    space = {"free": folder.free, "total": folder.total}
    if folder.free < LITTLE_SPACE or share < LITTLE_SHARE:
        hint = "free some space, or shorten [store] run_retention: a full disk fails every run that is to be kept"
        yield Finding("disk", "warning", said, hint, space)
    else:
        yield Finding("disk", "ok", said, facts=space)
    if folder.network is not None:
        said = f"{path} is on a network file system ({folder.network}); a write-ahead log there may be damaged"
        hint = "put the store on a local disk: a folder of its own in [store] url"
        yield Finding("file system", "warning", said, hint, {"type": folder.network})


def of_holder(holder: Holder | None) -> Finding:
    """Which host serves from the store."""
    if holder is None:
        return Finding("lock", "ok", "no host that can be seen from here has the store open", facts={"pid": None})
    said = f"process {holder.pid} has the store open"
    if not holder.certain:
        said = f"process {holder.pid} may have the store open: its files cannot be seen"
    return Finding("lock", "ok", said, facts={"pid": holder.pid, "certain": holder.certain})


def _of_database(look: StoreLook) -> Iterator[Finding]:
    if look.version is None:
        return
    yield of_schema(look.version)
    if look.version and look.journal:
        wal = look.journal == "wal"
        said = "write-ahead log" if wal else "rollback; the next start makes it a write-ahead log"
        yield Finding("journal", "ok" if wal else "note", said, facts={"mode": look.journal})
    if look.damage is not None:
        yield of_damage(look.damage, quick=look.quick)
    if look.contents is not None:
        yield of_contents(look.contents, held=look.holder is not None)
        yield of_failure(look.contents.last_failure)


def of_schema(version: int) -> Finding:
    """Which schema the store has, and what a start makes of it."""
    facts = {"version": version, "newest": NEWEST}
    if version > NEWEST:
        said = f"version {version} was written by a newer agenthost (this one knows {NEWEST})"
        return Finding("schema", "problem", said, "upgrade agenthost, or name another file in [store] url", facts)
    if version == NEWEST:
        return Finding("schema", "ok", f"version {version}", facts=facts)
    if version == 0:
        return Finding("schema", "note", "the file is empty; the next start fills it in", facts=facts)
    said = f"version {version}; the next start brings it to version {NEWEST}, and older agenthosts then refuse it"
    return Finding("schema", "note", said, "copy the file first if you may want to go back", facts)


def of_damage(damage: Sequence[str], *, quick: bool) -> Finding:
    """What SQLite's own check found."""
    check = "quick_check" if quick else "integrity_check"
    facts = {"check": check, "damage": [*damage]}
    if damage:
        more = f" … and {len(damage) - DAMAGE_SHOWN} more" if len(damage) > DAMAGE_SHOWN else ""
        said = f"the file is damaged ({check}): {'; '.join(damage[:DAMAGE_SHOWN])}{more}"
        hint = "stop the host, keep a copy of the file, and restore a backup"
        return Finding("integrity", "problem", said, hint, facts)
    more = " (quick_check: the file is large, so its indexes were not compared with its tables)" if quick else ""
    return Finding("integrity", "ok", f"no damage{more}", facts=facts)


def of_contents(contents: Contents, *, held: bool) -> Finding:
    """How much the store keeps, and what is left going where no host has it open."""
    counts = {
        "thread": contents.threads,
        "run": contents.runs,
        "event": contents.events,
        "open question": contents.open_interrupts,
        "going run": contents.going,
    }
    said = ", ".join(counted(number, what) for what, number in counts.items())
    facts = {f"{what}s".replace(" ", "_"): number for what, number in counts.items()}
    if contents.oldest is not None:
        said += f"; the oldest run is of {moment(contents.oldest)}"
    if contents.going and not held:
        said += "; no host goes on with those that were going"
        hint = "the next start ends them as host_lost, or begins them again where their agent is resumable"
        return Finding("contents", "note", said, hint, {**facts, "oldest_run": contents.oldest})
    return Finding("contents", "ok", said, facts={**facts, "oldest_run": contents.oldest})


def of_failure(failure: LastFailure | None) -> Finding:
    """The run that failed last, and where more is known of it."""
    if failure is None:
        return Finding("last failure", "ok", "no run that is kept has failed")
    at = moment(failure.ended)
    facts = {"run_id": failure.run_id, "agent": failure.agent, "code": failure.code, "ended": failure.ended}
    hint = f"the host's log tells why, under that run id; `agenthost help errors` explains {failure.code}"
    return Finding("last failure", "note", f"{failure.agent}, {failure.code}, {at}, run {failure.run_id}", hint, facts)


def counted(number: int, noun: str) -> str:
    """So many of something: `no runs`, `1 run`, `2 runs`."""
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def moment(seconds: object) -> str:
    """Epoch seconds as people read them, in UTC; what is no time stands for itself."""
    try:
        return datetime.fromtimestamp(float(str(seconds)), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return str(seconds)


def size(count: float) -> str:
    """Bytes as people read them: `3.2 GiB`."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
