"""Nothing of a durable run is seen before it is committed, and what the store refuses ends the run."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agenthost.agents import RunContext
from agenthost.errors import StoreError
from agenthost.events import Interrupt
from tests.agents_for_tests import (
    Held,
    events,
    hosting,
    idle,
    kinds,
    said,
    speaks,
    started,
    thread,
    told,
    until,
    within,
)


def locked(path: Path) -> sqlite3.Connection:
    """Take the write lock of a store away from its host."""
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    return other


def test_nothing_is_seen_before_it_is_committed(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def main() -> None:
        held = Held()
        async with hosting(held, store=f"sqlite:///{path}") as host:
            run = await started(host, thread())
            reader = run.read()
            with closing(locked(path)) as lock:
                await within(held.begun.wait())
                waiting = reader.news()
                await asyncio.sleep(0.6)  # the entry is there, the disk has been asked for it, nobody may see it
                assert run.log.last == 1
                assert (waiting.done(), reader.take()) == (False, [])
                lock.execute("ROLLBACK")
            await within(waiting)
            assert [entry.type for entry in reader.take() or ()] == ["model_chunk"]
            held.go.set()
            found = await events(run)
            assert kinds(found) == ["model_chunk", "model_chunk", "done"]
            assert [entry.data for entry in await host.store.read_events(run.id, 0, 10)]
            reader.close()

    asyncio.run(main())


def test_the_end_too_is_committed_before_it_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def main() -> None:
        held = Held()
        async with hosting(held, store=f"sqlite:///{path}") as host:
            run = await started(host, thread())
            reading = asyncio.create_task(events(run))
            await until(lambda: run.log.visible == 1)
            with closing(locked(path)) as lock:
                held.go.set()
                await asyncio.sleep(0.3)  # long enough for it to be wrong
                assert run.outcome_known is None
                assert run.log.visible == 1
                lock.execute("ROLLBACK")
            assert kinds(await reading) == ["model_chunk", "model_chunk", "done"]

    asyncio.run(main())


@pytest.mark.parametrize("size", [1, 3000, 100_000])
def test_a_durable_run_is_ahead_of_the_disk_by_little(tmp_path: Path, size: int) -> None:
    path = tmp_path / "store.db"
    produced = 0

    async def floods(ctx: RunContext) -> AsyncIterator[str]:
        nonlocal produced
        while True:
            yield "x" * size
            produced += 1

    async def main() -> None:
        async with hosting(floods, store=f"sqlite:///{path}") as host:
            run = await started(host, thread())
            reader = run.read()
            await until(lambda: produced > 100)
            with closing(locked(path)):
                last = -1
                while last != run.log.last:
                    last = run.log.last
                    await asyncio.sleep(0.1)  # it makes thousands in that time, unless it waits
                ahead = run.log.last - run.log.visible
                assert 0 < ahead <= 64
                assert (ahead - 1) * size <= 64 << 10
            reader.close()
            await idle(host)

    asyncio.run(main())


def test_an_entry_that_a_reader_waits_for_does_not_wait_for_the_next_one(tmp_path: Path) -> None:
    """Two entries in one moment, then silence: the second comes with the commit after the first's."""

    async def says_two(ctx: RunContext) -> AsyncIterator[str]:
        for _ in range(5):
            yield "one"
            yield "two"
            await go.wait()
            go.clear()

    go = asyncio.Event()

    async def main() -> None:
        nonlocal go
        go = asyncio.Event()
        async with hosting(says_two, store=f"sqlite:///{tmp_path}/store.db") as host:
            run = await started(host, thread())
            reader = run.read()
            slowest = 0.0
            for turn in range(1, 6):
                before = time.monotonic()
                while reader.seq < 2 * turn:
                    if not reader.take():
                        await within(reader.news())
                slowest = max(slowest, time.monotonic() - before)
                go.set()
            assert slowest < 0.2
            reader.close()

    asyncio.run(main())


