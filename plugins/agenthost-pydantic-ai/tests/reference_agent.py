"""The reference agent: two tools, one of which asks first, and a model that answers offline by what it is given."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelRequest, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

TICKS = 3000
"""Of the answer to "slow", one every 20 ms: a minute."""


def log(line: str) -> None:
    """Append a line to the file that `REFERENCE_LOG` names."""
    if path := os.environ.get("REFERENCE_LOG"):
        with Path(path).open("a") as file:
            file.write(f"{line}\n")


def call(tool: str, call_id: str, **arguments: object) -> dict[int, DeltaToolCall]:
    """A tool call, as a model streams it."""
    return {0: DeltaToolCall(tool, json.dumps(arguments), tool_call_id=call_id)}


def said(messages: Sequence[ModelMessage]) -> tuple[list[str], list[ToolReturnPart]]:
    """What the user has said, and what the tools have returned since the last time."""
    prompts: list[str] = []
    returns: list[ToolReturnPart] = []
    for message in messages:
        for part in message.parts if isinstance(message, ModelRequest) else ():
            if isinstance(part, UserPromptPart):
                prompts.append(str(part.content))
                returns = []
            elif isinstance(part, ToolReturnPart):
                returns.append(part)
    return prompts, returns


def words_of(messages: Sequence[ModelMessage]) -> list[str | dict[int, DeltaToolCall]]:
    """The answer in pieces, or the tool call that comes before it."""
    prompts, returns = said(messages)
    prompt, call_id = prompts[-1], f"call-{len(prompts)}"
    if prompt == "fail":
        raise RuntimeError("out of order at 10.0.0.1")
    if found := re.fullmatch(r"my name is (\S+)", prompt):
        return ["Hello ", found[1], "."]
    if found := re.fullmatch(r"add (\d+) and (\d+)", prompt):
        if not returns:
            return [call("add", call_id, a=int(found[1]), b=int(found[2]))]
        return [f"{found[1]} + ", f"{found[2]} = ", f"{returns[-1].content}."]
    if prompt == "who am I":
        names = [name for one in prompts for name in re.findall(r"my name is (\S+)", one)]
        return ["You ", "are ", f"{names[-1]}."] if names else ["I ", "do ", "not know."]
    if found := re.fullmatch(r"mail (\S+) about (.+)", prompt):
        if not returns:
            return [call("send_mail", call_id, to=found[1], text=found[2])]
        return ["Mail ", f"to {found[1]} ", "sent." if returns[-1].content == "sent" else "not sent."]
    if found := re.fullmatch(r"count (\d+)", prompt):
        return [f"{number} " for number in range(1, int(found[1]) + 1)]
    return ["tick "] * TICKS if prompt == "slow" else ["You said: ", prompt]


async def answer(messages: list[ModelMessage], _info: AgentInfo) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
    """Stream the answer, as a model does."""
    words = words_of(messages)
    try:
        for word in words:
            if len(words) == TICKS:
                await asyncio.sleep(0.02)
            yield word
    except (asyncio.CancelledError, GeneratorExit):  # while it waits, or while somebody reads what it said
        log("cancelled")
        raise


agent = Agent(FunctionModel(stream_function=answer, model_name="reference"))


@agent.tool_plain
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@agent.tool_plain(requires_approval=True)
def send_mail(to: str, text: str) -> str:
    """Send a mail."""
    log(f"mail {to}")
    return "sent"
