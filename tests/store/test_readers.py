"""Reads go on beside a write, in threads of their own, and see a thread as it was at one moment."""

from __future__ import annotations

import asyncio
import sqlite3
import threading

import pytest

from agenthost.errors import StoreError
from agenthost.store.readers import THREADS, Readers
from agenthost.store.sqlite import Database


@pytest.fixture
def readers(open_store, path):
    open_store()
    readers = Readers(Database(path, "normal"))
    yield readers
    readers.close()


def test_reads_have_their_own_threads_and_answer_one_another_out_of_order(readers):
    released = threading.Event()

    async def main():
        slow = readers.submit(lambda connection: released.wait(10) and threading.current_thread().name)
        quick = await asyncio.wait_for(readers.submit(lambda connection: threading.current_thread().name), 10)
        assert not slow.done()
        released.set()
        names = {quick, await asyncio.wait_for(slow, 10)}
        assert names == {f"agenthost-store-reader-{number}" for number in range(1, THREADS + 1)}

    asyncio.run(main())


def test_a_read_sees_one_state_though_the_file_is_written_meanwhile(readers, path):
    def twice(connection):
        count = "SELECT count(*) FROM meta"
        before = connection.exec_driver_sql(count).scalar()
        other = sqlite3.connect(path)
        other.execute("INSERT INTO meta VALUES ('more', '')")
        other.commit()
        other.close()
        return before, connection.exec_driver_sql(count).scalar()

    async def main():
        assert await readers.submit(twice) == (2, 2)
        assert await readers.submit(count_rows) == 3

    asyncio.run(main())


def count_rows(connection):
    return connection.exec_driver_sql("SELECT count(*) FROM meta").scalar()


def test_a_read_that_fails_fails_alone(readers, path):
    async def main():
        for _ in range(2 * THREADS):
            with pytest.raises(StoreError) as failed:
                await readers.submit(lambda connection: connection.exec_driver_sql("SELECT * FROM nowhere"))
            assert failed.value.message == f"the store {path} cannot be read: no such table: nowhere"
            assert failed.value.__cause__ is not None
        assert await readers.submit(count_rows) == 2

    asyncio.run(main())
