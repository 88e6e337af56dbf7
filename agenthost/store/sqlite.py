"""All that is SQLite's own: where the file is, how it is opened, its dialect's statements, what its errors mean."""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, NullPool, create_engine
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.exc import DBAPIError

from agenthost.errors import StoreError
from agenthost.store.records import StoreOpenError

__all__ = ["BEGIN_READ", "BEGIN_WRITE", "DIALECT", "Database", "FileGone", "at_fault", "locate", "upsert"]

DIALECT = sqlite_dialect()

BEGIN_WRITE = "BEGIN IMMEDIATE"
"""Takes the write lock at once, so a busy file is waited for here and not in the middle."""

BEGIN_READ = "BEGIN"
"""What is read until the end of the transaction is one state of the database."""

BUSY_TIMEOUT = 3.0
"""Seconds to wait for a foreign process that holds the file locked."""

DURABILITIES = {"full": "FULL", "normal": "NORMAL"}

Identity = tuple[int, int]
"""Device and inode: what a file is, whatever it is called."""

_MAGIC = b"SQLite format 3\0"
_URL_HINT = (
    'use url = "sqlite:///agenthost.db" (below the working directory), "sqlite:////var/lib/agenthost.db" (absolute) '
    'or "memory:"'
)
_CAUSES = {
    sqlite3.SQLITE_FULL: ("its disk is full", "free some space; the host then goes on by itself"),
    sqlite3.SQLITE_IOERR: (
        "its disk does not take it (disk I/O error)",
        "look for a full or failing disk, a quota or a file size limit; the host then goes on by itself",
    ),
    sqlite3.SQLITE_READONLY: ("it is read-only", "make the file and its directory writable for the host's user"),
    sqlite3.SQLITE_PERM: ("it is not permitted", "make the file and its directory writable for the host's user"),
    sqlite3.SQLITE_CANTOPEN: ("it cannot be opened", "look at the owner and mode of the file and its directory"),
    sqlite3.SQLITE_BUSY: ("another process keeps it locked", "end what holds it: a shell, a backup, another program"),
    sqlite3.SQLITE_LOCKED: ("another process keeps it locked", "end what holds it: a shell, a backup, another program"),
    sqlite3.SQLITE_CORRUPT: ("it is damaged", "stop the host and restore a backup; the file was left as it is"),
    sqlite3.SQLITE_NOTADB: (
        "it is not a SQLite database, or its first page is damaged",
        "name another file, or restore a backup; the file was left as it is",
    ),
}


def locate(url: str) -> Path | None:
    """Return the file a store URL names, links resolved, or None for `memory:`. Raises `StoreOpenError`."""
    if url == "memory:":
        return None
    name = url.removeprefix("sqlite:///")
    if name in {url, "", ":memory:"} or not name.isprintable() or set(name) & set("?#"):
        shown = url if "@" not in url else url.partition("://")[0] + "://…"  # there may be a password before the @
        raise StoreOpenError(f"[store] url {shown!r} names no store this version can use", hint=_URL_HINT)
    return Path(os.path.realpath(name))


class FileGone(StoreError):
    """Another file than the one that is open, or none, is where the database was."""


def _original(error: BaseException) -> BaseException:
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


def _explain(error: BaseException) -> tuple[str, str]:
    """Say what an error means, and what to do."""
    original = _original(error)
    code = getattr(original, "sqlite_errorcode", 0) & 0xFF  # the upper bits say more than a person needs
    return _CAUSES.get(code, (str(original), "look at the file and its disk"))


def at_fault(error: BaseException) -> bool:
    """Whether it is the database's condition that failed (full, locked, damaged …), not what one job asked of it."""
    original = _original(error)
    if isinstance(original, FileGone):
        return True
    # a damaged file is reported as the parent class itself; its subclasses but this one speak of the statement
    return isinstance(original, sqlite3.OperationalError) or type(original) is sqlite3.DatabaseError


