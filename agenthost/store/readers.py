"""Two threads that read, each with a connection that cannot write; the event loop never waits for the disk."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from sqlalchemy import Connection

from agenthost.errors import HostError
from agenthost.store.jobs import SoloJob
from agenthost.store.sqlite import BEGIN_READ, Database
from agenthost.store.writer import closed_error, deliver, discard

THREADS = 2


class Readers:
    """A queue of reads and the threads that serve it, started by the first read."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._jobs: SimpleQueue[SoloJob | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._closed = False

    def submit(self, read: Callable[[Connection], Any]) -> asyncio.Future[Any]:
        """Queue a read and return its future; once closed it fails with `StoreError`."""
        job = SoloJob(read)
        with self._lock:
            if self._closed:
                job.future.set_exception(closed_error(self._database))
                return job.future
            if not self._threads:
                for number in range(1, THREADS + 1):
                    thread = threading.Thread(target=self._work, name=f"agenthost-store-reader-{number}", daemon=True)
                    thread.start()
                    self._threads.append(thread)
            self._jobs.put(job)
        return job.future

    def close(self) -> None:
        """Answer what is queued and end the threads; the second call does nothing."""
        with self._lock:
            self._closed = True
            threads, self._threads = self._threads, []
            for _ in threads:
                self._jobs.put(None)
        for thread in threads:
            thread.join()

    def _work(self) -> None:
        connection: Connection | None = None
        while (job := self._jobs.get()) is not None:
            try:
                connection = connection or self._database.connect_reader()
                connection.exec_driver_sql(BEGIN_READ)
                job.result = job.work(connection)
                connection.rollback()
            except Exception as error:  # noqa: BLE001 - the thread serves the next read, whatever this one met
                job.error = error if isinstance(error, HostError) else self._database.read_failed(error)
                if connection is not None:
                    discard(connection)
                    connection = None
            deliver((job,))
            del job
        if connection is not None:
            discard(connection)
