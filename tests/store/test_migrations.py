"""Versions of the schema: a new file gets the newest, an old one each step, a newer one is refused."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from agenthost.store import Claim, StoreOpenError
from agenthost.store.migrations import STEPS, migrate, version_of
from agenthost.store.sqlite import Database
from agenthost.threads import ThreadKey

VERSION_1 = Path(__file__).with_name("version_1.sql").read_text("utf-8")


def add_colour(connection):
    connection.exec_driver_sql("ALTER TABLE threads ADD COLUMN colour TEXT")


def break_off(connection):
    connection.exec_driver_sql("CREATE TABLE half (done)")
    raise RuntimeError("the power went")


@pytest.fixture
def connection(path):
    database = Database(path, "normal")
    database.create()
    with database.connect() as connection:
        yield connection


def tables(connection):
    return {name for (name,) in connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_a_new_database_gets_the_newest_schema_and_no_other_step(connection):
    assert version_of(connection, "x") == 0
    migrate(connection, 0, (*STEPS, break_off))
    assert version_of(connection, "x", newest=len(STEPS) + 1) == len(STEPS) + 1
    assert tables(connection) == {"meta", "threads", "messages", "runs", "events", "interrupts"}


def test_an_older_database_takes_the_steps_it_lacks(connection):
    migrate(connection, 0)
    migrate(connection, len(STEPS), (*STEPS, add_colour))
    assert version_of(connection, "x", newest=len(STEPS) + 1) == len(STEPS) + 1
    connection.exec_driver_sql("SELECT colour FROM threads")


def test_a_step_that_fails_leaves_the_database_at_its_old_version(connection):
    migrate(connection, 0)
    with pytest.raises(RuntimeError):
        migrate(connection, len(STEPS), (*STEPS, add_colour, break_off))
    assert version_of(connection, "x") == len(STEPS)
    assert "half" not in tables(connection)
    with pytest.raises(Exception, match="no such column"):
        connection.exec_driver_sql("SELECT colour FROM threads")


@pytest.fixture
def version_1(path):
    """A file that the first schema's own code wrote."""
    with sqlite3.connect(path) as connection:
        connection.executescript(VERSION_1)
    connection.close()


def shape(connection):
    """Each table's columns, and each index with its table, but for order."""
    columns = {
        table: {tuple(row)[1:] for row in connection.exec_driver_sql(f"PRAGMA table_info({table})")}
        for table in tables(connection)
    }
    indexes = {
        tuple(row)
        for row in connection.exec_driver_sql(
            "SELECT name, tbl_name, replace(replace(sql, ' ', ''), char(10), '') FROM sqlite_master "
            "WHERE type = 'index' AND sql IS NOT NULL"
        )
    }
    return columns, indexes


def test_a_file_of_the_first_schema_gets_all_that_a_new_one_has(version_1, path, open_store, tmp_path):
    open_store().close()
    open_store(f"sqlite:///{tmp_path}/new.db").close()
    with Database(path, "normal").connect() as old, Database(tmp_path / "new.db", "normal").connect() as new:
        assert shape(old) == shape(new)
        assert version_of(old, "x") == version_of(new, "x") == 2


def test_what_the_first_schema_held_is_read_answered_and_recovered(version_1, open_store, new_run, rows):
    async def main():
        store = open_store()
        assert await store.recover() == []
        assert (await store.get_run("going")).code == "host_lost"
        done = await store.get_run("done")
        assert (done.status, done.resumable, done.first_seq, done.last_seq, done.interrupts) == (
            "completed",
            False,
            1,
            2,
            [],
        )
        before = await store.start_run(new_run("t"))
        assert [message.text for message in before.messages] == ["hello", "hi"]
        assert before.state == {"n": 1}
        [asked] = await store.interrupts(ThreadKey("acme", "echo", "u"))
        assert (asked.status, asked.payload, asked.state, asked.answer) == (
            "open",
            {"question": "may I?"},
            {"at": 1},
            None,
        )
        await store.start_run(new_run("u", resumes="asking", claims=[Claim("asking", "i1", {"response": "yes"})]))
        assert (await store.get_run("asking")).resumed_by == "r2"

    asyncio.run(main())
    assert rows("SELECT thread_id, waiting FROM threads ORDER BY id") == [("t", None), ("u", 1), ("v", None)]


def test_a_question_of_the_first_schema_is_superseded_as_any_other(version_1, open_store, new_run):
    async def main():
        store = open_store()
        await store.start_run(new_run("u", say="never mind"))
        [asked] = await store.interrupts(ThreadKey("acme", "echo", "u"))
        assert asked.status == "superseded"

    asyncio.run(main())


def test_a_migration_that_fails_leaves_the_file_untouched(version_1, path):
    before = path.read_bytes()
    with Database(path, "normal").connect() as connection, pytest.raises(RuntimeError):
        migrate(connection, 1, (*STEPS, break_off))
    assert path.read_bytes() == before


def test_a_creation_that_fails_leaves_an_empty_database(connection):
    with pytest.raises(RuntimeError):
        migrate(connection, 0, (break_off,))
    assert tables(connection) == set()


def test_a_newer_database_is_refused_and_left_as_it_is(open_store, path):
    open_store().close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET value = '99' WHERE name = 'schema'")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreOpenError) as refused:
        open_store()
    newest = len(STEPS)
    assert refused.value.message == (
        f"the store {path} was written by a newer agenthost (schema 99, this one knows {newest})"
    )
    assert refused.value.hint == "upgrade agenthost, or name another file; this one was left as it is"
    assert path.read_bytes() == before
    assert {file.name for file in path.parent.iterdir()} == {path.name, path.name + ".lock"}
