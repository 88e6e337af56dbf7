"""What can be asked of the store: each function takes a connection inside a transaction and returns plain records."""

from __future__ import annotations

import time
from math import isfinite
from typing import Any, NamedTuple

import orjson
from sqlalchemy import ColumnElement, Connection, RowMapping, Select, and_, func, or_, select, union

from agenthost.agents import RunStatus
from agenthost.errors import InvalidRequest
from agenthost.events import Entry
from agenthost.store.hot import STATUS
from agenthost.store.messages import decode_message
from agenthost.store.records import Page, RunSummary, StoredInterrupt, StoredRun, StoredThread, ThreadSummary
from agenthost.store.schema import STILL_OPEN, events, interrupts, messages, runs, threads
from agenthost.threads import Message, ThreadKey


class Beginning(NamedTuple):
    """The thread (its row) of a run that is about to begin, its state, and all that was said in it."""

    thread: int | None
    state: dict[str, Any]
    messages: list[Message]


_SUMMARY = (
    runs.c.id,
    runs.c.run_id,
    runs.c.agent,
    runs.c.principal,
    threads.c.thread_id,
    runs.c.status,
    runs.c.stop_reason,
    runs.c.code,
    runs.c.resumes,
    select(func.max(interrupts.c.claimed_by))
    .where(interrupts.c.run_id == runs.c.run_id)
    .scalar_subquery()
    .label("resumed_by"),
    runs.c.parent,
    runs.c.created,
    runs.c.ended,
)
PIECE = 128 << 10
"""Bytes of entries read at once, more or less."""

_OF_RUN = events.c.run_id == runs.c.run_id
_WHOLE = (
    *_SUMMARY[1:],
    runs.c.agent_version,
    runs.c.settings_hash,
    runs.c.input,
    runs.c.result,
    runs.c.idempotency_key,
    runs.c.request_digest,
    runs.c.detached,
    runs.c.resumable,
    func.coalesce(select(func.min(events.c.seq)).where(_OF_RUN).scalar_subquery(), 0).label("first_seq"),
    func.coalesce(select(func.max(events.c.seq)).where(_OF_RUN).scalar_subquery(), 0).label("last_seq"),
    runs.c.epoch,
)
_RUNS = runs.outerjoin(threads, threads.c.id == runs.c.thread)


def is_thread(key: ThreadKey) -> ColumnElement[bool]:
    """The condition that picks one thread."""
    return and_(
        threads.c.principal == key.principal, threads.c.agent == key.agent, threads.c.thread_id == key.thread_id
    )


def read_thread(connection: Connection, key: ThreadKey) -> StoredThread | None:
    """Read a thread whole; None if there is none."""
    row = connection.execute(select(threads).where(is_thread(key))).mappings().first()
    if row is None:
        return None
    went = select(*_SUMMARY).select_from(_RUNS).where(runs.c.thread == row["id"]).order_by(runs.c.id)
    return StoredThread(
        key,
        read_messages(connection, row["id"]),
        [_summary(run) for run in connection.execute(went).mappings()],
        row["created"],
        row["updated"],
        _object(row["metadata"]) or {},
    )


def read_messages(connection: Connection, thread: int) -> list[Message]:
    """Read what was said in a thread (its row), oldest first."""
    said = connection.execute(
        select(messages.c.role, messages.c.body, messages.c.run_id, messages.c.at, STATUS)
        .select_from(messages.outerjoin(runs, runs.c.run_id == messages.c.run_id))
        .where(messages.c.thread == thread)
        .order_by(messages.c.id)
    )
    return [decode_message(*message) for message in said]


def read_beginning(connection: Connection, run_id: str) -> Beginning | None:
    """Read what a run that is there begins on; None if there is no such run."""
    row = connection.execute(
        select(runs.c.thread, threads.c.state)
        .select_from(runs.outerjoin(threads, threads.c.id == runs.c.thread))
        .where(runs.c.run_id == run_id)
    ).first()
    if row is None:
        return None
    thread, state = row
    return Beginning(thread, _object(state) or {}, [] if thread is None else read_messages(connection, thread))


def read_threads(
    connection: Connection, principal: str, agent: str, after: tuple[float, int] | None, limit: int
) -> Page[ThreadSummary]:
    """Read part of a principal's threads with an agent, the last used first; `after` is what `thread_cursor` gave."""
    query = select(threads).where(threads.c.principal == principal, threads.c.agent == agent)
    if after is not None:
        updated, number = after
        query = query.where(or_(threads.c.updated < updated, and_(threads.c.updated == updated, threads.c.id < number)))
    rows, more = _page(connection, query.order_by(threads.c.updated.desc(), threads.c.id.desc()), limit)
    return Page(
        [
            ThreadSummary(row["thread_id"], row["created"], row["updated"], _object(row["metadata"]) or {})
            for row in rows
        ],
        f"{rows[-1]['updated']!r}_{rows[-1]['id']}" if more else None,
    )


def thread_cursor(cursor: str | None) -> tuple[float, int] | None:
    """Take a cursor of `read_threads` apart. Raises `InvalidRequest` for any other text."""
    if cursor is None:
        return None
    updated, _, number = cursor.partition("_")
    try:
        position = float(updated), _number(number)
    except ValueError:
        raise _unknown_cursor() from None
    if not isfinite(position[0]):
        raise _unknown_cursor()
    return position


def read_run(connection: Connection, run_id: str) -> StoredRun | None:
    """Read a run; None if there is none."""
    row = connection.execute(whole_runs().where(runs.c.run_id == run_id)).mappings().first()
    return None if row is None else stored_run(row, read_interrupts(connection, interrupts.c.run_id == run_id))


