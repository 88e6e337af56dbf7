"""The store's rare writes: delete a thread, end or take over the runs of a host that was lost, try a write."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import islice
from uuid import uuid4

import orjson
from sqlalchemy import ColumnElement, Connection, and_, func, insert, literal, or_, select, update

from agenthost.errors import HostLost, StoreError, ThreadBusy
from agenthost.events import Error
from agenthost.store.expiry import delete_runs, delete_whole_thread
from agenthost.store.hot import MESSAGE_COLUMNS, give_back, supersede
from agenthost.store.jobs import message_row
from agenthost.store.migrations import PROBE_ROW
from agenthost.store.reads import Beginning, is_thread, stored_run, whole_runs
from agenthost.store.records import MAX_EPOCH, StoredRun, ThreadBefore
from agenthost.store.schema import events, interrupts, messages, meta, runs, threads
from agenthost.threads import Message, ThreadKey

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
        delete_whole_thread(connection, thread)
        return True

    return work


def delete_run(run_id: str) -> Callable[[Connection], bool]:
    """See `Store.delete_run`."""

    def work(connection: Connection) -> bool:
        found = connection.execute(select(runs.c.thread, runs.c.ended).where(runs.c.run_id == run_id)).one_or_none()
        if found is None:
            return False
        if found.ended is None:
            raise ThreadBusy("this run is going", hint="wait until it has ended, or cancel it")
        if found.thread is not None and not _holds_more(connection, found.thread, run_id):
            delete_whole_thread(connection, found.thread)
        else:
            delete_runs([run_id])(connection)
        return True

    return work


def _holds_more(connection: Connection, thread: int, run_id: str) -> bool:
    """Whether a thread has more than what one run brought to it."""
    others = (
        select(table.c.run_id).where(table.c.thread == thread, table.c.run_id != run_id).limit(1)
        for table in (runs, messages)
    )
    return any(connection.scalar(other) is not None for other in others)


def going_runs(connection: Connection) -> frozenset[str]:
    """The ids of the runs that have not ended."""
    return frozenset(connection.scalars(select(runs.c.run_id).where(runs.c.ended.is_(None))))


def recover(left: Collection[str]) -> Callable[[Connection], list[StoredRun]]:
    """End what is still going of the runs `left` as `failed: host_lost`; return those that begin (again), untouched."""

    def work(connection: Connection) -> list[StoredRun]:
        kept: list[StoredRun] = []
        for part in _chunks(left):
            going = (runs.c.run_id.in_(part), runs.c.ended.is_(None))
            query = whole_runs().where(*going, _BEGINS_AGAIN).order_by(runs.c.id)
            kept += [stored_run(row, []) for row in connection.execute(query).mappings()]
            _end_lost(connection, going)
        return kept

    return work


_BEGINS_AGAIN = or_(
    runs.c.status == "queued",
    and_(func.coalesce(runs.c.resumable, 0) == 1, runs.c.epoch < MAX_EPOCH),  # the first schema did not ask
)


def _end_lost(connection: Connection, going: Iterable[ColumnElement[bool]]) -> None:
    """End those that go and do not begin again; what they had claimed, and not answered, is open again."""
    last = func.coalesce(select(func.max(events.c.seq)).where(events.c.run_id == runs.c.run_id).scalar_subquery(), 0)
    lost = connection.execute(select(runs.c.run_id, runs.c.thread, runs.c.resumes, last).where(*going, ~_BEGINS_AGAIN))
    rows, ids, resumes, asked = [], [], [], set()
    for run_id, thread, asker, seq in lost:
        said = Error(HostLost.title, HostLost.code, uuid4().hex, run_id)
        rows.append({"run_id": run_id, "seq": seq + 1, "type": said.kind, "data": orjson.dumps(said.payload())})
        ids.append(run_id)
        if asker is not None:
            resumes.append(thread)
            asked.add(asker)
    if not ids:
        return
    connection.execute(insert(events), rows)
    how = {"status": "failed", "stop_reason": HostLost.code, "code": HostLost.code, "ended": time.time()}
    connection.execute(update(runs).where(runs.c.run_id.in_(ids)).values(how))
    if asked:
        claimed = (interrupts.c.run_id.in_(asked), interrupts.c.claimed_by.in_(ids), interrupts.c.status == "claimed")
        connection.execute(give_back().where(*claimed))
        connection.execute(update(threads).where(threads.c.id.in_(resumes)).values(waiting=1))


def begin_run(
    run_id: str, epoch: int, said: Sequence[Message], known: Beginning
) -> Callable[[Connection], ThreadBefore | None]:
    """Begin a run that is there: queued, or a lost host's; see `Store.begin_run`.

    `known` is what was read of its thread before; where that is not all any more, nothing is written and None returned.
    """

    def work(connection: Connection) -> ThreadBefore | None:
        thread = known.thread
        count = select(func.count()).where(messages.c.thread == thread)
        if connection.scalar(count) != len(known.messages):
            return None
        wanted = or_(
            and_(runs.c.status == "queued", runs.c.epoch == epoch),
            and_(runs.c.status == "running", runs.c.epoch == epoch - 1),
        )
        own = (runs.c.run_id == run_id, runs.c.ended.is_(None))
        begun = connection.execute(update(runs).where(*own, wanted).values(status="running", epoch=epoch))
        if begun.rowcount != 1:
            raise StoreError(f"run {run_id} cannot begin: it has ended, or goes on elsewhere")
        before = [message for message in known.messages if message.run_id != run_id]
        if thread is not None:
            # a lost host has written the messages already
            if said and len(before) == len(known.messages):
                rows = [(thread, *message_row(run_id, message, time.time())) for message in said]
                connection.execute(insert(messages), [dict(zip(MESSAGE_COLUMNS, row, strict=True)) for row in rows])
            if connection.scalar(select(runs.c.resumes).where(runs.c.run_id == run_id)) is None:
                connection.execute(supersede(literal(thread)))
                connection.execute(update(threads).where(threads.c.id == thread).values(waiting=0))
        return ThreadBefore(before, known.state)

    return work


def _chunks(items: Iterable[str]) -> Iterable[list[str]]:
    rest = iter(items)
    while part := list(islice(rest, CHUNK)):
        yield part


def probe(connection: Connection) -> None:
    """Write a few bytes: whether anything can be written shows at the commit."""
    connection.execute(update(meta).where(meta.c.name == PROBE_ROW).values(value=repr(time.time())))
