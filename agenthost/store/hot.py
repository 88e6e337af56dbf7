"""The statements of runs that start, go on and end: written in Core, compiled once for the dialect in use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Dialect,
    Select,
    Update,
    and_,
    bindparam,
    case,
    func,
    insert,
    literal_column,
    or_,
    select,
    union_all,
    update,
)

from agenthost.store.schema import STILL_OPEN, events, interrupts, messages, runs, threads
from agenthost.store.sqlite import DIALECT, upsert
from agenthost.store.statements import ForMany, Insert, Statement

RUN_COLUMNS = (
    "run_id",
    "epoch",
    "status",
    "agent",
    "principal",
    "thread",
    "created",
    "agent_version",
    "settings_hash",
    "idempotency_key",
    "request_digest",
    "resumes",
    "parent",
    "detached",
    "resumable",
    "input",
)

MESSAGE_COLUMNS = ("thread", "run_id", "at", "role", "body")
INTERRUPT_COLUMNS = ("run_id", "interrupt_id", "position", "status", "created", "expires_at", "payload", "state")

LARGE_BODY = 32 << 10
"""Bytes of one message beyond which it is not read between the writes of others."""

STATUS = func.coalesce(runs.c.status, messages.c.status)
"""How the run of a message ended, kept or not."""


class HotStatements:
    """Every statement of the hot path; take them from `hot_statements`, which has them compiled already."""

    def __init__(self, dialect: Dialect) -> None:
        new = upsert(threads)
        self.touch_threads = Insert(
            new.on_conflict_do_update(
                index_elements=[threads.c.principal, threads.c.agent, threads.c.thread_id],
                set_={
                    "updated": new.excluded.updated,
                    "metadata": func.coalesce(new.excluded.metadata, threads.c.metadata),
                },
            ),
            dialect,
            *("principal", "agent", "thread_id", "created", "updated", "metadata"),
        )
        self.find_threads = ForMany(_find_threads, dialect)
        self.read_messages = ForMany(_read_messages, dialect)
        self.count_messages = Statement(_count_messages(), dialect, "thread")
        self.add_runs = Insert(insert(runs), dialect, *RUN_COLUMNS)
        self.add_messages = Insert(insert(messages), dialect, *MESSAGE_COLUMNS)
        self.add_events = Insert(insert(events), dialect, "run_id", "seq", "type", "data")
        self.add_interrupts = Insert(insert(interrupts), dialect, *INTERRUPT_COLUMNS)
        self.end_runs = ForMany(_end_runs, dialect)
        self.end_threads = ForMany(_end_threads, dialect)
        self.questions = QuestionStatements(dialect)
        self.find_run = Statement(_find_run(), dialect, "run_id")
        self.find_key = Statement(
            select(runs.c.run_id, runs.c.request_digest).where(
                runs.c.agent == bindparam("agent"),
                runs.c.principal == bindparam("principal"),
                runs.c.idempotency_key == bindparam("idempotency_key"),
            ),
            dialect,
            *("agent", "principal", "idempotency_key"),
        )


class QuestionStatements:
    """What happens to questions: claimed, answered or given back by a run, superseded by a newer one."""

    def __init__(self, dialect: Dialect) -> None:
        own = (interrupts.c.run_id == bindparam("asked"), interrupts.c.interrupt_id == bindparam("which"))
        here = select(runs.c.id).where(runs.c.run_id == interrupts.c.run_id, runs.c.thread == bindparam("row"))
        self.claim = Statement(
            update(interrupts)
            .where(*own, STILL_OPEN, interrupts.c.expires_at > bindparam("now"), here.exists())
            .values(status=literal_column("'claimed'"), claimed_by=bindparam("claimer"), answer=bindparam("given")),
            dialect,
            *("claimer", "given", "asked", "which", "now", "row"),
        )
        claimed = (
            interrupts.c.run_id == bindparam("asked"),
            interrupts.c.claimed_by == bindparam("claimer"),
            interrupts.c.status == literal_column("'claimed'"),
        )
        self.answer = Statement(
            update(interrupts).where(*claimed).values(status=literal_column("'answered'")), dialect, "asked", "claimer"
        )
        self.give_back = Statement(give_back().where(*claimed), dialect, "asked", "claimer")
        self.supersede = Statement(supersede(bindparam("row")), dialect, "row")
        self.wait = Statement(
            update(threads).values(waiting=bindparam("waits")).where(threads.c.id == bindparam("row")),
            dialect,
            *("waits", "row"),
        )


@cache
def hot_statements() -> HotStatements:
    """The statements, compiled once for all stores of this process."""
    return HotStatements(DIALECT)


def give_back() -> Update:
    """Make claimed questions open again; the condition is the caller's."""
    return update(interrupts).values(
        status=literal_column("'open'"), claimed_by=literal_column("NULL"), answer=literal_column("NULL")
    )


