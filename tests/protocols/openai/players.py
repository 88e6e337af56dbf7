"""Agents that the tests of OpenAI's API talk to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, ClassVar

from agenthost import (
    Interrupt,
    ModelChunk,
    Result,
    RunContext,
    ToolComplete,
    ToolStart,
    Usage,
    approval_of,
    ask_approval,
)


async def approves(ctx: RunContext) -> AsyncIterator[Any]:
    """Asks whether its tool may run, and says what came of that."""
    if ctx.answer is None:
        yield "I will ask. "
        yield ToolStart("delete", "call-1", {"path": "/x"})
        yield ask_approval("delete", "call-1", {"path": "/x"})
        return
    said = approval_of(ctx.answer)
    if said.approved:
        yield ToolComplete("delete", "call-1", result="gone")
    else:
        yield ToolComplete("delete", "call-1", error=said.message)
    yield f"approved: {said.approved}"


async def fills(ctx: RunContext) -> AsyncIterator[Any]:
    """Asks for a form, and says what it holds."""
    if ctx.answer is None:
        yield Interrupt("how many?", fields={"type": "object", "properties": {"count": {"type": "integer"}}})
    else:
        yield f"count {ctx.answer.response['count']}"


async def listens(ctx: RunContext) -> AsyncIterator[Any]:
    """Asks a question that any text answers, and says the answer."""
    if ctx.answer is None:
        yield Interrupt("and?")
    else:
        yield repr(ctx.answer.response)


async def shows(ctx: RunContext) -> Result:
    """Answers all that it was given, as JSON."""
    messages = [
        {
            "role": message.role,
            "content": [part.to_json() for part in message.content],
            "tool_calls": list(message.tool_calls),
            "tool_call_id": message.tool_call_id,
        }
        for message in ctx.messages
    ]
    return Result("shown", output={"messages": messages, "metadata": ctx.metadata, "input": ctx.input})


async def late(ctx: RunContext) -> Result:
    """Says nothing until all is said."""
    return Result(f"at last: {ctx.prompt}")


async def ponders(ctx: RunContext) -> AsyncIterator[Any]:
    """Thinks aloud between what it says, with line ends that are none, and counts."""
    yield ModelChunk("", reasoning="first ")
    yield ModelChunk("a\u2028b", reasoning="then")
    yield ModelChunk(' "c"\n')
    yield Usage("m", input_tokens=3, output_tokens=2, cached_tokens=1, reasoning_tokens=1)
    yield Usage("m", input_tokens=1)


class Orders:
    """Takes no prompt."""

    needs_input = True
    input_schema: ClassVar[dict[str, Any]] = {"type": "object", "required": ["item"]}

    async def run(self, ctx: RunContext) -> AsyncIterator[Any]:
        """Says what was ordered."""
        yield f"one {ctx.input['item']}"
