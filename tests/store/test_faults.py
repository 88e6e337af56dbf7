"""SIGKILL, a full disk, a file that is locked, damaged or gone: nothing acknowledged is lost, and all goes on after."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from agenthost.errors import StoreError
from agenthost.store import Store
from agenthost.store import writer as writer_module
from agenthost.store.sqlite import FileGone

FAILED = "did not take what was to be written"
NOT_THERE = "is not there any more: the file was moved, removed or replaced"
PUT_BACK = "put it back; if that cannot be, stop the host: its next start uses what is there then"

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
    await store.recover()
    await asyncio.gather(*(talk(store, caller) for caller in range(8)))

asyncio.run(main())
"""

ANSWER_FOR_EVER = """
import asyncio, sys, time
from agenthost.events import Entry
from agenthost.store import Claim, NewInterrupt, NewRun, RunEnd, Store

url, name = sys.argv[1:]
SAID = [Entry(1, "model_chunk", b"{}")]

async def ask_and_answer(store, caller):
    thread = f"{name}-{caller}"
    who = {"agent": "echo", "principal": "acme", "thread_id": thread}
    for number in range(1_000_000):
        asker, answerer = f"{thread}-{number}-asks", f"{thread}-{number}-answers"
        await store.start_run(NewRun(run_id=asker, created=time.time(), **who))
        paused = {"status": "paused", "stop_reason": "interrupt", "ended": time.time(), "result": {}}
        asked = [NewInterrupt("i", {"question": "?"}, None, time.time() + 1000)]
        await store.end_run(RunEnd(run_id=asker, entries=SAID, interrupts=asked, **paused))
        print(asker, "asked", flush=True)
        claims = [Claim(asker, "i", {"response": "yes"})]
        await store.start_run(NewRun(run_id=answerer, created=time.time(), resumes=asker, claims=claims, **who))
        print(asker, "claimed", flush=True)
        if caller == 0:  # it never says a word
            await asyncio.Event().wait()
        await store.append(answerer, 1, SAID)
        print(asker, "answered", flush=True)
        done = {"status": "completed", "stop_reason": "complete", "ended": time.time(), "result": {}}
        await store.end_run(RunEnd(run_id=answerer, entries=[Entry(2, "done", b"{}")], **done))

async def main():
    store = Store.open(url)
    await store.recover()
    await asyncio.gather(*(ask_and_answer(store, caller) for caller in range(16)))

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


ON_A_SMALL_DISK = """
import asyncio, os, sys
from agenthost.errors import StoreError
from agenthost.events import Entry
from agenthost.store import NewRun, Store

folder = sys.argv[1]

async def main():
    store = Store.open(f"sqlite:///{folder}/x.db")
    await store.start_run(NewRun(run_id="r", agent="echo", principal="acme", created=1.0, thread_id="t"))
    with open(folder + "/ballast", "wb") as ballast:
        free = os.statvfs(folder)
        ballast.write(bytes(free.f_bavail * free.f_bsize - 200_000))
    written = 0
    try:
        while True:
            await store.append("r", 1, [Entry(written + 1, "model_chunk", b"x" * 10_000)])
            written += 1
    except StoreError as error:
        print(error.message.partition(": ")[2])
        print(error.hint)
    print([entry.seq for entry in await store.read_events("r", 0, 1000)] == list(range(1, written + 1)))
    os.remove(folder + "/ballast")
    await store.probe()
    await store.append("r", 1, [Entry(written + 1, "done", b"{}")])
    print([entry.seq for entry in await store.read_events("r", 0, 1000)] == list(range(1, written + 2)))
    store.close()

asyncio.run(main())
"""

AS_NOBODY = """
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
    os.chmod(path, 0o444)
    for size in (1, resource.RLIM_INFINITY):  # the first failure makes it open the file again
        limit(size)
        try:
            await store.append("r", 1, [Entry(1, "model_chunk", b"{}")])
        except StoreError as error:
            print(error.message.partition(": ")[2])
    print(len(await store.read_events("r", 0, 9)))
    os.chmod(path, 0o600)
    await store.append("r", 1, [Entry(1, "model_chunk", b"{}")])
    print(len(await store.read_events("r", 0, 9)))
    store.close()

