"""What is measured of worker processes without HTTP: how soon a cancel reaches an agent, and how far it runs ahead."""

import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import uvloop

from agenthost.agents import AgentRef, AgentSource, AgentSpec, RunContext
from agenthost.auth import Principal
from agenthost.events import Entry
from agenthost.placement.process import ProcessPlacement

from .figures import Values
from .processes import cpu_seconds

T = TypeVar("T")

EVENTS = 50_000

AGENTS = """
import asyncio
import time

async def held(ctx):
    yield "begun"
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        yield str(time.monotonic())
        raise

async def endless(ctx):
    while True:
        yield "more"
"""


def children(pid: int) -> tuple[int, ...]:
    """The processes that a process has started, whichever thread did."""
    found = (path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children"))
    return tuple(sorted(int(child) for one in found for child in one))


def events_per_second(cores: set[int]) -> tuple[Values, str]:
    """Events that reach the host from one agent, by the clock, and what of it is whose CPU; cores for both."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        taken = _played("endless", _taken)
        wall, host, worker = (sorted(of)[len(of) // 2] / EVENTS * 1e6 for of in zip(*taken, strict=True))
        note = f"of {wall:.1f} µs each, {host:.1f} are the host's CPU and {worker:.1f} the worker's"
        return [EVENTS / seconds for seconds, *_cpu in taken], note
    finally:
        os.sched_setaffinity(0, own)


async def _taken(ref: AgentRef) -> list[tuple[float, float, float]]:
    taken = []
    [worker] = ref.pids  # type: ignore[attr-defined]  # a ProcessRef
    for _ in range(5):
        left = EVENTS

        def emit(_entry: Entry) -> None:
            nonlocal left
            left -= 1
            if not left:
                raise EOFError

        before = (time.perf_counter(), time.process_time(), cpu_seconds(worker))
        with suppress(EOFError):
            await ref.run(_context(), emit)
        after = (time.perf_counter(), time.process_time(), cpu_seconds(worker))
        wall, own, others = (now - then for now, then in zip(after, before, strict=True))
        taken.append((wall, own, others))
    return taken


def cancel_ms(times: int) -> Values:
    """Milliseconds from the cancel of a run to the agent that hears it: the slowest of a hundred."""
    taken = sorted(_played("held", lambda ref: _cancels(ref, times)))
    return [taken[len(taken) * 99 // 100] * 1000]


async def _cancels(ref: AgentRef, times: int) -> list[float]:
    taken = []
    for _ in range(times):
        said: list[Entry] = []
        begun = asyncio.Event()

        def emit(entry: Entry, said: list[Entry] = said, begun: asyncio.Event = begun) -> None:
            said.append(entry)
            begun.set()

        run = asyncio.ensure_future(ref.run(_context(), emit))
        await begun.wait()
        await asyncio.sleep(0.001)  # in which the agent comes to its wait
        cancelled = time.monotonic()
        run.cancel()
        await asyncio.wait((run,))
        taken.append(float(said[1].data.split(b'"')[-2]) - cancelled)
    return taken


def unread() -> Values:
    """Events that an agent has said when nobody has taken but the first."""
    return [float(_played("endless", _ahead))]


async def _ahead(ref: AgentRef) -> int:
    wait = asyncio.Event()
    said: list[Entry] = []

    def emit(entry: Entry) -> Awaitable[object]:
        said.append(entry)
        return wait.wait()

    run = asyncio.ensure_future(ref.run(_context(), emit))
    await asyncio.sleep(0.3)
    run.cancel()
    wait.set()
    await asyncio.wait((run,))
    return len(said)


def _context() -> RunContext:
    return RunContext(prompt="", run_id="r", agent="agent", principal=Principal("bench"))


def _played(attribute: str, play: Callable[[AgentRef], Awaitable[T]]) -> T:
    async def main() -> T:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "ag.py").write_text(AGENTS)
            source = AgentSource(f"ag.py:{attribute}", lambda: None)
            ref = await ProcessPlacement(Path(folder)).open(AgentSpec(name="agent", source=source))
            try:
                return await play(ref)
            finally:
                await ref.close(1.0)

    return uvloop.run(main())
