"""A thread that sees when the event loop does not turn, and says which agent keeps it, and where in its code."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable

from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from agenthost.agents import AgentEntry
from agenthost.blame import running_frames
from agenthost.contained_tasks import owner_of
from agenthost.errors import HostError
from agenthost.run import Run

LOOK = 0.2
"""Seconds between two looks."""

BLOCKED = 0.5
"""Seconds without a turn from which on the loop is blocked: every other agent, and every client, waits so long."""

WELL_AGAIN = 60.0
"""Seconds after which an agent that has not blocked the loop again is as good as any."""

AILMENT = "blocks the loop"
HOST = ""
"""The agent's name in metrics where it was none's doing."""

log = logging.getLogger("agenthost.watchdog")

FindRun = Callable[[asyncio.Task[object]], Run | None]
"""The run whose own task this is."""


class Watchdog(Collector):
    """Watches one loop, which must be the running one, until `stop`.

    A process that gets no processor itself, or was stopped, blames nobody: it knows by its own lateness.
    """

    def __init__(self, run_of: FindRun) -> None:
        self._run_of = run_of
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._ended = threading.Event()
        self._asked = self._answered = time.monotonic()
        self._waiting = False
        self._blamed: AgentEntry | None = None
        self._told = False
        self._seconds: dict[str, float] = defaultdict(float)
        self._times: dict[str, int] = defaultdict(int)
        self._ailing: dict[AgentEntry, asyncio.TimerHandle] = {}
        threading.Thread(target=self._watch, name="agenthost-watchdog", daemon=True).start()

    def stop(self) -> None:
        """End the thread at its next look, and forget who was blamed; on the loop."""
        self._ended.set()
        for timer in self._ailing.values():
            timer.cancel()

    def _watch(self) -> None:
        looked = time.monotonic()
        while not self._ended.wait(LOOK) and not self._loop.is_closed():
            now = time.monotonic()
            late, looked = now - looked - LOOK, now
            try:
                self._look(now, starved=late > LOOK)
            except Exception:  # the next look may go well, and a watchdog that is gone is not missed until it is needed
                if not self._loop.is_closed():
                    log.exception("the watchdog could not look")

    def _look(self, now: float, *, starved: bool) -> None:
        if not self._waiting or starved or not self._loop.is_running():
            self._ask(now)
        elif now - self._asked >= BLOCKED and not self._told:
            self._told = True
            self._tell(now)

    def _ask(self, now: float) -> None:
        if not self._waiting:
            self._waiting = True
            self._loop.call_soon_threadsafe(self._turned)
        self._asked = now

    def _turned(self) -> None:
        """The loop turns: on it."""
        self._waiting = False
        if self._told:
            entry, seconds = self._blamed, time.monotonic() - self._asked
            self._told, self._blamed = False, None
            name = entry.name if entry is not None else HOST
            self._seconds[name] += seconds
            log.warning("the event loop turns again after %.1f s", seconds, extra={"agent": name or None})

    def _tell(self, now: float) -> None:
        """Find out who keeps the loop, say so in the log at once, and to the loop for when it turns."""
        frame = sys._current_frames().get(self._thread_id)
        if frame is None:
            return
        stack = "".join(traceback.format_list(running_frames(frame)))
        run = self._responsible()
        entry = run.entry if run is not None else None
        who = f"agent '{entry.name}' ({entry.spec.source.label})" if entry is not None else "the host, or a plugin,"
        problem = HostError(
            f"{who} blocks the event loop: nothing else has run for {now - self._asked:.1f} s",
            hint="await what waits; put what computes, or cannot be awaited, into a plain function (it gets a thread)",
        )
        problem.traceback = stack
        self._blamed = entry
        self._times[entry.name if entry is not None else HOST] += 1
        extra = {"agent": entry.name, "run_id": run.id} if entry is not None and run is not None else {}
        log.warning("%s\n%s", problem.describe(), stack, extra=extra)
        if entry is not None:
            self._loop.call_soon_threadsafe(self._ail, entry, problem)

    def _responsible(self) -> Run | None:
        task = asyncio.current_task(self._loop)
        if task is None:
            return None
        owner = owner_of(task)
        return owner if isinstance(owner, Run) else self._run_of(task)

    def _ail(self, entry: AgentEntry, problem: HostError) -> None:
        timer = self._ailing.pop(entry, None)
        if timer is not None:
            timer.cancel()
        entry.ail(AILMENT, problem)
        self._ailing[entry] = self._loop.call_later(WELL_AGAIN, self._heal, entry)

    def _heal(self, entry: AgentEntry) -> None:
        self._ailing.pop(entry, None)
        entry.heal(AILMENT)

    def collect(self) -> Iterable[Metric]:
        """What prometheus scrapes."""
        times = CounterMetricFamily(
            "agenthost_loop_blockages", "How often an agent kept the event loop from turning.", labels=["agent"]
        )
        seconds = CounterMetricFamily(
            "agenthost_loop_blocked_seconds",
            "How long it did; agent is empty where it was none's doing.",
            labels=["agent"],
        )
        for name, number in tuple(self._times.items()):
            times.add_metric([name], number)
            seconds.add_metric([name], self._seconds.get(name, 0.0))
        return (times, seconds)
