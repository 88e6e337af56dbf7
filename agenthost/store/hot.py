"""The statements of runs that start, go on and end, compiled for one dialect."""

from __future__ import annotations

from sqlalchemy import Dialect, and_, bindparam, func, insert, select, update

from agenthost.store.schema import events, interrupts, messages, runs, threads
from agenthost.store.sqlite import upsert
from agenthost.store.statements import Insert, Statement

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
    "input",
)


class HotStatements:
    """One `Statement` each; the comment over each is its parameters."""

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
        self.find_thread = Statement(
            select(threads.c.id, threads.c.state).where(
                and_(
                    threads.c.principal == bindparam("principal"),
                    threads.c.agent == bindparam("agent"),
                    threads.c.thread_id == bindparam("thread_id"),
                )
            ),
            dialect,
            *("principal", "agent", "thread_id"),
        )
        self.read_messages = Statement(
            select(messages.c.role, messages.c.body, messages.c.run_id, messages.c.at, runs.c.status)
            .select_from(messages.outerjoin(runs, runs.c.run_id == messages.c.run_id))
            .where(messages.c.thread == bindparam("thread"))
            .order_by(messages.c.id),
            dialect,
            "thread",
        )
        self.add_runs = Insert(insert(runs), dialect, *RUN_COLUMNS)
        self.add_messages = Insert(insert(messages), dialect, "thread", "run_id", "at", "role", "body")
        self.add_events = Insert(insert(events), dialect, "run_id", "seq", "type", "data")
        self.add_interrupts = Insert(
            insert(interrupts),
            dialect,
            *("run_id", "interrupt_id", "position", "status", "created", "expires_at", "payload", "state"),
        )
        self.end_runs = Statement(
            update(runs)
            .where(
                runs.c.run_id == bindparam("ended_run"),
                runs.c.epoch == bindparam("of_epoch"),
                runs.c.ended.is_(None),
            )
            .values(
                status=bindparam("status"),
                stop_reason=bindparam("stop_reason"),
                code=bindparam("code"),
                thread=func.coalesce(runs.c.thread, bindparam("thread")),
                ended=bindparam("ended"),
                result=bindparam("result"),
            ),
            dialect,
            *("status", "stop_reason", "code", "thread", "ended", "result", "ended_run", "of_epoch"),
        )
        self.end_threads = Statement(
            update(threads)
            .where(threads.c.id == bindparam("thread"))
            .values(updated=bindparam("updated"), state=func.coalesce(bindparam("state"), threads.c.state)),
            dialect,
            *("updated", "state", "thread"),
        )
        self.find_run = Statement(
            select(
                runs.c.epoch,
                runs.c.ended,
                runs.c.thread,
                select(func.max(events.c.seq)).where(events.c.run_id == runs.c.run_id).scalar_subquery(),
            ).where(runs.c.run_id == bindparam("run_id")),
            dialect,
            "run_id",
        )
        self.find_key = Statement(
            select(runs.c.run_id, runs.c.request_digest).where(
                runs.c.agent == bindparam("agent"),
                runs.c.principal == bindparam("principal"),
                runs.c.idempotency_key == bindparam("idempotency_key"),
            ),
            dialect,
            *("agent", "principal", "idempotency_key"),
        )
