"""A thread that Locus keeps, as the host shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from locus.core.messages import Message as LocusMessage
from locus.core.state import AgentState

from agenthost import Message, Part


def conversation(state: AgentState) -> Mapping[str, Any]:
    """Messages, and what else Locus's own server shows; `paused` says that a call of its last turn has no answer."""
    shown = state.model_dump(mode="json", include={"iteration", "tool_executions", "metadata"})
    return {**shown, "messages": [_message(message) for message in state.messages], "paused": _is_paused(state)}


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
