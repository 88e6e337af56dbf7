"""The reference agent: two tools, one of which a person has to approve, and a model that answers offline."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

from locus.agent import Agent
from locus.control import Action, ControlPolicy, InMemoryApprovals, gate_tool
from locus.core.events import ModelChunkEvent
from locus.core.messages import Message, Role, ToolCall
from locus.models.base import ModelResponse
from locus.tools.decorator import tool

TICKS = 3000
"""Of the answer to "slow", one every 20 ms: a minute."""


def log(line: str) -> None:
    """Append a line to the file that `REFERENCE_LOG` names."""
    if path := os.environ.get("REFERENCE_LOG"):
        with Path(path).open("a") as file:
            file.write(f"{line}\n")


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool
def send_mail(to: str, text: str) -> str:
    """Send a mail."""
    log(f"mail {to}")
    return "sent"


approved_mail = gate_tool(
    send_mail,
    policy=ControlPolicy(require_verification_score=0.0, require_human_for=frozenset({"outside"})),
    action=lambda name, arguments: Action(name=name, asset=arguments["to"], environment="outside"),
    approval=InMemoryApprovals(),
    on_refusal="interrupt",
)


def words_of(messages: Sequence[Message]) -> list[str] | ToolCall:
    """The answer in pieces, or the tool call that comes before it."""
    asked = max(place for place, message in enumerate(messages) if message.role is Role.USER)
    prompt = messages[asked].content or ""
    outputs = [message.content for message in messages[asked:] if message.role is Role.TOOL]
    if prompt == "fail":
        raise RuntimeError("out of order at 10.0.0.1")
    if found := re.fullmatch(r"my name is (\S+)", prompt):
        return ["Hello ", found[1], "."]
    if found := re.fullmatch(r"add (\d+) and (\d+)", prompt):
        if not outputs:
            return ToolCall(id=f"add-{asked}", name="add", arguments={"a": int(found[1]), "b": int(found[2])})
        return [f"{found[1]} + ", f"{found[2]} = ", f"{outputs[-1]}."]
    if prompt == "who am I":
        said = " ".join(message.content or "" for message in messages if message.role is Role.USER)
        names = re.findall(r"my name is (\S+)", said)
        return ["You ", "are ", f"{names[-1]}."] if names else ["I ", "do ", "not know."]
    if found := re.fullmatch(r"mail (\S+) about (\S+)", prompt):
        if not outputs:
            return ToolCall(id=f"mail-{asked}", name="send_mail", arguments={"to": found[1], "text": found[2]})
        return ["Mail ", f"to {found[1]} ", "sent." if outputs[-1] == "sent" else "not sent."]
    if found := re.fullmatch(r"count (\d+)", prompt):
        return [f"{number} " for number in range(1, int(found[1]) + 1)]
    return ["tick "] * TICKS if prompt == "slow" else ["You said: ", prompt]


class OfflineModel:
    """Answers by the conversation it is given; nothing leaves the process."""

    async def complete(self, messages: list[Message], tools: Any = None, **options: Any) -> ModelResponse:
        """The answer, whole."""
        words = words_of(messages)
        calls = [words] if isinstance(words, ToolCall) else []
        text = None if calls else "".join(words)
        return ModelResponse(message=Message.assistant(text, calls), usage=usage_of(messages, words))

    async def stream(
        self, messages: list[Message], tools: Any = None, **options: Any
    ) -> AsyncIterator[ModelChunkEvent]:
        """The answer, in pieces."""
        words = words_of(messages)
        slow = messages[-1].content == "slow"
        try:
            for chunk in chunks_of(words):
                yield chunk
                if slow:
                    await asyncio.sleep(0.02)
        except (asyncio.CancelledError, GeneratorExit):
            log("cancelled")
            raise
        yield ModelChunkEvent(done=True, usage=usage_of(messages, words), stop_reason="stop", model="offline")


def chunks_of(words: list[str] | ToolCall) -> Iterator[ModelChunkEvent]:
    """What is said, as the model streams it."""
    if isinstance(words, ToolCall):
        yield ModelChunkEvent(tool_calls=[words])
    else:
        for word in words:
            yield ModelChunkEvent(content=word)


def usage_of(messages: Sequence[Message], words: list[str] | ToolCall) -> dict[str, int]:
    """Tokens, counted in words."""
    read = sum(len((message.content or "").split()) for message in messages)
    return {"prompt_tokens": read, "completion_tokens": 1 if isinstance(words, ToolCall) else len(words)}


agent = Agent(
    model=OfflineModel(), tools=[add, approved_mail], system_prompt="You are a helpful assistant.", name="reference"
)
