"""`placement = "in-process"`: an agent runs as an asyncio task of the host; it can block it, but not end it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from agenthost.adapters import Adapted, adapt
from agenthost.agents import AgentInfo, AgentRef, AgentSpec, Health, RunContext
from agenthost.encoding import encode_event
from agenthost.errors import AgentError, LoadError
from agenthost.events import Entry
from agenthost.hookspecs import Adapter
from agenthost.importing import Importer
from agenthost.lifespans import LifespanTask
from agenthost.threads import Message, ThreadKey


class InProcess:
    """Imports agents into the host, one after another, and runs them on its loop."""

    def __init__(self, importer: Importer, adapters: Callable[[], Sequence[Adapter]]) -> None:
        self._importer = importer
        self._adapters = adapters

    async def open(self, spec: AgentSpec) -> AgentRef:
        """Import, adapt, validate settings and enter the lifespan; raises `LoadError`."""

        def load() -> Adapted:
            return adapt(spec.source.load(), spec, self._adapters())

        try:
            adapted = await asyncio.wrap_future(self._importer.submit(f"agent {spec.name}", load))
            return await opened(adapted, spec)
        except (LoadError, asyncio.CancelledError):
            raise
        except BaseException as raised:
            raise load_error(spec, raised) from raised


def load_error(spec: AgentSpec, raised: BaseException) -> LoadError:
    """Blame the agent's distribution for what its code raised while loading."""
    source = spec.source
    return LoadError(
        f"agent '{spec.name}' ({source.label}) failed to load: {type(raised).__name__}: {raised}",
        hint=f"correct it, or set enabled = false under [agents.{spec.name}]",
        distribution=source.distribution,
        version=source.version,
    )


async def opened(adapted: Adapted, spec: AgentSpec) -> AgentRef:
    """Enter an adapted agent's lifespan in a task of its own and return the reference to it."""
    lifespan = None
    if adapted.lifespan is not None:
        lifespan = LifespanTask(f"agent {spec.name}", adapted.lifespan)
        await lifespan.enter()
    return InProcessRef(adapted, lifespan)


class InProcessRef:
    """An agent in this process: its events are encoded here, in the run's own task."""

    def __init__(self, adapted: Adapted, lifespan: LifespanTask | None) -> None:
        self._adapted = adapted
        self._run = adapted.run
        self._settings = adapted.settings
        self._lifespan = lifespan
        self.info: AgentInfo = adapted.info

    async def run(self, ctx: RunContext) -> AsyncIterator[Sequence[Entry]]:
        """Iterate the agent; each batch is one entry. Whatever the agent raises, also `SystemExit`, is `AgentError`."""
        ctx.settings = self._settings
        seq = 0
        events: Any = None
        try:
            try:
                events = aiter(self._run(ctx))
                async for event in events:
                    seq += 1
                    yield (encode_event(seq, event),)
            finally:
                close = getattr(events, "aclose", None)
                if close is not None:
                    await close()
        except asyncio.CancelledError:
            raise
        except BaseException as raised:
            raise AgentError(f"{type(raised).__name__}: {raised}") from raised

    async def health(self) -> Health:
        """Ask the agent how it is."""
        return await self._adapted.ask_health()

    async def get_thread(self, key: ThreadKey) -> list[Message] | None:
        """Read a thread that the agent keeps itself."""
        return await self._adapted.read_thread(key)

    async def delete_thread(self, key: ThreadKey) -> bool:
        """Delete a thread that the agent keeps itself."""
        return await self._adapted.drop_thread(key)

    async def close(self, grace: float) -> None:
        """Leave the lifespan; raises what leaving it raised."""
        if self._lifespan is not None:
            failure = await self._lifespan.leave(grace)
            if failure is not None:
                raise failure