if os.geteuid() == 0:
    os.seteuid(65534)
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
        await store.recover()
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
def test_a_question_whose_answer_a_kill_cut_off_is_open_again_until_the_agent_has_said_a_word(path, child):
    chance = random.Random()
    url = f"sqlite:///{path}"
    seen: set[tuple[str, bool]] = set()

    async def look(store: Store, acknowledged: dict[str, str]) -> None:
        assert await store.recover() == []
        for asker, last in acknowledged.items():
            [question] = (await store.get_run(asker)).interrupts
            answerer = asker.removesuffix("asks") + "answers"
            log = await store.read_events(answerer, 0, 9)
            said = any(entry.type != "error" for entry in log)
            run = await store.get_run(answerer)
            assert run is None or run.ended is not None
            assert question.status == ("answered" if said else "open")
            assert question.claimed_by == (answerer if said else None)
            assert question.answer == ({"response": "yes"} if said else None)
            assert said or last != "answered"
            assert run is not None or last == "asked"
            seen.add((last, said))

    for round_ in range(8):
        other = child(ANSWER_FOR_EVER, url, f"round{round_}")
        acknowledged: dict[str, str] = {}
        for _ in range(chance.randint(16, 400)):
            asker, what = other.line().split()
            acknowledged[asker] = what
        other.kill()
        store = Store.open(url)
        try:
            asyncio.run(look(store, acknowledged))
        finally:
            store.close()
        check_file(path)
    assert ("answered", True) in seen
    assert ("claimed", False) in seen


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


async def refused(asked) -> StoreError:
    """What was asked fails, soon, with an error of the store."""
    with pytest.raises(StoreError) as failed:
        await asyncio.wait_for(asked, 10)
    return failed.value


@pytest.fixture
def small_disk():
    """A disk of 1 MB."""
    folder = Path(tempfile.mkdtemp())
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        folder.rmdir()
        pytest.skip("a disk cannot be mounted here: " + mounted.stderr.decode().strip())
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
    folder.rmdir()


@pytest.fixture
def public():
    """A directory that every user can write to."""
    folder = Path(tempfile.mkdtemp()).resolve()
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.fault
def test_a_real_disk_that_is_full_is_named_and_all_goes_on_once_there_is_room(small_disk, child):
    other = child(ON_A_SMALL_DISK, small_disk)
    assert other.line() == "its disk is full"
    assert other.line() == "free some space; the host then goes on by itself"
    assert other.line() == "True", "what was acknowledged is there"
    assert other.line() == "True"
    assert other.end() == 0
    check_file(small_disk / "x.db")


def test_a_database_that_may_not_grow_fails_what_does_not_fit(open_store, path, new_run, entries, settle, rows):
    store = open_store()

    async def main():
        await store.start_run(new_run("t"))
        pages = rows("PRAGMA page_count")[0][0]
        store._writer._connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 2}")
        big = [entry._replace(data=b"x" * 12_000) for entry in entries(1, 9)]
        failed, also = await settle(store.append("r1", 1, big), store.start_run(new_run("u")))
        assert failed.message == also.message == f"the store {path} {FAILED}: its disk is full"
        assert await store.read_events("r1", 0, 9) == []
        assert await store.get_run("r2") is None
        await store.append("r1", 1, big)
        assert await store.read_events("r1", 0, 9) == big

    asyncio.run(main())
    store.close()
    check_file(path)


def test_a_file_that_becomes_read_only_is_written_again_once_it_may(public, child):
    other = child(AS_NOBODY, public / "x.db")
    assert other.line() == "its disk does not take it (disk I/O error)"
    assert other.line() == "it is read-only"
    assert [other.line(), other.line()] == ["0", "1"]
    assert other.end() == 0
    check_file(public / "x.db")


def test_a_page_that_is_damaged_while_the_file_is_open_is_named_until_it_is_mended(
    open_store, path, new_run, entries, rows
):
    store = open_store()

    async def main():
        await store.start_run(new_run("t"))
        await store.append("r1", 1, entries(1, 1))
        foreign = sqlite3.connect(path, isolation_level=None)
        assert foreign.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        [(page,)] = foreign.execute("SELECT rootpage FROM sqlite_master WHERE name = 'events'").fetchall()
        good = exchange(path, page, b"\xff" * 4096)
        foreign.execute("UPDATE meta SET value = 'x' WHERE name = 'probe'")  # no cache is good any more
        for asked, verb in (
            (store.append("r1", 1, entries(2, 2)), FAILED),
            (store.append("r1", 1, entries(2, 2)), FAILED),
            (store.read_events("r1", 0, 9), "cannot be read"),
        ):
            error = await refused(asked)
            assert error.message == f"the store {path} {verb}: it is damaged"
            assert error.hint == "stop the host and restore a backup; the file was left as it is"
        await store.probe()
        exchange(path, page, good)
        foreign.close()
        await store.append("r1", 1, entries(2, 2))
        assert await store.read_events("r1", 0, 9) == entries(1, 2)

    asyncio.run(main())
    store.close()
    check_file(path)


