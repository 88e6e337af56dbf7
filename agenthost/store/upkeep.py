"""The store's rare writes: delete a thread, end the runs of a host that was lost, try whether it can be written."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Container, Iterable
from itertools import islice
from uuid import uuid4

import orjson
from sqlalchemy import Connection, delete, func, insert, select, update

from agenthost.errors import HostLost, ThreadBusy
from agenthost.events import Error
from agenthost.store.migrations import PROBE_ROW
from agenthost.store.reads import is_thread, stored_run, whole_runs
from agenthost.store.records import StoredRun
from agenthost.store.schema import events, interrupts, messages, meta, runs, threads
from agenthost.threads import ThreadKey

CHUNK = 500
"""Run ids in one statement."""


def delete_thread(key: ThreadKey) -> Callable[[Connection], bool]:
    """Delete a thread with its messages and runs and all of theirs; whether there was one. Raises `ThreadBusy`."""

    def work(connection: Connection) -> bool:
        thread = connection.scalar(select(threads.c.id).where(is_thread(key)))
        if thread is None:
            return False
        own = select(runs.c.run_id).where(runs.c.thread == thread)
        if connection.scalar(own.where(runs.c.ended.is_(None)).limit(1)) is not None:
            raise ThreadBusy(hint="wait until it has ended, or cancel it")
        for table in (events, interrupts):
            connection.execute(delete(table).where(table.c.run_id.in_(own)))
        for condition in (messages.c.thread == thread, runs.c.thread == thread, threads.c.id == thread):
            connection.execute(delete(condition.left.table).where(condition))
        return True

    return work


def going_runs(connection: Connection) -> frozenset[str]:
    """The ids of the runs that have not ended."""
    return frozenset(connection.scalars(select(runs.c.run_id).where(runs.c.ended.is_(None))))


def recover(left: Collection[str], resumable: Container[str]) -> Callable[[Connection], list[StoredRun]]:
    """End what is still going of the runs `left` as `failed: host_lost`; return `resumable` agents' runs, untouched."""

    def work(connection: Connection) -> list[StoredRun]:
        kept: list[StoredRun] = []
        now = time.time()
        for part in _chunks(left):
            query = whole_runs().where(runs.c.run_id.in_(part), runs.c.ended.is_(None)).order_by(runs.c.id)
            for run in [stored_run(row) for row in connection.execute(query).mappings()]:
                if run.agent in resumable:
                    kept.append(run)
                else:
                    _end_lost(connection, run.run_id, now)
        return kept

    return work


def _end_lost(connection: Connection, run_id: str, now: float) -> None:
    last = connection.scalar(select(func.max(events.c.seq)).where(events.c.run_id == run_id)) or 0
    said = Error(HostLost.title, HostLost.code, uuid4().hex, run_id)
    entry = {"run_id": run_id, "seq": last + 1, "type": said.kind, "data": orjson.dumps(said.payload())}
    connection.execute(insert(events).values(entry))
    connection.execute(
        update(runs)
        .where(runs.c.run_id == run_id)
        .values(status="failed", stop_reason=HostLost.code, code=HostLost.code, ended=now)
    )


def _chunks(items: Iterable[str]) -> Iterable[list[str]]:
    rest = iter(items)
    while part := list(islice(rest, CHUNK)):
        yield part


def probe(connection: Connection) -> None:
    """Write a few bytes: whether anything can be written shows at the commit."""
    connection.execute(update(meta).where(meta.c.name == PROBE_ROW).values(value=repr(time.time())))
