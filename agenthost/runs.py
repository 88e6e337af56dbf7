"""The only way an agent is run: admission, log, the one terminal event, cancel and timeout, calls between agents.

An agent runs in its own task, never inside a request; HTTP replies read the run's log. Ending is the host's word: every
run has exactly one terminal event, whatever the agent does.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

from agenthost.admission import RETRY_AFTER, Admission
from agenthost.agents import AgentEntry, RunContext, RunRequest
from agenthost.auth import Principal
from agenthost.calls import Lookup, call
from agenthost.contained_tasks import inside_an_agent
from agenthost.emitting import RunOver, emitter
from agenthost.endings import Ending, ending_of, keep
from agenthost.errors import (
    AgentError,
    AgentNotReady,
    AgentPaused,
    Cancelled,
    HostError,
    HostStopping,
    InvalidRequest,
    RunError,
    RunTimeout,
    ThreadBusy,
)
from agenthost.recording import Recorder, as_store_error
from agenthost.run import TERMINAL_AFTER, Run
from agenthost.store import NewRun, Store
from agenthost.sweep import Sweep
from agenthost.telemetry import RunMetrics
from agenthost.threads import Message, ThreadKey, thread_id_problem

DEADLINES = 0.1
"""Seconds between looks at which runs are over their time."""

log = logging.getLogger("agenthost.runs")


class Runs:
    """Starts runs and knows those that are going."""

    def __init__(self, store: Store, metrics: RunMetrics, lookup: Lookup) -> None:
        self.store = store
        self.admission = Admission()
        self.going: dict[str, Run] = {}
        self.stopping = False
        self._metrics = metrics
        self._lookup = lookup
        self._endings: set[asyncio.Task[None]] = set()
        self._deadlines = Sweep(DEADLINES, self._time_out)

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

        Raises `AgentNotReady`, `InvalidRequest`, `TooManyRuns`, `ThreadBusy`, `AgentOverloaded`, `StoreError`, and for
        a run that waited `Cancelled`, where a newer run took the thread's turn, or `HostStopping`. Nothing is left of a
        refused run.
        """
        self._check(entry, request, parent)
        run = Run(entry, principal, request, parent, self.store.read_events, self.end_without_agent)
        run.fold_only = fold_only and not run.log.durable
        await self._admit(run)
        try:
            self._still_wanted(run)
            history, state = await self._open(run)
            self._still_wanted(run)
        except BaseException as refused:
            if run.recorder is not None:
                run.cancel(refused if isinstance(refused, RunError) else Cancelled("it was given up before it began"))
                self._metrics.started(entry.name)
                self.end_without_agent(run)
            self._release(run)
            raise refused
        self._begin(run, history, state)
        return run

    def _check(self, entry: AgentEntry, request: RunRequest, parent: Run | None) -> None:
        if self.stopping and parent is None:
            raise AgentNotReady("the host is stopping", retry_after=RETRY_AFTER)
        if not entry.serving:
            raise AgentNotReady(f"agent '{entry.name}' is {entry.state}", retry_after=RETRY_AFTER)
        if request.thread_id is not None:
            problem = thread_id_problem(request.thread_id)
            if problem:
                raise InvalidRequest(problem)
        if request.input is not None and entry.check_input is not None:
            problem = entry.check_input(request.input)
            if problem:
                raise InvalidRequest(problem)

    def _still_wanted(self, run: Run) -> None:
        """Raise what has become true while the run waited."""
        if run.error is not None:
            raise run.error.again()
        if self.stopping and run.parent is None:
            raise HostStopping("the host stopped before this run began", retry_after=RETRY_AFTER)
        if not run.entry.serving:
            raise AgentNotReady(f"agent '{run.entry.name}' is {run.entry.state}", retry_after=RETRY_AFTER)

    async def _admit(self, run: Run) -> None:
        wait = run.parent is None
        admission = self.admission
        if wait:
            admission.enter_principal(run.principal)
        try:
            if run.thread is not None:
                await admission.take_turn(run, wait=wait)
        except BaseException:
            self._leave_principal(run)
            raise
        try:
            await admission.take_slot(run, wait=wait)
        except BaseException:
            if run.thread is not None:
                admission.leave_turn(run.thread)
            self._leave_principal(run)
            raise

    def _leave_principal(self, run: Run) -> None:
        if run.parent is None:
            self.admission.leave_principal(run.principal)

    async def _open(self, run: Run) -> tuple[Sequence[Message], dict[str, Any]]:
        """Commit a durable run's start; return the conversation so far and the thread's state."""
        request = run.request
        if not run.log.durable:
            return request.history, {}
        new = Message("user", request.content, run_id=run.id) if request.content else Message.of("user", request.prompt)
        spec = run.entry.spec
        beginning = self.store.start_run(
            NewRun(
                run_id=run.id,
                agent=run.entry.name,
                agent_version=spec.source.version,
                settings_hash=None,
                principal=run.principal.id,
                thread_id=request.thread_id,
                input={"prompt": request.prompt, "input": request.input, "metadata": dict(request.metadata)},
                idempotency_key=request.idempotency_key,
                request_digest=None,
                resumes=None,
                parent=run.parent.id if run.parent else None,
                detached=request.detached,
                created=run.created,
                user_message=new if run.thread is not None else None,
            )
        )
        run.recorder = Recorder(self.store, run.id, run.log, run.cancel)  # from here on there is an end to be written
        try:
            before = await beginning
        except Exception:
            run.recorder = None
            raise
        return before.messages, before.state

    def _begin(self, run: Run, history: Sequence[Message], state: dict[str, Any]) -> None:
        loop = asyncio.get_running_loop()
        timeout = run.entry.spec.timeout
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
        run.started = time.perf_counter()
        self.going[run.id] = run
        self._metrics.started(run.entry.name)
        self._deadlines.add(run, timeout)
        run.task = loop.create_task(self._drive(run, ctx))
        run.task.add_done_callback(lambda _task: self._task_ended(run))

    def _time_out(self, run: Run) -> None:
        late = RunTimeout(f"agent '{run.entry.name}' took longer than {run.entry.spec.timeout:g} s")
        run.cancel(late, terminal_after=TERMINAL_AFTER - DEADLINES)  # which may have passed since it was due

    async def _drive(self, run: Run, ctx: RunContext) -> None:
        """The run's own task: iterate the agent, then say how it ended."""
        failure: BaseException | None = None
        assert run.ref is not None  # a serving entry has one
        inside_an_agent()
        try:
            await run.ref.run(ctx, emitter(run, self.going))
        except RunOver:
            pass
        except BaseException as raised:  # noqa: BLE001 - also SystemExit and CancelledError: they end the run only
            failure = raised
        run.agent_ended = True
        if run.error is None and failure is not None:
            run.error = _as_run_error(failure)
        del failure  # it holds this frame
        await self._end(run, ctx)

    async def _end(self, run: Run, ctx: RunContext | None) -> None:
        """Write the one terminal event, commit it, show it, complete `done`. The first caller does it."""
        if run.closing:
            return
        run.closing = True
        self._deadlines.discard(run)
        if run.agent_ended:
            run.cancel_timers()
        ending = _decided(run, ctx)
        recorded = run.recorder is None or await self._commit(run, ctx, ending)
        if not recorded:
            ending = ending_of(run, None)
        run.recorder = None
        run.status, run.error = ending.status, ending.error
        if ending.entry is not None:
            run.log.add(ending.entry)
            run.log.show(ending.entry.seq)
        run.log.close()
        if run.agent_ended:
            self._release(run)
        self._report(run, ending)
        run.finish(ending.result)
        if not recorded:
            await self._commit_late(run, ending)

    async def _commit(self, run: Run, ctx: RunContext | None, ending: Ending) -> bool:
        """Commit the end and show what was held back for it; False where the store refused, which then is the end."""
        assert run.recorder is not None
        try:
            rest = await run.recorder.settle()
            await self.store.end_run(keep(run, ctx, ending, rest))
        except Exception as refused:  # noqa: BLE001 - whatever it was, the run is not recorded and must still end
            run.log.forget_hidden()
            run.error = as_store_error(refused)
            return False
        run.log.show(run.log.last)
        return True

    async def _commit_late(self, run: Run, ending: Ending) -> None:
        """Try once more to record a run that the store refused and whose readers know it: the store may be well now."""
        try:
            await self.store.end_run(keep(run, None, ending, ()))
        except Exception as refused:  # noqa: BLE001 - the next start finds the run open and ends it
            log.warning("the end of run %s is not recorded: %s", run.id, as_store_error(refused).message)

    def end_without_agent(self, run: Run) -> None:
        """Say how the run ended though its task has not: it was cancelled and does not listen."""
        if run.agent_ended or run.closing:
            return
        if run.task is not None:
            run.stuck = True
            self._count_stuck(run.entry, 1)
        ending = asyncio.get_running_loop().create_task(self._end(run, None))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)

    def _task_ended(self, run: Run) -> None:
        if not run.agent_ended:
            run.agent_ended = True  # cancelled before its first step
            ending = asyncio.get_running_loop().create_task(self._end(run, None))
            self._endings.add(ending)
            ending.add_done_callback(self._endings.discard)
        run.cancel_timers()
        self._release(run)
        if run.stuck:
            self._count_stuck(run.entry, -1)

    def _count_stuck(self, entry: AgentEntry, change: int) -> None:
        """Count cancelled runs whose agent goes on; an agent that has lost half its slots to them is degraded."""
        entry.stuck += change
        many = entry.stuck * 2 > entry.slots
        if many and entry.state == "ready":
            problem = f"agent '{entry.name}' does not end when it is cancelled: {entry.stuck} slots are taken so"
            entry.become("degraded", HostError(problem, hint="let CancelledError pass, and await what blocks"))
        elif not many and entry.state == "degraded":
            entry.become("ready")

    def _release(self, run: Run) -> None:
        if run.released:
            return
        run.released = True
        self.going.pop(run.id, None)
        if run.thread is not None:
            self.admission.leave_turn(run.thread)
        self.admission.leave_slot(run.entry)
        self._leave_principal(run)
        for child in tuple(run.children):
            child.cancel(Cancelled("the run that called it ended"))

    def _report(self, run: Run, ending: Ending) -> None:
        self._metrics.ended(run.entry.name, ending.status, time.perf_counter() - run.started, run.outcome.usage)
        error = ending.error
        if error is None or isinstance(error, Cancelled):
            return
        cause = error.__cause__
        log.error(
            "run failed: agent '%s' (%s): %s: %s",
            run.entry.name,
            run.entry.spec.source.label,
            error.code,
            error.message,
            extra={"agent": run.entry.name, "run_id": run.id, "correlation_id": error.correlation_id},
            exc_info=(type(cause), cause, cause.__traceback__) if cause is not None else None,
        )
        error.__cause__ = error.__context__ = error.__traceback__ = (
            None  # told; their frames hold the run and its prompt
        )

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
        if self._endings:
            await asyncio.wait(tuple(self._endings), timeout=TERMINAL_AFTER)

    async def _settled(self, seconds: float) -> None:
        waiting = [asyncio.ensure_future(run.ended()) for run in self.going.values()]
        if waiting:
            await asyncio.wait(waiting, timeout=seconds)
            for one in waiting:
                one.cancel()


def _decided(run: Run, ctx: RunContext | None) -> Ending:
    """How a run ended; where what its agent left behind cannot even be looked at, it failed."""
    try:
        return ending_of(run, ctx)
    except Exception as raised:  # noqa: BLE001 - an agent's own classes may raise anything, and the run must end
        run.error = _as_run_error(raised)
        return ending_of(run, None)


def _as_run_error(failure: BaseException) -> RunError:
    if isinstance(failure, RunError) and not isinstance(failure, AgentPaused):
        return failure
    error = AgentError(f"{type(failure).__name__} was raised")
    error.__cause__ = failure
    return error
