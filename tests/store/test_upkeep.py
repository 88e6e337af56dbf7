"""Threads that are deleted, and runs that their host did not survive."""

from __future__ import annotations

import asyncio
import time

import orjson
import pytest

from agenthost.errors import StoreError, ThreadBusy
from agenthost.store import MAX_EPOCH, Claim, NewInterrupt, ThreadBefore
from agenthost.threads import Message, ThreadKey

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


def test_a_run_that_a_lost_host_left_is_taken_over_under_the_next_epoch(open_store, new_run, end, entries):
    async def before(store):
        await store.start_run(new_run("t", say="earlier"))
        await store.end_run(end("r1", "yes", state={"n": 1}))
        await store.start_run(new_run("t", say="go", resumable=True, run_id="left"))
        await store.append("left", 1, entries(1, 2))

    async def after(store):
        with pytest.raises(StoreError, match="goes on elsewhere: epoch 1, not 2"):
            await store.append("left", 2, entries(3, 3))
        [left] = await store.recover()
        assert (left.run_id, left.epoch, left.resumable, left.last_seq) == ("left", 1, True, 2)
        for epoch in (1, 3):
            with pytest.raises(StoreError, match="run left cannot begin: it has ended, or goes on elsewhere"):
                await store.begin_run("left", epoch, Message.of("user", "go"))
        with pytest.raises(StoreError, match="run nobody's is not in the store"):
            await store.begin_run("nobody's", 1, None)
        known = await store.begin_run("left", 2, Message.of("user", "go"))
        assert ([message.text for message in known.messages], known.state) == (["earlier", "yes"], {"n": 1})
        with pytest.raises(StoreError, match="run left goes on elsewhere: epoch 2, not 1"):
            await store.append("left", 1, entries(3, 3))
        await store.append("left", 2, entries(3, 3))
        assert await store.recover() == [], "it goes on here now"
        await store.end_run(end("left", epoch=2, entries=entries(4, 4)))
        thread = await store.get_thread(KEY)
        assert [message.text for message in thread.messages] == ["earlier", "yes", "go"], "it is said once"
        with pytest.raises(StoreError, match="run left cannot begin"):
            await store.begin_run("left", 3, None)

    for work in (before, after):
        store = open_store()
        asyncio.run(work(store))
        store.close()


def test_a_run_whose_host_is_lost_every_time_begins_three_times_and_no_more(open_store, new_run):
    async def begin(store):
        await store.start_run(new_run("t", resumable=True, run_id="cursed"))

    async def again(store):
        [left] = await store.recover()
        await store.begin_run("cursed", left.epoch + 1, None)

    async def no_more(store):
        assert await store.recover() == []
        run = await store.get_run("cursed")
        assert (run.status, run.code, run.epoch) == ("failed", "host_lost", MAX_EPOCH)

    for work in (begin, again, again, no_more):
        store = open_store()
        asyncio.run(work(store))
        store.close()


@pytest.mark.parametrize("lost", [False, True])
def test_a_queued_run_begins_with_its_message_and_the_thread_as_it_is_by_then(open_store, new_run, end, lost):
    async def before(store):
        await store.start_run(new_run("t", say="first"))
        await store.start_run(new_run("t", say="second", status="queued", run_id="waits"))
        asked = [NewInterrupt("i", {}, None, 9e12)]
        await store.end_run(end("r1", "asking", status="paused", interrupts=asked))

    async def after(store):
        if lost:
            [left] = await store.recover()
            assert (left.run_id, left.status, left.epoch) == ("waits", "queued", 1)
        with pytest.raises(StoreError, match="run waits cannot begin"):
            await store.begin_run("waits", 2, Message.of("user", "second"))
        known = await store.begin_run("waits", 1, Message.of("user", "second"))
        assert [message.text for message in known.messages] == ["first", "asking"]
        assert [asked.status for asked in await store.interrupts(KEY)] == ["superseded"]
        thread = await store.get_thread(KEY)
        assert [(said.text, said.run_id, said.status) for said in thread.messages] == [
            ("first", "r1", "paused"),
            ("asking", "r1", "paused"),
            ("second", "waits", "running"),
        ]
        with pytest.raises(StoreError, match="run waits cannot begin"):
            await store.begin_run("waits", 1, None)
        await store.end_run(end("waits"))

    store = open_store()
    asyncio.run(before(store))
    if lost:
        store.close()
        store = open_store()
    asyncio.run(after(store))


