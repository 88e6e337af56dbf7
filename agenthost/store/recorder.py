"""Writes jobs through one connection: what many ask for goes into few statements, and each job keeps its own outcome.

Only one host writes (it holds the lock file), so where each going run's log ends is kept here and not asked of the
database for every append; whatever a failed transaction had touched is forgotten, and read again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import orjson
from sqlalchemy import Connection

from agenthost.errors import StoreError
from agenthost.store.hot import HotStatements
from agenthost.store.jobs import AppendJob, EndJob, Job, SoloJob, StartJob
from agenthost.store.messages import decode_message
from agenthost.store.records import FIRST_EPOCH, KeyTaken, ThreadBefore
from agenthost.store.statements import Row


class GoingRun:
    """Where a run stands that is not known to have ended: its thread's row, its epoch, the last entry of its log."""

    __slots__ = ("ended", "epoch", "last", "thread")

    def __init__(self, thread: int | None, epoch: int, last: int) -> None:
        self.thread = thread
        self.epoch = epoch
        self.last = last
        self.ended = False


class Segment:
    """Jobs of which none needs to see what another wrote, but for the log of one run, whose order is kept.

    They are written as: what goes on and ends, then what starts.
    """

    __slots__ = ("begun", "logs", "solo", "starts")

    def __init__(self) -> None:
        self.starts: list[StartJob] = []
        self.logs: list[AppendJob] = []
        self.solo: SoloJob | None = None
        self.begun: set[object] = set()

    def take(self, job: Job) -> bool:
        """Add the job, or return False where it has to come after this segment."""
        if self.solo is not None:
            return False
        if isinstance(job, StartJob):
            if job.key is not None and job.key in self.begun:
                return False
            self.begun.update((job.run_id, job.key))
            self.starts.append(job)
        elif isinstance(job, AppendJob):
            if job.run_id in self.begun:
                return False
            self.logs.append(job)
        elif isinstance(job, SoloJob):
            if self.starts or self.logs:
                return False
            self.solo = job
        return True


def segments(jobs: Sequence[Job]) -> Iterator[Segment]:
    """Cut jobs into segments, in order."""
    part = Segment()
    for job in jobs:
        if not part.take(job):
            yield part
            part = Segment()
            part.take(job)
    yield part


