"""What a resume answers: the open questions of a thread, and whether an answer is one that was asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agenthost.agents import Answer, RunRequest
from agenthost.approvals import decision_problem, is_approval
from agenthost.auth import Principal
from agenthost.ended_run import EndedRun
from agenthost.entries import AgentEntry
from agenthost.errors import AlreadyAnswered, InvalidRequest, NotFound, StillUndecided
from agenthost.events import Interrupt, json_value
from agenthost.keyed_runs import KeyedRuns
from agenthost.run import Run
from agenthost.schemas import input_check
from agenthost.starting import answer_to, asked_again
from agenthost.store import Store, StoredInterrupt
from agenthost.threads import ThreadKey


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer as it came; without an `interrupt_id` it is for the one question that is open."""

    interrupt_id: str | None = None
    response: Any = None
    decision: Mapping[str, Any] | None = None
    perform_dangling: bool = True


@dataclass(frozen=True, slots=True)
class ResumeRequest:
    """What a dialect asks for to go on with a paused thread: one reply, or several."""

    thread_id: str
    replies: Sequence[Reply]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    idempotency_key: str | None = None
    request_digest: str | None = None
    detached: bool = False
    """Whether the run that goes on outlives its readers."""
    decide: Callable[[Mapping[str, Any]], Awaitable[None]] | None = None
    """Told of each reply's decision, once it is certain that nobody else answers, and before the run begins."""


Question = tuple[str, str]
"""A paused run, and which of its interrupts; or a thread whose pause the host did not see."""


class Resumes:
    """Starts the runs that answer: each question once, whatever the agent does with a second run on its thread."""

    def __init__(self, store: Store, keyed: KeyedRuns, start: Callable[..., Awaitable[Run | EndedRun]]) -> None:
        """`start` starts a run, or finds that of its idempotency key."""
        self._store = store
        self._keyed = keyed
        self._start = start
        self._going: dict[Question, str | None] = {}
        """Questions that runs of this host are answering, with the idempotency keys these came with."""

    async def start(self, entry: AgentEntry, principal: Principal, request: ResumeRequest) -> Run | EndedRun:
        """Go on with a paused thread in a new run.

        Raises what `resumed`, `request.decide` and starting a run raise; whoever comes second with an answer gets
        `AlreadyAnswered`.
        """
        known = await self._known(entry, principal, request)
        if known is not None:
            return known
        key = ThreadKey(principal.id, entry.name, request.thread_id)
        try:
            asked = await self._asked(entry, key, request)
        except AlreadyAnswered:
            known = await self._known(entry, principal, request)  # by this same request, a moment ago
            if known is not None:
                return known
            raise
        questions = _questions(asked, key)
        taken = questions & self._going.keys()
        if taken and {self._going[one] for one in taken} != {asked.idempotency_key or ""}:
            raise AlreadyAnswered("another resume is just answering this question")
        self._going.update(dict.fromkeys(questions - taken, asked.idempotency_key))
        try:
            if not taken and request.decide is not None:
                for reply in request.replies:
                    if reply.decision is not None:
                        await request.decide(reply.decision)
            run = await self._start(entry, principal, asked)
        except BaseException:
            self._forget(questions - taken)
            raise
        if not isinstance(run, Run) or run.released:
            self._forget(questions - taken)
        return run

    async def _asked(self, entry: AgentEntry, key: ThreadKey, request: ResumeRequest) -> RunRequest:
        """What goes on; also a thread that paused where this host did not see it, if its agent says that it did."""
        own = entry.info.keeps_pauses
        try:
            return await resumed(self._store, key, request, own=own)
        except NotFound:
            if not own or any(one.status in {"open", "claimed"} for one in await self._store.interrupts(key)):
                raise  # what waits here is known, and was not named
            with entry.newest.asked() as ref:
                thread = await ref.get_thread(key) if ref and entry.info.keeps_threads else None
            if not isinstance(thread, Mapping) or not thread.get("paused"):
                raise
        answers = [_answer_unseen(reply) for reply in request.replies]
        return RunRequest(
            "",
            key.thread_id,
            metadata=request.metadata,
            answers=answers,
            idempotency_key=request.idempotency_key,
            request_digest=request.request_digest,
            detached=request.detached,
        )

    async def _known(self, entry: AgentEntry, principal: Principal, request: ResumeRequest) -> Run | EndedRun | None:
        if request.idempotency_key is None:
            return None
        return await self._keyed.known(entry, principal, request.idempotency_key, request.request_digest)

    def ended(self, run: Run) -> None:
        """A run is over: what became of the questions it answered, the store knows."""
        if run.request.answers and run.thread is not None:
            self._forget(_questions(run.request, run.thread))

    def _forget(self, questions: Iterable[Question]) -> None:
        for question in questions:
            self._going.pop(question, None)


def _questions(asked: RunRequest, thread: ThreadKey) -> set[Question]:
    if asked.resumes is None:
        return {(thread.digest, "")}  # a pause that the host did not see: there is one on a thread
    return {(asked.resumes, answer.interrupt.interrupt_id or "") for answer in asked.answers}


