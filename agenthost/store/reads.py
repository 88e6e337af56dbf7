"""What can be asked of the store: each function takes a connection inside a transaction and returns plain records."""

from __future__ import annotations

from math import isfinite
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, RowMapping, Select, and_, or_, select, union

from agenthost.agents import RunStatus
from agenthost.errors import InvalidRequest
from agenthost.events import Entry
from agenthost.store.messages import decode_message
from agenthost.store.records import Page, RunSummary, StoredRun, StoredThread, ThreadSummary
from agenthost.store.schema import events, messages, runs, threads
from agenthost.threads import ThreadKey

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
    runs.c.parent,
    runs.c.created,
    runs.c.ended,
)
_WHOLE = (
    *_SUMMARY[1:],
    runs.c.agent_version,
    runs.c.settings_hash,
    runs.c.input,
    runs.c.result,
    runs.c.idempotency_key,
    runs.c.request_digest,
    runs.c.detached,
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
    said = connection.execute(
        select(messages.c.role, messages.c.body, messages.c.run_id, messages.c.at, runs.c.status)
        .select_from(messages.outerjoin(runs, runs.c.run_id == messages.c.run_id))
        .where(messages.c.thread == row["id"])
        .order_by(messages.c.id)
    )
    went = select(*_SUMMARY).select_from(_RUNS).where(runs.c.thread == row["id"]).order_by(runs.c.id)
    return StoredThread(
        key,
        [decode_message(*message) for message in said],
        [_summary(run) for run in connection.execute(went).mappings()],
        row["created"],
        row["updated"],
        _object(row["metadata"]) or {},
    )


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
    return None if row is None else stored_run(row)


def whole_runs() -> Select[Any]:
    """The query whose rows `stored_run` takes."""
    return select(*_WHOLE).select_from(_RUNS)


def stored_run(row: RowMapping) -> StoredRun:
    """Rebuild a run from a row of `whole_runs`."""
    fields = dict(row)
    fields.update(input=_object(row["input"]), result=_object(row["result"]), detached=bool(row["detached"]))
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
    """Read part of a principal's runs of an agent, newest first; `before` is what `run_cursor` gave."""
    query = select(*_SUMMARY).select_from(_RUNS).where(runs.c.agent == agent, runs.c.principal == principal)
    if thread_id is not None:
        key = ThreadKey(principal, agent, thread_id)
        query = query.where(runs.c.thread == select(threads.c.id).where(is_thread(key)).scalar_subquery())
    if status is not None:
        query = query.where(runs.c.status == status)
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
    """Read at most `limit` entries of a run's log that follow entry `after`, in order."""
    query = (
        select(events.c.seq, events.c.type, events.c.data)
        .where(events.c.run_id == run_id, events.c.seq > after)
        .order_by(events.c.seq)
        .limit(limit)
    )
    return [Entry(seq, kind, data) for seq, kind, data in connection.execute(query)]


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
