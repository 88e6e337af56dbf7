"""A thread as the framework's messages: each run's own where they are kept, else made of what the host keeps.

The framework's messages hold more than the host's (the model's reasoning and its signatures, a provider's details, the
arguments as the model wrote them), so `ctx.state` keeps those of the newest runs as they were, up to `MAX_KEPT`. Older
runs, and what another dialect brought, are made of the host's thread, which is never shortened.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ModelResponsePart,
    SystemPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_core import PydanticSerializationError

from agenthost import Message, RunContext
from agenthost_pydantic_ai.content import contents, taken_by_model

MAX_KEPT = 768 << 10
"""Bytes of messages in `ctx.state`, whose whole may be 1 MiB; the rest is for what the agent's own code puts there."""

PLACE = "pydantic_ai"
"""The key in `ctx.state`."""

ASKED = (
    "There is no result of this call. It waited for a person's answer: without one it has not run; "
    "with one it was stopped before its end, and may have run."
)
"""What the model is told of a call of a run that paused, since a run that answers and fails leaves no trace here."""

STOPPED = "There is no result of this call: it was stopped, and may have run."
"""What the model is told of any other call without a result."""


def dumped(messages: Sequence[ModelMessage]) -> str:
    """The messages as JSON text: a text passes any JSON store as it is, whatever numbers tools have returned in it."""
    return ModelMessagesTypeAdapter.dump_json(list(messages)).decode()


def loaded(text: str) -> list[ModelMessage]:
    """Read what `dumped` wrote."""
    return ModelMessagesTypeAdapter.validate_json(text)


def keep(ctx: RunContext, messages: Sequence[ModelMessage]) -> None:
    """Put a run's messages into `ctx.state`; the oldest runs there make room for it."""
    place = ctx.state.setdefault(PLACE, {})
    kept = [one for one in place.get("runs", []) if one[0] != ctx.run_id]
    try:
        kept.append([ctx.run_id, dumped(messages)])
    except PydanticSerializationError as raised:
        ctx.log.warning("the run's messages are not kept as they are: %s", type(raised).__name__)
    room = MAX_KEPT
    newest: list[list[str]] = []
    place["runs"] = newest
    for run_id, text in reversed(kept):
        room -= len(text.encode()) + text.count('"') + text.count("\\")  # as the store has it, with these escaped
        room -= len(run_id) + len('["",""],')
        if room < 0:
            break
        newest.insert(0, [run_id, text])


def conversation(ctx: RunContext, history: Iterable[Message], *, urls: bool) -> list[ModelMessage]:
    """What was said before, as the framework takes it: every call answered, and every answer to a call.

    Runs that failed or were cancelled are left out: the framework does not keep such either, and what was stopped must
    not be taken up by the next answer. What they may have done, their calls that were asked about say.
    """
    kept: Mapping[str, str] = dict(ctx.state.get(PLACE, {}).get("runs", []))
    messages: list[tuple[ModelMessage, str]] = []
    for run_id, group in groupby(history, key=lambda message: message.run_id):
        own, said = kept.get(run_id or ""), list(group)
        paused = any(message.status == "paused" for message in said)
        found = loaded(own) if own is not None else _made(said, urls=urls)
        messages += [(message, ASKED if paused else STOPPED) for message in found]
    return _paired(messages)


def _made(said: Sequence[Message], *, urls: bool) -> list[ModelMessage]:
    """The framework's messages for the host's."""
    messages: list[ModelMessage] = []
    for message in said:
        if message.status in {"failed", "cancelled"}:
            continue
        if message.role == "assistant":
            parts: list[ModelResponsePart] = [TextPart(message.text)] if message.text else []
            parts += [ToolCallPart(call["name"], call["arguments"], call["id"]) for call in message.tool_calls]
            if parts:
                messages.append(ModelResponse(parts=parts))
        elif part := _request_part(message, urls=urls):
            messages.append(ModelRequest(parts=[part]))
    return messages


def _request_part(message: Message, *, urls: bool) -> ModelRequestPart | None:
    """What somebody else said, without the parts that this agent does not take; None where nothing is left."""
    if message.role == "tool":
        return ToolReturnPart(message.name or "", message.text, message.tool_call_id or "")
    if message.role == "system":
        return SystemPromptPart(message.text)
    taken = [part for part in message.content if taken_by_model(part, urls=urls)]
    return UserPromptPart(contents(taken, urls=urls)) if taken else None


def _paired(messages: Iterable[tuple[ModelMessage, str]]) -> list[ModelMessage]:
    """The same where every call has one answer and every answer its call: models refuse anything else.

    Each message comes with what a call of its own is answered with where it has no result.
    """
    paired: list[ModelMessage] = []
    waiting: dict[str, ToolReturnPart] = {}
    for message, unknown in messages:
        if isinstance(message, ModelResponse):
            _close(paired, waiting)
            paired.append(message)
            waiting = {
                call.tool_call_id: ToolReturnPart(call.tool_name, unknown, call.tool_call_id)
                for call in message.tool_calls
            }
            continue
        parts = [part for part in message.parts if _fits(part, waiting)]
        if any(isinstance(part, UserPromptPart) for part in parts):
            _close(paired, waiting)
        if parts:
            paired.append(replace(message, parts=parts))
    _close(paired, waiting)
    return paired


def _fits(part: Any, waiting: dict[str, ToolReturnPart]) -> bool:
    """Whether a part of a request may stand there: it answers no call, or one that waits, and then does no more."""
    if not getattr(part, "tool_name", None):  # a retry that names no tool is for the model's text
        return True
    return waiting.pop(part.tool_call_id, None) is not None


def _close(messages: list[ModelMessage], waiting: dict[str, ToolReturnPart]) -> None:
    if waiting:
        messages.append(ModelRequest(parts=list(waiting.values())))
        waiting.clear()
