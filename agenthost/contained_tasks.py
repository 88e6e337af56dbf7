"""What agents start: whose a task or a thread is, and that no task of theirs ends the loop by `SystemExit`.

asyncio lets `SystemExit` and `KeyboardInterrupt` out of the loop, whoever awaits the task: one `sys.exit` in a tool
would end the host. In tasks of agents they become ordinary exceptions.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass
from typing import Any

_inside: ContextVar[object] = ContextVar("agenthost_inside_an_agent", default=None)

Factory = Callable[..., Any]
"""What `loop.set_task_factory` takes: (loop, coroutine, and what else `create_task` was given) to a task."""


class LeftByTask(RuntimeError):
    """A task of an agent called for the end of the process; the text says with what."""


def inside_an_agent(owner: object) -> None:
    """From here on, tasks made in this context (and in copies of it) are contained, and known as `owner`'s."""
    _inside.set(owner)


def context_of(owner: object) -> Context:
    """A copy of this context for a task, and what it starts, that is `owner`'s from its first step."""
    context = copy_context()
    context.run(_inside.set, owner)
    return context


def owner_of(task: asyncio.Task[Any]) -> object:
    """Whose a task is that an agent has made; None for any other. May be asked from any thread."""
    coro = task.get_coro()
    return coro.owner if isinstance(coro, _Contained) else None


@dataclass(frozen=True, slots=True)
class ThreadAtWork:
    """A thread that does an agent's work: whose, its id in the system, the seconds of processor it had before."""

    owner: object
    native_id: int
    processor: float


_at_work: dict[int, ThreadAtWork] = {}


def work_on_thread(work: Callable[[], None]) -> None:
    """Do the work of the agent that this context is inside of, on this thread, which is known as its until then."""
    ident = threading.get_ident()
    _at_work[ident] = ThreadAtWork(_inside.get(), threading.get_native_id(), time.thread_time())
    try:
        work()
    finally:
        del _at_work[ident]


def threads_at_work() -> Mapping[int, ThreadAtWork]:
    """The threads that do the work of agents now, by ident: a copy, which may be had from any thread."""
    return _at_work.copy()


def contain_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Set a task factory that contains what agents start, around one that is there; the second call does nothing."""
    former = loop.get_task_factory()
    if not isinstance(former, _Containing):
        loop.set_task_factory(_Containing(former))


class _Containing:
    """The task factory."""

    def __init__(self, former: Factory | None) -> None:
        self._former = former

    def __call__(self, loop: asyncio.AbstractEventLoop, coro: Any, **given: Any) -> Any:
        context = given.get("context")
        owner = (context and context.get(_inside)) or _inside.get()
        if owner is not None and asyncio.iscoroutine(coro):
            coro = _Contained(coro, owner)
        if self._former is not None:
            return self._former(loop, coro, **given)
        return asyncio.Task(coro, loop=loop, **given)


class _Contained(Coroutine[Any, Any, Any]):
    """A coroutine of an agent. Not an `async def`, whose coroutine, cancelled unbegun, leaves this one unawaited."""

    __slots__ = ("__name__", "__qualname__", "_coro", "owner")

    def __init__(self, coro: Coroutine[Any, Any, Any], owner: object) -> None:
        self._coro = coro
        self.owner = owner
        self.__name__ = getattr(coro, "__name__", type(coro).__name__)
        self.__qualname__ = getattr(coro, "__qualname__", type(coro).__qualname__)

    def send(self, value: Any) -> Any:
        """Step it."""
        try:
            return self._coro.send(value)
        except (SystemExit, KeyboardInterrupt) as raised:
            raise LeftByTask(repr(raised)) from raised

    def throw(self, *raised: Any) -> Any:
        """Step it with an exception."""
        try:
            return self._coro.throw(*raised)
        except (SystemExit, KeyboardInterrupt) as left:
            raise LeftByTask(repr(left)) from left

    def close(self) -> None:
        """Close it."""
        self._coro.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coro.__await__()
