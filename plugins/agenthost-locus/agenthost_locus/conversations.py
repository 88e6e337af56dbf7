"""A thread that Locus keeps, as the host shows it; and one that the host keeps, as Locus goes on with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from locus.core.messages import Message as LocusMessage
from locus.core.messages import Role, ToolCall
from locus.core.state import AgentState

from agenthost import Message, Part
from agenthost_locus.asking import kept_text


def conversation(state: AgentState) -> Mapping[str, Any]:
    """Messages, and what else Locus's own server shows; `paused` says that a call of its last turn has no answer."""
    shown = state.model_dump(mode="json", include={"iteration", "tool_executions", "metadata"})
    return {**shown, "messages": [_message(message) for message in state.messages], "paused": _is_paused(state)}


def state_of(history: Sequence[Message]) -> AgentState:
    """The host's messages as the state of a turn that is over. Locus puts the agent's instructions in the first one."""
    return AgentState(messages=(LocusMessage.system(""), *(_locus_message(message) for message in history)))


def _locus_message(message: Message) -> LocusMessage:
    calls = [ToolCall(id=call["id"], name=call["name"], arguments=call["arguments"]) for call in message.tool_calls]
    return LocusMessage(
        role=Role(message.role),
        content=kept_text(message.content) if message.content or not calls else None,
        tool_calls=calls,
        tool_call_id=message.tool_call_id,
        name=message.name,
    )


def _message(message: LocusMessage) -> Message:
    return Message(
        message.role.value,
        (Part(text=message.content),) if message.content is not None else (),
        tool_calls=[call.model_dump(mode="json") for call in message.tool_calls],
        tool_call_id=message.tool_call_id,
        name=message.name,
        metadata=message.metadata,
    )


def _is_paused(state: AgentState) -> bool:
    answered = {message.tool_call_id for message in state.messages}
    for message in reversed(state.messages):
        if message.tool_calls:
            return any(call.id not in answered for call in message.tool_calls)
    return False
