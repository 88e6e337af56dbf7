"""Decides held calls where Locus looks for the decision: in the approval store that the gated tool was made with.

Locus names an approval after the tool and its arguments, so that everybody who makes the same call meets one record.
Here a record that a caller may decide is one turn's own: what a gated tool submits during the turn is bound to it, by
the context that is part of the approval's name. Nobody else's answer is ever found under that name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from types import FunctionType
from typing import Any, TypeVar

from locus.control import ApprovalOutcome, ApprovalStore, AuditTrail, InMemoryApprovals

from agenthost import RunContext
from agenthost_locus.settings import CALLER, ELSEWHERE

BOUND = "agenthost_turn"
"""The key in a record's context under which the turn is named."""

WHERE = ("approval_id", "action", "asset")
"""What of a pause says which call it is about."""

DEPTH = 4
"""Functions inside functions in which a store is looked for: a gated tool's own is two deep."""

T = TypeVar("T")

_TURN: ContextVar[Turn | None] = ContextVar("agenthost_locus_turn", default=None)


class Turn:
    """The held calls of one turn of one thread: a run, and those that go on with it after pauses.

    `approvals` says who decides. By default that is the caller where the store is in this process's memory, which
    nobody outside can decide; one that is shared (a file, a class of one's own) takes the caller's word only with
    `caller`.
    """

    def __init__(self, agent: Any, name: str, approvals: str) -> None:
        self._agent = agent
        self.name = name
        self._approvals = approvals

    def begin(self) -> None:
        """From here on, in this task and those it starts, what a gated tool submits is this turn's own."""
        _TURN.set(self)
        for _, store in self._gates():
            if self.takes(store) and not isinstance(store.submit, _Bound):
                try:
                    store.submit = _Bound(store, store.submit)
                except AttributeError:
                    continue  # it takes no attributes, its records are nobody's own, and its decisions made elsewhere

    def takes(self, store: Any) -> bool:
        """Whether a caller's answer may decide what is in this store."""
        return self._approvals == CALLER or (self._approvals != ELSEWHERE and isinstance(store, InMemoryApprovals))

    def owns(self, approval: str | None) -> bool:
        """Whether the caller may decide this approval: it is in such a store, and bound to this turn."""
        return self._own(approval) is not None

    def is_decided(self, approval: str | None) -> bool:
        """Whether somebody has decided it, in whatever store it is."""
        records = (store.get(approval) for _, store in self._gates()) if approval else ()
        return any(record is not None and record.status in {"approved", "denied"} for record in records)

    def approve(self, approval: str | None, arguments: Mapping[str, Any] | None, ctx: RunContext) -> bool:
        """Record the caller's approval, under their name; whether it stands now, with these very arguments.

        It does not where an authority's rules refuse it or want others too, and where a decision was there before
        that is another.
        """
        found = self._own(approval)
        if found is None:
            return False
        _, store, record = found
        edited = dict(arguments) if arguments is not None else None
        try:
            record = store.decide(record.approval_id, "approved", by=ctx.principal.id, arguments=edited)
        except (PermissionError, ValueError, KeyError) as refused:
            ctx.log.warning("the approval of %s was not taken: %s", approval, type(refused).__name__)
            record = store.get(record.approval_id)
        return record is not None and record.status == "approved" and record.approved_arguments == edited

    def is_denied(self, approval: str | None) -> bool:
        """Whether this turn's own approval has been denied, by somebody who has its store."""
        found = self._own(approval)
        return found is not None and found[2].status == "denied"

    def deny(self, metadata: Mapping[str, Any], message: str | None, ctx: RunContext) -> str:
        """What the model reads in the place of the call: the refusal as Locus words it. Recorded where it can be."""
        found = self._own(approval_id(metadata))
        by = _denied_by(*found, metadata, ctx) if found is not None else ctx.principal.id
        where = {name: metadata.get(name) for name in WHERE}
        refusal = {"status": "denied", "outcome": ApprovalOutcome.REQUIRE_HUMAN, "reason": message or f"denied by {by}"}
        return json.dumps({**refusal, **where}, ensure_ascii=False)

    def _own(self, approval: str | None) -> tuple[Any, Any, Any] | None:
        """The tool, the store and the record of an approval that is this turn's."""
        if approval is None:
            return None
        for tool, store in self._gates():
            record = store.get(approval) if self.takes(store) else None
            if record is not None and record.tool == tool.name and record.context.get(BOUND) == self.name:
                return tool, store, record
        return None

    def _gates(self) -> Iterator[tuple[Any, Any]]:
        """The agent's tools that have approval stores, with these."""
        tools: Any = getattr(self._agent, "tools", ())
        for tool in tools if hasattr(type(tools), "__iter__") else ():
            kind: Any = ApprovalStore  # a protocol: Locus tells a store by its methods, as `isinstance` does
            for store in _within(getattr(tool, "fn", None), kind, DEPTH):
                yield tool, store


def _denied_by(tool: Any, store: Any, record: Any, metadata: Mapping[str, Any], ctx: RunContext) -> str:
    """Record a denial in the store, use it up, and tell the tool's audit trail, as Locus would; by whom it is.

    Where the store does not take it, it is the caller's all the same: what they asked for need not be done.
    """
    by = ctx.principal.id
    try:
        record = store.decide(record.approval_id, "denied", by=by)
    except (PermissionError, ValueError, KeyError) as refused:
        ctx.log.warning("the denial of %s was not recorded: %s", record.approval_id, type(refused).__name__)
        record = store.get(record.approval_id) or record
    if record.status == "denied":
        by = record.decided_by or by
        told = {"verdict": "denied", "decided_by": by, "approvers": record.approvers}
        trails = {id(trail): trail for trail in _within(getattr(tool, "fn", None), AuditTrail, DEPTH)}
        for trail in trails.values():
            trail.record("approval-decision", {**{name: metadata.get(name) for name in WHERE}, **told})
    if record.status in {"approved", "denied"}:
        store.consume(record.approval_id)  # else it would decide the same call, if this turn makes it again
    return str(by)


class _Bound:
    """A store's `submit`: during a turn that may decide what is in the store, bound to that turn; else as it was."""

    def __init__(self, store: Any, submit: Any) -> None:
        self._store = store
        self._submit = submit

    def __call__(self, *call: Any, **more: Any) -> Any:
        turn = _TURN.get()
        if turn is not None and more.get("context") is not None and turn.takes(self._store):  # none: no pause is meant
            more["context"] = {**more["context"], BOUND: turn.name}
        return self._submit(*call, **more)


def approval_id(metadata: Any) -> str | None:
    """The approval that a pause waits for, where it is one of `gate_tool`."""
    found = (metadata or {}).get("approval_id")
    return found if isinstance(found, str) else None


def _within(function: Any, kind: type[T], depth: int) -> Iterator[T]:
    """What of a kind a function holds on to, itself or through functions that it was made with."""
    if not isinstance(function, FunctionType) or not depth:
        return
    for cell in function.__closure__ or ():
        try:
            held = cell.cell_contents
        except ValueError:
            continue  # a name that the function was made with and that has no value yet
        if isinstance(held, FunctionType):
            yield from _within(held, kind, depth - 1)
        elif isinstance(held, kind):
            yield held
