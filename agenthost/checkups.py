"""Asks every agent that serves how it is; one that is not well is degraded, and ready again once it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from agenthost.agents import AgentEntry, Health
from agenthost.blame import summary
from agenthost.errors import HostError

EVERY = 15.0
"""Seconds between two rounds."""

ANSWER_WITHIN = 5.0
"""Seconds that an agent has to say how it is."""

AILMENT = "says it is not well"


async def check_up(entries: Callable[[], Iterable[AgentEntry]], every: float = EVERY) -> None:
    """Ask until cancelled, all agents side by side; a round begins when the one before has ended."""
    while True:
        await asyncio.sleep(every)
        await asyncio.gather(*(_ask(entry) for entry in tuple(entries()) if entry.serving and entry.ref is not None))


async def _ask(entry: AgentEntry) -> None:
    if entry.ref is None:
        return
    limit = asyncio.timeout(ANSWER_WITHIN)
    problem = ""
    try:
        async with limit:
            health: object = await entry.ref.health()
        if not isinstance(health, Health):
            problem = f"its health is of type {type(health).__name__}, not Health"
        elif not health.ok:
            problem = str(health.detail) or "it does not say why"
    except BaseException as raised:
        task = asyncio.current_task()
        if isinstance(raised, asyncio.CancelledError) and task is not None and task.cancelling():
            raise  # the host stops; an agent may raise the same by itself
        problem = f"it did not say within {ANSWER_WITHIN:g} s" if limit.expired() else summary(raised)
    if problem:
        entry.ail(AILMENT, HostError(f"agent '{entry.name}' is not well: {problem}"))
    else:
        entry.heal(AILMENT)
