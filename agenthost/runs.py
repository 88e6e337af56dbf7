"""The only way an agent is run: admission, log, the one terminal event, cancel and timeout, calls between agents.

An agent runs in its own task, never inside a request; HTTP replies read the run's log. Ending is the host's word: every
run has exactly one terminal event, whatever the agent does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, TypeVar

from agenthost.admission import RETRY_AFTER, Admission
from agenthost.agents import Answer, RunContext, RunRequest, RunResult
from agenthost.auth import Principal
from agenthost.calls import Lookup, call
from agenthost.contained_tasks import inside_an_agent
from agenthost.emitting import RunOver, emitter
from agenthost.encoding import encode_event
from agenthost.ended_run import EndedRun
from agenthost.entries import AgentEntry
from agenthost.errors import (
    AgentNotReady,
    Cancelled,
    HostStopping,
    NotFound,
    RunError,
    RunTimeout,
    ThreadBusy,
)
from agenthost.events import Custom
from agenthost.finishing import Finisher, as_run_error, as_unbegun
from agenthost.keyed_runs import KeyedRuns
from agenthost.recording import Recorder
from agenthost.resuming import ResumeRequest, Resumes
from agenthost.run import TERMINAL_AFTER, Run
from agenthost.starting import (
    asked_again,
    brought,
    history_of,
    new_run,
    on_the_newest,
    refuse_bad_thread_id,
    refuse_unfit,
    user_message,
)
from agenthost.store import Store, StoredRun, ThreadBefore
from agenthost.sweep import Sweep
from agenthost.telemetry import RunMetrics
from agenthost.threads import Message, ThreadKey

DEADLINES = 0.1
"""Seconds between looks at which runs are over their time."""

BEGUN_AGAIN = "x-begun-again"
"""The event where a run was begun again after its host was lost: what was said before is not part of its answer."""


T = TypeVar("T")


class Runs:
    """Starts runs and knows those that are going."""

    def __init__(self, store: Store, metrics: RunMetrics, lookup: Lookup) -> None:
        self.store = store
        self.admission = Admission()
        self.going: dict[str, Run] = {}
        self.stopping = False
        self._metrics = metrics
        self._lookup = lookup
        self._finisher = Finisher(store, metrics, self._release)
        self._keyed = KeyedRuns(store, self.start, self._in_hand)
        self._resumes = Resumes(store, self._keyed, self.ask)
        self._beginnings: set[asyncio.Future[Any]] = set()
        """Starts that no caller's leaving ends."""
        self._deadlines = Sweep(DEADLINES, self._time_out)

    async def ask(
        self, entry: AgentEntry, principal: Principal, request: RunRequest, *, fold_only: bool = False
    ) -> Run | EndedRun:
        """Start a run, or find the one that has the request's idempotency key. Raises as `start`, and `KeyReused`.

        With a key, or detached, the start goes on where its caller is cancelled.
        """
        if request.idempotency_key is not None:
            return await self._keyed.start(entry, principal, request)
        if request.detached:
            return await asyncio.shield(self._held(asyncio.ensure_future(self.start(entry, principal, request))))
        return await self.start(entry, principal, request, fold_only=fold_only)

    def _held(self, beginning: asyncio.Future[T]) -> asyncio.Future[T]:
        self._beginnings.add(beginning)
        beginning.add_done_callback(self._beginnings.discard)
        beginning.add_done_callback(lambda done: done.cancelled() or done.exception())  # its caller may have left
        return beginning

    async def resume(self, entry: AgentEntry, principal: Principal, request: ResumeRequest) -> Run | EndedRun:
        """Go on with a paused thread in a new run: see `Resumes.start`."""
        refuse_bad_thread_id(request.thread_id)
        return await self._resumes.start(entry, principal, request)

    async def find(self, entry: AgentEntry | None, principal: Principal, run_id: str) -> Run | EndedRun | StoredRun:
        """A run of this agent, by its id: going, ended, or (a `StoredRun`) about to be begun again.

        With None it may be of any agent that the caller may use. Raises `NotFound` for one that is not there, and for
        another's unless the caller operates the host.
        """
        found = self._in_hand(run_id) or await self.store.get_run(run_id)
        if found is None or not _may_see(principal, entry, found):
            raise NotFound("no such run")
        if isinstance(found, Run):
            return found
        if found.ended is not None:
            return EndedRun(found, self.store.read_events)
        return self._in_hand(run_id) or found

    def of_task(self, task: asyncio.Task[Any]) -> Run | None:
        """The run whose own task this is; may be asked from another thread."""
        return next((run for run in tuple(self.going.values()) if run.task is task), None)

    def _in_hand(self, run_id: str) -> Run | None:
        """A run that goes, or has ended and is not in the store yet."""
        return self.going.get(run_id) or self._finisher.unrecorded.get(run_id)

    async def start(
        self,
        entry: AgentEntry,
        principal: Principal,
        request: RunRequest,
        *,
        fold_only: bool = False,
        parent: Run | None = None,
    ) -> Run:
        """Admit a run and start it; `fold_only` for a caller that waits for the result and reads no events.

        A detached run that has to wait is recorded, and returned, as `queued`; any other waits here. Raises, leaving
        nothing of the run, what refuses it (`RequestError`, `StoreError`), and for one that waited `Cancelled`, where
        a newer run took the thread's turn, `HostStopping`, or `AgentUnavailable`, where its agent was unloaded.
        """
        entry = entry if entry.serving or self.stopping else await entry.awake()
        self._check(entry, request, parent)
        run = Run(entry, principal, request, parent, self.store.read_events, self._finisher.end_without_agent)
        run.fold_only = fold_only and not run.log.durable
        if request.detached:
            admitted = asyncio.ensure_future(self._admit(run))
            await asyncio.sleep(0)  # in which it takes its place, or is refused
            if not admitted.done():
                return await self._record_waiting(run, admitted)
            await admitted
        else:
            await self._admit(run)
        try:
            self._still_wanted(run)
            before = await self._open(run)
            self._still_wanted(run)
        except BaseException as refused:
            if run.recorder is not None:
                run.cancel(refused if isinstance(refused, RunError) else Cancelled("it was given up before it began"))
                self._metrics.started(entry.name)
                self._finisher.end_without_agent(run)
            self._release(run)
            raise refused
        self._begin(run, history_of(request, before.messages if before else ()), before.state if before else {})
        return run

    async def _record_waiting(self, run: Run, admitted: asyncio.Future[None]) -> Run:
        """Record a detached run that waits, and leave its beginning to a task."""
        try:
            await self.store.start_run(new_run(run, status="queued"))
        except BaseException:
            if not admitted.cancel() and admitted.exception() is None:
                self._release(run)  # its turn came meanwhile
            raise
        self._wait_for_turn(run, admitted, run.epoch)
        return run

    def begin_again(self, entry: AgentEntry, principal: Principal, stored: StoredRun, answers: Sequence[Answer]) -> Run:
        """Begin a run that a lost host left: one that waited, or one whose agent is `resumable`.

        A run that had begun goes on in the same log, after a `x-begun-again` event, under its next epoch.
        """
        epoch = stored.epoch if stored.status == "queued" else stored.epoch + 1
        request = asked_again(stored, answers)
        request.detached = True  # those who read it are gone; it is not for them that it goes on
        run = Run(entry, principal, request, None, self.store.read_events, self._finisher.end_without_agent)
        run.take_over(stored)
        self._wait_for_turn(run, asyncio.ensure_future(self._admit(run, promised=True)), epoch)
        return run

    def _wait_for_turn(self, run: Run, admitted: asyncio.Future[None], epoch: int) -> None:
        self.going[run.id] = run
        self._held(asyncio.ensure_future(self._begin_later(run, admitted, epoch)))

    async def _begin_later(self, run: Run, admitted: asyncio.Future[None], epoch: int) -> None:
        """Begin a run that is in the store already, once it is its turn; whatever refuses it, ends it."""
        try:
            await admitted
        except BaseException as refused:  # noqa: BLE001 - also a cancel: it has been promised, so it ends by a word
            run.unadmitted = True
            if not isinstance(refused, HostStopping):
                await self._end_unbegun(run, refused)
                return
        if run.unadmitted or self.stopping:  # or its turn came in the moment of the stop
            self._leave_queued(run)
            return
        try:
            self._still_wanted(run)
            said = user_message(run) if run.thread else None
            before = await self.store.begin_run(run.id, epoch, said, brought(run.request))
            again, run.epoch = epoch > run.epoch, epoch
            self._still_wanted(run)
        except BaseException as refused:  # noqa: BLE001 - also a cancel, in the middle of its beginning
            await self._end_unbegun(run, refused)
            return
        run.recorder = Recorder(self.store, run.id, run.epoch, run.log, run.cancel)
        if again:
            entry = encode_event(run.log.last + 1, Custom(BEGUN_AGAIN, {"attempt": run.epoch}))
            run.log.add(entry)
            run.recorder.add(entry)
        self._begin(run, history_of(run.request, before.messages), before.state)

    def _leave_queued(self, run: Run) -> None:
        """Let go of a run that has not begun: the next host on this store begins it. Its readers are cut off."""
        run.log.abandon()
        self._release(run)
        run.finish(RunResult(run.id, "queued", "", HostStopping.code))

    async def _end_unbegun(self, run: Run, refused: BaseException) -> None:
        run.error = run.error or as_unbegun(refused)
        run.recorder = Recorder(self.store, run.id, run.epoch, run.log, run.cancel)
        run.agent_ended = True
        self._metrics.started(run.entry.name)
        await self._finisher.end(run, None)

    def _check(self, entry: AgentEntry, request: RunRequest, parent: Run | None) -> None:
        if self.stopping and parent is None:
            raise AgentNotReady("the host is stopping", retry_after=RETRY_AFTER)
        if not entry.serving:
            raise AgentNotReady(f"agent '{entry.name}' is {entry.state}", retry_after=RETRY_AFTER)
        refuse_unfit(entry, request)

    def _still_wanted(self, run: Run) -> None:
        """Raise what has become true while the run waited."""
        if run.error is not None:
            raise run.error.again()
        if self.stopping and run.parent is None:
            raise HostStopping("the host stopped before this run began", retry_after=RETRY_AFTER)
        on_the_newest(run)

    async def _admit(self, run: Run, *, promised: bool = False) -> None:
        """Take what a run needs to begin; one that was `promised` waits as long as the queue is, and is not refused."""
        wait = run.parent is None
        admission = self.admission
        if wait:
            admission.enter_principal(run.principal, promised=promised)
        try:
            if run.thread is not None:
                await admission.take_turn(run, wait=wait, promised=promised)
        except BaseException:
            self._leave_principal(run)
            raise
        try:
            await admission.take_slot(run, wait=wait, promised=promised)
        except BaseException:
            if run.thread is not None:
                admission.leave_turn(run.thread)
            self._leave_principal(run)
            raise

    def _leave_principal(self, run: Run) -> None:
        if run.parent is None:
            self.admission.leave_principal(run.principal)

    async def _open(self, run: Run) -> ThreadBefore | None:
        """Commit a durable run's start; return its thread as it was before."""
        if not run.log.durable:
            return None
        beginning = self.store.start_run(new_run(run))
        run.recorder = Recorder(self.store, run.id, run.epoch, run.log, run.cancel)  # there is an end to be written
        self._finisher.beginning.add(run)
        try:
            return await beginning
        except Exception:
            run.recorder = None
            raise
        finally:
            self._finisher.beginning.discard(run)

    def _begin(self, run: Run, history: Sequence[Message], state: dict[str, Any]) -> None:
        loop = asyncio.get_running_loop()
        timeout = run.timeout = run.entry.spec.timeout
        request = run.request
        ctx = RunContext(
            prompt=request.prompt,
            run_id=run.id,
            agent=run.entry.name,
            principal=run.principal,
            history=history,
            content=request.content,
            input=request.input,
            metadata=request.metadata,
            thread=run.thread,
            answers=request.answers,
            state=state,
            deadline=time.monotonic() + timeout,
            call_agent=lambda name, asked: call(self.start, self._lookup, run, name, asked),
        )
        run.status = "running"
        run.ref = run.entry.ref
        run.entry.busy += 1
        run.started = time.perf_counter()
        self.going[run.id] = run
        self._metrics.started(run.entry.name)
        self._deadlines.add(run, timeout)
        run.task = loop.create_task(self._drive(run, ctx))
        run.task.add_done_callback(lambda _task: self._finisher.task_ended(run))

    def _time_out(self, run: Run) -> None:
        late = RunTimeout(f"agent '{run.entry.name}' took longer than {run.timeout:g} s")
        run.cancel(late, terminal_after=TERMINAL_AFTER - DEADLINES)  # which may have passed since it was due

    async def _drive(self, run: Run, ctx: RunContext) -> None:
        """The run's own task: iterate the agent, then say how it ended."""
        failure: BaseException | None = None
        assert run.ref is not None  # a serving entry has one
        inside_an_agent(run)
        try:
            await run.ref.run(ctx, emitter(run, self.going))
        except RunOver:
            pass
        except BaseException as raised:  # noqa: BLE001 - also SystemExit and CancelledError: they end the run only
            failure = raised
        inside_an_agent(None)  # the task's context holds whom it is told, and the run holds its task
        run.agent_ended = True
        if run.error is None and failure is not None:
            run.error = as_run_error(failure)
        del failure  # it holds this frame
        if run.closing or (run.recorder is None and not run.outcome.interrupts):
            await self._finisher.end(run, ctx)
        else:  # a cancel that the agent left behind must not reach the commit
            await asyncio.shield(self._finisher.spawn(self._finisher.end(run, ctx)))

    def _release(self, run: Run) -> None:
        """Give back what a run held; it has ended, and its agent too."""
        if run.released:
            return
        run.released = True
        self.going.pop(run.id, None)
        self._deadlines.discard(run)
        self._keyed.ended(run)
        self._resumes.ended(run)
        if not run.unadmitted:
            if run.request.thread_id is not None and run.thread is not None:
                self.admission.leave_turn(run.thread)
            self.admission.leave_slot(run.entry)
            if run.task is not None:
                run.entry.busy -= 1
            self._leave_principal(run)
        for child in tuple(run.children):
            child.cancel(Cancelled("the run that called it ended"))

    def cut(self, entry: AgentEntry, error: RunError) -> int:
        """End with `error` the runs that go on at this version of an agent; returns how many there were."""
        going = [run for run in self.going.values() if run.entry is entry and run.task is not None and not run.error]
        for run in going:
            run.cancel(error.again())
        return len(going)

    def refuse_if_busy(self, key: ThreadKey) -> None:
        """Raise `ThreadBusy` while a run is going, or waits, on this thread."""
        if self.admission.is_busy(key):
            raise ThreadBusy("a run is going on this thread", hint="cancel it, or wait for it to end")

    async def stop(self, drain: float) -> None:
        """Refuse new runs, let those that can end within `drain` seconds do so, end the others as `host_stopping`."""
        self.stopping = True
        self.admission.send_away()
        await self._settled(drain)
        for run in tuple(self.going.values()):
            run.cancel(HostStopping("the host stopped before this run ended"))
        await self._settled(TERMINAL_AFTER * 2)
        await self._finisher.settled(TERMINAL_AFTER)

    async def _settled(self, seconds: float) -> None:
        waiting = [asyncio.ensure_future(run.ended()) for run in self.going.values()]
        if waiting:
            await asyncio.wait(waiting, timeout=seconds)
            for one in waiting:
                one.cancel()


def _may_see(principal: Principal, entry: AgentEntry | None, found: Run | StoredRun) -> bool:
    agent, owner = (found.entry.name, found.principal.id) if isinstance(found, Run) else (found.agent, found.principal)
    usable = principal.may_use(agent) if entry is None else agent == entry.name
    return usable and (principal.id == owner or principal.admin)
