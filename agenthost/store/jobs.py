"""What the writer is asked to do: one class a kind, each holding what it writes already encoded, and its future.

Encoding happens when the job is made, in the caller: what is written is what was true then, and a value that is not
JSON raises there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Self

import orjson
from sqlalchemy import Connection

from agenthost.events import Entry
from agenthost.store.messages import encode_message
from agenthost.store.records import FIRST_EPOCH, NewRun, RunEnd
from agenthost.store.statements import Row
from agenthost.threads import Message

HOSTS_OWN = frozenset({"error", "x-begun-again"})
"""Types of the entries that the host writes into a log by itself: after these alone its agent has said nothing."""


class Job:
    """Something to be committed; `future` belongs to the loop that asked, and gets `result`, or `error`, at the end."""

    __slots__ = ("error", "future", "loop", "result")

    def __init__(self) -> None:
        """Must be called on the loop that waits."""
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()
        self.result: Any = None
        self.error: Exception | None = None

    def again(self) -> Self:
        """The same, to be asked for once more."""
        other = copy(self)
        Job.__init__(other)
        return other


@dataclass(frozen=True, slots=True)
class Unread:
    """The result of a start that has written nothing: its thread's messages are to be read elsewhere first."""

    thread: int


def message_row(run_id: str, message: Message, now: float) -> Row:
    """What is kept of a message, but its thread."""
    return (run_id, now if message.at is None else message.at, message.role, encode_message(message))


class StartJob(Job):
    """Begin a run: its thread, its row, its user message; the result is the `ThreadBefore`, or `Unread`.

    `history` is the thread's messages where they have been read already.
    """

    __slots__ = (
        "claims",
        "history",
        "key",
        "last",
        "messages",
        "now",
        "request_key",
        "resumes",
        "run_id",
        "run_row",
        "supersedes",
        "thread",
    )

    def __init__(self, run: NewRun) -> None:
        """Encode; raises `TypeError` for what is not JSON."""
        super().__init__()
        self.run_id = run.run_id
        self.last = run.last_seq
        self.now = run.created
        self.claims = [(run.run_id, orjson.dumps(one.answer), one.run_id, one.interrupt_id) for one in run.claims]
        self.resumes = run.resumes
        # what only waits for its turn does not take the place of what its thread waits for, nor does an answer to it
        waits = run.status == "queued"
        self.supersedes = run.resumes is None and not waits
        self.history: list[Message] | None = None
        self.key: tuple[str, str, str] | None = None
        self.thread: Row | None = None
        if run.thread_id is not None:
            self.key = (run.principal, run.agent, run.thread_id)
            metadata = None if run.metadata is None else orjson.dumps(run.metadata)
            self.thread = (*self.key, run.created, run.created, metadata)
        self.request_key: tuple[str, str, str] | None = None
        if run.idempotency_key is not None:
            self.request_key = (run.agent, run.principal, run.idempotency_key)
        self.run_row = (
            run.run_id,
            FIRST_EPOCH,
            run.status,
            run.agent,
            run.principal,
            run.created,
            run.agent_version,
            run.settings_hash,
            run.idempotency_key,
            run.request_digest,
            run.resumes,
            run.parent,
            int(run.detached),
            int(run.resumable),
            orjson.dumps(run.input),
        )
        said = () if waits else (*run.brought, run.user_message)
        self.messages = [message_row(run.run_id, message, run.created) for message in said if message is not None]


class AppendJob(Job):
    """Add entries to a run's log."""

    __slots__ = ("entries", "epoch", "run_id")

    def __init__(self, run_id: str, epoch: int, entries: Sequence[Entry]) -> None:
        super().__init__()
        self.run_id = run_id
        self.epoch = epoch
        self.entries = tuple(entries)

    def is_of_agent(self) -> bool:
        """Whether any of it is the agent's own word."""
        return any(entry.type not in HOSTS_OWN for entry in self.entries)


class EndJob(AppendJob):
    """End a run: the rest of its log, its row, and what is its thread's to keep."""

    __slots__ = ("end_row", "ended", "gave_up", "interrupts", "messages", "state", "thread")

    def __init__(self, end: RunEnd) -> None:
        """Encode; raises `TypeError` for what is not JSON."""
        super().__init__(end.run_id, end.epoch, end.entries)
        self.ended = end.ended
        self.gave_up = end.status in {"failed", "cancelled"}
        self.end_row = (end.status, end.stop_reason, end.code, end.ended, orjson.dumps(end.result))
        self.messages = [message_row(end.run_id, message, end.ended) for message in end.messages]
        self.state = None if end.state is None else orjson.dumps(end.state)
        self.thread: Row | None = None
        if end.thread is not None:
            self.thread = (end.thread.principal, end.thread.agent, end.thread.thread_id, end.ended, end.ended, None)
        self.interrupts = [
            (
                end.run_id,
                asked.interrupt_id,
                position,
                "open",
                end.ended,
                asked.expires_at,
                orjson.dumps(asked.payload),
                orjson.dumps(asked.state),
            )
            for position, asked in enumerate(end.interrupts)
        ]


class SoloJob(Job):
    """Anything rare: a function of the connection, run between the others, in their transaction.

    `runs` are the ids of those whose standing it changes.
    """

    __slots__ = ("runs", "work")

    def __init__(self, work: Callable[[Connection], Any], runs: Collection[str] = ()) -> None:
        super().__init__()
        self.work = work
        self.runs = runs
