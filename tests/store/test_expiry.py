"""What is too old is deleted, in parts; what waits for an answer, or goes, or is said in a thread, stays."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import pytest
from sqlalchemy import literal, select

from agenthost.events import Entry
from agenthost.store import Claim, Expired, NewInterrupt, NewRun, RunEnd, Store, expiry
from agenthost.store.expiry import EVENTS, delete_some_events, delete_unused_threads, old_runs
from agenthost.store.schema import threads
from agenthost.threads import Message, ThreadKey

NOW = 1_000_000.0
DAY = 86_400.0


def with_store(work: Any) -> None:
    async def main() -> None:
        store = Store.open("memory:")
        try:
            await work(store)
        finally:
            store.close()

    running: Coroutine[Any, Any, None] = main()
    asyncio.run(running)


async def begun(store: Store, run_id: str, created: float, **fields: Any) -> None:
    said = Message.of("user", run_id) if fields.get("thread_id") else None
    run = NewRun(run_id=run_id, agent="a", principal="p", created=created, detached=True, user_message=said, **fields)
    await store.start_run(run)


async def ended(store: Store, run_id: str, at: float, *, status: Any = "completed", **fields: Any) -> None:
    end = RunEnd(run_id=run_id, status=status, stop_reason="r", ended=at, result={}, **fields)
    await store.end_run(end)


def events(count: int) -> list[Entry]:
    return [Entry(seq, "model_chunk", b"{}") for seq in range(1, count + 1)]


def test_an_old_run_goes_with_its_events_and_a_younger_one_stays() -> None:
    async def work(store: Store) -> None:
        for run_id, at in (("old", NOW - 2 * DAY), ("young", NOW - DAY / 2)):
            await begun(store, run_id, at)
            await ended(store, run_id, at, entries=events(3))
        await begun(store, "going", NOW - 9 * DAY)
        assert await store.expire(NOW, DAY, 0) == Expired(1, 0, 0)
        assert await store.get_run("old") is None
        assert await store.read_events("old", 0, 10) == []
        assert await store.get_run("young") is not None
        assert len(await store.read_events("young", 0, 10)) == 3
        assert await store.get_run("going") is not None
        assert await store.expire(NOW, DAY, 0) == Expired(0, 0, 0)
        assert await store.expire(NOW + 99 * DAY, 0, 0) == Expired(0, 0, 0)

    with_store(work)


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_what_a_deleted_run_said_stays_in_its_thread_with_how_it_ended(status: Any) -> None:
    async def work(store: Store) -> None:
        await begun(store, "r", NOW - 2 * DAY, thread_id="t")
        await ended(store, "r", NOW - 2 * DAY, status=status)
        before = await store.get_thread(ThreadKey("p", "a", "t"))
        await store.expire(NOW, DAY, 0)
        after = await store.get_thread(ThreadKey("p", "a", "t"))
        assert before is not None
        assert after is not None
        assert after.messages == before.messages
        assert (len(before.runs), after.runs) == (1, [])
        assert after.messages[0].status == (None if status == "completed" else status)
        await begun(store, "next", NOW, thread_id="t")

    with_store(work)


def test_a_run_that_waits_for_an_answer_stays_until_its_question_expires() -> None:
    async def work(store: Store) -> None:
        key = ThreadKey("p", "a", "t")
        await begun(store, "r", NOW - 9 * DAY, thread_id="t")
        asked = [NewInterrupt("q", {"question": "?"}, None, NOW + DAY)]
        await ended(store, "r", NOW - 9 * DAY, status="paused", interrupts=asked)
        assert await store.expire(NOW, DAY, 0) == Expired(0, 0, 0)
        assert await store.expire(NOW + 2 * DAY, 0, 0) == Expired(0, 0, 1)
        assert [one.status for one in await store.interrupts(key)] == ["expired"]
        assert await store.expire(NOW + 2 * DAY, DAY, 0) == Expired(1, 0, 0)
        assert await store.interrupts(key) == []

    with_store(work)


def test_a_run_whose_question_is_just_being_answered_stays() -> None:
    async def work(store: Store) -> None:
        now = time.time()
        await begun(store, "r", now - 9 * DAY, thread_id="t")
        asked = [NewInterrupt("q", {"question": "?"}, None, now + DAY)]
        await ended(store, "r", now - 9 * DAY, status="paused", interrupts=asked)
        await begun(store, "s", now, thread_id="t", resumes="r", claims=[Claim("r", "q", {})])
        assert await store.expire(now, DAY, 0) == Expired(0, 0, 0)

    with_store(work)


def test_an_unused_thread_that_waits_for_an_answer_stays_until_its_question_expires() -> None:
    async def work(store: Store) -> None:
        key = ThreadKey("p", "a", "t")
        now = time.time()
        asked = [NewInterrupt("q", {"question": "?"}, None, now + DAY)]
        await begun(store, "r", now - 9 * DAY, thread_id="t")
        await ended(store, "r", now - 9 * DAY, status="paused", interrupts=asked)
        assert await store.expire(now, DAY, DAY) == Expired(0, 0, 0)
        assert [one.status for one in await store.interrupts(key)] == ["open"]
        assert await store.expire(now + 2 * DAY, 0, DAY) == Expired(0, 1, 1)
        assert await store.get_thread(key) is None

    with_store(work)


def test_an_unused_thread_goes_whole_and_one_with_a_run_going_does_not() -> None:
    async def work(store: Store) -> None:
        for thread in ("old", "busy", "young"):
            await begun(store, thread, NOW - (DAY / 2 if thread == "young" else 2 * DAY), thread_id=thread)
            if thread != "busy":
                await ended(store, thread, NOW - (DAY / 2 if thread == "young" else 2 * DAY), entries=events(2))
        assert await store.expire(NOW, 0, DAY) == Expired(0, 1, 0)
        page = await store.list_threads("p", "a", limit=10)
        assert {one.thread_id for one in page.items} == {"busy", "young"}
        assert await store.get_run("old") is None
        assert await store.read_events("old", 0, 10) == []

    with_store(work)


def test_many_runs_and_long_ones_are_deleted_in_parts() -> None:
    async def work(store: Store) -> None:
        for number in range(250):
            await begun(store, f"r{number:03}", NOW - 2 * DAY)
            await ended(store, f"r{number:03}", NOW - 2 * DAY, entries=events(EVENTS if number == 7 else 1))
        parts, more = await store._read(old_runs(NOW - DAY, 0))
        assert [(len(part.ids), part.events) for part in parts] == [(7, 7), (1, 5000), (100, 100), (100, 100), (42, 42)]
        assert more is None
        assert await store.expire(NOW, DAY, 0) == Expired(250, 0, 0)

    with_store(work)


def test_a_run_of_very_many_events_is_thinned_out_before_it_goes(open_store, rows) -> None:
    async def main() -> None:
        store = open_store()
        await begun(store, "long", NOW - 2 * DAY, thread_id="t")
        await ended(store, "long", NOW - 2 * DAY, entries=events(2 * EVENTS + 10))
        [part], _more = await store._read(old_runs(NOW - DAY, 0))
        assert part == (["long"], 2 * EVENTS + 10)
        some = delete_some_events(select(literal("long")))
        assert await store._write(some) == EVENTS
        thinned = await store.get_run("long")
        assert (thinned.status, thinned.first_seq, thinned.last_seq) == ("completed", EVENTS + 1, 2 * EVENTS + 10)
        assert await store._write(some) == EVENTS
        assert await store._write(some) == 10
        assert await store._write(some) == 0
        assert await store.expire(NOW, DAY, 0) == Expired(1, 0, 0)
        assert rows("SELECT count(*) FROM events") == [(0,)]

    asyncio.run(main())


def test_a_thread_of_very_many_events_goes_whole_as_well() -> None:
    async def work(store: Store) -> None:
        for number in range(3):
            await begun(store, f"r{number}", NOW - 2 * DAY, thread_id="t")
            await ended(store, f"r{number}", NOW - 2 * DAY, entries=events(EVENTS - 1))
        for number in range(120):
            await begun(store, f"s{number}", NOW - 2 * DAY, thread_id=f"small{number}")
            await ended(store, f"s{number}", NOW - 2 * DAY)
        assert await store.expire(NOW, 0, DAY) == Expired(0, 121, 0)
        assert (await store.list_threads("p", "a", limit=9)).items == []
        assert await store.agents_with_data() == set()

    with_store(work)


def test_a_thread_that_is_used_again_while_it_is_being_deleted_stays() -> None:
    async def work(store: Store) -> None:
        await begun(store, "r", NOW - 2 * DAY, thread_id="t")
        await ended(store, "r", NOW - 2 * DAY, entries=events(1))
        still = select(threads.c.id).where(threads.c.updated < NOW - DAY)
        await begun(store, "s", NOW, thread_id="t")
        assert await store._write(delete_unused_threads(still)) == 0
        assert await store.get_run("r") is not None

    with_store(work)


def test_old_runs_are_looked_for_until_none_of_many_is_old_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry, "FOUND", 2)

    async def work(store: Store) -> None:
        for number, at in enumerate((NOW, NOW - 2 * DAY, NOW - 2 * DAY, NOW - 2 * DAY, NOW, NOW, NOW - 2 * DAY)):
            await begun(store, f"r{number}", at)
            await ended(store, f"r{number}", at)
        assert await store.expire(NOW + 1, DAY, 0) == Expired(3, 0, 0)
        assert await store.get_run("r6") is not None, "it waits until those before it are old"
        assert await store.expire(NOW + 2 * DAY, DAY, 0) == Expired(4, 0, 0)

    with_store(work)
