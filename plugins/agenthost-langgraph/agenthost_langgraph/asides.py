"""What a graph said that the host's thread has no place for, kept in `ctx.state` until the next run reads the thread.

The host keeps a run's tool calls and its last message. A graph may say more than one message without a call between
them; and a run that waits for more answers ends in a message that is no part of the conversation.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from agenthost import Message, RunContext

PLACE = "langgraph_said"
"""The key in `ctx.state`: what each run said before its last message, by run; None for one that is to be left out."""

MAX_KEPT = 256 << 10
"""Characters of it, as JSON; the oldest runs make room."""


def leave_out(ctx: RunContext) -> None:
    """Note that what this run says is not part of the conversation."""
    _keep(ctx, None)


def keep(ctx: RunContext, messages: Sequence[Any]) -> None:
    """Keep what a run said before its last message, since it last called a tool; `messages` are the graph's."""
    said: list[AIMessage] = []
    for message in reversed(messages):
        if isinstance(message, ToolMessage) or (isinstance(message, HumanMessage) and not message.name):
            break
        if isinstance(message, AIMessage):
            if message.tool_calls:
                break
            said.append(message)
    before = [[str(one.text), one.name] for one in reversed(said[1:]) if one.text]
    if before:
        _keep(ctx, before)


def _keep(ctx: RunContext, said: Any) -> None:
    kept = ctx.state.setdefault(PLACE, {})
    kept[ctx.run_id] = said
    room = MAX_KEPT
    for run_id in reversed(list(kept)):
        room -= len(json.dumps(kept[run_id])) + len(run_id)
        if room < 0:
            del kept[run_id]


def with_asides(ctx: RunContext) -> list[Message]:
    """The thread so far, with what was kept of its runs in its places."""
    kept = ctx.state.get(PLACE)
    if not kept:
        return list(ctx.history)
    last = {message.run_id: place for place, message in enumerate(ctx.history) if message.role == "assistant"}
    messages: list[Message] = []
    for place, message in enumerate(ctx.history):
        said = kept.get(message.run_id, ())
        if said is None and message.role == "assistant":
            continue
        if said and last.get(message.run_id) == place:
            messages += [Message.of("assistant", text, name=name, run_id=message.run_id) for text, name in said]
        messages.append(message)
    return messages
