"""What `agenthost doctor` makes of what it sees: each level, each text."""

from __future__ import annotations

import os
import pwd
import resource
from dataclasses import replace
from pathlib import Path

import pytest

from agenthost.cli.findings import (
    LITTLE_SPACE,
    Finding,
    has_wal_race,
    moment,
    of_contents,
    of_damage,
    of_failure,
    of_file,
    of_folder,
    of_holder,
    of_open_files,
    of_schema,
    of_sqlite,
    of_store,
    of_versions,
    size,
)
from agenthost.store import StoreOpenError
from agenthost.store.inspection import NEWEST, Contents, Folder, Holder, LastFailure, StoreFile, StoreLook

ME = os.geteuid()
MINE = StoreFile(size=2048, log_size=0, mode=0o600, owner=ME, writable=True)
EMPTY = Contents(threads=0, runs=0, events=0, open_interrupts=0, going=0, oldest=None, last_failure=None)
ROOMY = Folder(writable=True, free=50 << 30, total=100 << 30)


def told(finding: Finding) -> tuple[str, str, str | None]:
    return finding.level, finding.said, finding.hint


def test_versions_are_told_of_all_that_a_host_is_made_of():
    found = {one.name: one for one in of_versions()}
    assert list(found) == ["agenthost", "python", "platform", "libraries"]
    assert {one.level for one in found.values()} == {"ok"}
    assert {"fastapi", "uvicorn", "pydantic", "sqlalchemy"} <= set(found["libraries"].facts)


@pytest.mark.parametrize(
    ("version", "racy"),
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 52, 0), False),
        ((4, 0, 0), False),
    ],
)
def test_the_race_is_known_by_the_version(version, racy):
    assert has_wal_race(version) is racy
    assert of_sqlite(version).level == ("note" if racy else "ok")


def test_the_race_is_a_note_that_says_who_can_meet_it():
    said = (
        "3.40.1, which has the WAL-reset race: two connections that write at the same moment can damage the file. "
        "A host writes through one, under a lock file, so only other programs that write to the store can meet it"
    )
    hint = (
        "let no other program write to the store while a host serves; SQLite 3.51.3 and newer is without it, "
        "as are 3.50.7 and 3.44.6"
    )
    assert told(of_sqlite((3, 40, 1))) == ("note", said, hint)
    assert told(of_sqlite((3, 53, 1))) == ("ok", "3.53.1", None)


def test_few_open_files_are_a_warning():
    assert told(of_open_files((1024, 1024))) == (
        "warning",
        "1024 open files and connections (a start raises the limit from 1024)",
        "raise it: `ulimit -Hn`, LimitNOFILE= of a systemd unit, --ulimit nofile= of a container",
    )
    assert of_open_files((1024, 65536)).level == "ok"
    unlimited = of_open_files((1024, resource.RLIM_INFINITY))
    assert unlimited.level == "ok"
    assert unlimited.said.startswith("any number of open files")


def test_the_store_in_memory_is_a_note():
    (found,) = of_store(StoreLook())
    assert told(found) == ("note", "memory: nothing is kept when the host stops", None)


def test_a_store_without_a_directory_is_a_problem_and_one_that_is_not_there_yet_is_none():
    missing = next(iter(of_store(StoreLook(path=Path("/var/no where/x.db")))))
    assert told(missing) == (
        "problem",
        "/var/no where/x.db has no directory to be in",
        "mkdir -p '/var/no where', or name another file in [store] url",
    )
    found = list(of_store(StoreLook(path=Path("/srv/x.db"), folder=ROOMY)))
    assert told(found[0]) == ("note", "/srv/x.db is not there yet; the next start makes it", None)
    assert {one.level for one in found[1:]} == {"ok"}


def test_a_store_that_cannot_be_used_is_a_problem_and_the_rest_is_told_all_the_same():
    refused = StoreOpenError("the store /srv/x.db is a database of another program", hint="name a file")
    found = list(of_store(StoreLook(path=Path("/srv/x.db"), folder=ROOMY, file=MINE, problem=refused)))
    assert told(found[0]) == ("problem", refused.message, "name a file")
    assert [one.name for one in found] == ["store", "store file", "directory", "disk", "lock"]


def test_all_of_a_store_is_told_in_order():
    whole = StoreLook(
        path=Path("/srv/x.db"),
        folder=ROOMY,
        file=replace(MINE, log_size=3 << 20),
        holder=Holder(7, certain=True),
        journal="wal",
        version=NEWEST,
        damage=(),
        contents=EMPTY,
    )
    found = list(of_store(whole))
    assert [one.name for one in found] == [
        *("store", "store file", "directory", "disk", "lock"),
        *("schema", "journal", "integrity", "contents", "last failure"),
    ]
    assert {one.level for one in found} == {"ok"}
    assert found[0].said == "/srv/x.db, 2.0 KiB, and 3.0 MiB in its log"
    rollback = next(one for one in of_store(replace(whole, journal="rollback")) if one.name == "journal")
    assert told(rollback) == ("note", "rollback; the next start makes it a write-ahead log", None)


