"""Many askers, few commits; and what becomes of a batch whose commit fails."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time

import pytest

from agenthost.errors import StoreError
from agenthost.store import sqlite as sqlite_module
from agenthost.store.jobs import StartJob
from agenthost.store.migrations import migrate
from agenthost.store.sqlite import BUSY_TIMEOUT, Database
from agenthost.store.writer import Writer


@pytest.fixture
def foreign(path):
    """Another program's connection to the store's file."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    yield connection
    connection.close()


def test_all_that_waits_is_committed_at_once(path, foreign, new_run, settle):
    database = Database(path, "full")
    database.create()
    connection = database.connect()
    database.use_write_ahead_log(connection)
    migrate(connection, 0)
    said: list[str] = []
    connection.connection.driver_connection.set_trace_callback(said.append)
    writer = Writer(database, connection)

    async def main():
        foreign.execute("BEGIN IMMEDIATE")  # holds the writer at its first transaction
        waiting = [writer.submit(StartJob(new_run(f"t{number}", say="x"))) for number in range(100)]
        foreign.execute("COMMIT")
        results = await settle(*waiting)
        assert [result.messages for result in results] == [[]] * 100

    asyncio.run(main())
    writer.close()
    assert 1 <= said.count("COMMIT") <= 2
    assert foreign.execute("SELECT count(*) FROM runs").fetchone() == (100,)


def test_a_file_that_is_locked_for_a_moment_fails_no_run(open_store, foreign, new_run, end):
    store = open_store()

    async def main():
        foreign.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.7, foreign.execute, ("COMMIT",))
        release.start()
        await asyncio.wait_for(store.start_run(new_run("t")), 10)
        await store.end_run(end("r1"))
        release.join()

    asyncio.run(main())


def test_a_file_that_stays_locked_fails_what_waits_and_then_works_again(
    open_store, path, foreign, new_run, entries, settle, monkeypatch
):
    monkeypatch.setattr(sqlite_module, "BUSY_TIMEOUT", 0.1)
    store = open_store()

    async def main():
        await store.start_run(new_run("t"))
        await store.append("r1", 1, entries(1, 2))
        foreign.execute("BEGIN IMMEDIATE")
        for result in await settle(store.append("r1", 1, entries(3, 4)), store.probe(), store.start_run(new_run())):
            assert isinstance(result, StoreError)
            assert result.message == (
                f"the store {path} did not take what was to be written: another process keeps it locked"
            )
            assert result.hint == "end what holds it: a shell, a backup, another program"
        assert await store.read_events("r1", 0, 9) == entries(1, 2), "reading goes on"
        foreign.execute("COMMIT")
        await store.probe()
        with pytest.raises(StoreError, match="entry 5 cannot follow 2"):
            await store.append("r1", 1, entries(5, 6))
        await store.append("r1", 1, entries(3, 4))
        assert await store.read_events("r1", 0, 9) == entries(1, 4)

    asyncio.run(main())


HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.readline()
connection.execute("COMMIT")
print("released", flush=True)
"""


@pytest.mark.fault
def test_a_file_that_another_process_keeps_locked_holds_a_job_up_for_three_seconds_at_most(
    open_store, path, child, new_run, entries, settle
):
    store = open_store()

    async def main():
        await store.start_run(new_run("t"))
        other = child(HOLD, path)
        assert other.line() == "held"
        began = time.monotonic()
        for result in await settle(store.append("r1", 1, entries(1, 1)), store.start_run(new_run("u"))):
            assert isinstance(result, StoreError)
            assert result.message.endswith("another process keeps it locked")
        assert time.monotonic() - began < BUSY_TIMEOUT + 1
        other.go_on()
        assert other.line() == "released"
        await store.append("r1", 1, entries(1, 1))
        assert await store.read_events("r1", 0, 9) == entries(1, 1)
        assert await store.get_run("r2") is None

    assert BUSY_TIMEOUT <= 3
    asyncio.run(main())


def open_files() -> int:
    return len(os.listdir("/dev/fd"))


def test_a_damaged_page_fails_what_needs_it_and_is_named(open_store, path, new_run, entries, rows):
    async def before(store):
        await store.start_run(new_run("t"))
        await store.append("r1", 1, entries(1, 1))

    async def after(store):
        for asked, verb in (
            (store.append("r1", 1, entries(2, 2)), "did not take what was to be written"),
            (store.read_events("r1", 0, 9), "cannot be read"),
        ):
            with pytest.raises(StoreError) as refused:
                await asked
            assert refused.value.message == f"the store {path} {verb}: it is damaged"
            assert refused.value.hint == "stop the host and restore a backup; the file was left as it is"
        await store.start_run(new_run("t"))

    store = open_store()
    asyncio.run(before(store))
    store.close()
    [(page,)] = rows("SELECT rootpage FROM sqlite_master WHERE name = 'events'")
    content = bytearray(path.read_bytes())
    content[(page - 1) * 4096 : page * 4096] = b"\xff" * 4096
    path.write_bytes(content)
    files = open_files()
    store = open_store()
    asyncio.run(after(store))
    store.close()
    assert open_files() == files
    assert path.exists()
