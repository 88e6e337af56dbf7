"""Who may start a run now: the principal's limit, the thread's turn, the agent's slots and its queue."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from itertools import chain

from agenthost.agents import AgentEntry, BusyPolicy
from agenthost.auth import Principal
from agenthost.errors import AgentOverloaded, Cancelled, HostStopping, ThreadBusy, TooManyRuns
from agenthost.run import Run
from agenthost.threads import ThreadKey

RETRY_AFTER = 1.0
"""Seconds a refused caller is told to wait."""


class _Turn:
    """Which run has a thread's turn, and which wait for it."""

    __slots__ = ("holder", "waiting")

    def __init__(self, holder: Run) -> None:
        self.holder = holder
        self.waiting: deque[Run] = deque()


class Admission:
    """Counts what is going on; everything taken here is given back by the matching `leave_…`.

    A run that waits here is sent away by `run.cancel(error)`: its `take_…` then raises that error.
    """

    def __init__(self) -> None:
        self._principals: dict[str, int] = defaultdict(int)
        self._turns: dict[ThreadKey, _Turn] = {}
        self._waiting: dict[AgentEntry, deque[Run]] = {}

    def enter_principal(self, principal: Principal, *, promised: bool = False) -> None:
        """Count one more run of this principal; raises `TooManyRuns` at its limit, unless the run was `promised`."""
        going = self._principals[principal.id]
        if principal.concurrency is not None and going >= principal.concurrency and not promised:
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

    async def take_turn(self, run: Run, *, wait: bool = True, promised: bool = False) -> None:
        """Take the turn of the run's thread: at once, or by the agent's `on_busy_thread` where it is taken.

        `reject` raises `ThreadBusy`; `queue` waits behind at most as many others as the agent's queue holds;
        `cancel-running` cancels the run that is going and those that wait, and waits for the turn. A run that was
        `promised` waits behind any number, whatever the policy.
        """
        key, spec = run.thread, run.entry.spec
        assert key is not None
        turn = self._turns.get(key)
        if turn is None:
            self._turns[key] = _Turn(run)
            return
        policy: BusyPolicy = "queue" if promised else spec.on_busy_thread
        if policy == "reject" or not wait:
            raise ThreadBusy("a run is going on this thread", hint="wait for it to end, or use another thread_id")
        if policy == "queue" and len(turn.waiting) >= spec.queue and not promised:
            raise ThreadBusy("as many runs as allowed wait for this thread", retry_after=RETRY_AFTER)
        if policy == "cancel-running":
            for other in (turn.holder, *turn.waiting):
                other.cancel(Cancelled("a newer run on this thread took its place"))
        await self._wait_for_turn(turn, run, key)

    async def _wait_for_turn(self, turn: _Turn, run: Run, key: ThreadKey) -> None:
        run.waits = asyncio.get_running_loop().create_future()
        turn.waiting.append(run)
        try:
            async with asyncio.timeout(_patience(run)):
                await run.waits
        except BaseException as left:
            if run in turn.waiting:
                turn.waiting.remove(run)
            elif _granted(run.waits):
                self.leave_turn(key)  # the turn came in the same moment as the cancel
            if isinstance(left, TimeoutError):
                raise ThreadBusy("the run on this thread did not end in time", retry_after=RETRY_AFTER) from None
            raise

    def leave_turn(self, key: ThreadKey) -> None:
        """Hand the turn to who waits longest."""
        turn = self._turns[key]
        while turn.waiting:
            run = turn.waiting.popleft()
            if _grant(run):
                turn.holder = run
                return
        del self._turns[key]

    def is_busy(self, key: ThreadKey) -> bool:
        """Whether a run has, or waits for, this thread's turn."""
        return key in self._turns

    async def take_slot(self, run: Run, *, wait: bool = True, promised: bool = False) -> None:
        """Take one of the agent's slots, or wait in its queue; raises `AgentOverloaded` when that is full too.

        The queue has room for every run that was `promised`.
        """
        entry = run.entry
        if entry.running < entry.slots and not entry.queued:
            entry.running += 1
            return
        if not wait or (entry.queued >= entry.spec.queue and not promised):
            raise AgentOverloaded(
                f"agent '{entry.name}' has {entry.running} runs going and {entry.queued} waiting",
                hint=f"try again, or raise concurrency or queue under [agents.{entry.name}]",
                retry_after=RETRY_AFTER,
            )
        await self._queue(run, entry)

    async def _queue(self, run: Run, entry: AgentEntry) -> None:
        queue = self._waiting.setdefault(entry, deque())
        run.waits = asyncio.get_running_loop().create_future()
        queue.append(run)
        entry.queued += 1
        try:
            async with asyncio.timeout(_patience(run)):
                await run.waits
        except BaseException as left:
            if run in queue:
                queue.remove(run)
                entry.queued -= 1
            elif _granted(run.waits):
                self.leave_slot(entry)  # the slot came in the same moment
            if isinstance(left, TimeoutError):
                raise AgentOverloaded(
                    f"no slot of agent '{entry.name}' came free within its timeout", retry_after=RETRY_AFTER
                ) from None
            raise

    def leave_slot(self, entry: AgentEntry) -> None:
        """Hand the slot to who waits longest, or free it."""
        queue = self._waiting.get(entry)
        while queue:
            run = queue.popleft()
            entry.queued -= 1
            if _grant(run):
                return  # the slot goes over as it is: still counted in entry.running
        self._waiting.pop(entry, None)
        entry.running -= 1

    def send_away(self) -> None:
        """Refuse everybody who waits: the host stops."""
        queues = (turn.waiting for turn in self._turns.values())
        for run in tuple(chain(*queues, *self._waiting.values())):
            run.cancel(HostStopping("the host stopped before this run began", retry_after=RETRY_AFTER))


def _patience(run: Run) -> float | None:
    """Seconds a run waits at most; a detached one was promised to its caller, who waits for nothing."""
    return None if run.request.detached else run.entry.spec.timeout


def _grant(run: Run) -> bool:
    """Let a run go on that waits; False if it has given up, or was sent away."""
    if run.waits is None or run.waits.done():
        return False
    run.waits.set_result(None)
    return True


def _granted(waits: asyncio.Future[None]) -> bool:
    return waits.done() and not waits.cancelled() and waits.exception() is None
