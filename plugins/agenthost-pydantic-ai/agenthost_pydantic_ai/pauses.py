"""Deferred tool calls and the host's questions: an approval or a result is asked for, and a resume brings it.

`Interrupt.state` holds all that the run needs to go on: the messages of its turn, and what each call waits for. Answers
may come one by one, each in a run of its own; until the last is there, they wait in `ctx.state`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

from pydantic_ai.messages import ModelMessage, ModelResponse, ToolCallPart
from pydantic_ai.tools import DeferredToolRequests, DeferredToolResults, ToolApproved, ToolDenied
from pydantic_core import to_jsonable_python

from agenthost import AgentError, Answer, Interrupt, RunContext, ToolStart, approval_of, ask_approval
from agenthost_pydantic_ai.history import PLACE, conversation, dumped, loaded
from agenthost_pydantic_ai.telling import arguments_of

APPROVAL, RESULT = "approval", "result"
"""What a call can wait for."""

NO_NULL = {"not": {"type": "null"}}
"""What the host takes as a tool's result: anything, but an answer must bring something."""

MAX_STATE = 900 << 10
"""Bytes of the messages of one turn that can pause; the host keeps a question's state up to 1 MiB."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """A paused turn with every answer: the conversation up to it, what the tools get, and what to say first."""

    turn: str
    earlier: list[ModelMessage]
    own: list[ModelMessage]
    results: DeferredToolResults
    starts: list[ToolStart]


def ask(
    ctx: RunContext, requests: DeferredToolRequests, turn: str, messages: Sequence[ModelMessage]
) -> Iterator[Interrupt]:
    """One question for each call that waits. `turn` is the run the turn began with, `messages` are the turn's.

    Raises `AgentError` where they are more than a question can keep.
    """
    text = dumped(messages)
    if len(text.encode()) + text.count('"') + text.count("\\") > MAX_STATE:
        raise AgentError(
            f"the agent cannot pause: the messages of this turn are more than {MAX_STATE >> 10} KiB",
            hint="let its tools return less before they ask, or send smaller files",
        )
    waits = {call.tool_call_id: APPROVAL for call in requests.approvals}
    waits |= {call.tool_call_id: RESULT for call in requests.calls}
    details = to_jsonable_python(requests.metadata, serialize_unknown=True)
    state = {"turn": turn, "paused": ctx.run_id, "messages": text, "waits": waits, "details": details}
    for call in requests.approvals:
        asked = ask_approval(call.tool_name, call.tool_call_id, arguments_of(call), state=state)
        yield _with_details(asked, details.get(call.tool_call_id))
    for call in requests.calls:
        yield _with_details(_ask_result(call, state), details.get(call.tool_call_id))


def _ask_result(call: ToolCallPart, state: Mapping[str, Any]) -> Interrupt:
    arguments = arguments_of(call)
    shown = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    return Interrupt(
        question=f"What is the result of {call.tool_name}({shown[:400]})?",
        metadata={
            "kind": "tool_result",
            "tool": call.tool_name,
            "tool_call_id": call.tool_call_id,
            "arguments": arguments,
        },
        interrupt_id=call.tool_call_id,
        fields=NO_NULL,
        state=state,
    )


def _with_details(asked: Interrupt, details: Any) -> Interrupt:
    """With what the tool itself says of its question (`ApprovalRequired(metadata=…)`)."""
    return asked if details is None else replace(asked, metadata={**(asked.metadata or {}), "details": details})


def resumed(ctx: RunContext, *, urls: bool) -> Resumed | list[str]:
    """The turn that goes on, or the ids of the calls that still wait: then the answers so far are in `ctx.state`.

    Raises `AgentError` for an answer that decides nothing; nothing has been said by then, so its question stays open.
    """
    state: Mapping[str, Any] = ctx.answers[0].interrupt.state
    waits: Mapping[str, str] = state["waits"]
    place = ctx.state.setdefault(PLACE, {})
    before = place.pop("answers", None) or {}
    given = dict(before["given"]) if before.get("paused") == state["paused"] else {}
    for answer in ctx.answers:
        if waits[answer.interrupt.interrupt_id or ""] == RESULT:
            _result(answer)
        given[answer.interrupt.interrupt_id] = {"response": answer.response, "decision": answer.decision}
    missing = [call_id for call_id in waits if call_id not in given]
    if missing:
        place["answers"] = {"paused": state["paused"], "given": given}
        return missing
    own = loaded(state["messages"])
    earlier = conversation(ctx, takewhile(lambda message: message.run_id != state["turn"], ctx.history), urls=urls)
    results = DeferredToolResults(metadata=state["details"])
    for call_id, wait in waits.items():
        answer = Answer(ctx.answers[0].interrupt, given[call_id]["response"], given[call_id]["decision"])
        outcome = _verdict(answer) if wait == APPROVAL else _result(answer)
        if isinstance(outcome, ToolApproved | ToolDenied):
            results.approvals[call_id] = outcome
        else:
            results.calls[call_id] = outcome
    return Resumed(state["turn"], earlier, own, results, _starts(own, results))


def _verdict(answer: Answer) -> ToolApproved | ToolDenied:
    approval = approval_of(answer)
    if approval.approved:
        return ToolApproved(override_args=None if approval.arguments is None else dict(approval.arguments))
    return ToolDenied() if approval.message is None else ToolDenied(approval.message)


def _result(answer: Answer) -> Any:
    """The result of a call that somebody else makes; `ToolDenied` where they will not. Raises `AgentError` for none."""
    verdict = (answer.decision or {}).get("verdict")
    if verdict in ("denied", "deny"):
        return _verdict(answer)
    if answer.response is None:
        raise AgentError(
            f"the answer brings no result of {(answer.interrupt.metadata or {}).get('tool')}",
            hint="answer with the result as response, or with a decision whose verdict is 'denied'",
        )
    return answer.response


def _starts(own: Sequence[ModelMessage], results: DeferredToolResults) -> list[ToolStart]:
    """The calls that go on, with the arguments they go on with."""
    calls = {call.tool_call_id: call for one in own if isinstance(one, ModelResponse) for call in one.tool_calls}
    starts = []
    for call_id in (*results.approvals, *results.calls):
        call = calls[call_id]
        verdict = results.approvals.get(call_id)
        changed = verdict.override_args if isinstance(verdict, ToolApproved) else None
        starts.append(ToolStart(call.tool_name, call_id, arguments_of(call) if changed is None else changed))
    return starts
