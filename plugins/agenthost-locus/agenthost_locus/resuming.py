"""A paused Locus run goes on with what the person answered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from locus.core.errors import ApprovalPendingError
from locus.core.events import InterruptEvent, ToolCompleteEvent

from agenthost import Answer, Custom, RunContext, approval_of
from agenthost_locus.asking import text_of
from agenthost_locus.deciding import Turn, approval_id


async def resumed(
    served: Any, ctx: RunContext, answer: Answer, thread: str | None, turn: Turn | None
) -> AsyncIterator[Any]:
    """Locus's events from the pause on; the question again, and nothing else, where it is still undecided.

    A call that a decision lets go on is performed by Locus before its first event. So one of ours comes first: from
    then on the question is answered, and nothing that happens to the run asks it again. Without a `turn` an
    `AgentServer` decides, and there is no such event. A call that was denied is not performed at all.
    """
    options: dict[str, Any] = {"thread_id": thread}
    if ctx.metadata:  # else those of the paused run, which Locus knows
        options["metadata"] = dict(ctx.metadata)
    go_on = partial(served.resume, text_of(answer.response), perform_dangling=answer.perform_dangling, **options)
    verdict, asked = _verdict(answer), approval_id(answer.interrupt.metadata)
    if turn is None or not answer.perform_dangling:
        events = _unless_pending(go_on)
    elif verdict is None:
        events = _decided_elsewhere(go_on, answer, turn)
    elif verdict.approved and not turn.is_denied(asked):
        events = _approved(go_on, ctx, answer, turn, verdict.arguments)
    else:
        refusal = turn.deny(answer.interrupt.metadata or {}, verdict.message, ctx)
        events = _denied(partial(served.resume, refusal, perform_dangling=False, **options), answer, refusal)
    async for event in events:
        yield event


async def _unless_pending(go_on: Any) -> AsyncIterator[Any]:
    try:
        async for event in go_on():
            yield event
    except ApprovalPendingError as still_held:
        yield _again(still_held)


async def _decided_elsewhere(go_on: Any, answer: Answer, turn: Turn) -> AsyncIterator[Any]:
    """What is no approval of the caller's: an answer to a question, or a call that somebody else decides."""
    asked = approval_id(answer.interrupt.metadata)
    if turn.owns(asked):
        yield answer.interrupt
        return
    if turn.is_decided(asked):
        yield _taken(answer, None)
    async for event in _unless_pending(go_on):
        yield event


async def _approved(go_on: Any, ctx: RunContext, answer: Answer, turn: Turn, arguments: Any) -> AsyncIterator[Any]:
    """An approval that was lost with its process is submitted again by the held call, and decided then."""
    asked = approval_id(answer.interrupt.metadata)
    if not turn.approve(asked, arguments, ctx):
        if turn.owns(asked):
            yield answer.interrupt
            return
        try:
            async for event in go_on():
                yield event
            return
        except ApprovalPendingError as still_held:
            pending = still_held
        if not turn.approve(approval_id(pending.metadata), arguments, ctx):
            yield _again(pending)
            return
    yield _taken(answer, True)
    async for event in _unless_pending(go_on):
        yield event


async def _denied(go_on: Any, answer: Answer, refusal: str) -> AsyncIterator[Any]:
    yield _taken(answer, False)
    call, metadata = answer.interrupt.interrupt_id or "", answer.interrupt.metadata or {}
    yield ToolCompleteEvent(tool_name=str(metadata.get("tool")), tool_call_id=call, result=refusal)
    async for event in go_on():
        yield event


def _taken(answer: Answer, approved: bool | None) -> Custom:
    """The first event of a run that goes on; `approved` is null where somebody else has decided."""
    return Custom("x-approval", {"tool_call_id": answer.interrupt.interrupt_id, "approved": approved})


def _again(held: ApprovalPendingError) -> InterruptEvent:
    return InterruptEvent(question=held.question, interrupt_id=held.interrupt_id, metadata=held.metadata)


def _verdict(answer: Answer) -> Any:
    """What the person decided, where they were asked to."""
    if (answer.interrupt.metadata or {}).get("kind") != "tool_approval":
        return None
    try:
        return approval_of(answer)
    except ValueError:
        return None
