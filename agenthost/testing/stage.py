"""A host on which agents of the placement contract are played, and what a test sees of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from agenthost.agents import RunRequest
from agenthost.auth import Principal
from agenthost.host import Host
from agenthost.resuming import Reply, ResumeRequest
from agenthost.run import Run

WITHIN = 30.0
"""Seconds after which what still waits has failed."""

CALLER = Principal("ann", groups=("staff",), agents=("*",))


class Stage:
    """A host that serves agents of the contract; `folder` is where they note what happens to them."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.host = host
        self.folder = folder

    async def start(self, agent: str, prompt: str = "hello", **request: Any) -> Run:
        """Start a run."""
        entry = self.host.agent_for(CALLER, agent)
        return await self.host.runs.start(entry, CALLER, RunRequest(prompt, **request))

    async def told(self, agent: str, prompt: str = "hello", **request: Any) -> list[dict[str, Any]]:
        """Run, and return all that a reader is sent."""
        return await self.read(await self.start(agent, prompt, **request))

    async def read(self, run: Any, reader: Any = None) -> list[dict[str, Any]]:
        """All that a reader of a run is sent, a new one if none is given."""
        found = []
        reader = reader or run.read()
        try:
            while not reader.at_end:
                entries = reader.take()
                if entries is None:
                    entries = await reader.take_stored()
                found += [orjson.loads(entry.data) for entry in entries]
                if not entries and not reader.at_end:
                    await reader.news()
        finally:
            reader.close()
        return found

    async def first(self, run: Run) -> Any:
        """A reader of the run, once there is something to read."""
        reader = run.read()
        while not reader.take():
            await reader.news()
        return reader

    async def resume(self, agent: str, *replies: Reply, thread_id: str = "t") -> Any:
        """Answer what a thread asks."""
        entry = self.host.agent_for(CALLER, agent)
        return await self.host.runs.resume(entry, CALLER, ResumeRequest(thread_id, list(replies)))

    def notes(self) -> dict[str, float]:
        """What agents have noted, and when last."""
        file = self.folder / "notes"
        lines = file.read_text().splitlines() if file.exists() else []
        return {word: float(when) for word, _, when in (line.rpartition(" ") for line in lines)}

    async def until(self, holds: Callable[[], Any]) -> None:
        """Wait until it holds."""
        while not holds():  # noqa: ASYNC110 - what is waited for happens in other processes
            await asyncio.sleep(0.005)

    async def quiet(self, seconds: float) -> None:
        """Wait until nothing has been noted for so long, after something has."""
        notes = self.folder / "notes"
        await self.until(lambda: notes.exists() and time.time() - notes.stat().st_mtime > seconds)