class Database:
    """One SQLite file (or, with `path` None, one database in memory) and how to connect to it."""

    def __init__(self, path: Path | None, durability: str) -> None:
        """Open nothing yet. Raises `StoreOpenError` for an unknown durability."""
        if durability not in DURABILITIES:
            raise StoreOpenError(f"[store] durability {durability!r} is unknown", hint='use "full" or "normal"')
        self.path = path
        self._file: Identity | None = None
        self._log: Identity | None = None
        self.name = f"the store {path}" if path else "the store in memory"
        # the log is moved into the file every 16 MB, and cut back to 64 MB where a long read has let it grow past that
        self._writing = self._engine(
            "rw",
            f"PRAGMA synchronous={DURABILITIES[durability]}",
            "PRAGMA wal_autocheckpoint=4000",
            f"PRAGMA journal_size_limit={64 << 20}",
        )
        self._reading = self._engine("ro", "PRAGMA query_only=ON")

    def create(self) -> None:
        """Make the file, readable by its owner alone, where there is none; SQLite gives its side files that mode.

        Raises `StoreOpenError` for a file that is something else (SQLite overwrites short ones), and `OSError`. Not
        while this process has the file open: closing it here would give SQLite's own locks away.
        """
        if self.path is None:
            return
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if os.pread(descriptor, len(_MAGIC), 0) not in {b"", _MAGIC}:
                raise self.refused(sqlite3.SQLITE_NOTADB)
            self._file = _identity(descriptor)
        finally:
            os.close(descriptor)

    def connect(self) -> Connection:
        """Open the one connection that writes; it may be handed from thread to thread.

        Raises `sqlite3.Error`, and `FileGone` where the file is not the one that `create` found or made.
        """
        self.check_place()
        return self._writing.connect()

    def connect_reader(self) -> Connection:
        """Open a connection that cannot write. Raises as `connect`."""
        self.check_place()
        return self._reading.connect()

    def know_log(self) -> None:
        """Take the log that the connection has just written to for its own."""
        self._log = _identity(f"{self.path}-wal") if self.path else None

    def forget_log(self) -> None:
        """The connection that wrote to the log is closed: SQLite may remove it now."""
        self._log = None

    def check_place(self) -> None:
        """Raise `FileGone` where what would be found at the next start is not what is written to."""
        if self._file is not None and _identity(str(self.path)) != self._file:
            raise FileGone(
                f"{self.name} is not there any more: the file was moved, removed or replaced",
                hint="put it back; if that cannot be, stop the host: its next start uses what is there then",
            )
        if self._log is not None and _identity(f"{self.path}-wal") != self._log:
            raise FileGone(
                f"{self.name} has lost its log: {self.path}-wal was moved, removed or replaced",
                hint="stop the host, by its signal and not by force: as it ends it saves what the log held",
            )

    def save_log(self, connection: Connection) -> None:
        """Move what the log holds into the file, wherever that is now, and empty the log; nothing may be unfinished.

        SQLite leaves the log of a file that was moved as it is, even as it closes: the file lacks what is in there, and
        whatever takes its place would be given that.
        """
        with suppress(sqlite3.Error):  # the disk may have failed; then the log stays
            connection.connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def connect_to_look(self) -> Connection:
        """Open a connection that leaves no trace: no side files where there are none. Raises as `connect`."""
        in_use = Path(f"{self.path}-wal").exists()
        return self._engine("ro" if in_use else "ro&immutable=1").connect()

    def _engine(self, mode: str, *pragmas: str) -> Engine:
        path = self.path

        def open_connection() -> sqlite3.Connection:
            target = f"file:{quote(str(path))}?mode={mode}" if path else ":memory:"
            connection = sqlite3.connect(
                target,
                uri=path is not None,
                timeout=BUSY_TIMEOUT,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=256,
            )
            try:
                # statements of many rows keep an undo log; in memory it costs nothing, in a file a write a statement
                for pragma in ("PRAGMA temp_store=MEMORY", *pragmas):
                    connection.execute(pragma)
            except sqlite3.Error:
                connection.close()
                raise
            return connection

        return create_engine("sqlite://", creator=open_connection, poolclass=NullPool)

    def use_write_ahead_log(self, connection: Connection) -> None:
        """Make the file one that is read while it is written; kept in the file. Raises `StoreOpenError`."""
        if self.path is None:
            return
        mode = connection.exec_driver_sql("PRAGMA journal_mode=WAL").scalar()
        if mode != "wal":
            raise StoreOpenError(
                f"{self.name} cannot keep a write-ahead log on this file system",
                hint="put it on a local disk, not on a network share",
            )

    def write_failed(self, error: BaseException) -> StoreError:
        """The error of every job that shared a transaction with `error`."""
        if isinstance(error, FileGone):
            failure: StoreError = FileGone(error.message, hint=error.hint)  # each caller gets one of its own
        else:
            cause, hint = _explain(error)
            failure = StoreError(f"{self.name} did not take what was to be written: {cause}", hint=hint)
        failure.__cause__ = error
        return failure

    def read_failed(self, error: BaseException) -> StoreError:
        """The error of a read that `error` ended."""
        cause, hint = _explain(error)
        failure = StoreError(f"{self.name} cannot be read: {cause}", hint=hint)
        failure.__cause__ = error
        return failure

    def refused(self, error: BaseException | int) -> StoreOpenError:
        """The error of a start that `error`, or one with this SQLite code, ended."""
        cause, hint = _CAUSES[error] if isinstance(error, int) else _explain(error)
        return StoreOpenError(f"{self.name} cannot be used: {cause}", hint=hint)


def _identity(file: int | str) -> Identity | None:
    """What a descriptor, or a path, stands for now; None if there is nothing."""
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_dev, found.st_ino