def test_who_may_open_the_file_is_looked_at():
    me = pwd.getpwuid(ME).pw_name
    assert told(of_file("/srv/x.db", MINE)) == ("ok", f"mode 0600, owner {me}", None)
    assert told(of_file("/srv/x y.db", replace(MINE, mode=0o644))) == (
        "warning",
        f"mode 0644, owner {me}: others than its owner may open it, and what was said to agents is in it",
        "chmod 600 '/srv/x y.db'*",
    )
    assert of_file("/srv/theirs.db", replace(MINE, mode=0o644), ours=False).level == "ok"
    assert told(of_file("/srv/x.db", replace(MINE, writable=False, mode=0o400, owner=424242), user=4343)) == (
        "problem",
        "mode 0400, owner 424242: 4343 may not write to it",
        "run as 424242, or make it writable for the host's user",
    )
    assert told(of_file("/srv/x.db", replace(MINE, owner=424242), user=4343)) == (
        "warning",
        "mode 0600, owner 424242, but this is 4343",
        "run the host as 424242, or chown 4343 /srv/x.db*",
    )
    assert of_file("/srv/x.db", replace(MINE, owner=424242), user=0).level == "ok"


def test_a_directory_that_takes_no_files_is_a_problem():
    directory, disk = of_folder("/srv", replace(ROOMY, writable=False))
    assert directory.level == "problem"
    assert directory.said.startswith("/srv is not writable for ")
    assert directory.hint == "make it writable for the host's user: the store's log and lock file are in it"
    assert told(disk) == ("ok", "50.0 GiB free of 100.0 GiB (50%)", None)


@pytest.mark.parametrize(
    ("free", "total", "level"),
    [
        (LITTLE_SPACE - 1, 2 * LITTLE_SPACE, "warning"),
        (LITTLE_SPACE, 2 * LITTLE_SPACE, "ok"),
        (9 << 30, 100 << 30, "warning"),
        (10 << 30, 100 << 30, "ok"),
        (0, 0, "warning"),
    ],
)
def test_little_space_on_the_disk_is_a_warning(free, total, level):
    _, disk = of_folder("/srv", Folder(writable=True, free=free, total=total))
    assert disk.level == level
    assert (disk.hint is None) == (level == "ok")


def test_a_network_file_system_is_a_warning_and_a_local_one_is_not_spoken_of():
    *_, network = of_folder("/srv", replace(ROOMY, network="nfs4"))
    assert network.name == "file system"
    assert told(network) == (
        "warning",
        "/srv is on a network file system (nfs4); a write-ahead log there may be damaged",
        "put the store on a local disk: a folder of its own in [store] url",
    )
    assert [one.name for one in of_folder("/srv", ROOMY)] == ["directory", "disk"]


def test_who_holds_the_store_is_told_as_surely_as_it_is_known():
    assert told(of_holder(None)) == ("ok", "no host that can be seen from here has the store open", None)
    assert told(of_holder(Holder(7, certain=True))) == ("ok", "process 7 has the store open", None)
    assert told(of_holder(Holder(7, certain=False))) == (
        "ok",
        "process 7 may have the store open: its files cannot be seen",
        None,
    )


def test_only_a_newer_schema_is_a_problem():
    assert told(of_schema(NEWEST)) == ("ok", f"version {NEWEST}", None)
    assert told(of_schema(0)) == ("note", "the file is empty; the next start fills it in", None)
    assert told(of_schema(1)) == (
        "note",
        f"version 1; the next start brings it to version {NEWEST}, and older agenthosts then refuse it",
        "copy the file first if you may want to go back",
    )
    assert told(of_schema(99)) == (
        "problem",
        f"version 99 was written by a newer agenthost (this one knows {NEWEST})",
        "upgrade agenthost, or name another file in [store] url",
    )


def test_damage_is_a_problem_that_says_what_to_do():
    assert told(of_damage((), quick=False)) == ("ok", "no damage", None)
    assert told(of_damage((), quick=True)) == (
        "ok",
        "no damage (quick_check: the file is large, so its indexes were not compared with its tables)",
        None,
    )
    assert told(of_damage(("a", "b", "c", "d"), quick=False)) == (
        "problem",
        "the file is damaged (integrity_check): a; b; c … and 1 more",
        "stop the host, keep a copy of the file, and restore a backup",
    )


def test_what_a_lost_host_left_going_is_a_note():
    going = replace(EMPTY, threads=1, runs=3, events=9, open_interrupts=2, going=1, oldest=0.0)
    counts = "1 thread, 3 runs, 9 events, 2 open questions, 1 going run; the oldest run is of 1970-01-01T00:00:00Z"
    assert told(of_contents(going, held=True)) == ("ok", counts, None)
    assert told(of_contents(going, held=False)) == (
        "note",
        f"{counts}; no host goes on with those that were going",
        "the next start ends them as host_lost, or begins them again where their agent is resumable",
    )


def test_the_run_that_failed_last_is_a_note_without_a_word_of_what_was_said():
    assert told(of_failure(None)) == ("ok", "no run that is kept has failed", None)
    assert told(of_failure(LastFailure("r7", "echo", "timeout", 0.0))) == (
        "note",
        "echo, timeout, 1970-01-01T00:00:00Z, run r7",
        "the host's log tells why, under that run id; `agenthost help errors` explains timeout",
    )


def test_sizes_and_times_are_told_as_people_read_them():
    assert [size(count) for count in (0, 1023, 1024, 5 << 20, 3 << 30, 5 << 40)] == [
        *("0 bytes", "1023 bytes", "1.0 KiB", "5.0 MiB", "3.0 GiB", "5.0 TiB")
    ]
    assert [moment(value) for value in (0, 1e300, float("nan"), "junk", None)] == [
        *("1970-01-01T00:00:00Z", "1e+300", "nan", "junk", "None")
    ]
