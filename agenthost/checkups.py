"""Asks every agent that serves how it is; one that is not well is degraded, and ready again once it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from agenthost.agents import AgentEntry, AgentRef, Health
from agenthost.blame import summary
from agenthost.errors import HostError

EVERY = 15.0
"""Seconds between two rounds."""

ANSWER_WITHIN = 5.0
"""Seconds that an agent has to say how it is."""

AILMENT = "says it is not well"


async def check_up(
    entries: Callable[[], Iterable[AgentEntry]], every: float = EVERY, answer_within: float = ANSWER_WITHIN
) -> None:
    """Ask until cancelled, all agents side by side.

    One that does not answer, nor hear that it is cancelled, is not asked again until it does, and holds up nobody.
    """
    asked: dict[AgentEntry, asyncio.Task[str]] = {}
    try:
        while True:
            await asyncio.sleep(every)
            for entry in entries():
                if entry.serving and entry.ref is not None and entry not in asked:
                    asked[entry] = asyncio.create_task(_problem(entry.ref), name=f"health of {entry.name}")
            if asked:
                await asyncio.wait(asked.values(), timeout=answer_within)
            for entry, answer in tuple(asked.items()):
                if answer.done():
                    del asked[entry]
                    _note(entry, answer.result())
                else:
                    answer.cancel()
                    _note(entry, f"it did not say within {answer_within:g} s")
    finally:
        for answer in asked.values():
            answer.cancel()


async def _problem(ref: AgentRef) -> str:
    """What an agent says is wrong with it; empty where nothing is."""
    try:
        health: object = await ref.health()
        if not isinstance(health, Health):
            return f"its health is of type {type(health).__name__}, not Health"
        return "" if health.ok else str(health.detail) or "it does not say why"
    except BaseException as raised:  # noqa: BLE001 - an agent may raise anything, also what it is cancelled with
        return summary(raised)


def _note(entry: AgentEntry, problem: str) -> None:
    if problem:
        entry.ail(AILMENT, HostError(f"agent '{entry.name}' is not well: {problem}"))
    else:
        entry.heal(AILMENT)
