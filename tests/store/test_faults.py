"""SIGKILL and a full disk, met by real processes: nothing acknowledged is lost, nothing is in a log twice."""

from __future__ import annotations

import asyncio
import random
import sqlite3

import pytest

from agenthost.store import Store

WRITE_FOR_EVER = """
import asyncio, sys, time
from agenthost.events import Entry
from agenthost.store import NewRun, RunEnd, Store
from agenthost.threads import Message

url, name = sys.argv[1:]

async def talk(store, caller):
    for number in range(1_000_000):
        run_id = f"{name}-{caller}-{number}"
        said = Message.of("user", run_id)
        fields = {"run_id": run_id, "agent": "echo", "principal": "acme", "created": time.time()}
        await store.start_run(NewRun(thread_id=f"{name}-{caller}", user_message=said, **fields))
        print(run_id, 0, flush=True)
        for seq in range(1, 20):
            await store.append(run_id, 1, [Entry(seq, "model_chunk", run_id.encode())])
            print(run_id, seq, flush=True)
        last = [Entry(20, "done", b"{}")]
        result = {"status": "completed", "stop_reason": "complete", "ended": time.time(), "result": {}}
        await store.end_run(RunEnd(run_id=run_id, entries=last, messages=[said], **result))
        print(run_id, 20, flush=True)

async def main():
    store = Store.open(url)
    await store.recover(())
    await asyncio.gather(*(talk(store, caller) for caller in range(8)))

asyncio.run(main())
"""

FILL_THE_DISK = """
import asyncio, os, resource, sys
from agenthost.errors import StoreError
from agenthost.events import Entry
from agenthost.store import NewRun, Store

path = sys.argv[1]

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

async def main():
    store = Store.open(f"sqlite:///{path}")
    await store.start_run(NewRun(run_id="r", agent="echo", principal="acme", created=1.0, thread_id="t"))
    limit(os.path.getsize(path + "-wal") + 100_000)
    written = 0
    try:
        while True:
            await store.append("r", 1, [Entry(written + 1, "model_chunk", b"x" * 10_000)])
            written += 1
    except StoreError as error:
        print(error.message)
        print(error.hint)
    limit(1)
    for asked in (store.probe(), store.append("r", 1, [Entry(written + 2, "done", b"{}")])):
        try:
            await asked
            print("taken")
        except StoreError as error:
            print(error.code)
    limit(resource.RLIM_INFINITY)
    await store.probe()
    await store.append("r", 1, [Entry(written + 1, "done", b"{}")])
    print([entry.seq for entry in await store.read_events("r", 0, 1000)] == list(range(1, written + 2)) and written > 3)
    store.close()

asyncio.run(main())
"""


def check_file(path) -> None:
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        holes = connection.execute("SELECT run_id FROM events GROUP BY run_id HAVING max(seq) != count(*)").fetchall()
        assert holes == []
    finally:
        connection.close()


@pytest.mark.fault
def test_a_host_that_is_killed_loses_nothing_that_it_acknowledged(path, child):
    chance = random.Random()
    url = f"sqlite:///{path}"

    async def look(store: Store, acknowledged: dict[str, int]) -> None:
        await store.recover(())
        for run_id, last in acknowledged.items():
            log = await store.read_events(run_id, 0, 99)
            run = await store.get_run(run_id)
            assert [entry.seq for entry in log] == list(range(1, len(log) + 1))
            if run.status == "completed":
                assert (len(log), log[-1].type) == (20, "done")
            else:
                assert (run.status, run.code, log[-1].type) == ("failed", "host_lost", "error")
                assert len(log) - 1 >= last
            assert last < 20 or run.status == "completed"

    for round_ in range(6):
        other = child(WRITE_FOR_EVER, url, f"round{round_}")
        acknowledged: dict[str, int] = {}
        for _ in range(chance.randint(1, 1500)):
            run_id, seq = other.line().split()
            acknowledged[run_id] = int(seq)
        other.kill()
        store = Store.open(url)
        try:
            asyncio.run(look(store, acknowledged))
        finally:
            store.close()
        check_file(path)


@pytest.mark.fault
def test_a_disk_that_is_full_fails_what_waits_and_all_goes_on_once_there_is_room(path, child):
    other = child(FILL_THE_DISK, path)
    assert other.line() == (
        f"the store {path} did not take what was to be written: its disk does not take it (disk I/O error)"
    )
    assert other.line() == (
        "look for a full or failing disk, a quota or a file size limit; the host then goes on by itself"
    )
    assert [other.line(), other.line()] == ["store", "store"]
    assert other.line() == "True"
    assert other.end() == 0
    check_file(path)
