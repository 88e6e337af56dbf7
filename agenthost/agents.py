"""What an agent is, what it is given for one run, how it is asked for, and what a placement makes of it."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from agenthost.auth import Principal
from agenthost.errors import HostError
from agenthost.events import SUCCESS_REASONS, Entry, Event, Interrupt
from agenthost.threads import Message, Part, ThreadKey

RunStatus = Literal["queued", "running", "completed", "paused", "failed", "cancelled"]
BusyPolicy = Literal["reject", "queue", "cancel-running"]

MAX_STATE = 1 << 20
"""Bytes of a thread's `ctx.state`, encoded."""

MAX_CALL_DEPTH = 8
"""How many agents deep `ctx.call` may go."""


@runtime_checkable
class Agent(Protocol):
    """One method is the whole contract; `adapters.py` makes one of functions, generators, classes and factories.

    Optional powers, looked up on the type once, at load:

    - `Settings`: a type that validates `settings` from agents.toml (a pydantic model or a dataclass)
    - `lifespan(self) -> AsyncContextManager`: entered before the first run, left after the last
    - `async health(self) -> Health`
    - `resumable: bool`: a run lost with its host may be started again
    - `title`, `description`: str; `input_schema`, `output_schema`: JSON Schema, as a dict
    - `needs_input: bool`: a prompt alone says nothing to it; it runs on structured input only
    - `async get_thread(key) -> list[Message] | Mapping | None`, `async delete_thread(key) -> bool`: it keeps its own
      threads; the mapping is `OwnThread`
    - `keeps_pauses: bool`: it keeps its own pauses too, and itself says what answers them (see `resuming.py`)
    - `serve_alone(*, stream_tokens: bool)`, of what an adapter made: an `AgentServer` has it serve as Locus's would
    """

    def run(self, ctx: RunContext) -> AsyncIterator[Event | str]:
        """Answer `ctx.prompt` (or `ctx.input`); a `str` is a `ModelChunk`, the last event may be a `Result`."""
        ...


@dataclass(frozen=True, slots=True)
class Health:
    """What an agent says of itself; `detail` is shown to operators only."""

    ok: bool = True
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a resume brought for one interrupt: the whole question, and the person's answer to it."""

    interrupt: Interrupt
    response: Any = None
    decision: Mapping[str, Any] | None = None
    perform_dangling: bool = True

    def stored(self) -> dict[str, Any]:
        """The answer itself, as JSON."""
        return {"response": self.response, "decision": self.decision, "perform_dangling": self.perform_dangling}


@dataclass(slots=True)
class RunRequest:
    """What a dialect asks of the run engine; not to be changed (nor frozen, which would double what making one costs).

    `content` is the user's message where it is more than `prompt` (files, data). `history` is the conversation so far,
    where the dialect brings it itself; with a `thread_id` it is what comes behind what that thread has, and is written
    to it with the message, but for system messages, which hold for this run alone and come first. A resume names the
    paused run in `resumes`, and `answers` hold its interrupts. `request_digest` stands for the body that came with
    `idempotency_key`; `detached` runs outlive their readers.
    """

    prompt: str
    thread_id: str | None = None
    input: Any = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    content: Sequence[Part] | None = None
    history: Sequence[Message] = ()
    answers: Sequence[Answer] = ()
    idempotency_key: str | None = None
    request_digest: str | None = None
    detached: bool = False
    resumes: str | None = None


@dataclass(slots=True)
class RunResult:
    """How a run ended, folded from its events: what `/invoke` answers and what `ctx.call` returns.

    `stop_reason` is the `Result`'s reason, `interrupt` for a paused run, else the error's code. `iterations` counts
    log entries, `usage` sums the run's `Usage` events, `duration_ms` is wall time from the run's start.
    """

    run_id: str
    status: RunStatus
    message: str
    stop_reason: str
    thread_id: str | None = None
    output: Any = None
    usage: Mapping[str, Any] | None = None
    interrupt: Mapping[str, Any] | None = None
    iterations: int = 0
    tool_calls: int = 0
    duration_ms: float = 0.0

    @property
    def success(self) -> bool:
        """Completed, and not because the agent gave up."""
        return self.status == "completed" and self.stop_reason in SUCCESS_REASONS