@pytest.mark.fault
def test_a_store_that_refuses_fails_the_run_and_what_it_did_not_take_is_never_seen(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "store.db"

    async def main() -> None:
        held = Held()
        async with hosting(held, store=f"sqlite:///{path}") as host:
            run = await started(host, thread())
            with closing(locked(path)) as lock:
                reading = asyncio.create_task(events(run))
                found = await within(reading)
                assert kinds(found) == ["error"], "the chunk was said and not taken"
                assert (found[0]["id"], found[0]["code"], found[0]["error"]) == (
                    1,
                    "store",
                    "The run could not be recorded",
                )
                assert held.cancelled.is_set(), "an agent nobody can hear is stopped"
                with pytest.raises(StoreError) as raised:
                    await run.result()
                assert (raised.value.code, raised.value.status) == ("store", 500)
                lock.execute("ROLLBACK")
            await until(lambda: not host.runs._finisher.unrecorded)
            stored = await host.store.get_run(run.id)
            assert stored is not None
            assert (stored.status, stored.code) == ("failed", "store"), "recorded once the store was well again"
            assert [entry.type for entry in await host.store.read_events(run.id, 0, 10)] == ["error"]
            held.go.set()
            assert kinds(await told(host, thread()))[-1] == "done"
            assert await said(host) == [
                ("user", "hello", "failed"),
                ("user", "hello", None),
                ("assistant", "begun ended", None),
            ]
            await idle(host)

    asyncio.run(main())
    assert "another process keeps it locked" in caplog.text


@pytest.mark.fault
def test_a_store_that_refuses_the_start_leaves_nothing_of_the_run(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def main() -> None:
        held = Held()
        async with hosting(held, store=f"sqlite:///{path}") as host:
            with closing(locked(path)) as lock:
                with pytest.raises(StoreError):
                    await started(host, thread())
                assert not held.begun.is_set()
                await idle(host)
                lock.execute("ROLLBACK")
            held.go.set()
            assert kinds(await told(host, thread()))[-1] == "done"
            assert len(await said(host)) == 2

    asyncio.run(main())


def test_a_store_that_fails_for_good_still_lets_the_run_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        held = Held()
        async with hosting(held, store=f"sqlite:///{tmp_path}/store.db") as host:
            run = await started(host, thread())
            reading = asyncio.create_task(events(run))
            await until(lambda: run.log.visible == 1)
            await asyncio.to_thread(host.store.close)
            held.go.set()
            found = await reading
            assert kinds(found) == ["model_chunk", "error"]
            assert found[-1]["code"] == "store"
            await idle(host)

    asyncio.run(main())
    assert "is not recorded yet: the store" in caplog.text


def test_a_caller_that_leaves_while_the_start_is_written_leaves_a_cancelled_run(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def main() -> None:
        held = Held()
        async with hosting(held, store=f"sqlite:///{path}") as host:
            with closing(locked(path)) as lock:
                starting = asyncio.create_task(started(host, thread()))
                await asyncio.sleep(0.1)  # the writer is asked, and waits for the lock
                starting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await starting
                lock.execute("ROLLBACK")
            held.go.set()
            assert kinds(await told(host, thread()))[-1] == "done"
            page = await host.store.list_runs("agent", "ann", limit=10)
            assert [run.status for run in page.items] == ["completed", "cancelled"]
            assert (await said(host))[0] == ("user", "hello", "cancelled")
            await idle(host)

    asyncio.run(main())


@pytest.mark.fault
def test_an_append_that_fails_while_the_run_ends_is_the_runs_end(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def main() -> None:
        async with hosting(speaks, store=f"sqlite:///{path}") as host:
            with closing(locked(path)) as lock:
                lock.execute("ROLLBACK")
                run = await started(host, thread())
                lock.execute("BEGIN IMMEDIATE")
                found = await events(run)
                assert kinds(found) == ["error"], "said, and folded, and not taken"
                assert (found[0]["id"], found[0]["code"]) == (1, "store")
                lock.execute("ROLLBACK")
            await until(lambda: not host.runs._finisher.unrecorded)
            assert [entry.type for entry in await host.store.read_events(run.id, 0, 10)] == ["error"]
            assert await said(host) == [("user", "hello", "failed")]
            assert kinds(await told(host, thread()))[-1] == "done"
            await idle(host)

    asyncio.run(main())


def test_a_question_is_written_with_the_end_of_its_run_and_not_before(tmp_path: Path) -> None:
    async def asks(ctx: RunContext) -> AsyncIterator[Any]:
        yield "let me ask"
        yield Interrupt("really?")
        await go.wait()

    async def main() -> None:
        nonlocal go
        go = asyncio.Event()
        async with hosting(asks, store=f"sqlite:///{tmp_path}/store.db") as host:
            run = await started(host, thread())
            reader = run.read()
            await until(lambda: run.log.visible == 1)
            for _ in range(30):
                await asyncio.sleep(0.02)  # longer than an entry stays unwritten
                reader.news()
            assert (run.log.last, run.log.visible) == (2, 1)
            assert [entry.type for entry in await host.store.read_events(run.id, 0, 9)] == ["model_chunk"]
            go.set()
            assert kinds(await events(run)) == ["model_chunk", "interrupt"]
            assert [entry.type for entry in await host.store.read_events(run.id, 0, 9)] == ["model_chunk", "interrupt"]
            reader.close()

    go: asyncio.Event
    asyncio.run(main())
