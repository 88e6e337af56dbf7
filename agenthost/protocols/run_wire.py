"""Runs on the wire: what `/resume` takes, what `/runs` answers, and what stands for a body under its key."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import orjson
from pydantic import Field, field_validator

from agenthost.agents import RunRequest
from agenthost.ended_run import EndedRun
from agenthost.errors import InvalidRequest, by_code
from agenthost.placement.carrying import told_message
from agenthost.protocols.wire import Wire, json_only, without_none
from agenthost.resuming import Reply, ResumeRequest
from agenthost.run import Run
from agenthost.store import RunSummary, StoredInterrupt, StoredRun
from agenthost.threads import MAX_THREAD_ID, thread_id_problem

MAX_ANSWERS = 100
"""Answers in one resume."""

MAX_KEY = 200
"""Characters of an `Idempotency-Key`."""


class AnswerBody(Wire):
    """The answer to one of several questions."""

    interrupt_id: str = Field(max_length=200)
    response: Any = None
    decision: dict[str, Any] | None = None


class ResumeBody(Wire):
    """What goes on: an answer to the one question that is open, to one by its id, or several in `answers`."""

    thread_id: str = Field(min_length=1, max_length=MAX_THREAD_ID, description="The thread that is paused.")
    interrupt_id: str | None = Field(None, max_length=200, description="Which question, where several are open.")
    response: Any = Field(None, description="The answer: one of the question's options, or what its fields ask for.")
    decision: dict[str, Any] | None = Field(None, description="Handed to the agent as it is.")
    perform_dangling: bool = Field(True, description="For frameworks that have calls left over from before the pause.")
    answers: list[AnswerBody] | None = Field(
        None, min_length=1, max_length=MAX_ANSWERS, description="Several answers, instead of the fields above."
    )
    metadata: dict[str, Any] = Field(default_factory=dict, description="Added to that of the paused run.")

    @field_validator("thread_id")
    @classmethod
    def _names_a_thread(cls, value: str) -> str:
        problem = thread_id_problem(value)
        if problem:
            raise ValueError(problem)
        return value

    def request(self) -> ResumeRequest:
        """The resume that is asked for; raises `InvalidRequest` for one that contradicts itself, or is not JSON."""
        json_only("response", self.response)
        json_only("decision", self.decision)
        json_only("metadata", self.metadata)
        if self.answers is None:
            replies = [Reply(self.interrupt_id, self.response, self.decision, self.perform_dangling)]
        elif self.interrupt_id is not None or self.response is not None or self.decision is not None:
            raise InvalidRequest("answers: give either them, or interrupt_id, response and decision")
        else:
            json_only("answers", [answer.model_dump() for answer in self.answers])
            replies = [
                Reply(answer.interrupt_id, answer.response, answer.decision, self.perform_dangling)
                for answer in self.answers
            ]
        return ResumeRequest(self.thread_id, replies, self.metadata)


class InterruptView(Wire):
    """A question that a run paused with: `open`, `claimed`, `answered`, `superseded` or `expired`."""

    interrupt_id: str
    question: str
    options: list[Any] | None = None
    fields: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    status: str
    expires_at: float


class RunProblem(Wire):
    """Why a run did not complete; more is in its last event, and in the host's log."""

    code: str
    detail: str


class RunView(Wire):
    """A run: `queued`, `running`, `completed`, `paused`, `failed` or `cancelled`; times are seconds since the epoch."""

    run_id: str
    agent: str
    status: str
    created: float
    thread_id: str | None = None
    ended: float | None = None
    stop_reason: str | None = None
    resumes: str | None = None
    resumed_by: str | None = None
    parent_run_id: str | None = None
    message: str | None = None
    output: Any = None
    usage: dict[str, Any] | None = None
    interrupts: list[InterruptView] | None = None
    iterations: int | None = None
    tool_calls: int | None = None
    duration_ms: float | None = None
    error: RunProblem | None = None


