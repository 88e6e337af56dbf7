"""One agent runs another through `ctx.call`: as a child of the calling run, cancelled with it, never queued."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Protocol

from agenthost.agents import MAX_CALL_DEPTH, AgentEntry, RunRequest, RunResult
from agenthost.auth import Principal
from agenthost.errors import (
    AgentPaused,
    AgentUnavailable,
    Cancelled,
    Forbidden,
    InvalidRequest,
    NotFound,
    RequestError,
)
from agenthost.events import NotJSON, json_value
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
    request = _checked(request)
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


def _checked(request: RunRequest) -> RunRequest:
    """The request with plain values of its own: what two agents share is copied, as if it had come over the wire."""
    if not isinstance(request.prompt, str):
        raise InvalidRequest(f"ctx.call: prompt is a str, not {type(request.prompt).__name__}")
    plain = {}
    for name in ("prompt", "input", "metadata"):
        try:
            plain[name] = json_value(getattr(request, name))
        except NotJSON as problem:
            raise InvalidRequest(f"ctx.call: {name} holds {problem}") from None
    return replace(request, **plain)
