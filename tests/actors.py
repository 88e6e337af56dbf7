"""Agents that tests serve: each does one thing that a test wants to see."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from typing import Any, ClassVar

from agenthost import (
    Artifact,
    Custom,
    Event,
    Interrupt,
    Message,
    ModelChunk,
    Result,
    RunContext,
    Think,
    ToolComplete,
    ToolProgress,
    ToolStart,
    Usage,
)

CANCELLED: dict[str, float] = {}
"""When `hold` was cancelled, by prompt, in `time.monotonic()` seconds, which all processes of a machine share."""

HOLDING: dict[str, float] = {}
"""When `hold` began, by prompt."""

GATES: dict[str, asyncio.Event] = {}
"""What `gated` waits for, by prompt; to be set on the loop that runs it."""

changed = threading.Condition()
"""Notified after each change of the two."""


async def say(ctx: RunContext) -> AsyncIterator[str]:
    """Says the prompt back in one piece."""
    yield ctx.prompt


async def pieces(ctx: RunContext) -> AsyncIterator[str]:
    """Says each text of the list that is its input, one event each."""
    for piece in ctx.input:
        yield piece


async def hold(ctx: RunContext) -> AsyncIterator[str]:
    """Says one word and waits until it is cancelled; notes when."""
    yield "holding"
    _note(HOLDING, ctx.prompt)
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        _note(CANCELLED, ctx.prompt)
        raise


async def drip(ctx: RunContext) -> AsyncIterator[str]:
    """Says a word every few milliseconds, for ever; notes when it is ended, in a wait or between two words."""
    _note(HOLDING, ctx.prompt)
    try:
        while True:
            yield "drop "
            await asyncio.sleep(0.005)
    finally:
        _note(CANCELLED, ctx.prompt)


async def gated(ctx: RunContext) -> AsyncIterator[str]:
    """Says a word, waits until the test opens its gate, says another."""
    gate = GATES[ctx.prompt] = asyncio.Event()
    yield "begun "
    _note(HOLDING, ctx.prompt)
    await gate.wait()
    yield "ended"


def _note(where: dict[str, float], prompt: str) -> None:
    with changed:
        where[prompt] = time.monotonic()
        changed.notify_all()


def wait_for(where: dict[str, float], prompt: str, within: float = 20.0) -> float:
    """When that was noted; waits for it."""
    with changed:
        assert changed.wait_for(lambda: prompt in where, within), f"{prompt} was not noted"
        return where[prompt]


async def noted(_ctx: RunContext) -> Result:
    """Answers what `hold` and `drip` have noted, for tests in another process."""
    return Result("noted", output={"holding": HOLDING, "cancelled": CANCELLED})


async def everything(ctx: RunContext) -> AsyncIterator[Event]:
    """Says one of everything an agent can say, but no question."""
    yield Think("let me see")
    yield ToolStart("search", "call-1", {"q": ctx.prompt})
    yield ToolProgress("call-1", {"done": 1})
    yield ToolComplete("search", "call-1", result="found")
    yield ToolStart("search", "call-2", {"q": None})
    yield ToolComplete("search", "call-2", error="not found")
    yield ModelChunk("the ")
    yield ModelChunk("end", reasoning="since it is")
    yield Usage("model-1", input_tokens=3, output_tokens=2)
    yield Artifact("notes.txt", "text/plain", text="notes")
    yield Custom("x-mark", {"at": 1})
    yield Result(output={"seen": ctx.prompt}, reason="complete")


async def mirror(ctx: RunContext) -> Result:
    """Answers what it was given."""
    output: dict[str, Any] = {
        "prompt": ctx.prompt,
        "input": ctx.input,
        "metadata": ctx.metadata,
        "messages": [[message.role, message.text] for message in ctx.messages],
        "thread": [ctx.thread.principal, ctx.thread.agent, ctx.thread.thread_id] if ctx.thread else None,
        "principal": ctx.principal.id,
    }
    return Result("mirrored", output=output)


SECRET = "postgres://user:hunter2@db/secret"
"""What must never be seen outside the log."""


async def fail(ctx: RunContext) -> AsyncIterator[str]:
    """Raises, before or after its first event, with a text that nobody must see."""
    if ctx.prompt == "later":
        yield "so far so good"
    raise RuntimeError(SECRET)


async def quit_process(_ctx: RunContext) -> AsyncIterator[str]:
    """Calls it a day."""
    raise SystemExit(3)
    yield ""


async def gives_up(ctx: RunContext) -> Result:
    """Ends for the reason that its prompt names."""
    return Result("as far as I got", reason=ctx.prompt)


async def asks(ctx: RunContext) -> AsyncIterator[Any]:
    """Asks one question, or as many as its input says, and says what it was answered."""
    if ctx.answers:
        yield ctx.prompt + ": " + ", ".join(f"{one.interrupt.interrupt_id} {one.response}" for one in ctx.answers)
        return
    yield "let me ask"
    for number in range(ctx.input or 1):
        yield Interrupt("really?", options=["yes", "no"], interrupt_id=f"q{number}", state={"key": SECRET})


class Structured:
    """Takes an order, by a schema."""

    title = "Orders"
    description = "Takes an order"
    input_schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {"item": {"type": "string", "maxLength": 20}, "count": {"type": "integer", "minimum": 1}},
        "required": ["item"],
        "additionalProperties": False,
    }

    async def run(self, ctx: RunContext) -> AsyncIterator[Event]:
        """Answers the order."""
        yield Result("ordered", output=ctx.input)


class Keeper:
    """Keeps its own threads, one message each."""

    def __init__(self) -> None:
        self._threads: dict[Any, list[Message]] = {}

    async def run(self, ctx: RunContext) -> AsyncIterator[str]:
        """Keeps the prompt."""
        if ctx.thread is not None:
            self._threads[ctx.thread] = [Message.of("user", ctx.prompt)]
        yield "kept"

    async def get_thread(self, key: Any) -> list[Message] | None:
        """What was kept."""
        return self._threads.get(key)

    async def delete_thread(self, key: Any) -> bool:
        """Forget it."""
        return self._threads.pop(key, None) is not None