def test_a_queued_run_without_a_thread_begins_on_nothing(store, new_run):
    async def main():
        await store.start_run(new_run(detached=True, status="queued", run_id="alone"))
        assert await store.begin_run("alone", 1, None) == ThreadBefore([], {})
        assert (await store.get_run("alone")).status == "running"

    asyncio.run(main())


def test_a_queued_answer_that_begins_supersedes_nothing(store, new_run, end):
    async def main():
        await store.start_run(new_run("t", say="pay", run_id="asker"))
        asked = [NewInterrupt(name, {}, None, 9e12) for name in ("i1", "i2")]
        await store.end_run(end("asker", status="paused", interrupts=asked))
        claims = [Claim("asker", "i1", {})]
        await store.start_run(new_run("t", status="queued", run_id="answers", resumes="asker", claims=claims))
        await store.begin_run("answers", 1, None)
        assert [one.status for one in await store.interrupts(KEY)] == ["claimed", "open"]

    asyncio.run(main())


def test_what_a_lost_run_had_claimed_is_open_again_unless_its_agent_had_said_something(
    open_store, new_run, end, entries
):
    async def before(store):
        await store.start_run(new_run("t", say="pay", run_id="asker"))
        asked = [NewInterrupt(name, {}, None, 9e12) for name in ("i1", "i2", "i3")]
        await store.end_run(end("asker", status="paused", interrupts=asked))
        for number in (1, 2):
            claims = [Claim("asker", f"i{number}", {"response": "yes"})]
            await store.start_run(new_run("t", run_id=f"answer{number}", resumes="asker", claims=claims))
        await store.append("answer2", 1, entries(1, 1))

    async def after(store):
        await store.recover()
        open_again, answered, untouched = await store.interrupts(KEY)
        assert (open_again.status, open_again.claimed_by, open_again.answer) == ("open", None, None)
        assert (answered.status, answered.claimed_by) == ("answered", "answer2")
        assert untouched.status == "open"
        await store.start_run(new_run("t", say="never mind"))
        assert [one.status for one in await store.interrupts(KEY)] == ["superseded", "answered", "superseded"]

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


@pytest.mark.fault
def test_ten_thousand_lost_runs_do_not_keep_the_next_start_waiting(open_store, new_run, settle, rows):
    async def before(store):
        for _ in range(20):
            await settle(*(store.start_run(new_run(detached=True)) for _ in range(500)))

    async def after(store):
        began = time.monotonic()
        assert await store.recover() == []
        assert time.monotonic() - began < 2, "a host that was killed is ready again within two seconds"

    for work in (before, after):
        store = open_store()
        asyncio.run(work(store))
        store.close()
    assert rows("SELECT status, count(*) FROM runs GROUP BY status") == [("failed", 10_000)]


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


def test_a_run_that_is_deleted_leaves_its_messages_where_its_thread_has_more(open_store, new_run, end, entries):
    async def main(store):
        for _turn in range(2):
            run = new_run("t", say="hello")
            await store.start_run(run)
            with pytest.raises(ThreadBusy, match="this run is going"):
                await store.delete_run(run.run_id)
            await store.end_run(end(run.run_id, "hi", entries=entries(1, 2)))
        assert await store.delete_run("r1") is True
        assert await store.delete_run("r1") is False
        assert await store.get_run("r1") is None
        assert await store.read_events("r1", 0, 9) == []
        assert [message.text for message in (await store.get_thread(KEY)).messages] == ["hello", "hi"] * 2
        assert await store.delete_run("r2") is True, "of the first, messages are left"
        assert len((await store.get_thread(KEY)).messages) == 4

    asyncio.run(main(open_store()))


def test_a_thread_whose_only_run_is_deleted_goes_with_it(open_store, new_run, end):
    async def main(store):
        run = new_run("t", say="hello", brought=[Message.of("user", "before")])
        await store.start_run(run)
        assert [one.text for one in (await store.get_thread(KEY)).messages] == ["before", "hello"]
        await store.end_run(end(run.run_id))
        assert await store.delete_run(run.run_id) is True
        assert await store.get_thread(KEY) is None

    asyncio.run(main(open_store()))
