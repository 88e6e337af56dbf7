"""A look at a store tells what there is and what is wrong, and leaves everything as it was."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path, PurePath

import pytest

from agenthost.store import FIRST_EPOCH, NewInterrupt, Store, StoreOpenError, inspection
from agenthost.store.inspection import NEWEST, Contents, Folder, Holder, LastFailure, StoreLook, file_system, look
from agenthost.store.lock import FileLock
from tests.store.conftest import CREATED

SERVE = """
import asyncio, sys
from agenthost.store import NewRun, Store
store = Store.open(sys.argv[1])
async def begin():
    await store.start_run(NewRun(run_id="going", agent="echo", principal="acme", created=2000.0))
asyncio.run(begin())
print("open", flush=True)
sys.stdin.readline()
store.close()
print("closed", flush=True)
"""


MOUNTED = r"""
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
30 22 0:40 / /srv rw,relatime shared:2 master:1 - nfs4 files:/srv rw,vers=4.2
31 30 0:41 / /srv/local rw - xfs /dev/vdb rw
32 22 0:42 / /mnt/two\040words rw - cifs //box/share rw
33 22 0:43 / /over rw - ext4 /dev/vdc rw
34 22 0:44 / /over rw - fuse.sshfs me@box:/ rw
odd
35 22 - tmpfs tmpfs rw
"""


def state(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file with what is in it and when it was written."""
    return {one.name: (one.read_bytes(), one.stat().st_mtime_ns) for one in folder.iterdir()}


@pytest.fixture
def filled(open_store, path, new_run, entries, end) -> Path:
    """A closed store: two completed runs on a thread, two failed ones, one that asks two questions."""
    store = open_store()

    async def fill() -> None:
        for _ in range(2):
            run = new_run("t", "hello")
            await store.start_run(run)
            await store.append(run.run_id, FIRST_EPOCH, entries(1, 3))
            await store.end_run(end(run.run_id, "hi"))
        for code, ended in (("agent_error", 3000.0), ("timeout", 2000.0)):
            run = new_run()
            await store.start_run(run)
            await store.end_run(end(run.run_id, status="failed", stop_reason="error", code=code, ended=ended))
        asks = new_run("u", "may I?")
        await store.start_run(asks)
        questions = [NewInterrupt(name, {"question": "?"}, None, CREATED + 9e9) for name in ("a", "b")]
        await store.end_run(end(asks.run_id, status="paused", stop_reason="interrupt", interrupts=questions))

    asyncio.run(fill())
    store.close()
    return path


def test_it_counts_what_there_is_and_names_the_run_that_failed_last(filled):
    found = look(f"sqlite:///{filled}")
    assert found.contents == Contents(
        threads=2,
        runs=5,
        events=6,
        open_interrupts=2,
        going=0,
        oldest=CREATED,
        last_failure=LastFailure("r3", "echo", "agent_error", 3000.0),
    )
    assert found.file is not None
    assert found.folder is not None
    assert (found.version, found.damage, found.journal, found.holder) == (NEWEST, (), "wal", None)
    assert (found.file.size, found.file.log_size) == (filled.stat().st_size, 0)
    assert (found.file.mode, found.file.owner, found.file.writable) == (0o600, os.geteuid(), True)
    assert found.folder.writable
    assert 0 < found.folder.free < found.folder.total
    assert found.sound


def test_a_closed_store_is_left_exactly_as_it_was(filled):
    before = state(filled.parent)
    look(f"sqlite:///{filled}")
    assert state(filled.parent) == before


def test_a_store_in_use_is_seen_as_it_is_now_with_its_host_and_the_host_goes_on(path, child):
    host = child(SERVE, f"sqlite:///{path}")
    assert host.line() == "open"
    database = path.read_bytes()
    found = look(f"sqlite:///{path}")
    assert found.holder == Holder(host.process.pid, certain=True)
    assert found.contents is not None
    assert (found.contents.going, found.contents.oldest, found.contents.last_failure) == (1, 2000.0, None)
    assert found.file is not None
    assert found.file.log_size > 0
    assert path.read_bytes() == database
    host.go_on()
    assert host.line() == "closed"
    assert host.end() == 0
    assert look(f"sqlite:///{path}").holder is None


