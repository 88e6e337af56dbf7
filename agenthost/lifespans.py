"""A lifespan in a task of its own: the task that enters it is the task that leaves it, as anyio's scopes require."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from agenthost.contained_tasks import context_of


class LifespanTask:
    """Enters a context manager, reports, waits to be told, leaves it; always in the one task."""

    def __init__(self, name: str, make: Callable[[], AbstractAsyncContextManager[Any]]) -> None:
        self.name = name
        self._make = make
        self._leave = asyncio.Event()
        self._entered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None

    async def enter(self) -> None:
        """Enter it; raises whatever entering raised. When cancelled (a time limit), the entering is cancelled too."""
        self._task = asyncio.create_task(self._live(), name=f"lifespan {self.name}", context=context_of(self))
        try:
            await asyncio.shield(self._entered)
        except asyncio.CancelledError:
            self._task.cancel()
            raise

    async def leave(self, grace: float) -> BaseException | None:
        """Leave it within `grace` seconds, then cancel; returns what leaving raised, if anything."""
        if self._task is None:
            return None
        self._leave.set()
        _done, late = await asyncio.wait((self._task,), timeout=grace)
        if late:
            self._task.add_done_callback(_take_note)
            self._task.cancel()
            await asyncio.wait((self._task,), timeout=1.0)
            return TimeoutError(f"{self.name} did not leave its lifespan within {grace:g} s")
        return None if self._task.cancelled() else self._task.exception()

    async def _live(self) -> None:
        try:
            async with self._make():
                if not self._entered.done():
                    self._entered.set_result(None)
                await self._leave.wait()
        except asyncio.CancelledError:
            self._entered.cancel()
            raise
        except BaseException as raised:
            # a task that ends with SystemExit would end the loop, and the host with it
            failure = raised if isinstance(raised, Exception) else RuntimeError(repr(raised))
            if self._entered.done():
                raise failure from raised
            self._entered.set_exception(failure)


def _take_note(task: asyncio.Task[None]) -> None:
    """Look at how a task ended that nobody waits for any more, or asyncio complains that nobody did."""
    if not task.cancelled():
        task.exception()
