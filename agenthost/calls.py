"""One agent runs another through `ctx.call`: as a child of the calling run, cancelled with it, never queued."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from agenthost.agents import MAX_CALL_DEPTH, RunRequest, RunResult
from agenthost.auth import Principal
from agenthost.entries import AgentEntry
from agenthost.errors import (
    AgentPaused,
    AgentUnavailable,
    Cancelled,
    Forbidden,
    InvalidRequest,
    NotFound,
    RequestError,
)
from agenthost.placement.carrying import plain_request
from agenthost.run import Run

Lookup = Callable[[Principal, str], AgentEntry]
"""Finds an agent for somebody; raises `Forbidden`, `NotFound` or `AgentNotReady`."""


class Start(Protocol):
    """`Runs.start`."""

    def __call__(
        self, entry: AgentEntry, principal: Principal, request: RunRequest, *, fold_only: bool, parent: Run | None
    ) -> Awaitable[Run]:
        """Start a run, or raise a `RequestError`."""
        ...


async def call(start: Start, lookup: Lookup, caller: Run, name: str, request: RunRequest) -> RunResult:
    """Run agent `name` for `caller` and return how it ended.

    Raises `AgentUnavailable` where it cannot start at once, `InvalidRequest`, `Forbidden` or `NotFound` as for any
    caller, the run's `RunError` where it does not complete, `AgentPaused` where it asks a question.
    """
    _refuse_calls_without_end(caller, name)
    request = plain_request(request)
    try:
        entry = lookup(caller.principal, name)
        child = await start(entry, caller.principal, request, fold_only=True, parent=caller)
    except (InvalidRequest, Forbidden, NotFound):
        raise
    except RequestError as refused:
        raise AgentUnavailable(f"agent '{name}' cannot take a call now: {refused.message}") from refused
    caller.children.add(child)
    if caller.released:
        child.cancel(Cancelled("the run that called it ended"))
    try:
        result = await child.result()
    except asyncio.CancelledError:
        child.cancel(Cancelled("the run that called it was cancelled"))
        raise
    finally:
        caller.children.discard(child)
    if child.outcome.interrupts:
        raise AgentPaused(child.outcome.interrupts[0])
    return result


def _refuse_calls_without_end(caller: Run, name: str) -> None:
    if caller.error is not None or caller.agent_ended or caller.closing:
        raise AgentUnavailable(f"agent '{name}' cannot be called: the run that calls is over")
    chain = [caller.entry.name]
    ancestor = caller.parent
    while ancestor is not None:
        chain.append(ancestor.entry.name)
        ancestor = ancestor.parent
    path = " → ".join([*reversed(chain), name])
    if name in chain:
        raise AgentUnavailable(f"an agent cannot be called while it waits for the answer: {path}")
    if len(chain) > MAX_CALL_DEPTH:
        raise AgentUnavailable(f"calls between agents go at most {MAX_CALL_DEPTH} deep: {path}")
