"""A lifespan in a task of its own: entered and left by the same task, and whatever it does, its owner goes on."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from agenthost.contained_tasks import contain_tasks
from agenthost.lifespans import LifespanTask
from tests.agents_for_tests import within


class Watched:
    """A lifespan that notes what happens to it, and does what it is told at each step."""

    def __init__(self, *, enter: Any = None, leave: Any = None) -> None:
        self.enter, self.leave = enter, leave
        self.tasks: list[Any] = []
        self.seen: list[str] = []

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[None]:
        await self._do("enter", self.enter)
        try:
            yield
        finally:
            await self._do("leave", self.leave)

    async def _do(self, step: str, what: Any) -> None:
        self.tasks.append(asyncio.current_task())
        self.seen.append(step)
        try:
            if isinstance(what, BaseException):
                raise what
            if what is not None:
                await what()
        except asyncio.CancelledError:
            self.seen.append(f"{step} cancelled")
            raise


async def for_ever() -> None:
    await asyncio.Event().wait()


async def deaf() -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await asyncio.sleep(0.05)
        raise OSError("too late to hear") from None


def lifespan(watched: Any) -> LifespanTask:
    return LifespanTask("agent x", watched)


def test_the_task_that_enters_is_the_task_that_leaves() -> None:
    async def main() -> None:
        watched = Watched()
        task = lifespan(watched)
        await within(task.enter())
        assert watched.seen == ["enter"]
        assert await within(task.leave(5.0)) is None
        assert watched.seen == ["enter", "leave"]
        assert watched.tasks[0] is watched.tasks[1] is not asyncio.current_task()

    asyncio.run(main())


def test_an_anyio_task_group_may_be_held_open() -> None:
    @asynccontextmanager
    async def group() -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep_forever)
            yield
            tasks.cancel_scope.cancel()

    async def main() -> None:
        task = lifespan(group)
        await within(asyncio.create_task(task.enter()))
        assert await within(asyncio.create_task(task.leave(5.0))) is None

    asyncio.run(main())


@pytest.mark.parametrize(
    ("raised", "seen"),
    [(ValueError("no"), "ValueError('no')"), (SystemExit(3), "RuntimeError('SystemExit(3)')"),
     (KeyboardInterrupt(), "RuntimeError('KeyboardInterrupt()')")],
)  # fmt: skip
def test_what_it_raises_on_the_way_in_is_raised_to_who_enters(raised: BaseException, seen: str) -> None:
    async def main() -> None:
        task = lifespan(Watched(enter=raised))
        with pytest.raises(Exception) as error:
            await within(task.enter())
        assert repr(error.value) == seen
        assert await within(task.leave(5.0)) is None

    asyncio.run(main())


@pytest.mark.parametrize(
    ("raised", "seen"), [(ValueError("no"), "ValueError('no')"), (SystemExit(3), "RuntimeError('SystemExit(3)')")]
)
def test_what_it_raises_on_the_way_out_is_given_back_and_ends_nothing_else(raised: BaseException, seen: str) -> None:
    async def main() -> None:
        task = lifespan(Watched(leave=raised))
        await within(task.enter())
        assert repr(await within(task.leave(5.0))) == seen

    asyncio.run(main())


def test_who_stops_waiting_for_the_way_in_cancels_it() -> None:
    async def main() -> None:
        watched = Watched(enter=for_ever)
        task = lifespan(watched)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await task.enter()
        assert await within(task.leave(5.0)) is None
        assert watched.seen == ["enter", "enter cancelled"]

    asyncio.run(main())


@pytest.mark.parametrize("leave", [for_ever, deaf])
def test_a_way_out_that_takes_too_long_is_cancelled_and_reported(leave: Any) -> None:
    async def main() -> None:
        task = lifespan(Watched(leave=leave))
        await within(task.enter())
        failure = await within(task.leave(0.05))
        assert repr(failure) == "TimeoutError('agent x did not leave its lifespan within 0.05 s')"

    asyncio.run(main())


def test_a_lifespan_that_was_never_entered_is_left_at_once() -> None:
    async def main() -> None:
        assert await lifespan(Watched()).leave(5.0) is None

    asyncio.run(main())


def test_a_task_of_a_lifespan_that_would_end_the_loop_ends_alone() -> None:
    ended: list[asyncio.Task[None]] = []

    async def leaves() -> None:
        sys.exit(3)

    @asynccontextmanager
    async def starts_a_task() -> AsyncIterator[None]:
        ended.append(asyncio.create_task(leaves()))
        yield

    async def main() -> None:
        contain_tasks(asyncio.get_running_loop())
        lifespan = LifespanTask("agent x", starts_a_task)
        await lifespan.enter()
        await asyncio.wait(ended)
        assert repr(ended[0].exception()) == "LeftByTask('SystemExit(3)')"
        assert await lifespan.leave(1.0) is None

    asyncio.run(main())
