"""`placement = "in-process"`: an agent runs as an asyncio task of its process, the host's own or a worker's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from weakref import WeakSet

from agenthost.adapters import Adapted, adapt, returned
from agenthost.agents import AgentInfo, AgentRef, AgentSpec, Emit, Health, OwnThread, RunContext
from agenthost.blame import Blame
from agenthost.errors import AgentError, AgentUnavailable, LoadError
from agenthost.event_encoding import Encode
from agenthost.hookspecs import Adapter
from agenthost.importing import Importer
from agenthost.lifespans import LifespanTask
from agenthost.threads import ThreadKey


class InProcess:
    """Imports agents into this process, one after another, and runs them on its loop; `encode` writes what they say.

    An agent can block that loop, but not end it.
    """

    def __init__(self, importer: Importer, adapters: Callable[[], Sequence[Adapter]], encode: Encode) -> None:
        self._importer = importer
        self._adapters = adapters
        self._refs: WeakSet[InProcessRef] = WeakSet()
        self._encode = encode

    async def open(self, spec: AgentSpec) -> AgentRef:
        """Import, adapt, validate settings and enter the lifespan; raises `LoadError`.

        `load_timeout` holds for the import, from its own turn on, and then for the lifespan.
        """

        blame = blame_for(spec)
        limit = asyncio.timeout(spec.load_timeout)

        def load() -> Adapted:
            return adapt(spec.source.load(), spec, self._adapters())

        try:
            adapted = await asyncio.wrap_future(self._importer.submit(blame, load, timeout=spec.load_timeout))
            if any(ref.lives_in(adapted, spec.name) for ref in self._refs):
                raise blame.error(
                    "it is one object with a lifespan, which is entered already: no second version can be beside it",
                    "hand over its class or a factory, or restart the host",
                )
            async with limit:
                ref = await opened(adapted, spec, self._encode)
            self._refs.add(ref)
            return ref
        except (LoadError, asyncio.CancelledError):
            raise
        except BaseException as raised:
            if limit.expired():
                reason = f"its lifespan took longer than its load_timeout of {spec.load_timeout:g} s to enter"
                raise blame.error(reason, "correct it") from None
            raise blame.error(raised) from raised


def blame_for(spec: AgentSpec) -> Blame:
    """Whom to name when this agent does not load."""
    source = spec.source
    return Blame(
        f"agent '{spec.name}' ({source.label})",
        source.distribution,
        source.version,
        f"set enabled = false under [agents.{spec.name}]",
    )


async def opened(adapted: Adapted, spec: AgentSpec, encode: Encode) -> InProcessRef:
    """Enter an adapted agent's lifespan in a task of its own and return the reference to it."""
    lifespan = None
    if adapted.lifespan is not None:
        lifespan = LifespanTask(f"agent {spec.name}", adapted.lifespan)
        await lifespan.enter()
    return InProcessRef(adapted, lifespan, spec.name, encode)


def _agent_error(raised: BaseException) -> AgentError | AgentUnavailable:
    """What the agent raised, as its run's error: its own word where it is one (an adapter's), and of no other run."""
    if isinstance(raised, AgentError | AgentUnavailable) and raised.correlation_id is None:
        return raised.again()
    return AgentError(f"{type(raised).__name__}: {raised}")


async def _closed(events: Any) -> None:
    """Close the agent's iterator, if it can be closed; one that has ended already costs nothing."""
    close = getattr(events, "aclose", None)
    if close is None:
        return
    try:
        await close()
    except asyncio.CancelledError:
        raise
    except BaseException as raised:
        raise _agent_error(raised) from raised


class InProcessRef:
    """An agent in this process: its events are encoded here, in the run's own task."""

    def __init__(self, adapted: Adapted, lifespan: LifespanTask | None, name: str, encode: Encode) -> None:
        self._name = name
        self._adapted = adapted
        self._encode = encode
        self._run = adapted.run
        self._once = adapted.once
        self._settings = adapted.settings
        self._lifespan = lifespan
        self.info: AgentInfo = adapted.info

    async def run(self, ctx: RunContext, emit: Emit) -> None:
        """Iterate the agent and close it. Whatever the agent raises, also `SystemExit`, is `AgentError`."""
        ctx.settings = self._settings
        if self._once is not None:
            await self._run_once(self._once, ctx, emit)
            return
        seq, encode = 0, self._encode
        try:
            events: Any = aiter(self._run(ctx))
            following = events.__anext__
        except BaseException as raised:
            raise _agent_error(raised) from raised
        try:
            while True:
                try:
                    event = await following()
                except (StopAsyncIteration, asyncio.CancelledError):
                    raise
                except BaseException as raised:
                    raise _agent_error(raised) from raised
                seq += 1
                room = emit(encode(seq, event))
                if room is not None:
                    await room
        except StopAsyncIteration:
            return
        finally:
            await _closed(events)

    async def _run_once(self, once: Callable[[RunContext], Awaitable[Any]], ctx: RunContext, emit: Emit) -> None:
        try:
            value = await once(ctx)
        except asyncio.CancelledError:
            raise
        except BaseException as raised:
            raise _agent_error(raised) from raised
        for seq, event in enumerate(returned(value), 1):
            room = emit(self._encode(seq, event))
            if room is not None:
                await room

    async def health(self) -> Health:
        """Ask the agent how it is."""
        return await self._adapted.ask_health()

    async def get_thread(self, key: ThreadKey) -> OwnThread | None:
        """Read a thread that the agent keeps itself."""
        return await self._adapted.read_thread(key)

    async def delete_thread(self, key: ThreadKey) -> bool:
        """Delete a thread that the agent keeps itself."""
        return await self._adapted.drop_thread(key)

    def lives_in(self, adapted: Adapted, name: str) -> bool:
        """Whether this is the agent of that name, and has entered, and not left, the lifespan of that same object."""
        owner = getattr(adapted.lifespan, "__self__", None)
        own = getattr(self._adapted.lifespan, "__self__", None)
        return self._lifespan is not None and self._name == name and owner is not None and owner is own

    async def close(self, grace: float) -> None:
        """Leave the lifespan; raises what leaving it raised."""
        lifespan, self._lifespan = self._lifespan, None
        if lifespan is not None:
            failure = await lifespan.leave(grace)
            if failure is not None:
                raise failure
