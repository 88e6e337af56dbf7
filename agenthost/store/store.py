"""The store as the rest of the host sees it: threads, runs and events, on one file or in memory."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from agenthost.agents import RunStatus
from agenthost.errors import StoreError
from agenthost.events import Entry
from agenthost.store import reads, upkeep
from agenthost.store.expiry import expire
from agenthost.store.jobs import AppendJob, EndJob, SoloJob, StartJob, Unread
from agenthost.store.lock import FileLock, LockHeld
from agenthost.store.migrations import migrate, version_of
from agenthost.store.readers import Readers
from agenthost.store.records import (
    Expired,
    NewRun,
    Page,
    RunEnd,
    RunSummary,
    StoredInterrupt,
    StoredRun,
    StoredThread,
    StoreOpenError,
    ThreadBefore,
    ThreadSummary,
)
from agenthost.store.sqlite import Database, locate
from agenthost.store.writer import Writer, discard
from agenthost.threads import Message, ThreadKey

Answer = TypeVar("Answer")


class Store:
    """Everything the host remembers. All that is awaited may be awaited on any loop, each time on another.

    A write is durable when its future is done. What cannot be written or read raises `StoreError`, for that call alone;
    the next one tries again. `close` before the process ends.
    """

    def __init__(self, database: Database, connection: Connection, lock: FileLock | None) -> None:
        """Take over what `open` has prepared."""
        self._lock = lock
        self._database = database
        self._writer = Writer(database, connection)
        self._readers = None if database.path is None else Readers(database)
        self._left = set(upkeep.going_runs(connection))
        self._closing = threading.Lock()

    @classmethod
    def open(cls, url: str, durability: str = "full") -> Store:
        """Open a store, creating or migrating it: `sqlite:///file.db`, `sqlite:////absolute.db` or `memory:`.

        With durability `full` what is acknowledged survives a loss of power, with `normal` a loss of the process.
        Raises `StoreOpenError` where the store cannot be used: a second host on one file, a newer or foreign or
        damaged file (which is left as it is), a place that cannot be written. Blocks: call it at start.
        """
        database = Database(locate(url), durability)
        lock = _take_lock(database)
        connection: Connection | None = None
        try:
            database.create()
            version = _look(database)
            connection = database.connect()
            database.use_write_ahead_log(connection)
            migrate(connection, version)
            return cls(database, connection, lock)
        except BaseException as error:
            if connection is not None:
                discard(connection)
            if lock is not None:
                lock.release()
            if isinstance(error, DBAPIError):
                raise database.refused(error) from error
            if isinstance(error, OSError):
                raise _unwritable(database, error) from error
            raise

    def start_run(self, run: NewRun) -> Awaitable[ThreadBefore]:
        """Commit a run's beginning: its thread (made if new), its row, its user message.

        Gives back the thread as it was before. What the run answers is claimed in the same commit; a run that answers
        nothing closes the questions that its thread left open. Raises `KeyTaken` if another run has its idempotency
        key, `AlreadyAnswered` if a question is not open any more, and `TypeError` at once for what is not JSON.
        """
        job = StartJob(run)
        return self._started(job, self._writer.submit(job))

    async def _started(self, job: StartJob, began: asyncio.Future[ThreadBefore | Unread]) -> ThreadBefore:
        """Wait; where the thread is large, read it beside the writer and ask again."""
        before = await began
        while isinstance(before, Unread):
            job = job.again()
            job.history = await self._read(partial(reads.read_messages, thread=before.thread))
            before = await self._writer.submit(job)
        return before

    async def begin_run(
        self, run_id: str, epoch: int, user_message: Message | None, brought: Sequence[Message] = ()
    ) -> ThreadBefore:
        """Commit the beginning of a run that the store has already: a queued one, or one of a host that was lost.

        A queued run begins under its own `epoch`, a lost one under the next: what the lost host may still send for it
        is refused from then on. Its thread gets what is `brought`, then the user's message. Gives back the thread as it
        was before. Raises `StoreError` for any other run.
        """
        said = [*brought, *([user_message] if user_message is not None else ())]
        while True:
            known = await self._read(lambda connection: reads.read_beginning(connection, run_id))
            if known is None:
                raise StoreError(f"run {run_id} is not in the store")
            before = await self._write(upkeep.begin_run(run_id, epoch, said, known), (run_id,))
            if before is not None:
                self._left.discard(run_id)
                return before

    async def interrupts(self, key: ThreadKey) -> list[StoredInterrupt]:
        """Read all questions of a thread, the newest run's first, in the order asked."""
        return await self._read(lambda connection: reads.read_interrupts(connection, reads.of_thread(key)))

    async def interrupts_claimed_by(self, run_id: str) -> list[StoredInterrupt]:
        """Read the questions that a run answers."""
        return await self._read(lambda connection: reads.read_interrupts(connection, reads.claimed_by(run_id)))

    async def find_key(self, agent: str, principal: str, idempotency_key: str) -> StoredRun | None:
        """Read the run of an idempotency key; None if there is none."""
        return await self._read(lambda connection: reads.read_key(connection, agent, principal, idempotency_key))

    def append(self, run_id: str, epoch: int, entries: Sequence[Entry]) -> asyncio.Future[None]:
        """Commit entries of a run's log; those that are there already stay as they are.

        The first new one must follow the last stored one, else `StoreError`: so if an append fails, later ones of that
        run fail too and its log has no gap. `StoreError` as well for a run that has ended or has another epoch.
        """
        return self._writer.submit(AppendJob(run_id, epoch, entries))

    def end_run(self, end: RunEnd) -> Awaitable[None]:
        """Commit a run's end: the rest of its log, messages, thread state, interrupts, status and result.

        Raises as `append`, and `TypeError` at once for what is not JSON.
        """
        return self._writer.submit(EndJob(end))

    async def get_thread(self, key: ThreadKey) -> StoredThread | None:
        """Read a thread whole; None if there is none."""
        return await self._read(lambda connection: reads.read_thread(connection, key))

    async def list_threads(
        self, principal: str, agent: str, *, cursor: str | None = None, limit: int
    ) -> Page[ThreadSummary]:
        """Read at most `limit` (from 1) of a principal's threads with an agent, the last used first.

        `cursor` is that of the page before. Raises `InvalidRequest` for any other.
        """
        after = reads.thread_cursor(cursor)
        return await self._read(lambda connection: reads.read_threads(connection, principal, agent, after, limit))

    async def delete_thread(self, key: ThreadKey) -> bool:
        """Delete a thread and all of it; whether there was one. Raises `ThreadBusy` while a run on it is going."""
        return await self._write(upkeep.delete_thread(key))

    async def delete_run(self, run_id: str) -> bool:
        """Delete an ended run with its events and questions, as if it had grown too old; whether there was one.

        Its messages stay in its thread, unless nothing else is there: then the thread goes too. Raises `ThreadBusy`
        while it is going.
        """
        return await self._write(upkeep.delete_run(run_id))

    async def get_run(self, run_id: str) -> StoredRun | None:
        """Read a run; None if there is none."""
        return await self._read(lambda connection: reads.read_run(connection, run_id))

    async def list_runs(
        self,
        agent: str,
        principal: str,
        *,
        thread_id: str | None = None,
        status: RunStatus | None = None,
        cursor: str | None = None,
        limit: int,
    ) -> Page[RunSummary]:
        """Read at most `limit` (from 1) of a principal's runs of an agent, newest first.

        Status `paused` means those that wait for an answer.

        `cursor` is that of the page before. Raises `InvalidRequest` for any other.
        """
        before = reads.run_cursor(cursor)
        return await self._read(
            lambda connection: reads.read_runs(connection, agent, principal, thread_id, status, before, limit)
        )

    async def read_events(self, run_id: str, after: int, limit: int) -> list[Entry]:
        """Read at most `limit` entries of a run's log that follow entry `after` (0: from the first), in order."""
        return await self._read(lambda connection: reads.read_events(connection, run_id, after, limit))

    async def recover(self) -> list[StoredRun]:
        """End the runs that were going when the last host on this store ended, as `failed: host_lost`.

        Each gets a terminal `error` entry; a question that one had claimed and said nothing to is open again. Returned
        instead, untouched, are those that were queued, and those that may begin again and have done so at most twice.
        Runs started through this object are never touched, whenever it is called.
        """
        left = frozenset(self._left)
        begins = await self._write(upkeep.recover(left), left)
        self._left -= left - {run.run_id for run in begins}
        return begins

    async def expire(self, now: float, run_retention: float, thread_retention: float) -> Expired:
        """Delete what is too old, and close questions that were not answered in time.

        Retentions are seconds, 0 for ever: of runs since they ended (with their events; what they said stays in the
        thread), of threads since they were used. What waits for an answer, or goes, stays.
        """
        return await expire(self._read, self._write, now, run_retention, thread_retention)

    async def agents_with_data(self) -> set[str]:
        """Read the names of all agents that threads or runs are kept for."""
        return await self._read(reads.read_agents)

    async def probe(self) -> None:
        """Write a few bytes. Raises `StoreError` if the store takes none, or its file is not in its place any more."""
        await self._write(self._probe)

    def close(self) -> None:
        """Write what was asked for, end the threads, close the file, give the lock back; nothing is taken after that.

        Blocks until that is done; the second call does nothing.
        """
        with self._closing:
            if self._readers is not None:
                self._readers.close()
            self._writer.close()
            if self._lock is not None:
                self._lock.release()

    def _probe(self, connection: Connection) -> None:
        self._database.check_place()
        upkeep.probe(connection)

    async def _read(self, read: Callable[[Connection], Answer]) -> Answer:
        # a database in memory is one connection's, and that is the writer's
        future = self._readers.submit(read) if self._readers else self._writer.submit(SoloJob(read))
        answer: Answer = await future
        return answer

    async def _write(self, work: Callable[[Connection], Answer], runs: Collection[str] = ()) -> Answer:
        """Let the writer do it; `runs` are the ids of those whose standing changes by it."""
        answer: Answer = await self._writer.submit(SoloJob(work, runs))
        return answer


