"""A paused Locus run goes on with what the person answered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from locus.core.errors import ApprovalPendingError
from locus.core.events import InterruptEvent

from agenthost import Answer, RunContext, approval_of
from agenthost_locus.asking import text_of
from agenthost_locus.deciding import approval_id, decide, store_for


async def resumed(
    served: Any, ctx: RunContext, answer: Answer, thread: str | None, approvals: str
) -> AsyncIterator[Any]:
    """Locus's events from the pause on; the question again, and nothing else, where it is still undecided.

    An approval that was lost with its process is submitted again by the held call, and decided then.
    """
    verdict = _verdict(answer)

    def decided(metadata: Any) -> bool:
        held = approval_id(metadata)
        if held is None or verdict is None:
            return False
        store = store_for(served, held, approvals)
        return store is not None and decide(store, held, verdict, ctx)

    options: dict[str, Any] = {"thread_id": thread, "perform_dangling": answer.perform_dangling}
    if ctx.metadata:  # else those of the paused run, which Locus knows
        options["metadata"] = dict(ctx.metadata)
    go_on = partial(served.resume, text_of(answer.response), **options)
    was_decided = decided(answer.interrupt.metadata)
    try:
        async for event in go_on():
            yield event
        return
    except ApprovalPendingError as still_held:
        pending = still_held
    if not was_decided and decided(pending.metadata):
        async for event in go_on():
            yield event
    else:
        yield InterruptEvent(question=pending.question, interrupt_id=pending.interrupt_id, metadata=pending.metadata)


def _verdict(answer: Answer) -> Any:
    """What the person decided, where they were asked to."""
    if (answer.interrupt.metadata or {}).get("kind") != "tool_approval":
        return None
    try:
        return approval_of(answer)
    except ValueError:
        return None
