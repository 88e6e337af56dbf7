"""An agent that is served: its state and since when, what goes on there, and the reference runs go through."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from agenthost.agents import AgentInfo, AgentRef, AgentSource, AgentSpec
from agenthost.errors import AgentNotReady, HostError

NOT_READY = 1.0
"""Seconds that a caller is told to wait for an agent that does not serve."""

AgentState = Literal["discovered", "loading", "ready", "degraded", "draining", "unloaded", "failed", "disabled"]


@dataclass(slots=True, eq=False)
class Traffic:
    """What goes on at an agent, counted for all its versions together: a reload doubles no limit."""

    running: int = 0
    queued: int = 0


@dataclass(slots=True, eq=False)
class AgentEntry:
    """One version of an agent that is served: its spec, its state and since when, and the reference runs go through.

    Requests hold the entry they looked up. One that has been replaced knows its `successor`; runs that had begun end on
    the version they began on, and what had not begun begins on the newest.
    """

    spec: AgentSpec
    state: AgentState = "discovered"
    since: float = field(default_factory=time.time)
    reason: HostError | None = None
    retry_at: float | None = None
    ref: AgentRef | None = None
    info: AgentInfo = field(default_factory=AgentInfo)
    check_input: Callable[[Any], str | None] | None = None
    """Says what is wrong with a run's `input`, without repeating it; made from `input_schema` when the agent loads."""
    traffic: Traffic = field(default_factory=Traffic)
    busy: int = 0
    """Runs that have begun on this version, and questions it is being asked."""
    stuck: int = 0
    ailments: dict[str, HostError] = field(default_factory=dict)
    """What a serving agent is degraded by, by kind."""
    outdated: HostError | None = None
    """Why newer code of it is not what serves."""
    successor: AgentEntry | None = None
    gone: bool = False
    """Whether it is no longer listed, and nothing takes its place."""
    wake: Callable[[AgentEntry], Awaitable[AgentEntry]] | None = None
    """Set by who loads it: see `awake`."""

    @property
    def name(self) -> str:
        """The name in agents.toml, which is the name in every address."""
        return self.spec.name

    @property
    def source(self) -> AgentSource:
        """Where its code comes from: what was found where it runs, which may be an environment of its own."""
        found: AgentSource | None = getattr(self.ref, "source", None)
        return found or self.spec.source

    @property
    def newest(self) -> AgentEntry:
        """The version that has taken this one's place, or this one."""
        entry = self
        while entry.successor is not None:
            entry = entry.successor
        return entry

    @property
    def slots(self) -> int:
        """Runs that may be going at once: `concurrency`, or fewer where the agent itself cannot."""
        own = self.info.max_runs
        return self.spec.concurrency if own is None else min(own, self.spec.concurrency)

    @property
    def running(self) -> int:
        """Runs that have a slot of this agent, on whichever version."""
        return self.traffic.running

    @property
    def queued(self) -> int:
        """Runs that wait for one."""
        return self.traffic.queued

    @property
    def serving(self) -> bool:
        """Whether a run may start."""
        return self.state in {"ready", "degraded"}

    @property
    def available(self) -> bool:
        """Whether a run may be asked for: the agent serves, or loads for whoever comes first."""
        return self.serving or (self.spec.load == "lazy" and self.state in {"discovered", "loading"})

    @property
    def expected(self) -> bool:
        """Whether `awake` is worth a try: the agent serves, or may in a moment."""
        return self.available or self.state == "loading"

    @property
    def keeps_promises(self) -> bool:
        """Whether a run that has been taken in may begin: it may while an agent drains, too."""
        return self.serving or (self.state == "draining" and self.ref is not None)

    @property
    def title(self) -> str:
        """The operator's title, else the agent's own, else its name."""
        return self.spec.title or self.info.title or self.spec.name

    @property
    def description(self) -> str:
        """The operator's description, else the agent's own."""
        return self.spec.description or self.info.description

    async def awake(self) -> AgentEntry:
        """The newest version, which serves; an agent that is loaded on its first request is loaded now.

        Raises `AgentNotReady` where it does not serve, or not within its `load_timeout` (a moment, where it is loaded
        for no request), and `NotFound` for one that is gone.
        """
        entry = self.newest
        if not entry.serving and entry.wake is not None:
            entry = await entry.wake(entry)
        if not entry.serving:
            raise AgentNotReady(f"agent '{entry.name}' is {entry.state}", retry_after=NOT_READY)
        return entry

    @contextmanager
    def asked(self) -> Iterator[AgentRef | None]:
        """Ask this version something that is no run; it is not closed meanwhile. None where it is not loaded."""
        self.busy += 1
        try:
            yield self.ref
        finally:
            self.busy -= 1

    def ail(self, kind: str, problem: HostError) -> None:
        """Be degraded by `problem`, which takes the place of an earlier one of its kind."""
        self.ailments[kind] = problem
        if self.state == "degraded":
            self.reason = problem
        elif self.serving:
            self.become("degraded", problem)

    def heal(self, kind: str) -> None:
        """Be rid of one kind of problem; the last one gone, the agent is ready again."""
        if self.ailments.pop(kind, None) is None or self.state != "degraded":
            return
        if self.ailments:
            self.reason = next(iter(self.ailments.values()))
        else:
            self.become("ready")

    def become(self, state: AgentState, reason: HostError | None = None, retry_at: float | None = None) -> None:
        """Change state, noting when and why."""
        self.state, self.reason, self.retry_at, self.since = state, reason, retry_at, time.time()
