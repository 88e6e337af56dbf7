"""What goes into the store and what comes out: plain records, no SQL; times are seconds since the epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from agenthost.agents import RunStatus
from agenthost.errors import StartError
from agenthost.events import Entry
from agenthost.threads import Message, ThreadKey

Item = TypeVar("Item")

MAX_EPOCH = 3
"""Epochs a run may have: one that its host is lost with every time does not begin for ever."""

FIRST_EPOCH = 1
"""The epoch of a run that no host has taken over from another."""


class StoreOpenError(StartError):
    """The store cannot be used; the message names it, and nothing in it was changed."""

    code = "store_unusable"
    title = "The store cannot be used"


class KeyTaken(Exception):
    """Another run of this agent and principal has this idempotency key: `run_id`, asked for with `request_digest`."""

    def __init__(self, run_id: str, request_digest: str | None) -> None:
        super().__init__(f"the idempotency key belongs to run {run_id}")
        self.run_id = run_id
        self.request_digest = request_digest


class Claim(NamedTuple):
    """A question that a new run answers: the run that asked, which of its interrupts, and the answer as JSON."""

    run_id: str
    interrupt_id: str
    answer: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredInterrupt:
    """A question and what became of it: `open`, `claimed` (by a run), `answered`, `superseded` or `expired`."""

    run_id: str
    interrupt_id: str
    status: str
    payload: dict[str, Any]
    state: Any
    created: float
    expires_at: float
    claimed_by: str | None
    answer: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Expired:
    """How much `Store.expire` deleted, and how many questions it closed."""

    runs: int
    threads: int
    interrupts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run about to start. Everything in `input` (the prompt, the structured input, metadata) must be JSON.

    A run has a thread, an idempotency key, or is detached; `request_digest` stands for the body that came with the
    key. `resumes` and `parent` are run ids. `metadata` replaces the thread's, unless it is None. `claims` are what a
    resume answers. A run of `status` queued has its row alone: `Store.begin_run` writes the rest. `last_seq` is where
    its log begins, for a run that is recorded only from some point on. `resumable`: it may begin again elsewhere.
    """

    run_id: str
    agent: str
    principal: str
    created: float
    input: Mapping[str, Any] = field(default_factory=dict)
    agent_version: str | None = None
    settings_hash: str | None = None
    thread_id: str | None = None
    metadata: Mapping[str, Any] | None = None
    idempotency_key: str | None = None
    request_digest: str | None = None
    resumes: str | None = None
    parent: str | None = None
    detached: bool = False
    resumable: bool = False
    status: RunStatus = "running"
    user_message: Message | None = None
    brought: Sequence[Message] = ()
    """What its thread gets before the user's message."""
    claims: Sequence[Claim] = ()
    last_seq: int = 0


@dataclass(frozen=True, slots=True)
class ThreadBefore:
    """A thread as it was before the run: its messages, oldest first, and its state."""

    messages: list[Message]
    state: dict[str, Any]


class NewInterrupt(NamedTuple):
    """A question a run paused with; `payload` is what clients see, `state` the agent's own and never sent."""

    interrupt_id: str
    payload: Mapping[str, Any]
    state: Any
    expires_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnd:
    """How a run ended, and all that it still had to write; `result` and `state` must be JSON.

    `messages` and `state` (None: leave it as it is) are the thread's; a run that has no thread keeps neither, unless
    `thread` gives it one.
    """

    run_id: str
    status: RunStatus
    stop_reason: str
    ended: float
    result: Mapping[str, Any]
    epoch: int = FIRST_EPOCH
    code: str | None = None
    entries: Sequence[Entry] = ()
    messages: Sequence[Message] = ()
    state: Mapping[str, Any] | None = None
    thread: ThreadKey | None = None
    interrupts: Sequence[NewInterrupt] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """A run in a list; `stop_reason` and `ended` are None while it is going, `code` unless it failed.

    `resumed_by` is the run that answers, or answered, a question of it.
    """

    run_id: str
    agent: str
    principal: str
    thread_id: str | None
    status: RunStatus
    stop_reason: str | None
    code: str | None
    resumes: str | None
    resumed_by: str | None
    parent: str | None
    created: float
    ended: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """All that is kept of a run but its events; see `NewRun` and `RunEnd` for the fields.

    Its log is entries `first_seq` to `last_seq`; both are 0 where there is none. `interrupts` are in the order asked.
    """

    run_id: str
    agent: str
    agent_version: str | None
    settings_hash: str | None
    principal: str
    thread_id: str | None
    status: RunStatus
    stop_reason: str | None
    code: str | None
    input: dict[str, Any]
    result: dict[str, Any] | None
    idempotency_key: str | None
    request_digest: str | None
    resumes: str | None
    resumed_by: str | None
    parent: str | None
    detached: bool
    resumable: bool
    interrupts: list[StoredInterrupt]
    first_seq: int
    last_seq: int
    epoch: int
    created: float
    ended: float | None


@dataclass(frozen=True, slots=True)
class ThreadSummary:
    """A thread in a list."""

    thread_id: str
    created: float
    updated: float
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class StoredThread:
    """A thread, whole: messages and runs oldest first; a message carries its run's status where not `completed`."""

    key: ThreadKey
    messages: list[Message]
    runs: list[RunSummary]
    created: float
    updated: float
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Part of a list; `cursor` asks for what follows, and is None at the end."""

    items: list[Item]
    cursor: str | None
