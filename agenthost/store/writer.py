"""The one thread that writes: takes all that has been asked for, commits it at once, wakes each loop once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

from sqlalchemy import Connection

from agenthost.errors import StoreError
from agenthost.store.jobs import Job
from agenthost.store.recorder import Recorder
from agenthost.store.sqlite import BEGIN_WRITE, Database, FileGone, at_fault

MAX_BATCH = 512
"""Jobs in one transaction; the rest waits for the next."""

LOOK = 1.0
"""Seconds of writing at most that may pass without a look at whether the file is still in its place."""


def discard(connection: Connection) -> None:
    """Close a connection, whatever is unfinished on it.

    The rollback is not left to the closing: a statement that a traceback still holds keeps a closed connection, and
    with it a lock on the file, alive.
    """
    with suppress(Exception):  # where the disk has failed, this may fail too, and the lock is gone already
        connection.connection.rollback()
    connection.invalidate()
    connection.close()


def closed_error(database: Database) -> StoreError:
    """The error of whoever asks for something after `close`."""
    return StoreError(f"{database.name} is closed", hint="the host is stopping")


def deliver(jobs: Sequence[Job]) -> None:
    """Complete the futures of jobs that all belong to one loop, in one call to it, from any thread."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Job]] = defaultdict(list)
    for job in jobs:
        by_loop[job.loop].append(job)
    for loop, own in by_loop.items():
        try:
            loop.call_soon_threadsafe(_complete, own)
        except RuntimeError:  # the loop is closed: nobody waits any more
            continue


def _complete(jobs: Sequence[Job]) -> None:
    for job in jobs:
        if job.future.done():
            continue
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.result)


class Writer:
    """A queue and its thread, started by the first job."""

    def __init__(self, database: Database, connection: Connection) -> None:
        """Own `connection` from now on."""
        self._database = database
        self._connection: Connection | None = connection
        self._recorder: Recorder | None = None
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._looked = 0.0
        self._log_known = False

    def submit(self, job: Job) -> asyncio.Future[Any]:
        """Queue a job and return its future; once closed it fails with `StoreError`."""
        with self._lock:
            if self._closed:
                job.future.set_exception(closed_error(self._database))
                return job.future
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="agenthost-store-writer", daemon=True)
                self._thread.start()
            self._jobs.put(job)
        return job.future

    def close(self) -> None:
        """Write what is queued, end the thread, close the connection; the second call does nothing."""
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
            self._jobs.put(None)
        if thread is not None:
            thread.join()
        try:
            self._database.check_place()
        except FileGone:
            self._save_log()
        self._disconnect()

    def _work(self) -> None:
        going = True
        while going:
            batch, going = self._take()
            if batch:
                self._write(batch)
                deliver(batch)
                # a thread that waits must not keep the last runs, and what they hold, alive
                batch.clear()

    def _take(self) -> tuple[list[Job], bool]:
        """Wait for a job, then take all that are there; and whether to go on after them."""
        batch: list[Job] = []
        job = self._jobs.get()
        while job is not None:
            batch.append(job)
            if len(batch) == MAX_BATCH:
                return batch, True
            try:
                job = self._jobs.get_nowait()
            except Empty:
                return batch, True
        return batch, False

    def _write(self, batch: Sequence[Job]) -> None:
        """Write a batch; afterwards each job has its result or its error."""
        try:
            recorder = self._connect()
            if time.monotonic() - self._looked > LOOK:
                self._database.check_place()
                self._looked = time.monotonic()
            recorder.command(BEGIN_WRITE)
            try:
                recorder.write(batch)
            except Exception as error:
                if at_fault(error):
                    raise
                recorder.forget(batch)
                recorder.command("ROLLBACK")
                recorder.command(BEGIN_WRITE)
                self._write_one_by_one(recorder, batch)
            recorder.command("COMMIT")
            recorder.settle(batch)
            if not self._log_known:
                self._database.know_log()
                self._log_known = True
        except Exception as error:  # noqa: BLE001 - the thread lives as long as the store, whatever the disk says
            for job in batch:
                job.error = self._database.write_failed(error)
            self._looked = 0.0
            if isinstance(error, FileGone):
                self._undo()
                self._save_log()
            else:
                self._reset()

    def _write_one_by_one(self, recorder: Recorder, batch: Sequence[Job]) -> None:
        """Write each job under a savepoint, so that those which fail leave nothing behind. Raises as the disk does."""
        for job in batch:
            recorder.command("SAVEPOINT job")
            try:
                recorder.write((job,))
            except Exception as error:
                if at_fault(error):
                    raise
                recorder.forget((job,))
                recorder.command("ROLLBACK TO job")
                job.error = recorder.explain(job, error)
            recorder.command("RELEASE job")

    def _connect(self) -> Recorder:
        if self._recorder is None:
            if self._connection is None:
                self._connection = self._database.connect()
            self._recorder = Recorder(self._connection)
        return self._recorder

    def _reset(self) -> None:
        """Undo what is unfinished and trust nothing that was known; a database in memory lives in its connection."""
        if self._database.path is None:
            self._undo()
        else:
            self._disconnect()

    def _undo(self) -> None:
        """Undo what is unfinished and keep the connection: it is the only way to a file that was moved away."""
        recorder, self._recorder = self._recorder, None
        if recorder is not None:
            recorder.close()
        if self._connection is not None:
            with suppress(Exception):  # else the thread ends; what is wrong, the next transaction says
                self._connection.connection.rollback()

    def _save_log(self) -> None:
        """The file is not in its place: let it have all that it was given."""
        if self._connection is not None:
            self._database.save_log(self._connection)

    def _disconnect(self) -> None:
        """Close the connection; a new one is opened when it is needed."""
        self._log_known = False
        self._database.forget_log()
        recorder, self._recorder = self._recorder, None
        if recorder is not None:
            recorder.close()
        connection, self._connection = self._connection, None
        if connection is not None:
            discard(connection)
