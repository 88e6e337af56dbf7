"""Versions of the schema: a new file gets the newest, an old one each step, a newer one is refused."""

from __future__ import annotations

import sqlite3

import pytest

from agenthost.store import StoreOpenError
from agenthost.store.migrations import STEPS, migrate, version_of
from agenthost.store.sqlite import Database


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