class RunPage(Wire):
    """A page of runs, newest first; `next_cursor` is there where there are more."""

    runs: list[RunView]
    next_cursor: str | None = None


def going_run(run: Run) -> dict[str, Any]:
    """A run that this host has in hand: it goes, waits, or has just ended."""
    result = run.outcome_known
    told = result if result is not None and run.error is None else None
    error = run.error if result is not None else None
    return without_none(
        {
            "run_id": run.id,
            "agent": run.entry.name,
            "status": run.status,
            "created": run.created,
            "thread_id": run.thread.thread_id if run.thread else None,
            "stop_reason": result.stop_reason if result else None,
            "resumes": run.request.resumes,
            "parent_run_id": run.parent.id if run.parent else None,
            "message": told.message if told else None,
            "output": told.output if told else None,
            "usage": told.usage if told else None,
            "iterations": told.iterations if told else None,
            "tool_calls": told.tool_calls if told else None,
            "duration_ms": told.duration_ms if told else None,
            "error": {"code": error.code, "detail": error.title} if error else None,
        }
    )


def stored_run(run: StoredRun) -> dict[str, Any]:
    """A run as the store has it."""
    kept = run.result or {}
    fields = {
        **listed_run(run),
        **{name: kept.get(name) for name in ("output", "usage", "iterations", "tool_calls", "duration_ms")},
        "message": kept.get("message") if run.code is None else None,
        "interrupts": [_interrupt(asked) for asked in run.interrupts] or None,
    }
    return without_none(fields)


def listed_run(run: RunSummary | StoredRun) -> dict[str, Any]:
    """A run in a list: what it is and how it stands, without what it said."""
    return without_none(
        {
            "run_id": run.run_id,
            "agent": run.agent,
            "status": run.status,
            "created": run.created,
            "thread_id": run.thread_id,
            "ended": run.ended,
            "stop_reason": run.stop_reason,
            "resumes": run.resumes,
            "resumed_by": run.resumed_by,
            "parent_run_id": run.parent,
            "error": {"code": run.code, "detail": by_code(run.code).title} if run.code else None,
        }
    )


def run_view(run: Run | EndedRun | StoredRun) -> dict[str, Any]:
    """A run, wherever it was found; what is None is left out."""
    if isinstance(run, Run):
        return going_run(run)
    return stored_run(run.stored if isinstance(run, EndedRun) else run)


def _interrupt(asked: StoredInterrupt) -> dict[str, Any]:
    shown = {name: asked.payload.get(name) for name in ("question", "options", "fields", "metadata")}
    known = {"interrupt_id": asked.interrupt_id, **shown, "status": asked.status, "expires_at": asked.expires_at}
    return without_none(known)


def idempotency_key(raw: bytes) -> str:
    """The key of an `Idempotency-Key` header: 1 to 200 visible ASCII characters. Raises `InvalidRequest`."""
    key = raw.decode("latin-1").strip()
    if not 1 <= len(key) <= MAX_KEY or not all("!" <= character <= "~" for character in key):
        raise InvalidRequest(f"Idempotency-Key: from 1 to {MAX_KEY} visible ASCII characters")
    return key


def run_digest(request: RunRequest) -> str:
    """What stands for a run request: two bodies that ask for the same have the same."""
    content = [part.to_json() for part in request.content] if request.content else None
    fields = [request.prompt, request.thread_id, request.input, dict(request.metadata), content]
    return _digest([*fields, list(map(told_message, request.history))] if request.history else fields)


def resume_digest(request: ResumeRequest) -> str:
    """What stands for a resume."""
    replies = [[one.interrupt_id, one.response, one.decision, one.perform_dangling] for one in request.replies]
    return _digest(["resume", request.thread_id, replies, dict(request.metadata)])


def _digest(fields: Sequence[Any]) -> str:
    return hashlib.sha256(orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)).hexdigest()
