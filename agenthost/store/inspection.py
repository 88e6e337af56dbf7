"""A look at a store from outside, for who must find out what is wrong with it: nothing is made, locked or written.

It may be looked at while a host serves from it, and while none does. Only where a killed host has left its log, SQLite
makes the index of that log (the -shm file) anew, as the next start does.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import SQLAlchemyError

from agenthost.store.migrations import STEPS, version_of
from agenthost.store.records import StoreOpenError
from agenthost.store.schema import events, interrupts, runs, threads
from agenthost.store.sqlite import BEGIN_READ, Database, locate

NEWEST = len(STEPS)
"""The schema's version that this agenthost makes."""

QUICK_ABOVE = 1 << 30
"""Bytes of a file beyond which its indexes are not compared with its tables: that takes minutes."""

MOST_DAMAGE = 20
"""Lines of damage that are asked for."""

LOOKS = 3
"""How often a file that changes under the eyes is looked at."""

NETWORKS = frozenset(
    (
        *("9p", "afs", "beegfs", "ceph", "cifs", "gfs2", "glusterfs", "gpfs", "lustre", "nfs", "nfs4", "ocfs2", "smb3"),
        *("fuse.ceph", "fuse.gcsfuse", "fuse.glusterfs", "fuse.juicefs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs"),
    )
)
"""Types of file systems that machines share: a write-ahead log needs memory that all who use it share."""

_MOUNTS = Path("/proc/self/mountinfo")
_SMALLEST = 512
"""Bytes of SQLite's smallest page; it takes a shorter file for an empty one, and overwrites it."""

_ANY_VERSION = 1 << 62
_JOURNALS = {1: "rollback", 2: "wal"}


@dataclass(frozen=True, slots=True)
class Holder:
    """The host that has the store open; not `certain` where its open files may not be seen, or nothing shows them."""

    pid: int
    certain: bool


@dataclass(frozen=True, slots=True)
class StoreFile:
    """The database's file: bytes of it and of what its log has not yet moved into it, mode bits, its owner's uid."""

    size: int
    log_size: int
    mode: int
    owner: int
    writable: bool


@dataclass(frozen=True, slots=True)
class Folder:
    """The directory of the file: whether a host may write there, the disk's bytes.

    `network` is the type of its file system where that is one of `NETWORKS`; only Linux tells.
    """

    writable: bool
    free: int
    total: int
    network: str | None = None


@dataclass(frozen=True, slots=True)
class LastFailure:
    """The run that failed last: whose, why by its code, when in epoch seconds; nothing of what was said in it."""

    run_id: str
    agent: str
    code: str
    ended: float | None


@dataclass(frozen=True, slots=True)
class Contents:
    """How much there is; `going` counts runs that have not ended, `oldest` is when the first run was made."""

    threads: int
    runs: int
    events: int
    open_interrupts: int
    going: int
    oldest: float | None
    last_failure: LastFailure | None


@dataclass(frozen=True, slots=True)
class StoreLook:
    """What a look found; what could not be found out is None, and `problem` then says why.

    `path` is None for a store in memory, of which there is nothing to see. `version` is 0 for an empty file. `damage`
    is empty if there is none; `quick` says that indexes were not compared.
    """

    path: Path | None = None
    folder: Folder | None = None
    file: StoreFile | None = None
    holder: Holder | None = None
    journal: str | None = None
    version: int | None = None
    quick: bool = False
    damage: tuple[str, ...] | None = None
    contents: Contents | None = None
    problem: StoreOpenError | None = field(default=None, compare=False)

    @property
    def sound(self) -> bool:
        """Whether nothing was found to be wrong with the file."""
        return self.problem is None and not self.damage


def look(url: str, quick_above: int = QUICK_ABOVE) -> StoreLook:
    """Look at the store of a URL; a file beyond `quick_above` bytes gets the quick check.

    Raises `StoreOpenError` for a URL that names no store; whatever is wrong with the store itself is in the answer.
    Blocks: the check reads the whole file.
    """
    path = locate(url)
    if path is None:
        return StoreLook()
    database = Database(path, "full")
    for _ in range(LOOKS):
        before = _traces(path)
        found = _look_at(database, path, quick_above)
        # where no host was, the file was read without SQLite's locks: one that came meanwhile looks like damage
        if found.sound or _traces(path) == before:
            break
    return found


def _traces(path: Path) -> tuple[object, ...]:
    try:
        state = path.stat()
    except OSError:
        return ()
    return (state.st_size, state.st_mtime_ns, state.st_ino, os.path.lexists(f"{path}-wal"))


def _look_at(database: Database, path: Path, quick_above: int) -> StoreLook:
    found = StoreLook(path=path)
    try:
        found = replace(found, folder=_folder(path.parent), holder=_holder(path.with_name(path.name + ".lock")))
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):
            raise StoreOpenError(f"{database.name} is no file", hint="name a file in [store] url")
        found = replace(found, file=_file(path, state))
        found = replace(found, journal=_journal(database, path, state.st_size))
        return _read(database, found, state.st_size > quick_above)
    except FileNotFoundError:
        return found
    except StoreOpenError as refused:
        return replace(found, problem=refused)
    except OSError as error:
        hint = "look at the owner and mode of the file and its directory, and run this as the host's user"
        return replace(found, problem=StoreOpenError(f"{database.name} cannot be read: {error.strerror}", hint=hint))