def stored_agents(url: str) -> set[str]:
    """Read, as `agents_with_data` does, from a store that another process may be using; empty if there is none yet.

    Changes nothing and takes no lock. Raises `StoreOpenError`.
    """
    database = Database(locate(url), "full")
    if database.path is None or not database.path.exists():
        return set()
    try:
        with database.connect_to_look() as connection:
            return reads.read_agents(connection) if version_of(connection, database.name) else set()
    except DBAPIError as error:
        raise database.refused(error) from error


def _take_lock(database: Database) -> FileLock | None:
    path = database.path
    if path is None:
        return None
    try:
        if not path.parent.is_dir():
            raise StoreOpenError(f"{database.name} has no directory to be in", hint=f"mkdir -p {path.parent}")
        return FileLock(path.with_name(path.name + ".lock"))
    except LockHeld as held:
        holder = f"process {held.pid}" if held.pid else "another process"
        raise StoreOpenError(
            f"{database.name} is in use by another host ({holder})",
            hint="stop that one, or give each host a store of its own: one [store] url per agents.toml",
        ) from None
    except OSError as error:
        raise _unwritable(database, error) from error


def _unwritable(database: Database, error: OSError) -> StoreOpenError:
    return StoreOpenError(
        f"{database.name} cannot be created or opened: {error.strerror}",
        hint="make the file and its directory writable for the host's user, or name another file in [store] url",
    )


def _look(database: Database) -> int:
    """Find the schema's version through a connection that cannot write, so that what is refused is left as it is."""
    if database.path is None:
        return 0
    with database.connect_to_look() as connection:
        return version_of(connection, database.name)