def _answer_unseen(reply: Reply) -> Answer:
    """An answer to a question that the host never saw."""
    return Answer(
        Interrupt("", interrupt_id=reply.interrupt_id), reply.response, reply.decision, reply.perform_dangling
    )


def undecided(run: Run) -> StillUndecided | None:
    """What to tell of a run that was begun to answer a question, where asking it again is all that it did."""
    again, answered = run.outcome.interrupts, [answer.interrupt.interrupt_id for answer in run.request.answers]
    paused = run.outcome_known is not None and run.outcome_known.status == "paused"
    if not paused or run.thread is None or run.log.last > len(again):
        return None
    error, asked = StillUndecided(), again[0]
    if asked.interrupt_id not in answered and None not in answered:  # None: one that the host did not see
        return None
    question = {name: getattr(asked, name) for name in ("interrupt_id", "question", "metadata")}
    error.members = {"type": error.code, "thread_id": run.thread.thread_id, **question}
    return error


async def resumed(store: Store, key: ThreadKey, request: ResumeRequest, *, own: bool = False) -> RunRequest:
    """The run that goes on: the paused one's prompt and input, and the answers.

    With `own` the agent keeps its pauses itself: it has the paused run's metadata, and says itself what is an answer to
    its questions; those on a tool call are looked at here all the same, as for every agent.

    Raises `NotFound` where nothing is paused, `AlreadyAnswered` for a question that is no longer open, `InvalidRequest`
    for an answer to none in particular, or not one of those asked for.
    """
    asked = await store.interrupts(key)
    found = [_asked(asked, reply) for reply in request.replies]
    if len({(one.run_id, one.interrupt_id) for one in found}) < len(found):
        raise InvalidRequest("answers: two are for one interrupt")
    paused = found[0].run_id
    if any(one.run_id != paused for one in found):
        raise InvalidRequest("answers: they belong to two paused runs; answer one run at a time")
    answers = [_checked(one, reply, own=own) for one, reply in zip(found, request.replies, strict=True)]
    stored = await store.get_run(paused)
    if stored is None:
        raise NotFound("the run that paused is no longer kept")
    again = asked_again(stored, answers)
    again.metadata = request.metadata if own else {**again.metadata, **request.metadata}
    again.resumes = paused
    again.history = tuple(one for one in again.history if one.role == "system")  # its thread has the others
    again.idempotency_key, again.request_digest = request.idempotency_key, request.request_digest
    again.detached = request.detached
    return again


def _asked(asked: Sequence[StoredInterrupt], reply: Reply) -> StoredInterrupt:
    """The question a reply is for; `asked` are all of the thread, the newest run's first."""
    if reply.interrupt_id is None:
        still_open = [one for one in asked if one.status == "open"]
        if len(still_open) > 1:
            raise InvalidRequest(f"{len(still_open)} questions are open on this thread; name one by interrupt_id")
        if still_open:
            return still_open[0]
        if not asked:
            raise NotFound("nothing is paused on this thread")
        raise _closed(asked[0])
    named = [one for one in asked if one.interrupt_id == reply.interrupt_id]
    for one in named:
        if one.status == "open":
            return one
    if named:
        raise _closed(named[0])
    raise NotFound("no such question on this thread")


def _closed(asked: StoredInterrupt) -> AlreadyAnswered:
    said = {
        "superseded": "a newer run on this thread took its place",
        "expired": "it was not answered in time",
        "claimed": "a run is just answering it",
    }
    return AlreadyAnswered(f"this question is no longer open: {said.get(asked.status, 'it has been answered')}")


def _checked(asked: StoredInterrupt, reply: Reply, *, own: bool) -> Answer:
    """The answer, where it is one of the `options` and fits the `fields` that the agent asked for."""
    answer = answer_to(
        asked,
        {"response": reply.response, "decision": reply.decision, "perform_dangling": reply.perform_dangling},
    )
    options, fields = answer.interrupt.options, answer.interrupt.fields
    if own and not is_approval(answer.interrupt):
        return answer
    if reply.decision is not None and is_approval(answer.interrupt):
        problem = decision_problem(reply.decision)
        if problem is not None:
            raise InvalidRequest(problem)
    if reply.decision is not None and reply.response in (None, ""):
        return answer  # a decision takes the place of a response
    if options and not any(_chooses(option, reply.response) for option in options):
        raise InvalidRequest("response: it is none of the interrupt's options")
    if fields is not None:
        _check_fields(fields, reply.response)
    return answer


def _chooses(option: Any, response: Any) -> bool:
    """Whether a response is this option, or the `id` of an option that is an object. `1` and `true` are two things."""
    if isinstance(option, Mapping) and not isinstance(response, Mapping):
        option = option.get("id")
        if option is None:
            return False
    return type(option) is type(response) and json_value(option) == json_value(response)


def _check_fields(fields: Mapping[str, Any], response: Any) -> None:
    """Raise `InvalidRequest` for a response that `fields`, a JSON Schema, does not take."""
    try:
        problem = input_check(fields, "response")(response)
    except (ValueError, TypeError):
        return  # the agent's schema is none: the person who answers cannot mend that
    if problem:
        raise InvalidRequest(problem)
