"""A run as the store keeps its beginning, and the request that can be read back from there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agenthost.agents import Answer, RunRequest, RunStatus
from agenthost.entries import NOT_READY, AgentEntry
from agenthost.errors import AgentNotReady, InvalidRequest
from agenthost.events import Interrupt
from agenthost.placement.carrying import message_of, told_message
from agenthost.run import Run
from agenthost.store import Claim, NewRun, StoredInterrupt, StoredRun
from agenthost.threads import Message, Part, thread_id_problem


def new_run(run: Run, *, status: RunStatus = "running", last_seq: int = 0) -> NewRun:
    """What the commit that begins `run` writes; a log that becomes durable late begins after entry `last_seq`."""
    request, entry = run.request, run.entry
    written = request.thread_id is not None and status == "running"
    return NewRun(
        run_id=run.id,
        agent=entry.name,
        agent_version=entry.source.version,
        principal=run.principal.id,
        thread_id=run.thread.thread_id if run.thread else None,
        input=_stored_input(run),
        idempotency_key=request.idempotency_key,
        request_digest=request.request_digest,
        resumes=request.resumes,
        parent=run.parent.id if run.parent else None,
        detached=request.detached,
        resumable=entry.info.resumable and run.parent is None,  # its caller, where that begins again, calls again
        created=run.created,
        status=status,
        user_message=user_message(run) if written else None,
        brought=brought(request) if written else (),
        claims=[
            Claim(request.resumes, answer.interrupt.interrupt_id or "", answer.stored())
            for answer in request.answers
            if request.resumes is not None  # else it paused where this host did not see it
        ],
        last_seq=last_seq,
    )


def refuse_unfit(entry: AgentEntry, request: RunRequest) -> None:
    """Raise `InvalidRequest` for what this agent cannot be asked."""
    if request.thread_id is not None:
        refuse_bad_thread_id(request.thread_id)
    if entry.check_input is not None and (request.input is not None or entry.info.needs_input):
        problem = entry.check_input(request.input)
        if problem:
            raise InvalidRequest(problem)


def refuse_bad_thread_id(thread_id: str) -> None:
    """Raise `InvalidRequest` for what is no thread's id."""
    problem = thread_id_problem(thread_id)
    if problem:
        raise InvalidRequest(problem)


def on_the_newest(run: Run) -> None:
    """Have a run that has waited begin on the version of its agent that is served by now.

    Raises `AgentNotReady` where none is, `InvalidRequest` where that version takes no such input.
    """
    newest = run.entry.newest
    if newest is not run.entry and newest.keeps_promises:
        refuse_unfit(newest, run.request)
        run.entry = newest
    if not run.entry.keeps_promises:
        raise AgentNotReady(f"agent '{run.entry.name}' is {run.entry.state}", retry_after=NOT_READY)


def user_message(run: Run) -> Message | None:
    """What the user says with this run; a resume brings an answer, not a message."""
    request = run.request
    if request.resumes is not None or request.answers:
        return None
    if request.content:
        return Message("user", request.content, run_id=run.id)
    return Message.of("user", request.prompt)


def brought(request: RunRequest) -> list[Message]:
    """What the request brings to its thread besides the user's message; a resume brings nothing."""
    if not request.history or request.resumes is not None:
        return []
    return [message for message in request.history if message.role != "system"]


def history_of(request: RunRequest, before: Sequence[Message]) -> Sequence[Message]:
    """The conversation before the run's own message, where its thread was `before`: system messages come first."""
    if not request.history:
        return before
    return [*(one for one in request.history if one.role == "system"), *before, *brought(request)]


def _stored_input(run: Run) -> dict[str, Any]:
    """What the run was asked, and by whom where it may have to begin again without them."""
    request = run.request
    stored: dict[str, Any] = {"prompt": request.prompt, "input": request.input, "metadata": dict(request.metadata)}
    if request.content:
        stored["content"] = [part.to_json() for part in request.content]
    if request.history:
        stored["history"] = list(map(told_message, request.history))
    if request.detached or run.entry.info.resumable:
        stored["caller"] = {"agents": list(run.principal.agents), "groups": list(run.principal.groups)}
    return stored


def asked_again(stored: StoredRun, answers: Sequence[Answer]) -> RunRequest:
    """The request that `stored` was started with, as far as the store keeps it."""
    given = stored.input
    return RunRequest(
        prompt=given["prompt"],
        thread_id=stored.thread_id,
        input=given.get("input"),
        metadata=given.get("metadata") or {},
        content=[Part.from_json(part) for part in given["content"]] if given.get("content") else None,
        history=tuple(map(message_of, given.get("history", ()))),
        answers=answers,
        idempotency_key=stored.idempotency_key,
        request_digest=stored.request_digest,
        detached=stored.detached,
        resumes=stored.resumes,
    )


def question(stored: StoredInterrupt) -> Interrupt:
    """The interrupt as the agent yielded it, with the id it got."""
    payload = stored.payload
    return Interrupt(
        question=payload["question"],
        options=payload.get("options"),
        fields=payload.get("fields"),
        metadata=payload.get("metadata"),
        interrupt_id=stored.interrupt_id,
        state=stored.state,
    )


def answer_to(stored: StoredInterrupt, given: Mapping[str, Any]) -> Answer:
    """An answer, with the whole question it answers; `given` is what `Answer.stored` gave."""
    return Answer(question(stored), given.get("response"), given.get("decision"), given.get("perform_dangling", True))
