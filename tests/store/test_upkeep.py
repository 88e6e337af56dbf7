"""Threads that are deleted, and runs that their host did not survive."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from agenthost.errors import ThreadBusy
from agenthost.store import NewInterrupt, ThreadBefore
from agenthost.threads import ThreadKey

KEY = ThreadKey("acme", "echo", "t")
TABLES = ("threads", "messages", "runs", "events", "interrupts")


def test_runs_that_were_going_when_the_host_was_lost_end_so_at_the_next_start(open_store, new_run, end, entries):
    async def before(store):
        await store.start_run(new_run("t", say="hello"))
        await store.append("r1", 1, entries(1, 3))
        await store.start_run(new_run("u"))
        await store.start_run(new_run("v", agent="sleeper", resumable=True))
        await store.append("r3", 1, entries(1, 1))
        await store.start_run(new_run("w"))
        await store.end_run(end("r4", entries=entries(1, 1)))

    async def after(store):
        await store.start_run(new_run("x"))
        kept = await store.recover()
        assert [(run.run_id, run.status, run.epoch) for run in kept] == [("r3", "running", 1)]
        for run_id, last in (("r1", 3), ("r2", 0)):
            run = await store.get_run(run_id)
            assert (run.status, run.stop_reason, run.code) == ("failed", "host_lost", "host_lost")
            assert run.ended > run.created
            *rest, error = await store.read_events(run_id, 0, 99)
            assert rest == entries(1, last)
            assert (error.seq, error.type) == (last + 1, "error")
            said = orjson.loads(error.data)
            assert len(said.pop("correlation_id")) == 32
            assert said == {
                "type": "error",
                "error": "The host was lost while this run was going",
                "code": "host_lost",
                "run_id": run_id,
            }
        thread = await store.get_thread(ThreadKey("acme", "echo", "t"))
        assert [(message.text, message.status) for message in thread.messages] == [("hello", "failed")]
        for run_id, status in (("r3", "running"), ("r4", "completed"), ("r5", "running")):
            assert (await store.get_run(run_id)).status == status
        await store.append("r3", 1, entries(2, 2))
        await store.append("r5", 1, entries(1, 1))
        assert [run.last_seq for run in await store.recover()] == [2]

    for work in (before, after):
        store = open_store()
        asyncio.run(work(store))
        store.close()


def test_a_thousand_lost_runs_are_ended_in_one_transaction(open_store, new_run, settle, rows):
    async def before(store):
        await settle(*(store.start_run(new_run(f"t{number}")) for number in range(1100)))

    async def after(store):
        assert await store.recover() == []
        assert await store.delete_thread(ThreadKey("acme", "echo", "t7"))

    for work in (before, after):
        store = open_store()
        asyncio.run(work(store))
        store.close()
    assert rows("SELECT status, count(*) FROM runs GROUP BY status") == [("failed", 1099)]
    assert rows("SELECT count(*), max(seq) FROM events") == [(1099, 1)]


def test_a_thread_is_not_deleted_under_a_run_and_else_whole(open_store, new_run, end, entries, rows):
    async def main():
        store = open_store()
        for number, status in ((1, "queued"), (2, "running")):
            await store.start_run(new_run("t", say="hello", status=status))
            with pytest.raises(ThreadBusy) as busy:
                await store.delete_thread(KEY)
            assert busy.value.hint == "wait until it has ended, or cancel it"
            asked = [NewInterrupt("i", {}, None, 1.0)]
            await store.end_run(end(f"r{number}", "hi", entries=entries(1, 2), interrupts=asked, status="paused"))
        await store.start_run(new_run("u", say="stays"))
        await store.append("r3", 1, entries(1, 1))
        assert await store.delete_thread(KEY)
        assert not await store.delete_thread(KEY)
        assert await store.get_run("r1") is None
        counted = {table: rows(f"SELECT count(*) FROM {table}")[0][0] for table in TABLES}
        assert counted == {"threads": 1, "messages": 1, "runs": 1, "events": 1, "interrupts": 0}
        await store.start_run(new_run("t"))
        assert (await store.get_thread(KEY)).messages == []

    asyncio.run(main())


def test_a_busy_thread_fails_its_own_delete_only(store, new_run, entries, settle):
    async def main():
        await store.start_run(new_run("t"))
        appended, refused, started = await settle(
            store.append("r1", 1, entries(1, 2)), store.delete_thread(KEY), store.start_run(new_run("u"))
        )
        assert appended is None
        assert isinstance(refused, ThreadBusy)
        assert isinstance(started, ThreadBefore)
        assert await store.read_events("r1", 0, 9) == entries(1, 2)

    asyncio.run(main())


def test_a_probe_writes(store):
    asyncio.run(store.probe())