def test_what_a_killed_host_left_in_its_log_is_seen_and_left_there(path, child):
    host = child(SERVE, f"sqlite:///{path}")
    assert host.line() == "open"
    host.kill()
    log = Path(f"{path}-wal").read_bytes()
    found = look(f"sqlite:///{path}")
    assert (found.holder, found.sound) == (None, True)
    assert found.contents is not None
    assert found.contents.going == 1
    assert Path(f"{path}-wal").read_bytes() == log


def test_a_host_may_start_while_the_lock_is_looked_at(filled):
    lock = FileLock(filled.with_name("agenthost.db.lock"))
    try:
        assert look(f"sqlite:///{filled}").holder == Holder(os.getpid(), certain=True)
    finally:
        lock.release()
    assert look(f"sqlite:///{filled}").holder is None


@pytest.mark.parametrize("text", ["", "not a number", "-1", "0", "9" * 30, "²", str(2**31 - 1)])
def test_a_lock_file_that_names_no_process_has_no_holder(filled, text):
    filled.with_name("agenthost.db.lock").write_text(text)
    assert look(f"sqlite:///{filled}").holder is None


def test_what_is_not_there_is_no_problem_and_is_not_made(path):
    found = look(f"sqlite:///{path}")
    assert (found.path, found.file, found.version, found.problem) == (path, None, None, None)
    assert isinstance(found.folder, Folder)
    assert list(path.parent.iterdir()) == []
    nowhere = look(f"sqlite:///{path.parent}/not/there.db")
    assert (nowhere.folder, nowhere.file, nowhere.problem) == (None, None, None)


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/var/lib", "ext4"),
        ("/srv/agenthost/data", "nfs4"),
        ("/srvx", "ext4"),
        ("/srv/local/deep", "xfs"),
        ("/mnt/two words", "cifs"),
        ("/over/there", "fuse.sshfs"),
    ],
)
def test_a_folder_is_on_what_is_mounted_nearest_above_it(folder, kind):
    assert file_system(PurePath(folder), MOUNTED) == kind
    assert file_system(PurePath(folder), "30 22 0:40 / /else rw - nfs files:/ rw") is None


def test_a_network_is_told_and_a_local_disk_is_not(filled, tmp_path, monkeypatch):
    listed = tmp_path / "mountinfo"
    monkeypatch.setattr(inspection, "_MOUNTS", listed)
    for kind, network in (("nfs4", "nfs4"), ("ext4", None)):
        listed.write_text(f"30 22 0:40 / {filled.parent} rw - {kind} /dev/vda rw\n")
        assert look(f"sqlite:///{filled}").folder.network == network
    listed.unlink()  # a system that does not say
    assert look(f"sqlite:///{filled}").folder.network is None


def test_of_a_store_in_memory_there_is_nothing_to_see():
    assert look("memory:") == StoreLook()


def test_a_url_that_names_no_store_is_refused():
    with pytest.raises(StoreOpenError, match="names no store this version can use"):
        look("postgresql://localhost/x")


def test_an_empty_file_has_version_0(path):
    path.touch()
    found = look(f"sqlite:///{path}")
    assert (found.version, found.journal, found.damage, found.contents) == (0, None, (), None)


@pytest.mark.parametrize("content", [b"x", b"SQLite format 3\0", b"-" * 10_000], ids=["short", "cut", "other"])
def test_what_is_no_database_is_said_to_be_none(path, content):
    path.write_bytes(content)
    found = look(f"sqlite:///{path}")
    assert found.problem is not None
    assert found.problem.message == (
        f"the store {path} cannot be used: it is not a SQLite database, or its first page is damaged"
    )
    assert path.read_bytes() == content


def test_a_database_of_another_program_is_named_so(path):
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (x)")
    other.close()
    found = look(f"sqlite:///{path}")
    assert found.problem is not None
    assert found.problem.message == f"the store {path} is a database of another program"


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo], ids=["directory", "pipe"])
def test_what_is_no_file_is_not_opened(path: Path, make: Callable[[Path], None]):
    make(path)
    found = look(f"sqlite:///{path}")
    assert found.problem is not None
    assert found.problem.message == f"the store {path} is no file"
    assert found.file is None


