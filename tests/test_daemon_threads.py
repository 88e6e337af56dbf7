"""Blocking agents on threads of their own: nothing is lost on the way, and no place is free that is not."""

from __future__ import annotations

import asyncio
import contextvars
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenthost import daemon_threads
from agenthost.daemon_threads import AHEAD, DaemonThreads, iterate
from tests.agents_for_tests import until, within


def pool(limit: int = 4, name: str = "pool") -> DaemonThreads:
    return DaemonThreads(name, limit)


def alive() -> int:
    return sum(thread.name == "three" for thread in threading.enumerate())


async def collected(start: Callable[[], Iterator[Any]], threads: DaemonThreads | None = None) -> list[Any]:
    return [item async for item in iterate(threads or pool(), start)]


def test_everything_a_thread_makes_arrives_in_order() -> None:
    assert asyncio.run(within(collected(lambda: iter(range(5000))))) == list(range(5000))
    assert asyncio.run(within(collected(lambda: iter(())))) == []


def test_what_it_raises_is_raised_on_the_loop_after_what_it_made() -> None:
    def breaks() -> Iterator[int]:
        yield 1
        yield 2
        raise SystemExit(3)

    async def main() -> None:
        items = iterate(pool(), breaks)
        assert [await anext(items), await anext(items)] == [1, 2]
        with pytest.raises(SystemExit):
            await anext(items)

    with pytest.raises(ValueError, match="outside"):
        asyncio.run(outside_of_asyncio(main))


async def outside_of_asyncio(main: Callable[[], Any]) -> None:
    """Run and raise something else: asyncio itself treats a SystemExit in a task as the process's end."""
    await main()
    raise ValueError("outside")


def test_a_thread_is_ahead_of_its_reader_by_little() -> None:
    made = 0

    def floods() -> Iterator[int]:
        nonlocal made
        while True:
            made += 1
            yield made

    async def main() -> None:
        items = iterate(pool(), floods)
        assert await anext(items) == 1
        await until(lambda: made >= AHEAD)
        await asyncio.sleep(0.05)  # it makes thousands in that time, unless it waits
        assert made <= AHEAD + 3
        await within(items.aclose())  # type: ignore[attr-defined]  # an async generator, typed as its protocol
        stopped = made
        await asyncio.sleep(0.02)
        assert made == stopped

    asyncio.run(main())


def test_a_reader_that_leaves_waits_for_the_thread_however_often_it_is_cancelled() -> None:
    gate, begun, closed = threading.Event(), threading.Event(), threading.Event()

    def blocks() -> Iterator[int]:
        try:
            yield 1
            begun.set()
            gate.wait(20)
            yield 2
        finally:
            closed.set()

    async def main() -> None:
        reading = asyncio.create_task(collected(blocks))
        await until(begun.is_set)
        for _ in range(3):
            reading.cancel()
            await asyncio.sleep(0.01)
            assert not reading.done()
        gate.set()
        await asyncio.wait((reading,), timeout=20)
        assert reading.cancelled()
        assert closed.is_set(), "its finally ran, on its thread"

    asyncio.run(main())


def test_a_job_that_never_began_is_not_waited_for_and_never_begins() -> None:
    gate = threading.Event()
    ran: list[str] = []

    def blocks() -> Iterator[int]:
        ran.append("first")
        gate.wait(20)
        yield 1

    def second() -> Iterator[int]:
        ran.append("second")
        yield 2

    async def main() -> None:
        threads = pool(1)
        first = asyncio.create_task(collected(blocks, threads))
        await until(lambda: ran)
        waiting = asyncio.create_task(collected(second, threads))
        await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.wait((waiting,), timeout=1)
        assert waiting.cancelled()
        gate.set()
        assert await within(first) == [1]
        assert await within(collected(lambda: iter("x"), threads)) == ["x"]
        assert ran == ["first"]

    asyncio.run(main())


def test_no_more_threads_than_allowed_and_idle_ones_are_used_again_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_threads, "IDLE", 0.1)
    most = 0

    def counts() -> Iterator[str]:
        nonlocal most
        most = max(most, alive())
        time.sleep(0.002)
        yield threading.current_thread().name

    async def main() -> None:
        threads = pool(3, "three")
        found = await within(asyncio.gather(*(collected(counts, threads) for _ in range(60))))
        assert found == [["three"]] * 60
        assert most == 3
        for _ in range(20):
            await collected(counts, threads)
        assert alive() <= 3
        await until(lambda: alive() == 0)
        assert await within(collected(counts, threads)) == ["three"]

    asyncio.run(main())


def test_the_thread_sees_the_runs_context_variables() -> None:
    who = contextvars.ContextVar("who", default="nobody")

    async def main() -> None:
        who.set("ann")
        assert await within(collected(lambda: iter([who.get()]))) == ["ann"]

    asyncio.run(main())


def test_threads_are_daemons_so_that_the_process_can_end() -> None:
    assert asyncio.run(within(collected(lambda: iter([threading.current_thread().daemon])))) == [True]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 3), st.integers(0, 250)), min_size=1, max_size=12))
def test_no_wake_up_is_lost_whatever_the_pace(jobs: list[tuple[int, int, int]]) -> None:
    """Producers and readers pause at random moments; some readers leave early; everybody comes home."""

    def produces(count: int, pause: int) -> Iterator[int]:
        for number in range(count):
            if pause and random.random() < 0.05:
                time.sleep(random.random() * pause / 5000)
            yield number

    async def reads(threads: DaemonThreads, count: int, pause: int, leave_after: int) -> None:
        found = []
        items = iterate(threads, lambda: produces(count, pause))
        async for item in items:
            found.append(item)
            if len(found) > leave_after:
                break
            if random.random() < 0.05:
                await asyncio.sleep(random.random() / 5000)
        await items.aclose()  # type: ignore[attr-defined]  # an async generator, typed as its protocol
        assert found == list(range(min(count, leave_after + 1)))

    async def main() -> None:
        threads = pool(3)
        await within(asyncio.gather(*(reads(threads, *job) for job in jobs)))

    asyncio.run(main())


@pytest.mark.fault
def test_a_hundred_thousand_events_through_many_threads_at_once() -> None:
    def produces(count: int) -> Iterator[int]:
        yield from range(count)

    async def main() -> None:
        threads = pool(16)
        async with asyncio.timeout(60):
            found = await asyncio.gather(*(collected(lambda: produces(2000), threads) for _ in range(50)))
        assert all(one == list(range(2000)) for one in found)

    asyncio.run(main())


def test_a_thread_that_cannot_be_started_costs_its_own_run_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = pool(1)

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                await collected(lambda: iter([1]), threads)
        assert await within(collected(lambda: iter([1, 2]), threads)) == [1, 2]

    asyncio.run(main())