class CallAgent(Protocol):
    """How `ctx.call` reaches the run engine; a worker's goes through its pipe."""

    def __call__(self, name: str, request: RunRequest) -> Awaitable[RunResult]:
        """Run agent `name` as a child of the calling run."""
        ...


@dataclass(slots=True, kw_only=True)
class RunContext:
    """What an agent is given for one run: plain data, no request, no app.

    `history` is the thread so far, `content` the new message where it is more than `prompt`; `messages` puts them
    together. On a resume `prompt` and `input` are those of the paused run, whose message is in the thread already.
    `input` is structured and has passed `input_schema`. `state` is one JSON object per thread, the agent's own: what it
    holds at the end of a completed or paused run is kept (at most 1 MiB encoded), and never sent.
    `deadline` is in `time.monotonic()` seconds.
    """

    prompt: str
    run_id: str
    agent: str
    principal: Principal
    history: Sequence[Message] = ()
    content: Sequence[Part] | None = None
    input: Any = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    thread: ThreadKey | None = None
    settings: Any = None
    answers: Sequence[Answer] = ()
    state: dict[str, Any] = field(default_factory=dict)
    deadline: float = float("inf")
    call_agent: CallAgent | None = None

    @property
    def messages(self) -> list[Message]:
        """The thread so far, then the new user message; a resume brings none."""
        if self.answers:
            return list(self.history)
        if self.content:
            return [*self.history, Message("user", self.content, run_id=self.run_id)]
        return [*self.history, Message.of("user", self.prompt, run_id=self.run_id)]

    @property
    def answer(self) -> Answer | None:
        """What this resume brought, or None where the run is not a resume."""
        return self.answers[0] if self.answers else None

    @property
    def remaining(self) -> float:
        """Seconds left until the run's timeout."""
        return self.deadline - time.monotonic()

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger under the agent's name whose records carry agent and run."""
        return logging.LoggerAdapter(
            logging.getLogger(f"agenthost.agent.{self.agent}"), {"agent": self.agent, "run_id": self.run_id}
        )

    async def call(
        self,
        name: str,
        prompt: str = "",
        *,
        input: Any = None,  # noqa: A002 - the wire's own name for it
        thread_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> RunResult:
        """Run another agent of this host as the same principal and return how it ended.

        It is a child of this run (`parent_run_id`), cancelled with it, at most 8 deep, with no agent twice in the
        chain. It never queues. Raises `AgentUnavailable` if it cannot start, the run's `RunError` if it fails,
        `AgentPaused` if it asks a question, `NotFound` or `Forbidden` as for any caller.
        """
        if self.call_agent is None:
            raise RuntimeError("ctx.call works only while the host runs this agent")
        return await self.call_agent(
            name, RunRequest(prompt, thread_id=thread_id, input=input, metadata=metadata or {})
        )


OwnThread = Sequence[Message] | Mapping[str, Any]
"""A thread that an agent keeps itself: its messages; or a mapping with them under `messages`, with `paused` where it is
known whether it waits for an answer, and with what else it has to show in place of the host's own reading (`iteration`,
`tool_executions`, `metadata`)."""

Emit = Callable[[Entry], Awaitable[None] | None]
"""Takes one entry of a run. What it returns is to be awaited before the next one: there is no room, or the loop wants a
turn. Raises when the run is over, or takes nothing more of this kind."""


class AgentRef(Protocol):
    """A loaded agent, wherever it runs; the same errors come out of every placement.

    One that can be lost as a whole has an attribute `lost`, a future that is done with the `HostError` that says why:
    the registry then shows the agent as failed, closes this reference, and loads the agent again later.
    """

    info: AgentInfo

    async def run(self, ctx: RunContext, emit: Emit) -> None:
        """Run to the end, giving `emit` each entry the agent says, numbered from 1, as soon as it is there.

        An entry of type `result` is last and is not for the log. Raises `AgentError` (it raised), `BadEvent`,
        `AgentCrashed` (its process died) or `AgentUnavailable`; what `emit` raises goes through, after the agent has
        been closed. Cancelled by cancelling the task.
        """
        ...

    async def health(self) -> Health:
        """Ask the agent how it is; an agent without that power is well."""
        ...

    async def get_thread(self, key: ThreadKey) -> OwnThread | None:
        """Read a thread that the agent keeps itself; None if it has none by that key."""
        ...

    async def delete_thread(self, key: ThreadKey) -> bool:
        """Delete a thread that the agent keeps itself; whether there was one."""
        ...

    async def close(self, grace: float) -> None:
        """Leave the agent's lifespan within `grace` seconds; runs have ended before."""
        ...


class Placement(Protocol):
    """A place to run agents, registered by name through `register_placements`."""

    async def open(self, spec: AgentSpec) -> AgentRef:
        """Load the agent, validate its settings, enter its lifespan. Raises `LoadError`; bounded by the registry."""
        ...


@dataclass(frozen=True, slots=True)
class AgentInfo:
    """What a loaded agent says of itself."""

    title: str = ""
    description: str = ""
    input_schema: Mapping[str, Any] | None = None
    output_schema: Mapping[str, Any] | None = None
    needs_input: bool = False
    resumable: bool = False
    keeps_threads: bool = False
    keeps_pauses: bool = False
    max_runs: int | None = None
    """How many of its runs can be going at once, where the agent itself has a limit (a blocking one: its threads)."""
    module: str = field(default="", compare=False)
    """The module that its class or function is written in, where that is in this process."""


@dataclass(frozen=True, slots=True)
class AgentSource:
    """Where an agent's code comes from: what a blame line names.

    `use` is the text that finds it again (`echo`, `dist:name`, `module:attribute`, `file.py:attribute`); `load` imports
    and returns the object the plugin handed over, raising `LoadError`.
    """

    use: str
    load: Callable[[], Any]
    distribution: str | None = None
    version: str | None = None
    module: str = ""
    """The module that the object is looked up in (`acme.agents`, or `app.py` as in `use`), as far as that is known."""

    @property
    def label(self) -> str:
        """`acme-billing 2.1`, or the `use` text where no distribution is known."""
        return f"{self.distribution} {self.version}" if self.distribution else self.use


@dataclass(frozen=True, slots=True)
class ProcessOptions:
    """How an agent's worker processes are: how many share its runs, and the bytes of memory that each may have."""

    workers: int = 1
    max_memory: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentSpec:
    """Packages of an agent's own: exactly one of `requirements`, `lock` and `venv` is set.

    `requirements` are installed with what they need, `lock` is a file of which exactly that is installed, `venv` an
    environment that somebody else made; both are absolute paths. Relative paths in requirements count from `folder`,
    that of agents.toml. `name` is made from all that the environment is made of, so that it differs where the text of
    a lock file does; empty where that could not be read, and for a `venv`.
    """

    folder: str
    requirements: tuple[str, ...] = ()
    lock: str | None = None
    venv: str | None = None
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSpec:
    """An agent that was asked for: its place in agents.toml, resolved. Times are in seconds; `env` is for workers."""

    name: str
    source: AgentSource
    title: str = ""
    description: str = ""
    owner: str = ""
    enabled: bool = True
    required: bool = True
    protocols: tuple[str, ...] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    placement: str = "in-process"
    env: Mapping[str, str] = field(default_factory=dict)
    process: ProcessOptions = ProcessOptions()
    environment: EnvironmentSpec | None = None
    timeout: float = 600.0
    load_timeout: float = 30.0
    concurrency: int = 256
    queue: int = 1024
    on_busy_thread: BusyPolicy = "reject"
    interrupt_ttl: float = 604800.0
    load: Literal["eager", "lazy"] = "eager"
    problem: HostError | None = None