def test_what_may_not_be_read_is_a_problem_and_no_exception(filled, child):
    if os.geteuid() == 0:  # who may read everything finds nothing unreadable: look as somebody else
        found = _as_nobody(filled, child)
    else:
        filled.chmod(0)
        found = str(look(f"sqlite:///{filled}").problem)
    assert found.startswith(f"the store {filled} cannot be read: Permission denied")


def _as_nobody(path, child) -> str:
    code = (
        "import os, sys\nfrom agenthost.store.inspection import look\nos.setgid(65534)\nos.setuid(65534)\n"
        "print(look(sys.argv[1]).problem, flush=True)"
    )
    return child(code, f"sqlite:///{path}").line()


@pytest.mark.parametrize("version", [1, NEWEST + 1])
def test_an_older_and_a_newer_schema_are_told_by_their_number(filled, version):
    database = sqlite3.connect(filled)
    database.execute("UPDATE meta SET value = ? WHERE name = 'schema'", (str(version),))
    database.commit()
    database.close()
    found = look(f"sqlite:///{filled}")
    assert (found.version, found.problem, found.damage) == (version, None, ())
    assert (found.contents is None) == (version > NEWEST)


def test_damage_is_told_and_what_a_damaged_file_holds_is_not_counted(filled):
    database = sqlite3.connect(filled)
    (root,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'runs_run_id'").fetchone()
    (page,) = database.execute("PRAGMA page_size").fetchone()
    database.close()
    with filled.open("r+b") as file:
        file.seek((root - 1) * page)
        file.write(b"\xff" * page)
    found = look(f"sqlite:///{filled}")
    assert found.damage
    assert not found.sound
    assert found.contents is None


def test_a_large_file_gets_the_quick_check(filled):
    assert look(f"sqlite:///{filled}", quick_above=filled.stat().st_size).quick is False
    quick = look(f"sqlite:///{filled}", quick_above=filled.stat().st_size - 1)
    assert (quick.quick, quick.damage) == (True, ())


@pytest.mark.parametrize("seed", range(60))
def test_no_damage_of_any_kind_raises(filled, seed):
    chance = random.Random(seed)
    content = bytearray(filled.read_bytes())
    for _ in range(chance.choice([1, 20, 2000])):
        content[chance.randrange(16 if seed % 3 else 100, len(content) if seed % 2 else 8192)] = chance.randrange(256)
    filled.write_bytes(content[: chance.choice([len(content), len(content) // 2, 600])])
    found = look(f"sqlite:///{filled}")
    assert found.file is not None
    assert found.version is not None or found.problem is not None


def test_a_store_that_another_host_fills_meanwhile_is_never_called_damaged(path, child):
    writer = child(
        "import asyncio, sys\nfrom agenthost.store import NewRun, Store\n"
        "async def fill(store, turn):\n"
        "    for n in range(20):\n"
        "        run = NewRun(run_id=f'{turn}-{n}', agent='echo', principal='acme', created=1.0)\n"
        "        await store.start_run(run)\n"
        "print('begun', flush=True)\n"
        "for turn in range(12):\n"
        "    store = Store.open(sys.argv[1], 'normal')\n"
        "    asyncio.run(fill(store, turn))\n"
        "    store.close()\n",
        f"sqlite:///{path}",
    )
    assert writer.line() == "begun"
    while writer.process.poll() is None:
        found = look(f"sqlite:///{path}")
        assert not found.damage, found
    assert writer.process.returncode == 0
    assert look(f"sqlite:///{path}").contents is not None


def test_a_store_opened_by_this_process_is_looked_at_from_another(path, child):
    with_store = Store.open(f"sqlite:///{path}")
    try:
        code = (
            "import sys\nfrom agenthost.store.inspection import look\nprint(look(sys.argv[1]).holder.pid, flush=True)"
        )
        assert child(code, f"sqlite:///{path}").line() == str(os.getpid())
    finally:
        with_store.close()
    assert sys.platform != "linux" or look(f"sqlite:///{path}").holder is None
