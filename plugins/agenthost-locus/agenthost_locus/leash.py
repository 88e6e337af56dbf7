"""Model calls end with the run that made them.

Where Locus streams tokens it calls the model in a task of its own, and a run that is closed or cancelled leaves that
task behind. A hook of Locus, called in that task, says which one it is.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any

_CALLS: ContextVar[set[asyncio.Task[Any]] | None] = ContextVar("agenthost_locus_calls", default=None)


class Leash:
    """Locus's hook before a model call."""

    async def on_before_model_call(self, event: Any) -> None:
        """Note which task calls the model."""
        calls, task = _CALLS.get(), asyncio.current_task()
        if calls is not None and task is not None:
            calls.add(task)


def leashed() -> set[asyncio.Task[Any]]:
    """From here on, note every task that calls a model for this one; to be given to `let_go`."""
    calls: set[asyncio.Task[Any]] = set()
    _CALLS.set(calls)
    return calls


async def let_go(calls: set[asyncio.Task[Any]]) -> None:
    """Cancel those that still go, and wait until they have ended."""
    left = [call for call in calls if call is not asyncio.current_task() and not call.done()]
    for call in left:
        call.cancel()
    if left:
        await asyncio.wait(left)