def exchange(path: Path, page: int, content: bytes) -> bytes:
    """Write over a page; what it was. By another process: to close the file in this one gives SQLite's locks away."""
    code = """
import sys
with open(sys.argv[1], "r+b") as file:
    file.seek(int(sys.argv[2]))
    print(file.read(4096).hex())
    file.seek(int(sys.argv[2]))
    file.write(bytes.fromhex(sys.argv[3]))
"""
    arguments = [sys.executable, "-c", code, str(path), str((page - 1) * 4096), content.hex()]
    return bytes.fromhex(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_is_moved_away_takes_no_more_and_goes_on_once_it_is_back(
    open_store, path, tmp_path, new_run, entries, replaced
):
    away = tmp_path / "away.db"
    store = open_store()

    async def main():
        await store.start_run(new_run("t"))
        await store.append("r1", 1, entries(1, 1))
        os.rename(path, away)
        if replaced:
            path.write_bytes(b"")
        asks = (store.probe, lambda: store.append("r1", 1, entries(2, 2)), lambda: store.start_run(new_run("u")))
        for ask in asks:
            error = await refused(ask())
            assert isinstance(error, FileGone)
            assert (error.message, error.hint) == (f"the store {path} {NOT_THERE}", PUT_BACK)
        assert path.exists() == replaced, "nothing is made or removed in its place"
        os.rename(away, path)
        await store.probe()
        await store.append("r1", 1, entries(2, 2))
        assert await store.read_events("r1", 0, 9) == entries(1, 2)
        assert await store.get_run("r2") is None

    asyncio.run(main())
    store.close()
    check_file(path)


def test_a_file_that_is_gone_is_noticed_by_a_write_without_a_probe(open_store, path, new_run, entries, monkeypatch):
    monkeypatch.setattr(writer_module, "LOOK", -1.0)
    store = open_store()

    async def main():
        await store.start_run(new_run("t"))
        path.unlink()
        assert isinstance(await refused(store.append("r1", 1, entries(1, 1))), FileGone)
        assert isinstance(await refused(store.start_run(new_run("t"))), FileGone)

    asyncio.run(main())
    store.close()
    assert not path.exists()


def test_writes_look_for_the_file_often_enough():
    assert 0 < writer_module.LOOK <= 1


@pytest.mark.parametrize("noticed", [False, True])
def test_a_file_that_was_moved_away_has_all_that_was_acknowledged_and_its_log_harms_no_other(
    open_store, path, tmp_path, new_run, entries, noticed
):
    store = open_store()

    async def main():
        await store.start_run(new_run("t"))
        await store.append("r1", 1, entries(1, 3))
        os.rename(path, tmp_path / "away.db")
        if noticed:
            await refused(store.probe())
            assert os.path.getsize(f"{path}-wal") == 0, "whatever happens to the host from now on"

    asyncio.run(main())
    store.close()
    check_file(tmp_path / "away.db")
    assert asyncio.run(log_of(open_store(f"sqlite:///{tmp_path}/away.db"))) == entries(1, 3)
    assert asyncio.run(log_of(open_store())) == [], "a new file begins empty"


async def log_of(store):
    return await store.read_events("r1", 0, 9)


def test_a_log_that_is_removed_takes_no_more_and_is_saved_as_the_host_ends(open_store, path, new_run, entries):
    store = open_store()

    async def main():
        await store.start_run(new_run("t"))
        await store.append("r1", 1, entries(1, 3))
        os.unlink(f"{path}-wal")
        error = await refused(store.probe())
        assert error.message == f"the store {path} has lost its log: {path}-wal was moved, removed or replaced"
        assert error.hint == "stop the host, by its signal and not by force: as it ends it saves what the log held"
        assert isinstance(await refused(store.append("r1", 1, entries(4, 4))), FileGone)

    asyncio.run(main())
    store.close()
    check_file(path)
    assert asyncio.run(log_of(open_store())) == entries(1, 3)
