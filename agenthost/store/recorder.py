"""Writes jobs through one connection: what many ask for goes into few statements, and each job keeps its own outcome.

Only one host writes (it holds the lock file), so where each going run's log ends is kept here and not asked of the
database for every append; whatever a failed transaction had touched is forgotten, and read again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import orjson
from sqlalchemy import Connection

from agenthost.errors import AlreadyAnswered, HostError, StoreError
from agenthost.store.hot import hot_statements
from agenthost.store.jobs import AppendJob, EndJob, Job, SoloJob, StartJob, Unread
from agenthost.store.messages import decode_message
from agenthost.store.records import FIRST_EPOCH, KeyTaken, ThreadBefore
from agenthost.store.statements import Row

INLINE = 128 << 10
"""Bytes of a thread's messages that are decoded here: what is more would keep the others waiting too long."""


class GoingRun:
    """Where a run stands that is not known to have ended: its thread's row, its epoch, the last entry of its log."""

    __slots__ = ("answers", "ended", "epoch", "last", "thread")

    def __init__(self, thread: int | None, epoch: int, last: int, answers: str | None) -> None:
        self.thread = thread
        self.epoch = epoch
        self.last = last
        self.ended = False
        self.answers = answers
        """The paused run whose questions it has claimed and, as far as is known, not answered yet."""


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


def _large(said: Sequence[Row]) -> set[int]:
    """The threads of which `read_messages` found more than is decoded here."""
    sizes: dict[int, int] = {}
    for row, _role, body, *_rest in said:
        sizes[row] = sizes.get(row, 0) + (INLINE + 1 if body is None else len(body))
    return {row for row, size in sizes.items() if size > INLINE}


