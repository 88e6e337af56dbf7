"""One run: what was asked, its log, who reads it, how it is cancelled, how it ended."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable

from agenthost.agents import AgentEntry, AgentRef, RunRequest, RunResult, RunStatus
from agenthost.auth import Principal
from agenthost.errors import Cancelled, RunError
from agenthost.outcome import Outcome
from agenthost.recording import Recorder
from agenthost.run_log import Reader, ReadEvents, RunLog
from agenthost.threads import ThreadKey

TERMINAL_AFTER = 0.5
"""Seconds after the first cancel when the terminal event is written, agent ended or not."""

CANCEL_AGAIN = 2.0
"""Seconds after the first cancel when the task is cancelled once more, and then abandoned."""

log = logging.getLogger("agenthost.runs")


def new_run_id() -> str:
    """32 hex digits: 12 of milliseconds, so that ids sort by start and the store appends, then 80 random bits."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


class Run:
    """One run: what was asked, its log, how it goes and how it ended."""

    __slots__ = (
        "_end_without_agent",
        "_read_events",
        "agent_ended",
        "children",
        "closing",
        "created",
        "done",
        "entry",
        "error",
        "fold_only",
        "id",
        "log",
        "outcome",
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
        "timers",
    )

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
        self.entry = entry
        self.ref: AgentRef | None = entry.ref
        self.principal = principal
        self.request = request
        self.parent = parent
        self.children: set[Run] = set()
        self.thread: ThreadKey | None = None
        if request.thread_id is not None:
            self.thread = ThreadKey(principal.id, entry.name, request.thread_id)
        self.log = RunLog(durable=self.thread is not None or request.detached or request.idempotency_key is not None)
        self.fold_only = False
        self.outcome = Outcome(keep_messages=self.thread is not None)
        self.recorder: Recorder | None = None
        self.status: RunStatus = "queued"
        self.error: RunError | None = None
        self.task: asyncio.Task[None] | None = None
        self.timers: list[asyncio.TimerHandle] = []
        self.readers = 0
        self.agent_ended = False
        self.closing = False
        self.released = False
        self.stuck = False
        self.created = time.time()
        self.started = time.perf_counter()
        self.done: asyncio.Future[RunResult] = asyncio.get_running_loop().create_future()

    def read(self, after: int = 0) -> Reader:
        """Start reading the log after entry `after`; close the reader when done."""
        self.readers += 1
        if self.recorder is not None:
            self.recorder.hurry()
        return Reader(self.log, self.id, after, self._read_events, self._reader_left)

    def _reader_left(self) -> None:
        self.readers -= 1
        if not self.readers and not self.request.detached and self.request.idempotency_key is None:
            self.cancel(Cancelled("its last reader left"))

    def cancel(self, error: RunError) -> None:
        """End this run with `error`: its task is cancelled now, again after 2 s, then abandoned. Idempotent."""
        if self.error is not None or self.agent_ended or self.closing:
            return
        self.error = error
        if self.task is None:
            return  # it has not begun: `start` looks at `error` after every wait
        loop = asyncio.get_running_loop()
        self.task.cancel()
        self.timers.append(loop.call_later(TERMINAL_AFTER, self._end_without_agent, self))
        self.timers.append(loop.call_later(CANCEL_AGAIN, self._cancel_again))

    def _cancel_again(self) -> None:
        if self.task is not None and not self.agent_ended:
            self.task.cancel()
            log.warning(
                "agent '%s' goes on after its run was cancelled twice; it keeps its slot until it ends",
                self.entry.name,
                extra={"agent": self.entry.name, "run_id": self.id},
            )

    async def result(self) -> RunResult:
        """Wait for the end; raises the run's `RunError` unless it completed or paused."""
        result = await asyncio.shield(self.done)
        if self.error is not None:
            raise self.error
        return result
