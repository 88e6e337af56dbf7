"""`placement = "process"`: an agent runs in worker processes of its own; what it does to one harms nobody else.

It contains accidents, not malice: a worker runs as the same user, and sees what that sees.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date, time
from pathlib import Path
from typing import Any

from agenthost.agents import AgentRef, AgentSpec, Emit, Health, OwnThread, RunContext
from agenthost.encoding import encode_json
from agenthost.errors import AgentCrashed, AgentError, LoadError
from agenthost.events import NotJSON
from agenthost.own_code import own_code
from agenthost.placement.carrying import thread_of, told_context, told_spec
from agenthost.placement.crew import Crew
from agenthost.placement.in_process import blame_for
from agenthost.placement.spawning import environment
from agenthost.placement.worker_link import WorkerLink
from agenthost.threads import ThreadKey

BEGIN = 10.0
"""Seconds that a worker has besides what `load_timeout` grants its agent: to start, and to load plugins."""

LEVELS = ("", "agenthost")
"""Loggers whose levels a worker takes over."""

Interpreter = Callable[[AgentSpec], Awaitable[Path]]
"""The Python to run an agent's workers with; raises `LoadError`."""


async def own_interpreter(_spec: AgentSpec) -> Path:
    """The Python that runs the host."""
    return Path(sys.executable)


class ProcessPlacement:
    """Runs agents in processes; `base_dir` is where the files are that `use` names, `block` as in [plugins].

    Workers have few of the host's variables, or with `whole_environment` all of them.
    """

    def __init__(
        self,
        base_dir: Path,
        block: Sequence[str] = (),
        interpreter: Interpreter = own_interpreter,
        *,
        whole_environment: bool = False,
    ) -> None:
        self._whole_environment = whole_environment
        self._base_dir = base_dir
        self._block = tuple(block)
        self._interpreter = interpreter

    async def open(self, spec: AgentSpec) -> AgentRef:
        """Start the agent's workers, each of which finds and loads it; raises `LoadError`."""
        python = await self._interpreter(spec)
        opening = self._opening(spec, python)
        env = {**os.environ, **spec.env} if self._whole_environment else environment(spec.env, os.environ)
        blame = blame_for(spec)

        async def start(on_out: Callable[[WorkerLink], None]) -> WorkerLink:
            link = WorkerLink(spec.name, on_out)
            limit = 2 * spec.load_timeout + BEGIN
            try:
                async with asyncio.timeout(limit):
                    await link.start(python, env, opening)
                return link
            except LoadError as told:
                refused = told
            except AgentCrashed:
                said = f": {link.last_line}" if link.last_line else ""
                refused = blame.error(f"its worker {await link.gone} before it was ready{said}")
            except TimeoutError:
                refused = blame.error(f"its worker was not ready within {limit:g} s", "raise load_timeout")
            except (OSError, RuntimeError) as failed:  # a host without descriptors, memory or threads to spare
                why = getattr(failed, "strerror", None) or failed
                refused = blame.error(f"its worker cannot be started with {python}: {why}")
            code = own_code(spec.source.module, self._base_dir)
            refused.files = {**({code: link.begun} if code else {}), **link.files}
            raise refused

        crew = Crew(spec.name, blame.subject, spec.process.workers, start)
        await crew.assemble()
        return ProcessRef(spec, crew)

    def _opening(self, spec: AgentSpec, python: Path) -> bytes:
        told = told_spec(spec, self._base_dir, self._block)
        told["levels"] = {name: logging.getLogger(name).getEffectiveLevel() for name in LEVELS}
        # The host's own Python finds what the host finds, also what is on its path by other ways than its environment.
        told["path"] = [entry for entry in sys.path if entry] if python == Path(sys.executable) else []
        return json.dumps(told, default=_plain).encode()


def _plain(value: Any) -> str:
    """What TOML knows and JSON does not: dates and times, as text."""
    if isinstance(value, date | time):
        return value.isoformat()
    raise TypeError(f"a setting of type {type(value).__name__}")


class ProcessRef:
    """An agent in its workers."""

    def __init__(self, spec: AgentSpec, crew: Crew) -> None:
        self._name = spec.name
        self._crew = crew
        self.lost = crew.lost
        distribution, version = crew.found
        self.source = replace(spec.source, distribution=distribution, version=version)
        info = crew.info
        limit = info.max_runs
        self.info = info if limit is None else replace(info, max_runs=limit * spec.process.workers)

    @property
    def pids(self) -> list[int]:
        """The processes that take runs now."""
        return [link.pid for link in self._crew.workers]

    @property
    def files(self) -> Mapping[str, float]:
        """The author's own files that they have read so far, and when the last of them to begin did."""
        return {file: begun for link in self._crew.workers for file, begun in link.files.items()}

    async def run(self, ctx: RunContext, emit: Emit) -> None:
        """Run in the worker that has the least to do; see `AgentRef.run`."""
        try:
            told = encode_json(told_context(ctx))
        except NotJSON as problem:
            raise AgentError(f"the run cannot be sent to a worker: it holds {problem}") from None
        link = await self._crew.free()
        await link.run(told, ctx, emit)

    async def health(self) -> Health:
        """Ask all workers; not well where one is not, or is being started again."""
        missing = self._crew.missing
        if missing:
            return Health(ok=False, detail=f"workers that are being started again: {missing}")
        for ok, detail in await asyncio.gather(*(link.ask("health") for link in self._crew.workers)):
            if not ok:
                return Health(ok=False, detail=detail)
        return Health(detail=detail)

    async def get_thread(self, key: ThreadKey) -> OwnThread | None:
        """Ask a worker for a thread that the agent keeps itself; all workers have to see the same ones."""
        told = await self._ask("get_thread", key)
        return None if told is None else thread_of(told)

    async def delete_thread(self, key: ThreadKey) -> bool:
        """Have a worker delete a thread that the agent keeps itself."""
        return bool(await self._ask("delete_thread", key))

    async def _ask(self, op: str, key: ThreadKey) -> Any:
        link = await self._crew.free()
        return await link.ask(op, thread=[key.principal, key.agent, key.thread_id])

    async def close(self, grace: float) -> None:
        """End the workers; raises what leaving a lifespan raised."""
        await self._crew.close(grace)
