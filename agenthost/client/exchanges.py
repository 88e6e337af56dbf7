"""Calls that end with one answer, or with pages of them: what is sent, sent again, and made of the replies; no I/O."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from agenthost.client.asking import Ask, get_page, get_run
from agenthost.client.failures import CallFailed
from agenthost.client.following import Following, cancelling
from agenthost.client.patience import Patience
from agenthost.client.replies import RunReply, RunState, read_reply, read_run, understood
from agenthost.client.steps import Answer, ConnectionBroke, Left, Logic, Send

T = TypeVar("T")


def once(ask: Ask, read: Callable[[dict[str, Any]], T], patience: Patience, also: int = 200) -> Logic[Any, T]:
    """Ask, and read the answer; a connection that breaks is tried again as far as `patience` goes.

    Only for what may be asked twice: what changes nothing, and what has a key.
    """
    while True:
        patience.trying()
        try:
            answer: Answer = yield Send(ask)
        except ConnectionBroke as broke:
            if patience.lasted():
                patience.progress()
            yield patience.again(broke)
            continue
        patience.reached = True
        if answer.status in {200, 202, also}:
            return understood(answer, read, also)
        yield patience.again(answer)


def started(agent: str, ask: Ask, learn: Ask, read: Callable[[dict[str, Any]], T], patience: Patience) -> Logic[Any, T]:
    """Ask for a run by a request with a key. A caller that leaves before the answer cancels the run.

    `learn` is a request with the same key that is answered at once, to learn which run that is.
    """
    try:
        return (yield from once(ask, read, patience))
    except (Left, KeyboardInterrupt):
        yield from cancelling(agent, None, learn)
        raise


def invoked(agent: str, ask: Ask, learn: Ask, patience: Patience) -> Logic[Any, RunReply]:
    """Ask for a run and its result. What `/invoke` answers has one question of a paused run; all are fetched."""
    reply: RunReply = yield from started(agent, ask, learn, read_reply, patience)
    if reply.status != "paused":
        return reply
    with suppress(CallFailed):
        state: RunState = yield from once(get_run(agent, reply.run_id), read_run, patience)
        return replace(reply, interrupts=state.interrupts or reply.interrupts)
    return reply


def awaited(agent: str, run_id: str, patience: Patience) -> Logic[Any, RunState]:
    """Follow a run to its end, however it ends; returns how it is then."""
    state: RunState = yield from once(get_run(agent, run_id), read_run, patience)
    if state.has_ended:
        return state
    following = Following(agent, patience, run_id=run_id)
    try:
        yield from following.events()
    except CallFailed:
        if not following.over:
            raise
    return (yield from once(get_run(agent, run_id), read_run, patience))


def paged(
    agent: str, what: str, read: Callable[[dict[str, Any]], T], patience: Patience, **wanted: str | None
) -> Logic[T, None]:
    """Yield the caller's `runs` or `threads`, page after page."""
    cursor: str | None = None
    while True:
        ask = get_page(agent, what, cursor, **wanted)
        items, cursor = yield from once(ask, lambda body: _page(body, what, read), patience)
        yield from items
        if cursor is None:
            return


def _page(body: dict[str, Any], what: str, read: Callable[[dict[str, Any]], T]) -> tuple[list[T], str | None]:
    return [read(item) for item in body[what]], body.get("next_cursor")
