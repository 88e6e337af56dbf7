"""What is too old: runs and threads, found by a reader, deleted in parts so that nobody waits long for the writer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from sqlalchemy import Connection, Select, delete, func, literal_column, select, tuple_, update

from agenthost.store.records import Expired
from agenthost.store.schema import STILL_OPEN, events, interrupts, messages, runs, threads

RUNS = 100
"""Runs, or threads, in one transaction."""

EVENTS = 5000
"""Events, more or less, in one transaction."""

FOUND = 2000
"""Runs, or threads, looked at in one read."""

Answer = TypeVar("Answer")
Id = TypeVar("Id")

_FIRST, _LAST = (
    # two queries: for one of both SQLite walks through all between them
    select(edge(events.c.seq)).where(events.c.run_id == runs.c.run_id).scalar_subquery()
    for edge in (func.min, func.max)
)
_WEIGHT = func.coalesce(_LAST - _FIRST + 1, 0)


class Ask(Protocol):
    """Something that does a piece of work on a connection of its own: the writer, or a reader."""

    async def __call__(self, work: Callable[[Connection], Answer], /) -> Answer:
        """Do it in a transaction, among what others want; raises `StoreError` where the store refuses."""
        ...


class Part(NamedTuple, Generic[Id]):
    """What is deleted at once, and about how many events that has."""

    ids: list[Id]
    events: int


async def expire(read: Ask, write: Ask, now: float, run_retention: float, thread_retention: float) -> Expired:
    """See `Store.expire`."""
    closed = await write(expire_interrupts(now))
    gone = await _expire_runs(read, write, now - run_retention) if run_retention else 0
    unused = await _expire_threads(read, write, now - thread_retention) if thread_retention else 0
    return Expired(gone, unused, closed)


def expire_interrupts(now: float) -> Callable[[Connection], int]:
    """Close the questions whose time is over; how many."""

    def work(connection: Connection) -> int:
        late = (STILL_OPEN, interrupts.c.expires_at <= now)
        return connection.execute(update(interrupts).where(*late).values(status="expired")).rowcount

    return work


async def _expire_runs(read: Ask, write: Ask, before: float) -> int:
    gone, after = 0, 0
    while True:
        parts, last = await read(old_runs(before, after))
        for part in parts:
            own = select(runs.c.run_id).where(runs.c.run_id.in_(part.ids))
            await _thin_out(write, part, own)
            gone += await write(delete_runs(part.ids))
        if last is None:
            return gone
        after = last


async def _expire_threads(read: Ask, write: Ask, before: float) -> int:
    gone, after = 0, 0
    while True:
        parts, last = await read(old_threads(before, after))
        for part in parts:
            still = _unused(before).where(threads.c.id.in_(part.ids))
            own = select(runs.c.run_id).where(runs.c.thread.in_(still))
            await _thin_out(write, part, own)
            gone += await write(delete_unused_threads(still))
        if last is None:
            return gone
        after = last


async def _thin_out(write: Ask, part: Part[Id], own: Select[Any]) -> None:
    """Delete the first events of `own` runs until what is left is deleted quickly together with them."""
    rest = part.events
    while rest > EVENTS and (deleted := await write(delete_some_events(own))):
        rest -= deleted


def old_runs(before: float, after: int) -> Callable[[Connection], tuple[list[Part[str]], int | None]]:
    """Look at runs that follow row `after`: those to delete in parts, and the row to go on from, if it is worth it.

    Rows are in the order of time, but for what a wrong clock did: where none of many is old enough, none after is.
    """

    def read(connection: Connection) -> tuple[list[Part[str]], int | None]:
        asked = (interrupts.c.run_id == runs.c.run_id, interrupts.c.status.in_(("open", "claimed")))
        waits = select(interrupts.c.run_id).where(*asked).exists()
        columns = (runs.c.id, runs.c.run_id, runs.c.created, runs.c.ended, waits, _WEIGHT)
        seen = connection.execute(select(*columns).where(runs.c.id > after).order_by(runs.c.id).limit(FOUND)).all()
        old = [
            (run_id, size)
            for _row, run_id, _created, ended, waiting, size in seen
            if ended is not None and ended < before and not waiting
        ]
        more = len(seen) == FOUND and any(row.created < before for row in seen)
        return _in_parts(old), seen[-1].id if more else None

    return read


def old_threads(before: float, after: int) -> Callable[[Connection], tuple[list[Part[int]], int | None]]:
    """Look for threads after row `after`, last used before then, of which nothing goes or waits; as `old_runs`."""

    def read(connection: Connection) -> tuple[list[Part[int]], int | None]:
        weight = (
            select(func.count())
            .select_from(runs.join(events, events.c.run_id == runs.c.run_id))
            .where(runs.c.thread == threads.c.id)
            .scalar_subquery()
        )
        query = _unused(before).add_columns(weight).where(threads.c.id > after)
        seen = connection.execute(query.order_by(threads.c.id).limit(FOUND)).all()
        return _in_parts((row, size) for row, size in seen), seen[-1].id if len(seen) == FOUND else None

    return read


def _in_parts(weighed: Iterable[tuple[Id, int]]) -> list[Part[Id]]:
    parts: list[Part[Id]] = []
    for item, weight in weighed:
        if parts and parts[-1].events + weight <= EVENTS and len(parts[-1].ids) < RUNS:
            parts[-1] = Part([*parts[-1].ids, item], parts[-1].events + weight)
        else:
            parts.append(Part([item], weight))
    return parts


def _unused(before: float) -> Select[Any]:
    going = select(runs.c.id).where(runs.c.thread == threads.c.id, runs.c.ended.is_(None))
    waits = (
        select(interrupts.c.run_id)
        .select_from(runs.join(interrupts, interrupts.c.run_id == runs.c.run_id))
        .where(runs.c.thread == threads.c.id, interrupts.c.status.in_(("open", "claimed")))
    )
    return select(threads.c.id).where(threads.c.updated < before, ~going.exists(), ~waits.exists())


def delete_some_events(own: Select[Any]) -> Callable[[Connection], int]:
    """Delete the first events of runs, as many as one transaction may; how many there were."""

    def work(connection: Connection) -> int:
        key = (events.c.run_id, events.c.seq)
        first = select(*key).where(events.c.run_id.in_(own)).order_by(*key).limit(EVENTS)
        return connection.execute(delete(events).where(tuple_(*key).in_(first))).rowcount

    return work


def delete_runs(run_ids: Sequence[str]) -> Callable[[Connection], int]:
    """Delete ended runs with their events and questions; their messages stay and keep how the run ended."""

    def work(connection: Connection) -> int:
        ended = select(runs.c.status).where(runs.c.run_id == messages.c.run_id).scalar_subquery()
        own = select(runs.c.thread).where(runs.c.run_id.in_(run_ids), runs.c.status != literal_column("'completed'"))
        connection.execute(
            update(messages)
            .where(messages.c.thread.in_(own), messages.c.run_id.in_(run_ids), ended != "completed")
            .values(status=ended)
        )
        for table in (events, interrupts):
            connection.execute(delete(table).where(table.c.run_id.in_(run_ids)))
        return connection.execute(delete(runs).where(runs.c.run_id.in_(run_ids))).rowcount

    return work


def delete_unused_threads(still: Select[Any]) -> Callable[[Connection], int]:
    """Delete threads and all of theirs, those that are still unused; how many were."""

    def work(connection: Connection) -> int:
        rows = connection.scalars(still).all()
        for row in rows:
            delete_whole_thread(connection, row)
        return len(rows)

    return work


def delete_whole_thread(connection: Connection, thread: int) -> None:
    """Delete a thread (its row) with its messages and runs and all of theirs."""
    own = select(runs.c.run_id).where(runs.c.thread == thread)
    for table in (events, interrupts):
        connection.execute(delete(table).where(table.c.run_id.in_(own)))
    for condition in (messages.c.thread == thread, runs.c.thread == thread, threads.c.id == thread):
        connection.execute(delete(condition.left.table).where(condition))
