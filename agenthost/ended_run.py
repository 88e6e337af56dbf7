"""A run that has ended, read from the store by the same readers as one that is going."""

from __future__ import annotations

import time

import orjson

from agenthost.agents import RunResult, RunStatus
from agenthost.errors import EventsExpired, by_code
from agenthost.run_log import Reader, ReadEvents, RunLog
from agenthost.store import StoredRun
from agenthost.threads import ThreadKey

ID_TIME = 12
"""Hex digits of a run's id that are the milliseconds since the epoch at which it was made."""


class EndedRun:
    """What the store keeps of a run, with the face of `Run`: `id`, `thread`, `read`, `result`; nobody holds it up."""

    __slots__ = ("_read_events", "id", "stored", "thread")

    def __init__(self, stored: StoredRun, read_events: ReadEvents) -> None:
        self._read_events = read_events
        self.stored = stored
        self.id = stored.run_id
        named = stored.thread_id
        self.thread = None if named is None else ThreadKey(stored.principal, stored.agent, named)

    @property
    def status(self) -> RunStatus:
        """How it ended."""
        return self.stored.status

    def read(self, after: int = 0) -> Reader:
        """Start reading the log after entry `after`; raises `EventsExpired` where what follows is no longer kept.

        A run that came to be recorded only when it paused has nothing before its questions; read from the beginning,
        its log begins there.
        """
        stored = self.stored
        if 0 < after < stored.first_seq - 1:
            raise EventsExpired(f"this run's events are kept from number {stored.first_seq} on")
        return Reader(RunLog.ended(stored.last_seq), self.id, after, self._read_events, lambda: None)

    def attend(self) -> None:
        """As `Run.attend`: there is nothing to keep going."""

    def leave(self) -> None:
        """As `Run.leave`."""

    async def result(self) -> RunResult:
        """How it ended; raises the `RunError` it ended with unless it completed or paused."""
        stored = self.stored
        if stored.status in {"failed", "cancelled"}:
            error = by_code(stored.code or "")()
            error.run_id = self.id
            error.correlation_id = await self._correlation_id()
            raise error
        kept = stored.result or {}
        return RunResult(
            run_id=self.id,
            status=stored.status,
            message=kept.get("message", ""),
            stop_reason=stored.stop_reason or "",
            thread_id=stored.thread_id,
            output=kept.get("output"),
            usage=kept.get("usage"),
            interrupt=kept.get("interrupt"),
            iterations=kept.get("iterations", 0),
            tool_calls=kept.get("tool_calls", 0),
            duration_ms=kept.get("duration_ms", 0.0),
        )

    async def _correlation_id(self) -> str | None:
        """What the terminal event says, so that an answer given again points at the same line of the log."""
        last = await self._read_events(self.id, self.stored.last_seq - 1, 1)
        if not last or last[0].type != "error":
            return None
        told: str | None = orjson.loads(last[0].data).get("correlation_id")
        return told


def is_past(run_id: str, retention: float) -> bool:
    """Whether a run of this id began longer ago than runs are kept (seconds; 0: for ever)."""
    if not retention or len(run_id) != 32:
        return False
    try:
        began = int(run_id[:ID_TIME], 16) / 1000
    except ValueError:
        return False
    return 0 < began < time.time() - retention
