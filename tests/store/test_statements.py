"""Statements compiled once: many rows at a time, the last batch included."""

from __future__ import annotations

import sqlite3

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, bindparam, insert, select, update

from agenthost.store.sqlite import DIALECT
from agenthost.store.statements import MAX_KEYS, MAX_ROWS, ForMany, Insert, Statement

table = Table("t", MetaData(), Column("a", Integer, primary_key=True), Column("b", Integer))


@pytest.fixture
def cursor():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b)")
    yield connection.cursor()
    connection.close()


@pytest.mark.parametrize("count", [0, 1, 2, MAX_ROWS - 1, MAX_ROWS, MAX_ROWS + 1, 3 * MAX_ROWS])
def test_rows_of_any_number_go_in_and_keys_of_any_number_find_and_change_them(cursor, count):
    Insert(insert(table), DIALECT, "a", "b").rows(cursor, [(n, n * n) for n in range(count)])
    keys = [(n,) for n in range(count)]

    def these(number):
        return table.c.a.in_([bindparam(f"a_{n}") for n in range(number)])

    find = ForMany(lambda number: select(table).where(these(number)), DIALECT)
    assert sorted(find.select(cursor, keys)) == [(n, n * n) for n in range(count)]
    change = ForMany(lambda number: update(table).where(these(number)).values(b=table.c.a), DIALECT)
    assert change.update(cursor, keys) == count
    assert find.select(cursor, keys[-1:]) == [(n, n) for (n,) in keys[-1:]]


def test_a_key_that_is_not_there_is_neither_found_nor_counted(cursor):
    cursor.execute("INSERT INTO t VALUES (1, 1)")
    change = ForMany(
        lambda number: (
            update(table).where(table.c.a.in_([bindparam(f"a_{n}") for n in range(number)])).values(b=table.c.a)
        ),
        DIALECT,
    )
    assert change.update(cursor, [(n,) for n in range(MAX_KEYS + 3)]) == 1


def test_a_statement_whose_parameters_are_not_as_said_is_a_mistake():
    with pytest.raises(RuntimeError, match=r"takes \('a', 'b'\), not \('b', 'a'\)"):
        Statement(insert(table), DIALECT, "b", "a")
