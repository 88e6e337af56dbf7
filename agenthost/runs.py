"""The only way an agent is run: admission, log, the one terminal event, cancel and timeout, calls between agents.

An agent runs in its own task, never inside a request; HTTP replies read the run's log. Ending is the host's word: every
run has exactly one terminal event, whatever the agent does.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from agenthost.admission import RETRY_AFTER, Admission
from agenthost.agents import MAX_CALL_DEPTH, AgentEntry, RunContext, RunRequest, RunResult
from agenthost.auth import Principal
from agenthost.endings import Ending, ending_of, keep, paused_state
from agenthost.errors import (
    AgentError,
    AgentNotReady,
    AgentPaused,
    AgentUnavailable,
    Cancelled,
    HostStopping,
    InvalidRequest,
    RequestError,
    RunError,
    RunTimeout,
    StoreError,
    ThreadBusy,
)
from agenthost.events import Entry, bad_event
from agenthost.outcome import Outcome
from agenthost.recording import Recorder
from agenthost.run import TERMINAL_AFTER, Run
from agenthost.store import NewRun, Store
from agenthost.telemetry import RunMetrics
from agenthost.threads import Message, ThreadKey, thread_id_problem

TURN = 8
"""Ready events after which the loop gets a turn: an agent that never waits must not starve the others."""

log = logging.getLogger("agenthost.runs")

Lookup = Callable[[Principal, str], AgentEntry]


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

        Raises `AgentNotReady`, `InvalidRequest`, `TooManyRuns`, `ThreadBusy`, `AgentOverloaded`, `StoreError`, or
        `Cancelled` when a newer run took the thread's turn while this one waited. Nothing is left of a refused run.
        """
        self._check(entry, request)
        run = Run(entry, principal, request, parent, self.store.read_events, self.end_without_agent)
        run.fold_only = fold_only and not run.log.durable
        await self._admit(run)
        try:
            messages, state = await self._open(run)
            if run.error is not None:
                raise run.error
        except BaseException as refused:
            if run.recorder is not None:
                run.error = run.error or Cancelled("its caller left before it began")
                self.end_without_agent(run)
            self._release(run)
            raise refused
        self._begin(run, messages, state)
        return run

    def _check(self, entry: AgentEntry, request: RunRequest) -> None:
        if self.stopping:
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

    async def _admit(self, run: Run) -> None:
        wait = run.parent is None
        admission = self.admission
        if wait:
            admission.enter_principal(run.principal)
        try:
            if run.thread is not None:
                spec = run.entry.spec
                await admission.take_turn(run.thread, spec.on_busy_thread, run.cancel, room=spec.queue, wait=wait)
        except BaseException:
            self._leave_principal(run)
            raise
        try:
            await admission.take_slot(run.entry, wait=wait)
        except BaseException:
            if run.thread is not None:
                admission.leave_turn(run.thread)
            self._leave_principal(run)
            raise

    def _leave_principal(self, run: Run) -> None:
        if run.parent is None:
            self.admission.leave_principal(run.principal)

    async def _open(self, run: Run) -> tuple[list[Message], dict[str, Any]]:
        """Commit a durable run's start; return the conversation so far with the new message, and the thread's state."""
        request = run.request
        new = Message("user", request.content, run_id=run.id) if request.content else Message.of("user", request.prompt)
        if not run.log.durable:
            return [*request.history, new], {}
        spec = run.entry.spec
        before = await self.store.start_run(
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
        run.recorder = Recorder(self.store, run.id, 1, run.log)
        return [*request.history, *before.messages, new], before.state

    def _begin(self, run: Run, messages: list[Message], state: dict[str, Any]) -> None:
        loop = asyncio.get_running_loop()
        timeout = run.entry.spec.timeout
        request = run.request
        ctx = RunContext(
            prompt=request.prompt,
            run_id=run.id,
            agent=run.entry.name,
            principal=run.principal,
            messages=messages,
            input=request.input,
            metadata=request.metadata,
            thread=run.thread,
            answers=request.answers,
            state=state,
            deadline=time.monotonic() + timeout,
            call_agent=lambda name, asked: self._call(run, name, asked),
        )
        run.status = "running"
        run.started = time.perf_counter()
        self.going[run.id] = run
        self._metrics.started(run.entry.name)
        run.timers.append(loop.call_later(timeout, self._time_out, run))
        run.task = loop.create_task(self._drive(run, ctx))
        run.task.add_done_callback(lambda _task: self._task_ended(run))

    def _time_out(self, run: Run) -> None:
        run.cancel(RunTimeout(f"agent '{run.entry.name}' took longer than {run.entry.spec.timeout:g} s"))

    async def _drive(self, run: Run, ctx: RunContext) -> None:
        """The run's own task: iterate the agent, then say how it ended."""
        failure: BaseException | None = None
        try:
            await self._consume(run, ctx)
        except BaseException as raised:  # noqa: BLE001 - also SystemExit and CancelledError: they end the run only
            failure = raised
        run.agent_ended = True
        if run.error is None and failure is not None:
            run.error = _as_run_error(failure, run.entry.name)
        await self._end(run, ctx)

    async def _consume(self, run: Run, ctx: RunContext) -> None:
        assert run.ref is not None  # a serving entry has one
        outcome, run_log, recorder = run.outcome, run.log, run.recorder
        since_turn = 0
        batches = run.ref.run(ctx)
        try:
            async for batch in batches:
                for entry in batch:
                    if not _accept(run, outcome, entry):
                        return
                since_turn += len(batch)
                if since_turn >= TURN:
                    since_turn = 0
                    await asyncio.sleep(0)
                if recorder is not None and recorder.behind:
                    await recorder.room()
                elif run_log.crowded:
                    await run_log.room()
        finally:
            await batches.aclose()  # type: ignore[attr-defined]  # refs are async generators, typed as their protocol

    async def _end(self, run: Run, ctx: RunContext | None) -> None:
        """Write the one terminal event, commit it, show it, complete `done`. The first caller does it."""
        if run.closing:
            return
        run.closing = True
        for timer in run.timers if run.agent_ended else run.timers[:1]:
            timer.cancel()
        ending = ending_of(run, ctx)
        if run.recorder is not None:
            ending = await self._commit(run, ctx, ending)
        run.status, run.error = ending.status, ending.error
        if ending.entry is not None:
            run.log.add(ending.entry)
            run.log.show(ending.entry.seq)
        run.log.close()
        if run.agent_ended:
            self._release(run)
        self._report(run, ending)
        run.done.set_result(ending.result)

    async def _commit(self, run: Run, ctx: RunContext | None, ending: Ending) -> Ending:
        assert run.recorder is not None
        try:
            rest = await run.recorder.settle()
            await self.store.end_run(keep(run, ctx, ending, rest))
        except Exception as refused:  # noqa: BLE001 - whatever it was, the run is not recorded and must still end
            run.error = refused if isinstance(refused, StoreError) else _store_error(refused)
            return ending_of(run, ctx)
        run.log.show(run.log.last)
        return ending

    def end_without_agent(self, run: Run) -> None:
        """Say how the run ended though its task has not: it was cancelled and does not listen."""
        if run.agent_ended or run.closing:
            return
        if run.task is not None:
            run.stuck = True
            run.entry.stuck += 1
        ending = asyncio.get_running_loop().create_task(self._end(run, None))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)

    def _task_ended(self, run: Run) -> None:
        if not run.agent_ended:
            run.agent_ended = True  # cancelled before its first step
            ending = asyncio.get_running_loop().create_task(self._end(run, None))
            self._endings.add(ending)
            ending.add_done_callback(self._endings.discard)
        for timer in run.timers:
            timer.cancel()
        self._release(run)
        if run.stuck:
            run.entry.stuck -= 1

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

    async def _call(self, caller: Run, name: str, request: RunRequest) -> RunResult:
        """`ctx.call`: run agent `name` as a child of `caller`, cancelled with it; never queues."""
        chain = [caller.entry.name]
        ancestor = caller.parent
        while ancestor is not None:
            chain.append(ancestor.entry.name)
            ancestor = ancestor.parent
        path = " → ".join([*reversed(chain), name])
        if name in chain:
            raise AgentUnavailable(f"an agent cannot be called while it waits for the answer: {path}")
        if len(chain) > MAX_CALL_DEPTH:
            raise AgentUnavailable(f"calls between agents go at most {MAX_CALL_DEPTH} deep: {path}")
        entry = self._lookup(caller.principal, name)
        try:
            child = await self.start(entry, caller.principal, request, fold_only=True, parent=caller)
        except RequestError as refused:
            if isinstance(refused, InvalidRequest):
                raise
            raise AgentUnavailable(f"agent '{name}' cannot take a call now: {refused.message}") from refused
        caller.children.add(child)
        try:
            result = await child.result()
        except asyncio.CancelledError:
            child.cancel(Cancelled("the run that called it was cancelled"))
            raise
        finally:
            caller.children.discard(child)
        if child.outcome.interrupts:
            raise AgentPaused(child.outcome.interrupts[0])
        return result

    def refuse_if_busy(self, key: ThreadKey) -> None:
        """Raise `ThreadBusy` while a run is going, or waits, on this thread."""
        if self.admission.is_busy(key):
            raise ThreadBusy("a run is going on this thread", hint="cancel it, or wait for it to end")

    async def stop(self, drain: float) -> None:
        """Refuse new runs, let those that can end within `drain` seconds do so, end the others as `host_stopping`."""
        self.stopping = True
        await self._settled(drain)
        for run in tuple(self.going.values()):
            run.cancel(HostStopping("the host stopped before this run ended"))
        await self._settled(TERMINAL_AFTER * 2)
        if self._endings:
            await asyncio.wait(tuple(self._endings), timeout=TERMINAL_AFTER)

    async def _settled(self, seconds: float) -> None:
        waiting = [run.done for run in self.going.values() if not run.done.done()]
        if waiting:
            await asyncio.wait(waiting, timeout=seconds)


def _accept(run: Run, outcome: Outcome, entry: Entry) -> bool:
    """Fold an entry and log it; False when the run is over with it."""
    if run.closing:
        return False
    if outcome.result is not None:
        raise bad_event(f"{entry.type} after the Result, which is the last event of a run")
    kind = entry.type
    if outcome.interrupts and kind != "interrupt":
        return False
    outcome.add(entry)
    if kind == "result":
        return True
    if kind == "interrupt":
        paused_state(outcome.interrupts[-1])
    if run.fold_only:
        run.log.skip(entry.seq)
        return True
    run.log.add(entry)
    if run.recorder is not None:
        run.recorder.add(entry)
    return True


def _store_error(cause: Exception) -> StoreError:
    error = StoreError(f"the end of the run could not be written: {type(cause).__name__}")
    error.__cause__ = cause
    return error


def _as_run_error(failure: BaseException, agent: str) -> RunError:
    if isinstance(failure, RunError) and not isinstance(failure, AgentPaused):
        return failure
    error = AgentError(f"{type(failure).__name__} was raised")
    error.__cause__ = failure
    return error