class Recorder:
    """The jobs' hand on one connection; used by one thread, inside a transaction that the caller begins and ends."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._cursor = connection.connection.cursor()
        self._hot = hot_statements()
        self._going: dict[str, GoingRun] = {}

    def command(self, sql: str) -> None:
        """Run a word of transaction control."""
        self._cursor.execute(sql)

    def close(self) -> None:
        """Let go of the connection."""
        self._cursor.close()

    def write(self, jobs: Sequence[Job]) -> None:
        """Write all jobs and set their results. Raises for the first that fails; then none of them is written."""
        for part in segments(jobs):
            if part.solo is not None:
                part.solo.result = part.solo.work(self._connection)
                for run_id in part.solo.runs:
                    self._going.pop(run_id, None)
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
        """Turn what refused one job into what its caller can act on; the job has been undone."""
        if isinstance(job, StartJob) and job.request_key:
            self._hot.find_key.execute(self._cursor, *job.request_key)
            for run_id, request_digest in self._cursor.fetchall():
                return KeyTaken(run_id, request_digest)
        if isinstance(error, HostError):
            return error
        failure = StoreError(
            f"the store cannot record this: {error}", hint="this is a mistake of agenthost's; report it"
        )
        failure.__cause__ = error
        return failure

    def _write_starts(self, jobs: Sequence[StartJob]) -> None:
        rows = self._touch_threads([job.thread for job in jobs if job.thread is not None])
        before = self._read_threads(rows, jobs)
        runs: list[Row] = []
        messages: list[Row] = []
        for job in jobs:
            thread, _state, waiting = rows[job.thread[:3]] if job.thread is not None else (None, None, None)
            job.result = ThreadBefore([], {}) if thread is None else before[thread]
            if isinstance(job.result, Unread):
                continue
            if job.claims:
                self._claim(job, thread)
            elif waiting and job.supersedes:
                self._hot.questions.supersede.execute(self._cursor, thread)
                self._hot.questions.wait.execute(self._cursor, 0, thread)
            if thread is not None:
                messages += [(thread, *message) for message in job.messages]
            runs.append((*job.run_row[:5], thread, *job.run_row[5:]))
            self._going[job.run_id] = GoingRun(thread, FIRST_EPOCH, job.last, job.resumes)
        self._hot.add_runs.rows(self._cursor, runs)
        self._hot.add_messages.rows(self._cursor, messages)

    def _claim(self, job: StartJob, thread: int | None) -> None:
        """Take the questions; none is anybody's but of the run that is resumed, on the thread of this one."""
        for claim in job.claims:
            self._hot.questions.claim.execute(self._cursor, *claim, job.now, thread)
            if self._cursor.rowcount != 1:
                raise AlreadyAnswered

    def _touch_threads(self, threads: Sequence[Row]) -> dict[Row, Row]:
        """Make the threads that are new; return each one's row id, state, and whether it may wait, by its key."""
        if not threads:
            return {}
        self._hot.touch_threads.rows(self._cursor, threads)
        found = self._hot.find_threads.select(self._cursor, [thread[:3] for thread in threads])
        return {tuple(key): (row, state, waiting) for *key, row, state, waiting in found}

    def _read_threads(self, rows: Mapping[Row, Row], jobs: Sequence[StartJob]) -> Mapping[int, ThreadBefore | Unread]:
        """By row: each thread as it is, or `Unread` where it is large and its messages did not come with the job."""
        before = {row: ThreadBefore([], orjson.loads(state) if state else {}) for row, state, _waits in rows.values()}
        brought = {rows[job.key][0]: job.history for job in jobs if job.history is not None and job.key is not None}
        keys = [(row,) for row in before if row not in brought]
        said = self._hot.read_messages.select(self._cursor, keys) if keys else []
        large = _large(said)
        for row, *message in said:
            if row not in large:
                before[row].messages.append(decode_message(*message))
        for row, history in brought.items():
            self._hot.count_messages.execute(self._cursor, row)
            if self._cursor.fetchall() == [(len(history),)]:
                before[row].messages.extend(history)
            else:
                large.add(row)  # it went on meanwhile: it must be read again
        return {**before, **{row: Unread(row) for row in large}} if large else before

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
            if run.answers is not None:
                self._answer(job, run)
            run.last = last
            if isinstance(job, EndJob):
                run.ended = True
                ends.append((job, run.thread))
        self._hot.add_events.rows(self._cursor, entries)
        if ends:
            self._write_ends(ends)

    def _answer(self, job: AppendJob, run: GoingRun) -> None:
        """What a run claimed is answered with its agent's first word, and given back if it ends badly before that."""
        ends = isinstance(job, EndJob)
        if not ends and not job.is_of_agent():
            return
        asked, run.answers = run.answers, None
        if isinstance(job, EndJob) and job.gave_up and not job.is_of_agent():
            self._hot.questions.give_back.execute(self._cursor, asked, job.run_id)
            if self._cursor.rowcount:
                self._hot.questions.wait.execute(self._cursor, 1, run.thread)
        else:
            self._hot.questions.answer.execute(self._cursor, asked, job.run_id)

    def _run(self, job: AppendJob) -> GoingRun:
        run = self._going.get(job.run_id)
        if run is None:
            self._hot.find_run.execute(self._cursor, job.run_id)
            rows = self._cursor.fetchall()
            if not rows:
                raise StoreError(f"run {job.run_id} is not in the store")
            epoch, ended, thread, resumes, late, last = rows[0]
            if last is None:
                # only who ends a run that is recorded late knows where its log begins
                last = job.entries[0].seq - 1 if late and job.entries and isinstance(job, EndJob) else 0
            run = GoingRun(thread, epoch, last, resumes)
            run.ended = ended is not None
            self._going[job.run_id] = run
        if run.ended:
            raise StoreError(f"run {job.run_id} has ended; its log is closed")
        if run.epoch != job.epoch:
            raise StoreError(f"run {job.run_id} goes on elsewhere: epoch {run.epoch}, not {job.epoch}")
        return run

    def _write_ends(self, ends: Sequence[tuple[EndJob, int | None]]) -> None:
        runs: list[Row] = []
        threads: dict[int, Row] = {}
        messages: list[Row] = []
        interrupts: list[Row] = []
        named = self._touch_threads([job.thread for job, own in ends if own is None and job.thread is not None])
        for job, own in ends:
            thread = named[job.thread[:3]][0] if own is None and job.thread is not None else own
            status, stop_reason, code, ended, result = job.end_row
            runs.append((status, stop_reason, code, thread, ended, result, job.run_id, job.epoch))
            if thread is not None:
                _at, state, waits, _row = threads.get(thread, (None, None, None, None))
                threads[thread] = (job.ended, job.state or state, 1 if job.interrupts else waits, thread)
                messages.extend((thread, *said) for said in job.messages)
            interrupts.extend(job.interrupts)
        self._hot.add_messages.rows(self._cursor, messages)
        if self._hot.end_runs.update(self._cursor, runs) != len(runs):
            raise StoreError("a run was ended by another host")
        self._hot.end_threads.update(self._cursor, list(threads.values()))
        self._hot.add_interrupts.rows(self._cursor, interrupts)
