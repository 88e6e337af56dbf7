"""Decides held calls where Locus looks for the decision: in the approval store that the gated tool was made with."""

from __future__ import annotations

from collections.abc import Iterator
from types import FunctionType
from typing import Any

from locus.control import ApprovalStore, InMemoryApprovals

from agenthost import RunContext
from agenthost_locus.settings import CALLER, ELSEWHERE

DEPTH = 4
"""Functions inside functions in which a store is looked for: a gated tool's own is two deep."""


def approval_id(metadata: Any) -> str | None:
    """The approval that a pause waits for, where it is one of `gate_tool`."""
    found = (metadata or {}).get("approval_id")
    return found if isinstance(found, str) else None


def store_for(agent: Any, approval: str, approvals: str) -> Any | None:
    """The store in which the caller's answer may decide `approval`; None where that is for somebody else to do.

    By default that is a store in this process's memory, which nobody outside can decide; one that is shared (a file,
    a class of one's own) takes the caller's word only where `approvals` says so.
    """
    if approvals == ELSEWHERE:
        return None
    for store in _stores(agent):
        if (approvals == CALLER or isinstance(store, InMemoryApprovals)) and store.get(approval) is not None:
            return store
    return None


def decide(store: Any, approval: str, verdict: Any, ctx: RunContext) -> bool:
    """Record what the caller said, under their name; False where the store does not take it (an authority's rules)."""
    arguments = dict(verdict.arguments) if verdict.approved and verdict.arguments is not None else None
    try:
        store.decide(approval, "approved" if verdict.approved else "denied", by=ctx.principal.id, arguments=arguments)
    except (PermissionError, ValueError, KeyError) as refused:
        ctx.log.warning("the decision on %s was not taken: %s", approval, type(refused).__name__)
        return False
    return True


def _stores(agent: Any) -> Iterator[ApprovalStore]:
    tools: Any = getattr(agent, "tools", ())
    for tool in tools if hasattr(type(tools), "__iter__") else ():
        yield from _within(getattr(tool, "fn", None), DEPTH)


def _within(function: Any, depth: int) -> Iterator[ApprovalStore]:
    """Approval stores that a function holds on to, itself or through functions that it was made with."""
    if not isinstance(function, FunctionType) or not depth:
        return
    for cell in function.__closure__ or ():
        try:
            held = cell.cell_contents
        except ValueError:
            continue  # a name that the function was made with and that has no value yet
        if isinstance(held, FunctionType):
            yield from _within(held, depth - 1)
        elif isinstance(held, ApprovalStore):
            yield held
