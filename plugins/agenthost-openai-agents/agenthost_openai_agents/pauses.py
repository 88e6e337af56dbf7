"""Tool calls that wait for a person: asked as interrupts, answered into the SDK's `RunState`.

Each interrupt carries the whole state of the run, packed, so that it can be taken up by another host; and the SDK goes
on only when all questions of a pause are answered. Until then the answers wait in `ctx.state`: each question then is
answered once, and no tool runs twice.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agents import Agent, RunResultStreaming, RunState

from agenthost import AgentError, Answer, Interrupt, RunContext, approval_of, ask_approval
from agenthost_openai_agents.conversation import Item, unanswered
from agenthost_openai_agents.telling import OpenCall
from agenthost_openai_agents.tool_calls import arguments_of, call_id_of, tool_of

DENIED = "The user denied this tool call."
"""What the model reads of a denial without a message."""

NOT_KNOWN = "This call waited for a person's approval. Whether it was approved and has run is not known."
"""What the model reads of a call that was asked about, until a run ends well that knows more."""

OpenCalls = Mapping[str, OpenCall]

Verdict = dict[str, Any]
"""`approved` (bool) and `message` (str or None), as `ctx.state` keeps it."""


@dataclass(frozen=True, slots=True)
class Pause:
    """What an interrupt's `state` holds: which run paused, begun by which agent, the calls asked about, its state.

    `open` are all calls that had no output yet, by id, as `OpenCall.to_json` has them: agents that run as tools may ask
    about calls of their own, so neither these nor `asked` hold all of the other.
    """

    run: str
    agent: str
    asked: Sequence[str]
    open: Mapping[str, Mapping[str, Any]]
    state: str

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"run": self.run, "agent": self.agent, "asked": self.asked, "open": self.open, "state": self.state}


def questions(ctx: RunContext, agent: Agent[Any], result: RunResultStreaming, calls: OpenCalls) -> list[Interrupt]:
    """One interrupt for each call that waits, with what is needed to go on; `agent` is the one that began the run."""
    pause = Pause(
        run=ctx.run_id,
        agent=agent.name,
        asked=[call_id_of(item.raw_item) for item in result.interruptions],
        open={call_id: call.to_json() for call_id, call in calls.items()},
        state=_packed(result.to_state().to_json(context_serializer=lambda _context: {})),
    ).to_json()
    return [
        ask_approval(
            item.name or tool_of(item.raw_item),
            call_id_of(item.raw_item),
            arguments_of(item.raw_item),
            state=pause,
        )
        for item in result.interruptions
    ]


def asked_calls(items: Sequence[Any]) -> Iterator[Item]:
    """Every call among the items of a pause that has no output yet, with one; of whatever kind, as calls of functions.

    No other kind of output can say that it is not known.
    """
    for call in unanswered(items):
        call_id, arguments = call_id_of(call), json.dumps(arguments_of(call), ensure_ascii=False)
        yield {"type": "function_call", "call_id": call_id, "name": tool_of(call), "arguments": arguments}
        yield {"type": "function_call_output", "call_id": call_id, "output": NOT_KNOWN}


def answered(ctx: RunContext) -> tuple[Pause, dict[str, Verdict]]:
    """The pause this run answers, and all verdicts on it so far, this run's and those in `ctx.state`."""
    pause = Pause(**ctx.answers[0].interrupt.state)
    before = ctx.state.get("answers") or {}
    given = dict(before["given"]) if before.get("run") == pause.run else {}
    given.update({answer.interrupt.interrupt_id or "": _verdict(answer) for answer in ctx.answers})
    return pause, given


def wait_for_the_rest(ctx: RunContext, pause: Pause, given: Mapping[str, Verdict]) -> int:
    """How many questions are still open; where some are, the answers there are wait for them in `ctx.state`."""
    missing = len(set(pause.asked) - given.keys())
    if missing:
        ctx.state["answers"] = {"run": pause.run, "given": dict(given)}
        ctx.state["run"] = ctx.run_id
    else:
        ctx.state.pop("answers", None)
    return missing


async def taken_up(pause: Pause, given: Mapping[str, Verdict], agent: Agent[Any], context: Any) -> RunState[Any]:
    """The SDK's state of a paused run with the verdicts in it; `agent` is the one that had begun it.

    Raises `AgentError` where the agent has changed so that the state is none of its own any more.
    """
    try:
        state: RunState[Any] = await RunState.from_json(agent, _unpacked(pause.state), context_override=context)
    except Exception as raised:
        raise AgentError(
            f"the paused run cannot be taken up: {type(raised).__name__}: {raised}",
            hint="the agents, their names and tools must be those that it paused with; begin a new run on the thread",
        ) from raised
    for item in state.get_interruptions():
        verdict = given[call_id_of(item.raw_item)]
        if verdict["approved"]:
            state.approve(item)
        else:
            state.reject(item, rejection_message=verdict["message"] or DENIED)
    return state


def _verdict(answer: Answer) -> Verdict:
    approval = approval_of(answer)
    asked = (answer.interrupt.metadata or {}).get("arguments")
    if approval.approved and approval.arguments is not None and dict(approval.arguments) != asked:
        raise AgentError(
            "decision.arguments: the OpenAI Agents SDK runs a call as the model made it",
            hint="deny it, and say in its message what should be called instead",
        )
    return {"approved": approval.approved, "message": approval.message}


def _packed(state: dict[str, Any]) -> str:
    """Pack: a state says most things three or four times over, and an interrupt holds at most 1 MiB."""
    data = json.dumps(_without_contexts(state), ensure_ascii=False, separators=(",", ":")).encode()
    return base64.b64encode(zlib.compress(data)).decode()


def _unpacked(state: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(state)))
    return found


def _without_contexts(value: Any) -> Any:
    """The state without the `context=` of its runs: that is made anew, and may hold what is no JSON, or secret."""
    if isinstance(value, list):
        return [_without_contexts(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {name: _without_contexts(item) for name, item in value.items() if name != "context"}
    if "context" in value:
        kept["context"] = None if "context_meta" in value else _without_contexts(value["context"])
    return kept
