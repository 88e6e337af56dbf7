"""Who may start a run now: the principal's limit, the thread's turn, the agent's slots and its queue.

Who waits for an agent waits in the order of coming among one principal's runs; the principals take turns, and no one of
them can fill the queue for the others.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterator
from itertools import chain

from agenthost.agents import BusyPolicy
from agenthost.auth import Principal
from agenthost.entries import AgentEntry, Traffic
from agenthost.errors import AgentOverloaded, Cancelled, HostStopping, RunError, ThreadBusy, TooManyRuns
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


class _Queue:
    """Who waits for the slots of an agent."""

    __slots__ = ("_of",)

    def __init__(self) -> None:
        self._of: dict[str, deque[Run]] = {}  # by principal; who is first is next

    def __bool__(self) -> bool:
        return bool(self._of)

    def __iter__(self) -> Iterator[Run]:
        return chain.from_iterable(self._of.values())

    def add(self, run: Run) -> None:
        self._of.setdefault(run.principal.id, deque()).append(run)

    def remove(self, run: Run) -> bool:
        """Take a run out; whether it was there."""
        own = self._of.get(run.principal.id)
        if own is None or run not in own:
            return False
        own.remove(run)
        if not own:
            del self._of[run.principal.id]
        return True

    def next(self) -> Run:
        """Take out the run of the principal whose turn it is that has waited longest."""
        principal, own = next(iter(self._of.items()))
        del self._of[principal]
        run = own.popleft()
        if own:
            self._of[principal] = own
        return run

    def has_share(self, principal: Principal, room: int) -> bool:
        """Whether this principal has its equal share of `room` places already."""
        own = len(self._of.get(principal.id, ()))
        others = len(self._of.keys() - {principal.id})
        return own >= max(1, room // (others + 1))


class Admission:
    """Counts what is going on; everything taken here is given back by the matching `leave_…`.

    A run that waits here is sent away by `run.cancel(error)`: its `take_…` then raises that error.
    """

    def __init__(self) -> None:
        self._principals: dict[str, int] = defaultdict(int)
        self._turns: dict[ThreadKey, _Turn] = {}
        self._waiting: dict[Traffic, _Queue] = {}

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

        A full queue still takes a principal that has less than its share of the places. It has room for every run that
        was `promised`. A detached run of an agent that was unloaded waits until that is loaded again.
        """
        entry = run.entry.newest
        traffic = entry.traffic
        asleep = run.request.detached and not (entry.keeps_promises or entry.gone)
        if traffic.running < entry.slots and not traffic.queued and not asleep:
            traffic.running += 1
            return
        if not wait or (self._is_full(entry, run.principal) and not promised):
            raise AgentOverloaded(
                f"agent '{entry.name}' has {traffic.running} runs going and {traffic.queued} waiting",
                hint=f"try again, or raise concurrency or queue under [agents.{entry.name}]",
                retry_after=RETRY_AFTER,
            )
        await self._queue(run, entry)

    def _is_full(self, entry: AgentEntry, principal: Principal) -> bool:
        if entry.queued < entry.spec.queue:
            return False
        queue = self._waiting.get(entry.traffic)
        return queue is None or queue.has_share(principal, entry.spec.queue)

    async def _queue(self, run: Run, entry: AgentEntry) -> None:
        traffic = entry.traffic
        queue = self._waiting.setdefault(traffic, _Queue())
        run.waits = asyncio.get_running_loop().create_future()
        queue.add(run)
        traffic.queued += 1
        try:
            async with asyncio.timeout(_patience(run)):
                await run.waits
        except BaseException as left:
            if queue.remove(run):
                traffic.queued -= 1
                self._forget_empty(traffic)
            elif _granted(run.waits):
                self.leave_slot(entry)  # the slot came in the same moment
            if isinstance(left, TimeoutError):
                raise AgentOverloaded(
                    f"no slot of agent '{entry.name}' came free within its timeout", retry_after=RETRY_AFTER
                ) from None
            raise

    def leave_slot(self, entry: AgentEntry) -> None:
        """Free a slot: the next that waits has it."""
        entry.traffic.running -= 1
        if entry.traffic.queued:
            self.fill(entry)

    def fill(self, entry: AgentEntry) -> None:
        """Give the slots that are free to those that wait: one came free, or there are more than there were."""
        entry = entry.newest
        traffic = entry.traffic
        queue = self._waiting.get(traffic)
        while queue and traffic.running < entry.slots and entry.keeps_promises:
            run = queue.next()
            traffic.queued -= 1
            if _grant(run):
                traffic.running += 1
        self._forget_empty(traffic)

    def _forget_empty(self, traffic: Traffic) -> None:
        if not self._waiting.get(traffic, True):
            del self._waiting[traffic]

    def send_away(self) -> None:
        """Refuse everybody who waits: the host stops."""
        queues = (turn.waiting for turn in self._turns.values())
        for run in tuple(chain(*queues, *self._waiting.values())):
            run.cancel(HostStopping("the host stopped before this run began", retry_after=RETRY_AFTER))

    def send_away_from(self, entry: AgentEntry, error: RunError) -> None:
        """Refuse with `error` who waits for a slot of this agent, but for runs that it may still begin as promised."""
        for run in tuple(self._waiting.get(entry.traffic, ())):
            if entry.gone or not run.request.detached:
                run.cancel(error.again())


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