def supersede(thread: ColumnElement[Any]) -> Update:
    """Close the open questions of a thread (its row) for good: a newer run takes their place."""
    own = select(runs.c.run_id).where(runs.c.thread == thread)
    return (
        update(interrupts).where(interrupts.c.run_id.in_(own), STILL_OPEN).values(status=literal_column("'superseded'"))
    )


def _find_threads(count: int) -> Select[Any]:
    """By (principal, agent, thread id): these three, id, state, whether a question may be open."""
    key = (threads.c.principal, threads.c.agent, threads.c.thread_id)
    one = [and_(*(column == bindparam(f"{column.name}_{n}") for column in key)) for n in range(count)]
    return select(*key, threads.c.id, threads.c.state, threads.c.waiting).where(or_(*one))


def _read_messages(count: int) -> Select[Any]:
    """By thread: the thread, and what `decode_message` takes, oldest first; a large body is None, and is not read."""
    body = case((func.length(messages.c.body) <= literal_column(str(LARGE_BODY)), messages.c.body))
    return (
        select(messages.c.thread, messages.c.role, body, messages.c.run_id, messages.c.at, STATUS)
        .select_from(messages.outerjoin(runs, runs.c.run_id == messages.c.run_id))
        .where(messages.c.thread.in_([bindparam(f"thread_{n}") for n in range(count)]))
        .order_by(messages.c.thread, messages.c.id)
    )


def _count_messages() -> Select[Any]:
    return select(func.count()).where(messages.c.thread == bindparam("thread"))


def _find_run() -> Select[Any]:
    """By run: epoch, end, thread, the run it resumes, whether it is recorded late (see `NewRun`), its last entry."""
    last = select(func.max(events.c.seq)).where(events.c.run_id == runs.c.run_id).scalar_subquery()
    named = select(threads.c.id).where(threads.c.id == runs.c.thread, threads.c.thread_id == runs.c.run_id)
    late = and_(
        runs.c.idempotency_key.is_(None),
        runs.c.detached == literal_column("0"),
        or_(runs.c.thread.is_(None), named.exists()),
    )
    columns = (runs.c.epoch, runs.c.ended, runs.c.thread, runs.c.resumes, late, last)
    return select(*columns).where(runs.c.run_id == bindparam("run_id"))


def _end_runs(count: int) -> Update:
    """By run: status, stop reason, code, thread (kept where there is one), end, result, run id, epoch."""
    values = ("status", "stop_reason", "code", "thread", "ended", "result", "run_id", "epoch")
    given = _table([runs.c[name] for name in values], count)
    return (
        update(runs)
        .where(runs.c.run_id == given["run_id"], runs.c.epoch == given["epoch"], runs.c.ended.is_(None))
        .values(
            status=given["status"],
            stop_reason=given["stop_reason"],
            code=given["code"],
            thread=func.coalesce(runs.c.thread, given["thread"]),
            ended=given["ended"],
            result=given["result"],
        )
    )


def _end_threads(count: int) -> Update:
    """By thread: when it changed, its new state or None, 1 where it waits for an answer or None, its row."""
    given = _table([threads.c.updated, threads.c.state, threads.c.waiting, threads.c.id], count)
    return (
        update(threads)
        .where(threads.c.id == given["id"])
        .values(
            updated=given["updated"],
            state=func.coalesce(given["state"], threads.c.state),
            waiting=func.coalesce(given["waiting"], threads.c.waiting),
        )
    )


def _table(columns: Sequence[Column[Any]], count: int) -> Mapping[str, ColumnElement[Any]]:
    """The columns of a table of `count` rows made of parameters; a single row needs no table."""
    rows = [[bindparam(f"{column.name}_{n}", type_=column.type) for column in columns] for n in range(count)]
    names = [column.name for column in columns]
    if count == 1:
        return dict(zip(names, rows[0], strict=True))
    selects = [select(*(value.label(name) for name, value in zip(names, row, strict=True))) for row in rows]
    return dict(union_all(*selects).subquery("given").c)
