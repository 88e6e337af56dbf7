"""The agents that our host serves in the benchmarks; they do what R and F do, and nothing more."""

import asyncio
from collections.abc import AsyncIterator

from agenthost.agents import RunContext

EVENTS = 200


async def echo(ctx: RunContext) -> str:
    """Answer the prompt with itself."""
    return ctx.prompt


async def ready(ctx: RunContext) -> AsyncIterator[str]:
    """Yield every event without waiting."""
    for number in range(1, EVENTS + 1):
        yield f"word {number} "


async def turns(ctx: RunContext) -> AsyncIterator[str]:
    """Give every event a loop turn of its own."""
    for number in range(1, EVENTS + 1):
        await asyncio.sleep(0)
        yield f"word {number} "


async def idle(ctx: RunContext) -> AsyncIterator[str]:
    """Yield one event, then wait until the run is cancelled."""
    yield "word 1 "
    await asyncio.Event().wait()
