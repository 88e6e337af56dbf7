"""Threads, runs and logs through the store's front door, on a file and in memory."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest

from agenthost.errors import StoreError
from agenthost.store import Store, StoreOpenError, ThreadBefore
from agenthost.store.hot import LARGE_BODY
from agenthost.threads import Message, ThreadKey

KEY = ThreadKey("acme", "echo", "t")


def texts(messages):
    return [(message.role, message.text) for message in messages]


def test_a_run_that_starts_gets_its_thread_as_it_was_before(store, new_run, end):
    async def main():
        first, second = new_run("t", say="hello"), new_run("t", say="and again")
        assert await store.start_run(first) == ThreadBefore([], {})
        await store.end_run(end(first.run_id, "hello back", state={"count": 1}))
        before = await store.start_run(second)
        assert texts(before.messages) == [("user", "hello"), ("assistant", "hello back")]
        assert before.state == {"count": 1}
        await store.end_run(end(second.run_id))
        third = await store.start_run(new_run("t"))
        assert texts(third.messages)[2:] == [("user", "and again")]
        assert third.state == {"count": 1}, "a state of None leaves the thread's as it is"

    asyncio.run(main())


@pytest.mark.parametrize(("count", "size"), [(3, LARGE_BODY + 1), (300, 1000), (40, LARGE_BODY - 99)])
def test_a_large_thread_is_read_beside_the_writer_and_comes_back_the_same(store, new_run, end, settle, count, size):
    said = [Message.of("assistant", f"{number} " + "x" * size) for number in range(count)]

    async def main():
        await store.start_run(new_run("t", say="hello"))
        await store.end_run(replace(end("r1", state={"n": 1}), messages=said))
        again, other = await settle(
            store.start_run(new_run("t", say="again")), store.start_run(new_run("u", say="quick"))
        )
        assert texts(again.messages) == [("user", "hello"), *texts(said)]
        assert (again.state, other) == ({"n": 1}, ThreadBefore([], {}))
        assert (again.messages[-1].run_id, again.messages[-1].at) == ("r1", 1001.0)
        last = await store.start_run(new_run("t"))
        assert texts(last.messages) == [("user", "hello"), *texts(said), ("user", "again")]

    asyncio.run(main())


def test_a_large_thread_that_grows_while_it_is_read_is_read_again(store, new_run, end):
    async def main():
        await store.start_run(new_run("t", say="x" * 2 * LARGE_BODY))
        late = store.start_run(new_run("t", say="late"))
        await store.probe()  # it has been asked for; what it found is not looked at yet
        await store.end_run(end("r1", "y" * 2 * LARGE_BODY))
        assert [len(message.text) for message in (await late).messages] == [2 * LARGE_BODY, 2 * LARGE_BODY]

    asyncio.run(main())


def test_a_run_without_a_thread_leaves_none_and_keeps_no_messages(store, new_run, end):
    async def main():
        run = new_run(say="hello", idempotency_key="k")
        assert await store.start_run(run) == ThreadBefore([], {})
        await store.end_run(end(run.run_id, "hi", state={"lost": True}))
        assert (await store.list_threads("acme", "echo", limit=10)).items == []
        stored = await store.get_run(run.run_id)
        assert (stored.thread_id, stored.status, stored.idempotency_key) == (None, "completed", "k")

    asyncio.run(main())


def test_everything_about_a_run_comes_back(store, new_run, end, entries):
    async def main():
        run = new_run(
            "t",
            input={"prompt": "p", "input": {"n": [1, None, "é"]}, "metadata": {"a": 1}},
            agent_version="2.1",
            settings_hash="abc",
            idempotency_key="key",
            request_digest="digest",
            resumes="r0",
            parent="p0",
            detached=True,
        )
        await store.start_run(run)
        going = await store.get_run(run.run_id)
        assert (going.status, going.stop_reason, going.ended, going.result) == ("running", None, None, None)
        assert (going.input, going.agent_version, going.settings_hash) == (run.input, "2.1", "abc")
        assert (going.idempotency_key, going.request_digest, going.detached) == ("key", "digest", True)
        assert (going.resumes, going.parent, going.epoch, going.thread_id) == ("r0", "p0", 1, "t")
        await store.end_run(
            end(
                run.run_id,
                status="failed",
                stop_reason="timeout",
                code="timeout",
                result={"n": 1},
                entries=entries(1, 2),
            )
        )
        ended = await store.get_run(run.run_id)
        assert ended == replace(
            going,
            status="failed",
            stop_reason="timeout",
            code="timeout",
            result={"n": 1},
            ended=1001.0,
            first_seq=1,
            last_seq=2,
        )
        assert await store.read_events(run.run_id, 0, 10) == entries(1, 2)
        assert await store.get_run("nobody's") is None

    asyncio.run(main())


def test_a_thread_comes_back_whole_with_the_status_of_runs_that_did_not_complete(store, new_run, end):
    async def main():
        good, bad, going = (
            new_run("t", say="one", metadata={"user": 7}),
            new_run("t", say="two"),
            new_run("t", say="three"),
        )
        for run, ending in ((good, end(good.run_id, "1")), (bad, end(bad.run_id, status="cancelled", ended=5000.0))):
            await store.start_run(run)
            await store.end_run(ending)
        await store.start_run(going)
        thread = await store.get_thread(KEY)
        assert texts(thread.messages) == [("user", "one"), ("assistant", "1"), ("user", "two"), ("user", "three")]
        assert [message.status for message in thread.messages] == [None, None, "cancelled", "running"]
        assert [message.run_id for message in thread.messages] == ["r1", "r1", "r2", "r3"]
        assert [message.at for message in thread.messages] == [1000.0, 1001.0, 1000.0, 1000.0]
        assert [(run.run_id, run.status, run.thread_id) for run in thread.runs] == [
            ("r1", "completed", "t"),
            ("r2", "cancelled", "t"),
            ("r3", "running", "t"),
        ]
        assert (thread.key, thread.created, thread.updated, thread.metadata) == (KEY, 1000.0, 1000.0, {"user": 7})
        assert await store.get_thread(ThreadKey("acme", "echo", "other")) is None
        assert [message.status for message in (await store.start_run(new_run("t"))).messages][2] == "cancelled"

    asyncio.run(main())


def test_ids_that_differ_in_any_code_point_are_different_threads(store, new_run, end):
    ids = [
        "a_b",
        "a.b",
        "A_B",
        "a_b ",
        "a",
        "a%",
        "é",
        unicodedata.normalize("NFD", "é"),
        "e",
        "Ａ",
        "🧵",
        "🧶",
        "ß",
        "ss",
    ]
    assert len(set(ids)) == len(ids)

    async def main():
        for thread_id in ids:
            run = new_run(thread_id, say=thread_id)
            await store.start_run(run)
            await store.end_run(end(run.run_id))
        assert await store.delete_thread(ThreadKey("acme", "echo", "a_b"))
        assert await store.get_thread(ThreadKey("acme", "echo", "a_b")) is None
        for thread_id in ids[1:]:
            thread = await store.get_thread(ThreadKey("acme", "echo", thread_id))
            assert [message.text for message in thread.messages] == [thread_id]

    asyncio.run(main())


def test_a_thread_belongs_to_one_principal_and_one_agent(store, new_run):
    async def main():
        await store.start_run(new_run("t", say="mine"))
        await store.start_run(new_run("t", say="yours", principal="other"))
        await store.start_run(new_run("t", say="elsewhere", agent="search"))
        assert texts((await store.get_thread(KEY)).messages) == [("user", "mine")]
        assert texts((await store.get_thread(ThreadKey("other", "echo", "t"))).messages) == [("user", "yours")]
        assert await store.get_thread(ThreadKey("other", "search", "t")) is None
        assert [run.run_id for run in (await store.list_runs("echo", "acme", thread_id="t", limit=9)).items] == ["r1"]

    asyncio.run(main())


def test_what_was_written_is_there_after_a_restart(open_store, new_run, end, entries):
    async def write(store: Store):
        await store.start_run(new_run("t", say="hello"))
        await store.end_run(end("r1", "hi", entries=entries(1, 3), state={"n": 1}))

    async def read(store: Store):
        assert await store.read_events("r1", 0, 9) == entries(1, 3)
        before = await store.start_run(new_run("t"))
        assert (texts(before.messages), before.state) == ([("user", "hello"), ("assistant", "hi")], {"n": 1})

    for work in (write, read):
        store = open_store(durability="full")
        asyncio.run(work(store))
        store.close()


def test_a_store_serves_a_new_loop_each_time_and_two_at_once(open_store, new_run, end, entries):
    store = open_store()
    runs = [[new_run(f"t{thread}-{number}", say="x") for number in range(40)] for thread in range(2)]
    failures: list[BaseException] = []

    async def one(run):
        await store.start_run(run)
        await asyncio.gather(store.append(run.run_id, 1, entries(1, 3)), store.append(run.run_id, 1, entries(4, 5)))
        assert await store.read_events(run.run_id, 0, 9) == entries(1, 5)
        await store.end_run(end(run.run_id, "y"))

    async def all_of(own):
        await asyncio.wait_for(asyncio.gather(*map(one, own)), 30)

    def work(own):
        try:
            for start in range(0, len(own), 10):
                asyncio.run(all_of(own[start : start + 10]))
        except BaseException as error:
            failures.append(error)

    workers = [threading.Thread(target=work, args=(own,)) for own in runs]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert failures == []
    page = asyncio.run(store.list_runs("echo", "acme", status="completed", limit=200))
    assert len(page.items) == 80


def test_an_asker_that_gave_up_does_not_harm_the_others(store, new_run, entries):
    async def abandon():
        store.append("r1", 1, entries(1, 1)).cancel()
        store.append("r1", 1, entries(2, 2))  # its loop is closed before it is answered

    asyncio.run(_start(store, new_run("t")))
    asyncio.run(abandon())
    asyncio.run(store.probe())  # answered after what was asked before
    assert asyncio.run(store.read_events("r1", 0, 9)) == entries(1, 2)


async def _start(store, run):
    await store.start_run(run)


def test_only_the_owner_may_read_any_of_the_files(open_store, path, new_run):
    before = os.umask(0)
    try:
        store = open_store()
        asyncio.run(_start(store, new_run("t")))
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    names = ("agenthost.db", "agenthost.db-wal", "agenthost.db-shm", "agenthost.db.lock")
    assert modes == dict.fromkeys(names, 0o600)


def open_files() -> int:
    return len(os.listdir("/dev/fd"))


@pytest.mark.parametrize("url", ["memory:", None])
def test_close_writes_what_was_asked_for_and_leaves_nothing_behind(open_store, path, new_run, entries, url):
    files, threads = open_files(), threading.active_count()
    store = open_store(url)

    async def main():
        await store.start_run(new_run("t"))
        await store.get_thread(KEY)
        last = store.append("r1", 1, entries(1, 1))
        await asyncio.to_thread(store.close)
        await asyncio.wait_for(last, 10)
        for asked in (
            store.append("r1", 1, entries(2, 2)),
            store.get_run("r1"),
            store.probe(),
            store.delete_thread(KEY),
        ):
            with pytest.raises(StoreError) as refused:
                await asked
            where = "in memory" if url else str(path)
            assert (refused.value.message, refused.value.hint) == (
                f"the store {where} is closed",
                "the host is stopping",
            )

    asyncio.run(main())
    store.close()
    assert (open_files(), threading.active_count()) == (files, threads)
    if url is None:
        assert sorted(file.name for file in path.parent.iterdir()) == ["agenthost.db", "agenthost.db.lock"]
        assert asyncio.run(open_store().read_events("r1", 0, 9)) == entries(1, 1)


def test_a_store_that_was_never_used_closes_as_well(open_store, path):
    files, threads = open_files(), threading.active_count()
    open_store().close()
    assert (open_files(), threading.active_count()) == (files, threads)


def test_a_relative_url_is_below_the_working_directory(open_store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    open_store("sqlite:///here.db")
    monkeypatch.chdir("/")
    assert (tmp_path / "here.db").exists()
    with pytest.raises(StoreOpenError, match="in use by another host"):
        open_store(f"sqlite:///{tmp_path}/here.db")
