"""Tasks of agents that would end the loop end with an ordinary exception; the host's own tasks are left alone."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, NoReturn

import pytest

from agenthost.contained_tasks import (
    LeftByTask,
    contain_tasks,
    context_of,
    inside_an_agent,
    owner_of,
    threads_at_work,
    work_on_thread,
)


async def leaves() -> NoReturn:
    await asyncio.sleep(0)
    sys.exit(3)


async def interrupts() -> NoReturn:
    raise KeyboardInterrupt


async def leaves_when_cancelled() -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        sys.exit(4)


def inside(main: Callable[[], Any]) -> None:
    async def contained() -> None:
        contain_tasks(asyncio.get_running_loop())
        inside_an_agent("an agent")
        await main()

    asyncio.run(contained())


def test_a_task_that_leaves_raises_an_ordinary_exception_that_says_so() -> None:
    async def main() -> None:
        with pytest.raises(LeftByTask, match=r"^SystemExit\(3\)$") as left:
            await asyncio.gather(leaves(), asyncio.sleep(0))
        assert isinstance(left.value.__cause__, SystemExit)
        with pytest.raises(ExceptionGroup) as several:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(interrupts())
        assert [str(one) for one in several.value.exceptions] == ["KeyboardInterrupt()"]

    inside(main)


def test_a_task_that_leaves_when_it_is_cancelled_is_contained_too() -> None:
    async def main() -> None:
        task = asyncio.create_task(leaves_when_cancelled())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(LeftByTask, match=r"^SystemExit\(4\)$"):
            await task

    inside(main)


def test_a_task_keeps_its_result_its_name_and_its_context_and_may_be_cancelled_unbegun() -> None:
    seen: ContextVar[int] = ContextVar("seen", default=0)

    async def looks() -> int:
        await asyncio.sleep(0)
        return seen.get()

    async def main() -> None:
        seen.set(5)
        task = asyncio.create_task(looks(), name="looking")
        assert task.get_name() == "looking"
        assert "looks" in repr(task)
        assert await task == 5
        unbegun = asyncio.create_task(looks())
        unbegun.cancel()
        with pytest.raises(asyncio.CancelledError):
            await unbegun

    inside(main)


def test_the_hosts_own_tasks_are_as_they_were_and_a_factory_that_was_there_is_used() -> None:
    made: list[Any] = []

    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **given: Any) -> asyncio.Task[Any]:
        made.append(coro)
        return asyncio.Task(coro, loop=loop, **given)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(factory)
        contain_tasks(loop)
        contain_tasks(loop)
        own = asyncio.sleep(0, "slept")
        assert await asyncio.create_task(own) == "slept"
        assert made == [own]

    asyncio.run(main())


def test_a_task_is_known_as_its_owners_and_so_is_what_it_starts() -> None:
    async def main() -> None:
        inner = asyncio.create_task(asyncio.sleep(0))
        assert owner_of(inner) == "an agent"
        await inner

    inside(main)


def test_a_task_may_be_anothers_from_its_first_step() -> None:
    async def main() -> None:
        contain_tasks(asyncio.get_running_loop())
        seen: list[object] = []

        async def works() -> None:
            inner = asyncio.create_task(asyncio.sleep(0))
            seen.append(owner_of(inner))
            await inner

        task = asyncio.create_task(works(), context=context_of("another"))
        seen.append(owner_of(task))
        await task
        assert seen == ["another", "another"]
        own = asyncio.create_task(asyncio.sleep(0))
        assert owner_of(own) is None
        await own

    asyncio.run(main())


def test_a_thread_is_known_as_its_owners_while_it_works() -> None:
    def work() -> None:
        job = threads_at_work()[threading.get_ident()]
        assert (job.owner, job.native_id) == ("an agent", threading.get_native_id())
        raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        context_of("an agent").run(work_on_thread, work)
    assert threading.get_ident() not in threads_at_work()