def _folder(folder: Path) -> Folder:
    """Raises `OSError` where there is none."""
    disk = shutil.disk_usage(folder)
    return Folder(_may(folder, os.W_OK | os.X_OK), disk.free, disk.total, _network(folder))


def _network(folder: Path) -> str | None:
    mounted = ""
    with suppress(OSError):
        mounted = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    kind = file_system(folder, mounted)
    return kind if kind in NETWORKS else None


def file_system(folder: PurePath, mounted: str) -> str | None:
    """The type of what is mounted nearest above a folder (no links in it), by a list as proc_pid_mountinfo(5) has it.

    None where the list does not say. Of two that are mounted at one place, the later hides the earlier.
    """
    found, depth = None, 0
    for line in mounted.splitlines():
        where, _, kind = line.partition(" - ")
        fields = where.split(" ")
        if not kind or len(fields) < 5:
            continue
        place = PurePath(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4]))
        if folder.is_relative_to(place) and len(place.parts) >= depth:
            found, depth = kind.split(" ")[0], len(place.parts)
    return found


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def _file(path: Path, state: os.stat_result) -> StoreFile:
    log_size = 0
    with suppress(OSError):  # it comes and goes with the host
        log_size = Path(f"{path}-wal").stat().st_size
    return StoreFile(state.st_size, log_size, stat.S_IMODE(state.st_mode), state.st_uid, _may(path, os.W_OK))


def _holder(lock: Path) -> Holder | None:
    """Who has the lock file open, as far as can be told without trying the lock: a host that starts now would lose."""
    try:
        if not lock.is_file():
            return None
        text = lock.read_bytes()[:20].decode("ascii", "replace").strip()
        wanted = lock.stat()
    except OSError:
        return None
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < 1 << 31):
        return None
    pid = int(text)
    try:
        return Holder(pid, certain=True) if _has_open(pid, wanted) else None
    except OSError:  # another user's process, or a system that does not show open files
        return Holder(pid, certain=False) if _lives(pid) else None


def _has_open(pid: int, wanted: os.stat_result) -> bool:
    """Raises `OSError` where the files of that process cannot be seen."""
    folder = f"/proc/{pid}/fd"
    for name in os.listdir(folder):
        with suppress(FileNotFoundError):  # closed since
            if os.path.samestat(os.stat(f"{folder}/{name}"), wanted):
                return True
    return False


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def _journal(database: Database, path: Path, size: int) -> str | None:
    """How the file keeps its journal, by its header: a connection that leaves no trace cannot tell.

    Read before there is a connection, whose locks closing the file would give away. Raises `OSError`, and
    `StoreOpenError` for what is no database.
    """
    with path.open("rb") as file:
        header = file.read(20)
    if not size:
        return None
    if size < _SMALLEST or not header.startswith(b"SQLite format 3\0"):
        raise database.refused(sqlite3.SQLITE_NOTADB)
    return _JOURNALS.get(header[18])


def _read(database: Database, found: StoreLook, quick: bool) -> StoreLook:
    """Read what only SQLite can: one state of the database, whatever is written meanwhile. Raises `StoreOpenError`."""
    with _failures_named(database), database.connect_to_look() as connection:
        connection.exec_driver_sql(BEGIN_READ)
        version = version_of(connection, database.name, _ANY_VERSION)
        found = replace(found, version=version)
        damage = _damage(database, connection, quick)
        found = replace(found, quick=quick, damage=damage)
        if 0 < version <= NEWEST and not damage:
            found = replace(found, contents=_contents(connection))
    return found


@contextmanager
def _failures_named(database: Database) -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise database.refused(error) from error
    except (ValueError, TypeError, LookupError) as error:
        # damage below SQLite's notice: its catalogue then names what cannot be parsed, decoded or found
        raise database.refused(sqlite3.SQLITE_CORRUPT) from error


def _damage(database: Database, connection: Connection, quick: bool) -> tuple[str, ...]:
    pragma = "quick_check" if quick else "integrity_check"
    try:
        lines = connection.exec_driver_sql(f"PRAGMA {pragma}({MOST_DAMAGE})").scalars().all()
    except SQLAlchemyError as error:
        return (database.refused(error).message,)
    return tuple(line for told in lines for line in str(told).splitlines() if line != "ok")


def _contents(connection: Connection) -> Contents:
    def count(what: Any) -> int:
        return int(connection.scalar(what) or 0)

    return Contents(
        threads=count(select(func.count()).select_from(threads)),
        runs=count(select(func.count()).select_from(runs)),
        events=count(select(func.count()).select_from(events)),
        open_interrupts=count(select(func.count()).select_from(interrupts).where(interrupts.c.status == "open")),
        going=count(select(func.count()).select_from(runs).where(runs.c.ended.is_(None))),
        oldest=connection.scalar(select(func.min(runs.c.created))),
        last_failure=_last_failure(connection),
    )


def _last_failure(connection: Connection) -> LastFailure | None:
    query = select(runs.c.run_id, runs.c.agent, runs.c.code, runs.c.ended).where(runs.c.status == "failed")
    row = connection.execute(query.order_by(runs.c.ended.desc()).limit(1)).first()
    return LastFailure(row.run_id, row.agent, row.code or "", row.ended) if row else None
