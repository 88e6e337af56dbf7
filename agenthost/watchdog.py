"""A thread that sees when the event loop does not turn, and says which agent keeps it, and where in its code.

A process that gets no processor, or was stopped, blames nobody: the thread then is late itself, and so are all others.
Where it is late because one thread did not let go of the interpreter, that thread has had the processor meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import FrameType

from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from agenthost.blame import encodable, running_frames
from agenthost.contained_tasks import owner_of, threads_at_work
from agenthost.entries import AgentEntry
from agenthost.errors import HostError
from agenthost.lifespans import LifespanTask
from agenthost.run import Run

LOOK = 0.2
"""Seconds between two looks."""

BLOCKED = 0.5
"""Seconds without a turn from which on the loop is blocked: every other agent, and every client, waits so long."""

BLOCKED_BY_NOBODY = 1.0
"""The same where it is no agent's doing: a start builds models and routes, a full collection looks at everything."""

WELL_AGAIN = 60.0
"""Seconds after which an agent that has not blocked the loop again is as good as any."""

AILMENT = "blocks the loop"
HOST = ""
"""The agent's name in metrics where it was none's doing."""

HINT = "await what waits; put what computes, or cannot be awaited, into a plain function (it gets a thread)"
HINT_THREAD = "a thread that does not let go of the interpreter stops all: compute in pieces, or in another process"

log = logging.getLogger("agenthost.watchdog")

FindRun = Callable[[asyncio.Task[object]], Run | None]
"""The run whose own task this is."""


@dataclass(frozen=True, slots=True)
class _Blockage:
    """Who keeps the loop since when, and where."""

    who: str
    entry: AgentEntry | None
    run_id: str | None
    since: float
    hint: str
    stack: str

    def problem(self, text: str) -> HostError:
        problem = HostError(f"{self.who} {text}", hint=self.hint)
        problem.traceback = self.stack
        return problem

    @property
    def extra(self) -> dict[str, str | None]:
        return {"agent": self.entry.name if self.entry else None, "run_id": self.run_id}


