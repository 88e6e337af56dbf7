"""What a host answers, as its callers see it: frozen objects made from JSON, and refusals made into `CallFailed`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from agenthost.client.failures import CallFailed
from agenthost.client.steps import Answer

ENDED = frozenset({"completed", "paused", "failed", "cancelled"})
"""Statuses of a run that goes on no more; one that is paused is gone on with by another run."""


class Event(Mapping[str, Any]):
    """One event of a run as it is on the wire: a read-only mapping with a `type`.

    `id` is its place in the run's log, counted from 1, `run_id` the run's.
    """

    __slots__ = ("_data", "id", "run_id", "type")

    def __init__(self, data: Mapping[str, Any], id: int, run_id: str) -> None:  # noqa: A002 - the wire's own name
        self._data = data
        self.id = id
        self.run_id = run_id
        self.type = str(data.get("type"))

    def __getitem__(self, name: str) -> Any:
        return self._data[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def __len__(self) -> int:
        return len(self._data)

    def __repr__(self) -> str:
        return f"Event({self._data!r}, id={self.id}, run_id={self.run_id!r})"


@dataclass(frozen=True, slots=True)
class Interrupt:
    """A question that a paused run asks: `options` to choose from, or `fields`, a JSON Schema to fill in, or free text.

    `status` is open, claimed, answered, superseded or expired; `expires_at` in seconds since 1970.
    """

    interrupt_id: str
    question: str
    options: Sequence[Any] | None = None
    fields: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] | None = None
    status: str = "open"
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class RunReply:
    """How a run ended, as `/invoke` answers. A run that is paused asks `interrupts`, and is no success."""

    run_id: str
    status: str
    message: str
    success: bool
    stop_reason: str
    iterations: int = 0
    tool_calls: int = 0
    duration_ms: float = 0.0
    thread_id: str | None = None
    output: Any = None
    usage: Mapping[str, Any] | None = None
    interrupts: tuple[Interrupt, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a run did not complete: the code of its `error` event, and what it says."""

    code: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class RunState:
    """A run as the host knows it, going or ended; times in seconds since 1970.

    `status` is queued, running, completed, paused, failed or cancelled. `resumes` names the paused run that it goes on
    with, `resumed_by` the one that went on with it.
    """

    run_id: str
    agent: str
    status: str
    created: float
    ended: float | None = None
    thread_id: str | None = None
    stop_reason: str | None = None
    resumes: str | None = None
    resumed_by: str | None = None
    parent_run_id: str | None = None
    message: str | None = None
    output: Any = None
    usage: Mapping[str, Any] | None = None
    interrupts: tuple[Interrupt, ...] = ()
    iterations: int | None = None
    tool_calls: int | None = None
    duration_ms: float | None = None
    error: Failure | None = None

    @property
    def has_ended(self) -> bool:
        """Whether it goes on no more."""
        return self.status in ENDED

    @property
    def open_interrupts(self) -> tuple[Interrupt, ...]:
        """The questions that wait for an answer."""
        return tuple(one for one in self.interrupts if one.status == "open")


@dataclass(frozen=True, slots=True)
class ThreadSummary:
    """A thread in a list; times in seconds since 1970."""

    thread_id: str
    created: float
    updated: float


@dataclass(frozen=True, slots=True)
class Thread:
    """A conversation, whole: messages, tool executions and runs are the wire's own objects, oldest first."""

    thread_id: str
    iteration: int
    messages: Sequence[Mapping[str, Any]]
    tool_executions: Sequence[Mapping[str, Any]]
    runs: Sequence[Mapping[str, Any]]
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AgentCard:
    """What its callers may know of an agent."""

    name: str
    title: str
    description: str
    state: str
    protocols: Sequence[str]
    url: str
    input_schema: Mapping[str, Any] | None = None
    output_schema: Mapping[str, Any] | None = None


T = TypeVar("T")


def made(kind: Callable[..., T], body: Mapping[str, Any], **more: Any) -> T:
    """An object of that frozen dataclass from what it knows of a JSON object; raises `TypeError` if it needs more."""
    known: set[str] = {one.name for one in fields(kind)}  # type: ignore[arg-type]  # each `kind` is a dataclass
    return kind(**{**{name: value for name, value in body.items() if name in known}, **more})


def read_interrupt(body: Mapping[str, Any]) -> Interrupt:
    """The question of an `interrupt` event, or of a run."""
    return made(Interrupt, body)


def read_reply(body: Mapping[str, Any]) -> RunReply:
    """What `/invoke` answers."""
    asked = body.get("interrupts") or ([body["interrupt"]] if body.get("interrupt") else [])
    return made(RunReply, body, interrupts=tuple(map(read_interrupt, asked)))


def read_run(body: Mapping[str, Any]) -> RunState:
    """What `/runs` answers of a run."""
    error = body.get("error")
    return made(
        RunState,
        body,
        interrupts=tuple(map(read_interrupt, body.get("interrupts", ()))),
        error=made(Failure, error) if error else None,
    )


def read_cards(body: Mapping[str, Any]) -> list[AgentCard]:
    """What `GET /agents` answers."""
    return [made(AgentCard, card) for card in body["agents"]]


def understood(answer: Answer, read: Callable[[dict[str, Any]], T], also: int = 200) -> T:
    """What a good reply says; raises `CallFailed` for a refusal, and for what no host of agents would say.

    A reply with status `also` is good too, unless it is a problem body.
    """
    body = json_object(answer.body)
    if answer.status not in {200, 202, also} or (answer.status == also != 200 and "code" in body):
        raise refusal(answer)
    if body:
        try:
            return read(body)
        except (TypeError, KeyError, AttributeError, ValueError):
            pass  # it has not the shape that every host's answer has
    raise no_host(answer)


def no_host(answer: Answer) -> CallFailed:
    """The failure of a reply that makes no sense."""
    return CallFailed(f"{answer.url} does not answer like a host of agents", status=answer.status)


def refusal(answer: Answer, run_id: str | None = None) -> CallFailed:
    """The failure that a reply stands for, in the host's own words if it gave any."""
    body = json_object(answer.body)
    detail = body.get("detail")
    if not isinstance(detail, str):
        detail = f"{answer.url} answered {answer.status} without saying why"
    return CallFailed(detail, status=answer.status, **{"run_id": run_id, **marks(body)})


def is_about_a_run(answer: Answer) -> bool:
    """Whether a refusal says how a run ended, and not that the host cannot be asked."""
    return "run_id" in json_object(answer.body)


def retry_after(answer: Answer) -> float:
    """Seconds after which the host wants to be asked again; 0 where it does not say."""
    wanted = answer.headers.get("retry-after", "")
    return float(wanted) if wanted.isdecimal() else 0.0


def marks(body: Mapping[str, Any]) -> dict[str, str]:
    """What finds a failure again: `code`, `correlation_id` and `run_id`, as far as they are there."""
    return {name: body[name] for name in ("code", "correlation_id", "run_id") if isinstance(body.get(name), str)}


def json_object(raw: bytes | str) -> dict[str, Any]:
    """A JSON object, or an empty one where it is none."""
    try:
        value = json.loads(raw)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
