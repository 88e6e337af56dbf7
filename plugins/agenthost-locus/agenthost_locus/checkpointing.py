"""A Locus checkpointer that keeps the conversation where the host keeps its threads.

For agents that have none: what Locus saves of a thread (messages, the call a pause holds, budgets) goes into
`ctx.state`, which the host commits with the run, and deletes with the thread.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from locus.core.state import AgentState
from locus.memory.checkpointer import BaseCheckpointer

from agenthost import Message, RunContext
from agenthost_locus.conversations import state_of

KEPT = "locus"
"""The key in `ctx.state`."""

MAX_KEPT = 1_000_000
"""Bytes of state kept, encoded; the host takes 1 MiB."""

TOO_LONG = "too long"
"""What is kept in the place of a state that is longer: the next turn goes on from the host's messages."""


@dataclass(frozen=True)
class _Thread:
    name: str | None
    """What Locus calls it."""
    state: dict[str, Any]
    history: Sequence[Message]


_THREAD: ContextVar[_Thread | None] = ContextVar("agenthost_locus_thread", default=None)


def keep_for(ctx: RunContext, thread: str | None) -> None:
    """From here on, in this task and those it starts, a `HostCheckpointer` keeps this thread in `ctx.state`."""
    _THREAD.set(_Thread(thread, ctx.state, ctx.history))


def is_kept(ctx: RunContext) -> bool:
    """Whether `ctx.state` holds what Locus saved last: it does not where that was too long."""
    return isinstance(ctx.state.get(KEPT), Mapping)


async def forget(checkpointer: Any, thread: str, ctx: RunContext) -> None:
    """Delete what a run without a thread has left in a checkpointer."""
    try:
        await checkpointer.delete(thread)
    except Exception as refused:  # noqa: BLE001 - whatever a store raises, the run itself has gone well
        ctx.log.warning("what a run without a thread left in the checkpointer stays: %s", type(refused).__name__)


class HostCheckpointer(BaseCheckpointer):
    """Loads and saves the thread of the run that is going; of any other it has nothing and keeps nothing."""

    async def save(
        self,
        state: AgentState,
        thread_id: str,
        checkpoint_id: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> str:
        """Keep `state`; where it is too long, without the trace of earlier steps, and else not at all."""
        kept = _kept(thread_id)
        if kept is not None:
            shorter = (state, state.model_copy(update={"reasoning_steps": ()}))
            saved = (one.to_checkpoint() for one in shorter)
            kept[KEPT] = next((one for one in saved if _size(one) <= MAX_KEPT), TOO_LONG)
        return checkpoint_id or thread_id

    async def load(self, thread_id: str, checkpoint_id: str | None = None) -> AgentState | None:
        """The state that was saved last, or made of the host's messages."""
        kept, thread = _kept(thread_id) or {}, _THREAD.get()
        if isinstance(kept.get(KEPT), Mapping):
            return AgentState.from_checkpoint(kept[KEPT])
        return state_of(thread.history) if thread is not None and KEPT in kept else None

    async def list_checkpoints(self, thread_id: str, limit: int = 10) -> list[str]:
        """The thread's one checkpoint, where there is one."""
        return [thread_id] if KEPT in (_kept(thread_id) or {}) else []

    async def delete(self, thread_id: str, checkpoint_id: str | None = None) -> bool:
        """Forget it."""
        return (_kept(thread_id) or {}).pop(KEPT, None) is not None

    @property
    def deletes_single_checkpoints(self) -> bool:
        """No: there is one, and a run that does not end leaves the thread as it was."""
        return False


def _kept(thread_id: str) -> dict[str, Any] | None:
    thread = _THREAD.get()
    return thread.state if thread is not None and thread.name == thread_id else None


def _size(state: Any) -> int:
    return len(json.dumps(state, ensure_ascii=False).encode())
