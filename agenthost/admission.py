"""Who may start a run now: the principal's limit, the thread's turn, the agent's slots and its queue."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable

from agenthost.agents import AgentEntry, BusyPolicy
from agenthost.auth import Principal
from agenthost.errors import AgentOverloaded, Cancelled, RunError, ThreadBusy, TooManyRuns
from agenthost.threads import ThreadKey

RETRY_AFTER = 1.0
"""Seconds a refused caller is told to wait."""

Cancel = Callable[[RunError], None]


class _Turn:
    """Who has a thread's turn (how to cancel it), and who waits for it."""

    __slots__ = ("cancel", "waiting")

    def __init__(self, cancel: Cancel) -> None:
        self.cancel = cancel
        self.waiting: deque[tuple[asyncio.Future[None], Cancel]] = deque()


class Admission:
    """Counts what is going on; everything taken here is given back by the matching `leave_…`."""

    def __init__(self) -> None:
        self._principals: dict[str, int] = defaultdict(int)
        self._turns: dict[ThreadKey, _Turn] = {}
        self._waiting: dict[AgentEntry, deque[asyncio.Future[None]]] = {}

    def enter_principal(self, principal: Principal) -> None:
        """Count one more run of this principal; raises `TooManyRuns` at its limit."""
        going = self._principals[principal.id]
        if principal.concurrency is not None and going >= principal.concurrency:
            raise TooManyRuns(
                f"'{principal.id}' has {going} runs going, as many as its key allows",
                hint="wait for one to end, or raise concurrency under [[auth.keys]]",
                retry_after=RETRY_AFTER,
            )
        self._principals[principal.id] = going + 1

    def leave_principal(self, principal: Principal) -> None:
        """One run fewer."""
        going = self._principals[principal.id] - 1
        if going:
            self._principals[principal.id] = going
        else:
            del self._principals[principal.id]

    async def take_turn(
        self, key: ThreadKey, policy: BusyPolicy, cancel: Cancel, *, room: int, wait: bool = True
    ) -> None:
        """Take a thread's turn: at once, or by `policy` where a run is going on it.

        `reject` raises `ThreadBusy`; `queue` waits behind at most `room` others; `cancel-running` cancels the run that
        is going, sends away those that wait, and waits for the turn. `cancel` is how this run is cancelled in its turn.
        """
        turn = self._turns.get(key)
        if turn is None:
            self._turns[key] = _Turn(cancel)
            return
        if policy == "reject" or not wait:
            raise ThreadBusy("a run is going on this thread", hint="wait for it to end, or use another thread_id")
        if policy == "queue" and len(turn.waiting) >= room:
            raise ThreadBusy("as many runs as allowed wait for this thread", retry_after=RETRY_AFTER)
        if policy == "cancel-running":
            self._supersede(turn)
        await self._wait_for(turn, cancel, key)

    def _supersede(self, turn: _Turn) -> None:
        newer = Cancelled("a newer run on this thread takes its place")
        turn.cancel(newer)
        waiting, turn.waiting = turn.waiting, deque()
        for future, _cancel in waiting:
            if not future.done():
                future.set_exception(ThreadBusy("a newer run on this thread takes its place"))

    async def _wait_for(self, turn: _Turn, cancel: Cancel, key: ThreadKey) -> None:
        future = asyncio.get_running_loop().create_future()
        turn.waiting.append((future, cancel))
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.leave_turn(key)  # the turn came in the same moment as the cancel
            raise

    def leave_turn(self, key: ThreadKey) -> None:
        """Hand the turn to who waits longest."""
        turn = self._turns[key]
        while turn.waiting:
            future, cancel = turn.waiting.popleft()
            if not future.done():
                turn.cancel = cancel
                future.set_result(None)
                return
        del self._turns[key]

    def is_busy(self, key: ThreadKey) -> bool:
        """Whether a run has, or waits for, this thread's turn."""
        return key in self._turns

    async def take_slot(self, entry: AgentEntry, *, wait: bool = True) -> None:
        """Take one of the agent's slots, or wait in its queue; raises `AgentOverloaded` when that is full too."""
        if entry.running < entry.spec.concurrency and not entry.queued:
            entry.running += 1
            return
        if not wait or entry.queued >= entry.spec.queue:
            raise AgentOverloaded(
                f"agent '{entry.name}' has {entry.running} runs going and {entry.queued} waiting",
                hint=f"try again, or raise concurrency or queue under [agents.{entry.name}]",
                retry_after=RETRY_AFTER,
            )
        await self._queue(entry)

    async def _queue(self, entry: AgentEntry) -> None:
        queue = self._waiting.setdefault(entry, deque())
        future = asyncio.get_running_loop().create_future()
        queue.append(future)
        entry.queued += 1
        try:
            async with asyncio.timeout(entry.spec.timeout):
                await future
        except BaseException as left:
            if future.done() and not future.cancelled():
                self.leave_slot(entry)  # the slot came in the same moment
            elif future in queue:
                queue.remove(future)
                entry.queued -= 1
            if isinstance(left, TimeoutError):
                raise AgentOverloaded(
                    f"no slot of agent '{entry.name}' came free within its timeout", retry_after=RETRY_AFTER
                ) from None
            raise

    def leave_slot(self, entry: AgentEntry) -> None:
        """Hand the slot to who waits longest, or free it."""
        queue = self._waiting.get(entry)
        while queue:
            future = queue.popleft()
            entry.queued -= 1
            if not future.done():
                future.set_result(None)  # the slot goes over as it is: still counted in entry.running
                return
        self._waiting.pop(entry, None)
        entry.running -= 1
