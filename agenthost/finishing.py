"""How a run comes to its end: the one terminal event, its commit, its readers told, its slot given back."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from agenthost.agents import RunContext
from agenthost.endings import Ending, ending_of, keep
from agenthost.entries import AgentEntry
from agenthost.errors import (
    AgentError,
    AgentPaused,
    AgentUnavailable,
    Cancelled,
    HostError,
    HostStopping,
    RunError,
)
from agenthost.recording import Recorder, as_store_error
from agenthost.run import Run
from agenthost.starting import new_run
from agenthost.store import Store
from agenthost.telemetry import RunMetrics
from agenthost.threads import ThreadKey

RECORD_AGAIN = (0.0, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds between attempts to record the end of a run that the store refused; the last is repeated."""

LOOK = 0.01
"""Seconds between two looks at whether a run that begins as the host stops can be ended."""

log = logging.getLogger("agenthost.runs")


class Finisher:
    """Ends runs. `ended` is told once of each run that needs nothing of the host any more."""

    def __init__(self, store: Store, metrics: RunMetrics, ended: Callable[[Run], None]) -> None:
        self._store = store
        self._metrics = metrics
        self._ended = ended
        self._tasks: set[asyncio.Task[None]] = set()
        self.unrecorded: dict[str, Run] = {}
        """Runs that have ended for their readers, and not yet in the store."""
        self.beginning: set[Run] = set()
        """Runs whose start is being written; where nobody wants them any more by then, they are ended at once."""

    async def end(self, run: Run, ctx: RunContext | None) -> None:
        """Write the one terminal event, commit it, show it, complete `done`. The first caller does it."""
        if run.closing:
            return
        run.closing = True
        if run.agent_ended:
            run.cancel_timers()
        ending = _decided(run, ctx)
        recorded = await self._recorded(run, ctx, ending)
        if not recorded:
            ending = ending_of(run, None)
        durable, run.recorder = run.recorder is not None, None
        run.status, run.error = ending.status, ending.error
        if ending.entry is not None:
            run.log.add(ending.entry)
            run.log.show(ending.entry.seq)
        run.log.close()
        if run.agent_ended:
            self._ended(run)
        self._report(run, ending)
        run.finish(ending.result)
        if durable and not recorded:
            self.unrecorded[run.id] = run
            self.spawn(self._record_late(run, ending))

    async def _recorded(self, run: Run, ctx: RunContext | None, ending: Ending) -> bool:
        """Commit the end, where there is something to; False where the store refused, which then is the end."""
        paused = ending.status == "paused"
        if run.recorder is None and not paused:
            return True
        unnamed = paused and run.thread is None
        if unnamed:  # what waits for an answer has a thread to be answered on
            run.thread = ThreadKey(run.principal.id, run.entry.name, run.id)
            ending.result.thread_id = run.id
        try:
            await (self._commit if run.recorder is not None else self._commit_whole)(run, ctx, ending)
        except Exception as refused:  # noqa: BLE001 - whatever it was, the run is not recorded and must still end
            if unnamed:
                run.thread = None
            run.log.forget_hidden()
            run.error = as_store_error(refused)
            return False
        run.log.show(run.log.last)
        return True

    async def _commit(self, run: Run, ctx: RunContext | None, ending: Ending) -> None:
        assert run.recorder is not None
        await run.recorder.settle()
        await self._store.end_run(keep(run, ctx, ending, run.log.hidden))

    async def _commit_whole(self, run: Run, ctx: RunContext | None, ending: Ending) -> None:
        """A run that was not recorded is, from where it pauses: of its log there are the questions alone."""
        begun = asyncio.ensure_future(self._store.start_run(new_run(run, last_seq=run.log.visible)))
        ended = self._store.end_run(keep(run, ctx, ending, run.log.hidden))
        _begun, refused = await asyncio.gather(begun, ended, return_exceptions=True)
        if refused is not None:
            if begun.exception() is None:  # it is in the store now, and is to end there
                run.recorder = Recorder(self._store, run.id, run.epoch, run.log, run.cancel)
            raise refused

    async def _record_late(self, run: Run, ending: Ending) -> None:
        """Record a run whose readers know how it ended, as soon as the store takes it."""
        end = keep(run, None, ending, ())
        if not run.recorded:  # nothing of its log is there for the rest to follow
            end = replace(end, entries=())
        attempt = 0
        while True:
            await asyncio.sleep(RECORD_AGAIN[min(attempt, len(RECORD_AGAIN) - 1)])
            attempt += 1
            try:
                await self._store.end_run(end)
                break
            except Exception as refused:  # noqa: BLE001 - the next start finds the run open and ends it
                if attempt == 1:
                    log.warning("the end of run %s is not recorded yet: %s", run.id, as_store_error(refused).message)
                if await self._is_over(run):
                    break
        self.unrecorded.pop(run.id, None)

    async def _is_over(self, run: Run) -> bool:
        """Whether the store has no such run going: it was never written, or has ended."""
        try:
            stored = await self._store.get_run(run.id)
        except HostError:
            return False
        return stored is None or stored.ended is not None

    def end_without_agent(self, run: Run) -> None:
        """Say how the run ended though its task has not: it was cancelled and does not listen."""
        if run.agent_ended or run.closing:
            return
        if run.task is not None:
            run.stuck = True
            self._count_stuck(run.entry, 1)
        self.spawn(self.end(run, None))

    def task_ended(self, run: Run) -> None:
        """The run's task is over, however: what it held is free once its end is written, and not before."""
        if not run.agent_ended:
            run.agent_ended = True  # cancelled before its first step
            self.spawn(self.end(run, None))
        run.cancel_timers()
        if run.outcome_known is not None:
            self._ended(run)
        if run.stuck:
            self._count_stuck(run.entry, -1)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something that `settled` waits for."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def settled(self, seconds: float) -> None:
        """Wait for the ends that are being written, at most so long; what the store still refuses is given up."""
        given_up = time.monotonic() + seconds
        while self.beginning and time.monotonic() < given_up:  # noqa: ASYNC110 - once, so that no start pays for an event
            await asyncio.sleep(LOOK)
        if self._tasks:
            _done, late = await asyncio.wait(tuple(self._tasks), timeout=seconds)
            for task in late:
                task.cancel()

    def _count_stuck(self, entry: AgentEntry, change: int) -> None:
        """Count cancelled runs whose agent goes on; an agent that has lost half its slots to them is degraded."""
        entry.stuck += change
        if entry.stuck * 2 > entry.slots:
            problem = f"agent '{entry.name}' does not end when it is cancelled: {entry.stuck} slots are taken so"
            entry.ail("stuck", HostError(problem, hint="let CancelledError pass, and await what blocks"))
        else:
            entry.heal("stuck")

    def _report(self, run: Run, ending: Ending) -> None:
        self._metrics.ended(run.entry.name, ending.status, time.perf_counter() - run.started, run.outcome.usage)
        error = ending.error
        if error is None or isinstance(error, Cancelled):
            return
        cause = error.__cause__
        log.error(
            "run failed: agent '%s' (%s): %s: %s",
            run.entry.name,
            run.entry.source.label,
            error.code,
            error.message,
            extra={"agent": run.entry.name, "run_id": run.id, "correlation_id": error.correlation_id},
            exc_info=(type(cause), cause, cause.__traceback__) if cause is not None else None,
        )
        error.__cause__ = error.__context__ = error.__traceback__ = (
            None  # told; their frames hold the run and its prompt
        )


def _decided(run: Run, ctx: RunContext | None) -> Ending:
    """How a run ended; where what its agent left behind cannot even be looked at, it failed."""
    try:
        return ending_of(run, ctx)
    except Exception as raised:  # noqa: BLE001 - an agent's own classes may raise anything, and the run must end
        run.error = as_run_error(raised)
        return ending_of(run, None)


def as_unbegun(refused: BaseException) -> RunError:
    """What refused a run that was promised to its caller, as the error that it ends with."""
    if isinstance(refused, RunError):
        return refused
    if isinstance(refused, asyncio.CancelledError):
        return HostStopping("the host stopped before this run began")
    error = AgentUnavailable(f"the run could not begin: {refused}")
    error.__cause__ = refused
    return error


def as_run_error(failure: BaseException) -> RunError:
    """What ended an agent, as the error of its run."""
    if isinstance(failure, RunError) and not isinstance(failure, AgentPaused):
        return failure
    error = AgentError(f"{type(failure).__name__} was raised")
    error.__cause__ = failure
    return error
