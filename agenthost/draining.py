"""Versions of agents that are on their way out: what had begun on one ends by itself, then it is closed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from agenthost.entries import AgentEntry
from agenthost.errors import HostError

LOOK = 0.05
"""Seconds between looks at whether a version can be closed."""

GRACE = 5.0
"""Seconds it then has to leave its lifespan."""


class Draining:
    """Waits for the runs of versions that are no longer listed. Nothing is cut: a run has its own `timeout`."""

    def __init__(self, close: Callable[[AgentEntry, float], Awaitable[None]]) -> None:
        self._close = close
        self._going: dict[AgentEntry, asyncio.Task[None]] = {}
        self._at_once = False

    @property
    def entries(self) -> Iterable[AgentEntry]:
        """The versions that still have runs, oldest first."""
        return tuple(self._going)

    def add(self, entry: AgentEntry, why: str) -> None:
        """Close a version that is no longer listed, once it is quiet."""
        if entry.ref is None or entry in self._going:
            entry.become("unloaded", HostError(why))
            return
        entry.become("draining", HostError(why))
        going = asyncio.get_running_loop().create_task(self._see_off(entry), name=f"drain {entry.name}")
        self._going[entry] = going
        going.add_done_callback(lambda _done: self._going.pop(entry, None))

    async def _see_off(self, entry: AgentEntry) -> None:
        while not (is_quiet(entry) or self._at_once):  # noqa: ASYNC110 - so that no run pays for an event
            await asyncio.sleep(LOOK)
        await self._close(entry, GRACE)

    async def close(self) -> None:
        """Close what is left, now: every run has ended."""
        self._at_once = True
        await asyncio.gather(*self._going.values())


def is_quiet(entry: AgentEntry) -> bool:
    """Whether nothing goes on at this version, nor will: what does not end when it is cancelled is not waited for.

    Of one without a successor, what has been taken in and waits begins on it.
    """
    if entry.busy > entry.stuck:
        return False
    return entry.successor is not None or (entry.running <= entry.stuck and not entry.queued)
