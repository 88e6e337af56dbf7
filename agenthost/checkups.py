"""Asks every agent that serves how it is; one that is not well is degraded, and ready again once it is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from agenthost.agents import AgentRef, Health
from agenthost.blame import MAX_REASON, encodable, summary
from agenthost.contained_tasks import context_of
from agenthost.entries import AgentEntry
from agenthost.errors import HostError

EVERY = 15.0
"""Seconds between two rounds."""

ANSWER_WITHIN = 5.0
"""Seconds that an agent has to say how it is."""

AILMENT = "says it is not well"

log = logging.getLogger("agenthost.checkups")


async def check_up(
    entries: Callable[[], Iterable[AgentEntry]], every: float = EVERY, answer_within: float = ANSWER_WITHIN
) -> None:
    """Ask until cancelled, all agents side by side; one that still owes an answer is not asked again."""
    asking: dict[AgentEntry, asyncio.Task[None]] = {}
    try:
        while True:
            await asyncio.sleep(every)
            asking = {entry: task for entry, task in asking.items() if not task.done()}
            for entry in tuple(entries()):
                if entry.serving and entry.ref is not None and entry not in asking:
                    asking[entry] = asyncio.create_task(_ask(entry, entry.ref, answer_within))
                    await asyncio.sleep(0)  # a thousand of them in one turn would be felt by whoever has a request
    finally:
        for task in asking.values():
            task.cancel()


async def _ask(entry: AgentEntry, ref: AgentRef, answer_within: float) -> None:
    """Ask one agent, and note what it says in time; ends when it does, though it may not hear that it is cancelled."""
    answer = asyncio.create_task(_problem(ref), name=f"health of {entry.name}", context=context_of(entry))
    try:
        await asyncio.wait((answer,), timeout=answer_within)
        if answer.done():
            _note(entry, answer.result())
        else:
            _note(entry, _silent(answer_within))
            answer.cancel()
            await asyncio.wait((answer,))
    finally:
        answer.cancel()


async def problem_of(entry: AgentEntry, ref: AgentRef, answer_within: float) -> str:
    """What an agent says is wrong with it, asked once; empty where nothing is."""
    asked = asyncio.create_task(_problem(ref), name=f"health of {entry.name}", context=context_of(entry))
    done, _late = await asyncio.wait((asked,), timeout=answer_within)
    if done:
        return asked.result()
    asked.cancel()
    return _silent(answer_within)


def _silent(seconds: float) -> str:
    return f"it did not say within {seconds:g} s"


async def _problem(ref: AgentRef) -> str:
    """What an agent says is wrong with it; empty where nothing is."""
    try:
        health: object = await ref.health()
        if not isinstance(health, Health):
            return f"its health is of type {type(health).__name__}, not Health"
        return "" if health.ok else encodable(str(health.detail)[:MAX_REASON]) or "it does not say why"
    except BaseException as raised:  # noqa: BLE001 - an agent may raise anything, also what it is cancelled with
        return summary(raised)


def _note(entry: AgentEntry, problem: str) -> None:
    """Be told how an agent is: nothing, or what ails it. Logged where it is news."""
    before = entry.ailments.get(AILMENT)
    if problem:
        ailment = HostError(f"agent '{entry.name}' ({entry.source.label}) is not well: {problem}")
        if before is None or before.message != ailment.message:
            log.warning("%s", ailment.message, extra={"agent": entry.name})
        entry.ail(AILMENT, ailment)
    elif before is not None:
        log.info("agent '%s' is well again", entry.name, extra={"agent": entry.name})
        entry.heal(AILMENT)
