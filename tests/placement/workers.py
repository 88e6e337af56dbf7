"""Agents in real workers: what the tests of the process placement share."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from agenthost.agents import AgentSource, AgentSpec, RunContext
from agenthost.auth import Principal
from agenthost.events import Entry
from agenthost.placement.process import ProcessPlacement, ProcessRef
from tests.agents_for_tests import within

AGENTS = '''
import asyncio
import os
import sys
import time
from agenthost import Health, Interrupt, Result

async def echo(ctx):
    yield ctx.prompt

async def count(ctx):
    for number in range(int(ctx.prompt)):
        yield str(number)

async def pid(ctx):
    yield str(os.getpid())
    if ctx.prompt:
        await asyncio.sleep(float(ctx.prompt))

async def exits(ctx):
    yield "begun"
    os._exit(int(ctx.prompt))

async def held(ctx):
    yield "begun"
    await asyncio.Event().wait()

async def mixed(ctx):
    """Deaf, or a plain wait, by its prompt."""
    yield "begun"
    kind, _, seconds = ctx.prompt.partition(" ")
    until = time.monotonic() + float(seconds)
    while (left := until - time.monotonic()) > 0:
        try:
            await asyncio.sleep(left)
        except asyncio.CancelledError:
            if kind != "deaf":
                raise
    yield "ended"

async def fails(ctx):
    raise ValueError("why")

async def verbose(ctx):
    raise ValueError("x" * (20 << 20))

async def leaves(ctx):
    """Ends its process's loop, and with that the run that is beside it; or waits, by its prompt."""
    yield "begun"
    if ctx.prompt:
        asyncio.get_running_loop().call_soon(sys.exit, 3)
    await asyncio.Event().wait()

async def shuts(ctx):
    """Closes what its process has open, its socket too, and lives on; or says who it is, by its prompt."""
    yield str(os.getpid())
    if ctx.prompt:
        os.closerange(3, 64)
        time.sleep(600)

async def calls(ctx):
    await ctx.call("other", "x" * (10 << 20))

async def blocks(ctx):
    yield "begun"
    time.sleep(600)

class Ill:
    async def run(self, ctx):
        return ""
    async def health(self):
        raise ValueError("no connection")

class Odd:
    async def run(self, ctx):
        return ""
    async def health(self):
        return True

def sometimes():
    """A worker that does not come again once the file `broken` is there."""
    if os.path.exists(os.path.join(os.path.dirname(__file__), "broken")):
        raise RuntimeError("broken now")
    return pid
'''


class Log:
    """Takes entries as a run does; `stop_after` raises from there on."""

    def __init__(self, *, stop_after: int | None = None) -> None:
        self.entries: list[Entry] = []
        self.room = asyncio.Event()
        self.room.set()
        self._stop_after = stop_after

    def emit(self, entry: Entry) -> Awaitable[Any] | None:
        if self._stop_after is not None and len(self.entries) >= self._stop_after:
            raise StoppedError
        self.entries.append(entry)
        return None if self.room.is_set() else self.room.wait()

    @property
    def texts(self) -> list[str]:
        return [entry.data.decode().partition('"content":"')[2][:-2] for entry in self.entries]


class StoppedError(Exception):
    """What `emit` raises."""


def asked(prompt: str = "", **fields: Any) -> RunContext:
    """A run."""
    return RunContext(prompt=prompt, run_id="r", agent="agent", principal=Principal("ann"), **fields)


def spec_of(attribute: str, **fields: Any) -> AgentSpec:
    """An agent of `AGENTS`."""
    source = AgentSource(use=f"ag.py:{attribute}", load=lambda: None)
    return AgentSpec(name="agent", source=source, placement="process", **fields)


@asynccontextmanager
async def opened(folder: Path, attribute: str, **fields: Any) -> AsyncIterator[ProcessRef]:
    """An agent of `AGENTS` in its workers, of which nothing is left at the end of `with`."""
    (folder / "ag.py").write_text(AGENTS)
    ref: Any = await within(ProcessPlacement(folder).open(spec_of(attribute, **fields)), 60)
    try:
        yield ref
    finally:
        pids = ref.pids
        await within(ref.close(5.0))
        assert not [pid for pid in pids if alive(pid)]


def alive(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def said(ref: ProcessRef, prompt: str = "") -> list[str]:
    """What the agent says to a prompt."""
    log = Log()
    await within(ref.run(asked(prompt), log.emit))
    return log.texts
