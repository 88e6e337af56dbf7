"""One run: what was asked, its log, who reads it, how it is cancelled, how it ended."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Callable

from agenthost.agents import AgentRef, RunRequest, RunResult, RunStatus
from agenthost.auth import Principal
from agenthost.entries import AgentEntry
from agenthost.errors import Cancelled, RunError
from agenthost.outcome import Outcome
from agenthost.recording import Recorder
from agenthost.run_log import Reader, ReadEvents, RunLog
from agenthost.store import FIRST_EPOCH, StoredRun
from agenthost.threads import ThreadKey

TERMINAL_AFTER = 0.5
"""Seconds after the first cancel when the terminal event is written, agent ended or not."""

CANCEL_AGAIN = 2.0
"""Seconds after the first cancel when the task is cancelled once more, and then abandoned."""

log = logging.getLogger("agenthost.runs")


_random_bits = random.Random(secrets.randbits(128)).getrandbits  # noqa: S311 - an id is no secret, and this is quick


def new_run_id() -> str:
    """32 hex digits: 12 of milliseconds, so that ids sort by start and the store appends, then 80 random bits.

    An id is no secret: who may read a run is decided by whose it is.
    """
    return f"{time.time_ns() // 1_000_000:012x}{_random_bits(80):020x}"


class Run:
    """One run: what was asked, its log, how it goes and how it ended."""

    __slots__ = (
        "_end_without_agent",
        "_read_events",
        "_timers",
        "_waiting",
        "agent_ended",
        "children",
        "closing",
        "created",
        "entry",
        "epoch",
        "error",
        "fold_only",
        "id",
        "log",
        "outcome",
        "outcome_known",
        "parent",
        "principal",
        "readers",
        "recorder",
        "ref",
        "released",
        "request",
        "started",
        "status",
        "stuck",
        "task",
        "thread",
        "timeout",
        "unadmitted",
        "waits",
    )
    timeout: float
    """Seconds that it may take; set when it begins."""

    def __init__(
        self,
        entry: AgentEntry,
        principal: Principal,
        request: RunRequest,
        parent: Run | None,
        read_events: ReadEvents,
        end_without_agent: Callable[[Run], None],
    ) -> None:
        self._read_events = read_events
        self._end_without_agent = end_without_agent
        self.id = new_run_id()
        self.epoch = FIRST_EPOCH
        self.entry = entry
        self.ref: AgentRef | None = None  # the version it began on
        self.principal = principal
        self.request = request
        self.parent = parent
        self.children: set[Run] = set()
        named = request.thread_id
        self.thread = None if named is None else ThreadKey(principal.id, entry.name, named)
        self.log = RunLog(durable=self.recorded)
        self.fold_only = False  # nobody reads its events: its caller waits for the result
        self.outcome = Outcome()
        self.recorder: Recorder | None = None
        self.status: RunStatus = "queued"
        self.error: RunError | None = None
        self.task: asyncio.Task[None] | None = None
        self.waits: asyncio.Future[None] | None = None  # what it waits for before it begins
        self._timers: list[asyncio.TimerHandle] = []
        self.readers = 0
        self.agent_ended = False
        self.closing = False
        self.released = False
        self.unadmitted = False  # it never got what it waited for, and so has nothing to give back
        self.stuck = False
        self.created = time.time()
        self.started = time.perf_counter()
        self.outcome_known: RunResult | None = None  # how it ended, once it has
        self._waiting: set[asyncio.Future[None]] = set()

    def take_over(self, stored: StoredRun) -> None:
        """Be a run that the store has already: its id, its epoch, its log, which goes on where it ends."""
        self.id, self.epoch, self.created = stored.run_id, stored.epoch, stored.created
        self.log = RunLog(durable=True, last=stored.last_seq)

    @property
    def detached(self) -> bool:
        """Whether it goes on without readers."""
        return self.request.detached or self.request.idempotency_key is not None

    @property
    def recorded(self) -> bool:
        """Whether the store is given all of its log; of other runs it has the questions, where they pause with some."""
        return self.request.thread_id is not None or self.detached

    def read(self, after: int = 0) -> Reader:
        """Start reading the log after entry `after`; close the reader when done."""
        self.attend()
        return Reader(self.log, self.id, after, self._read_events, self.leave)

    def attend(self) -> None:
        """One more waits for this run; `leave` when done."""
        self.readers += 1

    def leave(self) -> None:
        """One fewer waits; the last one that leaves an attached run cancels it."""
        self.readers -= 1
        if not self.readers and not self.detached:
            self.cancel(Cancelled("its last reader left"))

    def cancel(self, error: RunError, *, terminal_after: float = TERMINAL_AFTER) -> None:
        """End this run with `error`: its task is cancelled now, again after 2 s, then abandoned. Idempotent.

        A run that waits to begin is refused with `error`.
        """
        if self.error is not None or self.agent_ended or self.closing:
            return
        self.error = error
        if self.task is None:  # it has not begun: `start` looks at `error` after every wait
            if self.waits is not None and not self.waits.done():
                self.waits.set_exception(error)
            return
        loop = asyncio.get_running_loop()
        self.task.cancel()
        self._timers.append(loop.call_later(terminal_after, self._end_without_agent, self))
        self._timers.append(loop.call_later(CANCEL_AGAIN, self._cancel_again))

    def cancel_timers(self) -> None:
        """The agent has ended: nothing is to be cancelled any more."""
        for timer in self._timers:
            timer.cancel()

    def _cancel_again(self) -> None:
        if self.task is not None and not self.agent_ended:
            self.task.cancel()
            log.warning(
                "agent '%s' goes on after its run was cancelled twice; it keeps its slot until it ends",
                self.entry.name,
                extra={"agent": self.entry.name, "run_id": self.id},
            )

    def finish(self, result: RunResult) -> None:
        """Say how it ended, to everybody who waits."""
        self.outcome_known = result
        for waiter in tuple(self._waiting):
            if not waiter.done():
                waiter.set_result(None)

    async def ended(self) -> RunResult:
        """Wait for the end and return the result, whatever it is; any number may wait, and stop waiting."""
        while self.outcome_known is None:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.add(waiter)
            try:
                await waiter
            finally:
                self._waiting.discard(waiter)
        return self.outcome_known

    async def result(self) -> RunResult:
        """Wait for the end; raises the run's `RunError` unless it completed or paused."""
        result = await self.ended()
        if self.error is not None:
            raise self.error.again()
        return result