class Recorder:
    """The jobs' hand on one connection; used by one thread, inside a transaction that the caller begins and ends."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._cursor = connection.connection.cursor()
        self._hot = HotStatements(connection.dialect)
        self._going: dict[str, GoingRun] = {}

    def write(self, jobs: Sequence[Job]) -> None:
        """Write all jobs and set their results. Raises for the first that fails; then none of them is written."""
        for part in segments(jobs):
            if part.solo is not None:
                part.solo.result = part.solo.work(self._connection)
            if part.logs:
                self._write_logs(part.logs)
            if part.starts:
                self._write_starts(part.starts)

    def forget(self, jobs: Sequence[Job]) -> None:
        """Drop what is known of the jobs' runs: their transaction was undone."""
        for job in jobs:
            if isinstance(job, StartJob | AppendJob):
                self._going.pop(job.run_id, None)

    def settle(self, jobs: Sequence[Job]) -> None:
        """Drop what is known of runs that have now ended for good."""
        for job in jobs:
            if isinstance(job, EndJob):
                self._going.pop(job.run_id, None)

    def explain(self, job: Job, error: Exception) -> Exception:
        """Turn what the database refused one job into what its caller can act on; the job has been undone."""
        if isinstance(job, StartJob) and job.request_key:
            self._hot.find_key.execute(self._cursor, *job.request_key)
            found = self._cursor.fetchone()
            if found is not None:
                return KeyTaken(*found)
        return StoreError(f"the store cannot record this: {error}", hint="this is a mistake of agenthost's; report it")

    def _write_starts(self, jobs: Sequence[StartJob]) -> None:
        runs: list[Row] = []
        messages: list[Row] = []
        self._hot.touch_threads.rows(self._cursor, [job.thread for job in jobs if job.thread is not None])
        for job in jobs:
            thread = None if job.key is None else self._read_thread(job, job.key)
            runs.append((*job.run_row[:5], thread, *job.run_row[5:]))
            if job.message is not None and thread is not None:
                messages.append((thread, *job.message))
            self._going[job.run_id] = GoingRun(thread, FIRST_EPOCH, 0)
        self._hot.add_runs.rows(self._cursor, runs)
        self._hot.add_messages.rows(self._cursor, messages)

    def _read_thread(self, job: StartJob, key: tuple[str, str, str]) -> int:
        cursor = self._cursor
        self._hot.find_thread.execute(cursor, *key)
        thread, state = cursor.fetchall()[0]
        self._hot.read_messages.execute(cursor, thread)
        said = [decode_message(*row) for row in cursor.fetchall()]
        job.result = ThreadBefore(said, orjson.loads(state) if state is not None else {})
        return int(thread)

    def _write_logs(self, jobs: Sequence[AppendJob]) -> None:
        entries: list[Row] = []
        ends: list[tuple[EndJob, int | None]] = []
        for job in jobs:
            run = self._run(job)
            last = run.last
            for entry in job.entries:
                if entry.seq == last + 1:
                    entries.append((job.run_id, entry.seq, entry.type, entry.data))
                    last += 1
                elif entry.seq > last:
                    raise StoreError(
                        f"run {job.run_id}: entry {entry.seq} cannot follow {last}, which is the last stored"
                    )
            run.last = last
            if isinstance(job, EndJob):
                run.ended = True
                ends.append((job, run.thread))
        self._hot.add_events.rows(self._cursor, entries)
        if ends:
            self._write_ends(ends)

    def _run(self, job: AppendJob) -> GoingRun:
        run = self._going.get(job.run_id)
        if run is None:
            self._hot.find_run.execute(self._cursor, job.run_id)
            found = self._cursor.fetchone()
            if found is None:
                raise StoreError(f"run {job.run_id} is not in the store")
            epoch, ended, thread, last = found
            run = GoingRun(thread, epoch, last or 0)
            run.ended = ended is not None
            self._going[job.run_id] = run
        if run.ended:
            raise StoreError(f"run {job.run_id} has ended; its log is closed")
        if run.epoch != job.epoch:
            raise StoreError(f"run {job.run_id} goes on elsewhere: epoch {run.epoch}, not {job.epoch}")
        return run

    def _name_thread(self, job: EndJob) -> int | None:
        if job.thread is None:
            return None
        self._hot.touch_threads.rows(self._cursor, [job.thread])
        self._hot.find_thread.execute(self._cursor, *job.thread[:3])
        return int(self._cursor.fetchall()[0][0])

    def _write_ends(self, ends: Sequence[tuple[EndJob, int | None]]) -> None:
        runs: list[Row] = []
        threads: list[Row] = []
        messages: list[Row] = []
        interrupts: list[Row] = []
        for job, own_thread in ends:
            thread = self._name_thread(job) if own_thread is None else own_thread
            status, stop_reason, code, ended, result = job.end_row
            runs.append((status, stop_reason, code, thread, ended, result, job.run_id, job.epoch))
            if thread is not None:
                threads.append((job.ended, job.state, thread))
                messages.extend((thread, *said) for said in job.messages)
            interrupts.extend(job.interrupts)
        self._hot.add_messages.rows(self._cursor, messages)
        if self._hot.end_runs.each(self._cursor, runs) != len(runs):
            raise StoreError("a run ended twice")
        self._hot.end_threads.each(self._cursor, threads)
        self._hot.add_interrupts.rows(self._cursor, interrupts)

    def command(self, sql: str) -> None:
        """Run a word of transaction control."""
        self._cursor.execute(sql)
