"""Lists in pages, and what cursors they take."""

from __future__ import annotations

import asyncio

import pytest

from agenthost.errors import InvalidRequest
from agenthost.store import StoreOpenError, stored_agents
from agenthost.store.reads import PIECE


def test_threads_are_listed_in_pages_the_last_used_first(store, new_run, end):
    async def main():
        for number in range(7):
            await store.start_run(new_run(f"t{number}", created=float(number // 2), metadata={"n": number}))
        await store.start_run(new_run("not mine", principal="other"))
        await store.end_run(end("r2", ended=50.0))
        seen, cursor = [], None
        while True:
            page = await store.list_threads("acme", "echo", cursor=cursor, limit=3)
            seen += page.items
            cursor = page.cursor
            if cursor is None:
                break
            assert len(page.items) == 3
        assert [thread.thread_id for thread in seen] == ["t1", "t6", "t5", "t4", "t3", "t2", "t0"]
        assert (seen[0].created, seen[0].updated, seen[0].metadata) == (0.0, 50.0, {"n": 1})

    asyncio.run(main())


def test_runs_are_listed_in_pages_newest_first_and_by_thread_and_status(store, new_run, end):
    async def main():
        for number in range(5):
            await store.start_run(new_run(f"t{number % 2}"))
        await store.start_run(new_run(principal="other", detached=True))
        await store.end_run(end("r1", status="failed", code="timeout"))

        async def ids(**given):
            return [run.run_id for run in (await store.list_runs("echo", "acme", **{"limit": 9, **given})).items]

        assert await ids() == ["r5", "r4", "r3", "r2", "r1"]
        assert await ids(thread_id="t0") == ["r5", "r3", "r1"]
        assert await ids(thread_id="t0", status="running") == ["r5", "r3"]
        assert await ids(status="failed") == ["r1"]
        assert await ids(thread_id="unknown") == []
        first = await store.list_runs("echo", "acme", limit=2)
        rest = await store.list_runs("echo", "acme", limit=9, cursor=first.cursor)
        assert [run.run_id for run in [*first.items, *rest.items]] == ["r5", "r4", "r3", "r2", "r1"]
        assert rest.cursor is None
        assert rest.items[-1].code == "timeout"

    asyncio.run(main())


@pytest.mark.parametrize(
    "cursor",
    ["", "x", "1_", "_1", "1.0_x", "-1", "9" * 30, "1_" + "9" * 30, "\ud800", "1.0_1_1", "nan_1", "inf_1", "١"],
)
def test_a_cursor_that_no_list_gave_is_a_bad_request(store, cursor):
    async def main():
        for asked in (
            store.list_threads("acme", "echo", cursor=cursor, limit=1),
            store.list_runs("echo", "acme", cursor=cursor, limit=1),
        ):
            with pytest.raises(InvalidRequest) as refused:
                await asked
            assert refused.value.message == "this cursor is not one that this list gave"

    asyncio.run(main())


def test_every_agent_with_data_is_named_also_to_another_process(open_store, path, new_run):
    async def main():
        assert stored_agents(f"sqlite:///{path}") == set()
        assert not path.exists(), "asking must not make a database"
        store = open_store()
        assert await store.agents_with_data() == set()
        await store.start_run(new_run("t"))
        await store.start_run(new_run(agent="old", detached=True))
        assert await store.agents_with_data() == {"echo", "old"}
        assert stored_agents(f"sqlite:///{path}") == {"echo", "old"}
        assert stored_agents("memory:") == set()

    asyncio.run(main())
    path.with_name("junk").write_bytes(b"junk" * 500)
    with pytest.raises(StoreOpenError, match="is not a SQLite database"):
        stored_agents(f"sqlite:///{path.with_name('junk')}")


def test_large_entries_are_read_in_small_pieces_and_joined_are_the_whole(store, new_run, entries):
    async def main():
        await store.start_run(new_run("t"))
        log = [
            entry._replace(data=b"x" * size)
            for entry, size in zip(entries(1, 6), (1, PIECE, 9, PIECE, PIECE, 1), strict=True)
        ]
        await store.append("r1", 1, log)
        read = []
        pieces = []
        while piece := await store.read_events("r1", len(read), 64):
            pieces.append(len(piece))
            read += piece
        assert (read, pieces) == (log, [2, 2, 1, 1])

    asyncio.run(main())
