"""A Locus checkpointer that keeps the conversation where the host keeps its threads.

For agents that have none: what Locus saves of a thread (messages, the call a pause holds, budgets) goes into
`ctx.state`, which the host commits with the run, and deletes with the thread.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from locus.core.state import AgentState
from locus.memory.checkpointer import BaseCheckpointer

KEPT = "locus"
"""The key in `ctx.state`."""

_STATE: ContextVar[dict[str, Any] | None] = ContextVar("agenthost_locus_state", default=None)


def keep_in(state: dict[str, Any]) -> None:
    """From here on, in this task and those it starts, a `HostCheckpointer` keeps its one thread in `state`."""
    _STATE.set(state)


class HostCheckpointer(BaseCheckpointer):
    """Loads and saves the thread of the run that is going; outside of one it has none."""

    async def save(
        self,
        state: AgentState,
        thread_id: str,
        checkpoint_id: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> str:
        """Keep `state`, without the trace of earlier steps: what a model is shown is in its messages."""
        kept = _STATE.get()
        if kept is not None:
            kept[KEPT] = state.model_copy(update={"reasoning_steps": ()}).to_checkpoint()
        return checkpoint_id or thread_id

    async def load(self, thread_id: str, checkpoint_id: str | None = None) -> AgentState | None:
        """The state that was saved last."""
        kept = (_STATE.get() or {}).get(KEPT)
        return None if kept is None else AgentState.from_checkpoint(kept)

    async def list_checkpoints(self, thread_id: str, limit: int = 10) -> list[str]:
        """The thread's one checkpoint, where there is one."""
        return [thread_id] if KEPT in (_STATE.get() or {}) else []

    async def delete(self, thread_id: str, checkpoint_id: str | None = None) -> bool:
        """Forget it."""
        return (_STATE.get() or {}).pop(KEPT, None) is not None

    @property
    def deletes_single_checkpoints(self) -> bool:
        """No: there is one, and a run that does not end leaves the thread as it was."""
        return False