def read_key(connection: Connection, agent: str, principal: str, idempotency_key: str) -> StoredRun | None:
    """Read the run of an idempotency key; None if there is none."""
    own = (runs.c.agent == agent, runs.c.principal == principal, runs.c.idempotency_key == idempotency_key)
    run_id = connection.scalar(select(runs.c.run_id).where(*own))
    return None if run_id is None else read_run(connection, run_id)


def read_interrupts(connection: Connection, condition: ColumnElement[bool]) -> list[StoredInterrupt]:
    """Read the questions that meet a condition, the newest run's first; those that were not answered in time say so."""
    query = (
        select(interrupts)
        .select_from(interrupts.join(runs, runs.c.run_id == interrupts.c.run_id))
        .where(condition)
        .order_by(runs.c.id.desc(), interrupts.c.position)
    )
    now = time.time()
    return [_interrupt(row, now) for row in connection.execute(query).mappings()]


def of_thread(key: ThreadKey) -> ColumnElement[bool]:
    """The condition for questions of one thread."""
    return runs.c.thread == select(threads.c.id).where(is_thread(key)).scalar_subquery()


def claimed_by(run_id: str) -> ColumnElement[bool]:
    """The condition for questions that a run answers."""
    asked = select(runs.c.resumes).where(runs.c.run_id == run_id).correlate(None).scalar_subquery()
    return and_(interrupts.c.run_id == asked, interrupts.c.claimed_by == run_id)


def _interrupt(row: RowMapping, now: float) -> StoredInterrupt:
    fields = {name: row[name] for name in ("run_id", "interrupt_id", "created", "expires_at", "claimed_by")}
    late = row["status"] == "open" and row["expires_at"] <= now
    return StoredInterrupt(
        **fields,
        status="expired" if late else row["status"],
        payload=_object(row["payload"]),
        state=_object(row["state"]),
        answer=_object(row["answer"]),
    )


def whole_runs() -> Select[Any]:
    """The query whose rows `stored_run` takes."""
    return select(*_WHOLE).select_from(_RUNS)


def stored_run(row: RowMapping, asked: list[StoredInterrupt]) -> StoredRun:
    """Rebuild a run from a row of `whole_runs` and what it asked."""
    fields = dict(row)
    fields.update(input=_object(row["input"]), result=_object(row["result"]), interrupts=asked)
    fields.update(detached=bool(row["detached"]), resumable=bool(row["resumable"]))
    return StoredRun(**fields)


def read_runs(
    connection: Connection,
    agent: str,
    principal: str,
    thread_id: str | None,
    status: RunStatus | None,
    before: int | None,
    limit: int,
) -> Page[RunSummary]:
    """Read part of a principal's runs of an agent, newest first; `before` is what `run_cursor` gave.

    Of those that paused, `status` finds the ones that wait for an answer.
    """
    query = select(*_SUMMARY).select_from(_RUNS).where(runs.c.agent == agent, runs.c.principal == principal)
    if thread_id is not None:
        key = ThreadKey(principal, agent, thread_id)
        query = query.where(runs.c.thread == select(threads.c.id).where(is_thread(key)).scalar_subquery())
    if status is not None:
        query = query.where(runs.c.status == status)
    if status == "paused":
        still_open = select(interrupts.c.run_id).where(
            interrupts.c.run_id == runs.c.run_id, STILL_OPEN, interrupts.c.expires_at > time.time()
        )
        query = query.where(still_open.exists())
    if before is not None:
        query = query.where(runs.c.id < before)
    rows, more = _page(connection, query.order_by(runs.c.id.desc()), limit)
    return Page([_summary(row) for row in rows], str(rows[-1]["id"]) if more else None)


def run_cursor(cursor: str | None) -> int | None:
    """Take a cursor of `read_runs` apart. Raises `InvalidRequest` for any other text."""
    try:
        return None if cursor is None else _number(cursor)
    except ValueError:
        raise _unknown_cursor() from None


def read_events(connection: Connection, run_id: str, after: int, limit: int) -> list[Entry]:
    """Read at most `limit` entries, and about `PIECE` bytes, of a run's log that follow entry `after`, in order."""
    query = (
        select(events.c.seq, events.c.type, events.c.data)
        .where(events.c.run_id == run_id, events.c.seq > after)
        .order_by(events.c.seq)
        .limit(limit)
    )
    found: list[Entry] = []
    size = 0
    for seq, kind, data in connection.execute(query):
        found.append(Entry(seq, kind, data))
        size += len(data)
        if size >= PIECE:  # each of many readers that are slow holds what it was given
            break
    return found


def read_agents(connection: Connection) -> set[str]:
    """Read the names of all agents that threads or runs are kept for."""
    return set(connection.scalars(union(select(threads.c.agent), select(runs.c.agent))))


def _page(connection: Connection, query: Select[Any], limit: int) -> tuple[list[RowMapping], bool]:
    """Return at most `limit` rows, and whether there are more."""
    rows = list(connection.execute(query.limit(limit + 1)).mappings())
    return rows[:limit], len(rows) > limit


def _summary(row: RowMapping) -> RunSummary:
    fields = dict(row)
    del fields["id"]
    return RunSummary(**fields)


def _object(raw: bytes | None) -> Any:
    return None if raw is None else orjson.loads(raw)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):  # what any row's number fits in
        raise ValueError(text)
    return int(text)


def _unknown_cursor() -> InvalidRequest:
    return InvalidRequest("this cursor is not one that this list gave", hint="take `cursor` from the page before")