class Watchdog(Collector):
    """Watches one loop, which must be the running one, until `stop`, or until that loop is closed.

    `run_of` finds the run whose own task one is, `entries` are the agents served; both are asked from the thread. It
    costs a timer of the loop every 0.2 s, and nothing on the way of a request.
    """

    def __init__(self, run_of: FindRun, entries: Mapping[str, AgentEntry]) -> None:
        self._run_of = run_of
        self._entries = entries
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._native_id = threading.get_native_id()
        self._ended = threading.Event()
        self._turned = self._turned_before = self._excused = self._told = 0.0
        self._processor: dict[int, float] = {}
        self._seconds: dict[str, float] = defaultdict(float)
        self._times: dict[str, int] = defaultdict(int)
        self._ailing: dict[AgentEntry, asyncio.TimerHandle] = {}
        self._turn()
        threading.Thread(target=self._watch, name="agenthost-watchdog", daemon=True).start()

    def stop(self) -> None:
        """End the thread at its next look, and forget who was blamed; on the loop."""
        self._ended.set()
        for timer in (self._timer, *self._ailing.values()):
            timer.cancel()

    def _turn(self) -> None:
        """The loop turns: on it."""
        self._turned_before, self._turned = self._turned, time.monotonic()
        self._timer = self._loop.call_later(LOOK, self._turn)

    def _watch(self) -> None:
        looked = time.monotonic()
        while not self._ended.wait(LOOK) and not self._loop.is_closed():
            now = time.monotonic()
            late, looked = now - looked - LOOK, now
            try:
                self._look(now, late)
            except Exception:  # the next look may go well, and a watchdog that is gone is not missed until it is needed
                if not self._loop.is_closed():
                    self._told = self._turned  # not to fail at the same thing five times a second
                    log.exception("the watchdog could not look")

    def _look(self, now: float, late: float) -> None:
        turned, busy = self._turned, self._busy(late)
        if not self._loop.is_running() or (late > LOOK and busy is None):
            self._excused = now  # what has passed is no agent's doing
        if busy is None or busy == self._loop_thread:
            busy, since = self._loop_thread, turned + LOOK
        else:  # once that lets go, the loop may turn before this thread does
            since = max(self._turned_before + LOOK, now - late)
        since = max(since, self._excused)
        if now - since >= BLOCKED and turned != self._told:
            self._tell(turned, busy, since)

    def _busy(self, late: float) -> int | None:
        """The one thread that had the processor while this one, which is `late`, wanted it; if that is long."""
        at_work = threads_at_work()
        threads = {self._loop_thread: self._native_id} | {ident: job.native_id for ident, job in at_work.items()}
        before, self._processor = self._processor, {ident: _processor_time(threads[ident]) for ident in threads}
        if late <= LOOK:
            return None
        much = min(late / 2, BLOCKED)  # not half of a long time: a busy machine gives a thread less than that
        begun = {ident: job.processor for ident, job in at_work.items()}
        busy = [
            ident
            for ident, had in self._processor.items()
            if had - max(before.get(ident, 0.0), begun.get(ident, 0.0)) > much
        ]
        return busy[0] if len(busy) == 1 else None

    def _tell(self, turned: float, ident: int, since: float) -> None:
        """Find out whom this thread works for; say so, once, if it is long enough for who it is."""
        frame = sys._current_frames().get(ident)
        if ident == self._loop_thread:
            task, hint = asyncio.current_task(self._loop), HINT
            owner = None if task is None else self._run_of(task) or owner_of(task)
            over = turned != self._turned
        else:
            job, hint = threads_at_work().get(ident), HINT_THREAD
            owner = None if job is None else job.owner
            over = job is None
        if frame is None or over:
            return  # what stands there now is somebody else
        who, entry, run_id = self._named(owner, frame)
        if time.monotonic() - since >= (BLOCKED if entry else BLOCKED_BY_NOBODY):
            self._told = turned
            self._say(_Blockage(who, entry, run_id, since, hint, _stack(frame)))

    def _named(self, owner: object, frame: FrameType) -> tuple[str, AgentEntry | None, str | None]:
        """How a sentence names whoever owns the task, or else the code, and the agent and run it is."""
        entry, run_id = None, None
        match owner:
            case Run():
                entry, run_id = owner.entry, owner.id
            case AgentEntry():
                entry = owner
            case LifespanTask(name=name):
                entry = self._entries.get(name.removeprefix("agent "))
                if entry is None:
                    return name, None, None
            case _:
                entry = self._by_code(frame)
        if entry is None:
            return "the host, or a plugin,", None, None
        return f"agent '{entry.name}' ({entry.source.label})", entry, run_id

    def _by_code(self, frame: FrameType | None) -> AgentEntry | None:
        """The one agent whose module is on the stack: a callback of the loop does not tell whose it is."""
        of_module: dict[str, list[AgentEntry]] = defaultdict(list)
        for entry in tuple(self._entries.values()):
            of_module[entry.info.module].append(entry)
        while frame is not None:
            found = of_module.get(frame.f_globals.get("__name__") or "-", [])
            if len(found) == 1:
                return found[0]
            frame = frame.f_back
        return None

    def _say(self, blockage: _Blockage) -> None:
        """In the log at once, though the loop stands; everywhere else when it turns."""
        seconds = time.monotonic() - blockage.since
        problem = blockage.problem(f"blocks the event loop: nothing else has run for {seconds:.1f} s")
        log.warning("%s\n%s", problem.describe(), blockage.stack, extra=blockage.extra)
        self._loop.call_soon_threadsafe(self._over, blockage)

    def _over(self, blockage: _Blockage) -> None:
        """The loop turns again: on it."""
        entry, seconds = blockage.entry, time.monotonic() - blockage.since
        name = entry.name if entry else HOST
        self._times[name] += 1
        self._seconds[name] += seconds
        log.info("the event loop turns again after %.1f s", seconds, extra=blockage.extra)
        if entry is None or self._ended.is_set():
            return
        former = self._ailing.pop(entry, None)
        if former is not None:
            former.cancel()
        entry.ail(AILMENT, blockage.problem(f"blocked the event loop for {seconds:.1f} s"))
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
        for name, number in self._times.items():
            times.add_metric([name], number)
            seconds.add_metric([name], self._seconds[name])
        return (times, seconds)


def _stack(frame: FrameType) -> str:
    return encodable("".join(traceback.format_list(running_frames(frame))))


def _processor_time(native_id: int) -> float:
    """Seconds of processor that a thread has had, 0 if it has ended; those of the process where it cannot be asked."""
    if sys.platform != "linux":
        return time.process_time()
    try:
        return time.clock_gettime(~native_id << 3 | 6)  # what pthread_getcpuclockid makes of it; safe for ended threads
    except OSError:
        return 0.0
