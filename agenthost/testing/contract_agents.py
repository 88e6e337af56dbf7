"""The agents of the placement contract: each does one thing that a host must see alike, wherever the agent runs.

Named by this file's path, so that a worker needs nothing for them but `agenthost`. What they note goes into the file
that their setting `notes` names: a line each, with the time (`time.monotonic()`, which all processes of a machine
share).
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agenthost.adapters import agent
from agenthost.agents import Health, OwnThread, RunContext
from agenthost.errors import AgentError, AgentPaused, AgentUnavailable
from agenthost.events import (
    Artifact,
    Custom,
    Event,
    Interrupt,
    ModelChunk,
    Result,
    Think,
    ToolComplete,
    ToolProgress,
    ToolStart,
    Usage,
)
from agenthost.threads import Message, ThreadKey


@dataclass
class Notes:
    """Settings of every agent here."""

    notes: str = ""

    def note(self, word: str) -> None:
        """Add a line."""
        with Path(self.notes).open("a") as file:
            file.write(f"{word} {time.monotonic()}\n")


async def everything(ctx: RunContext) -> AsyncIterator[Event | str]:
    """Says one of everything an agent can say, but no question."""
    yield Think("let me see")
    yield ToolStart("search", "call-1", {"q": ctx.prompt})
    yield ToolProgress("call-1", {"done": 1})
    yield ToolComplete("search", "call-1", result={"found": [1, None, 2.5]})
    yield ToolComplete("search", "call-2", error="not found")
    yield "the \u2028"
    yield ModelChunk("end", reasoning="since it is é")
    yield Usage("model-1", input_tokens=3, output_tokens=2, cost_usd=0.5)
    yield Artifact("notes.txt", "text/plain", text="a\0b")
    yield Custom("x-mark", {"at": float("inf")})
    yield Custom("frame", {"a": 1}, type="frame")
    yield Result(output={"seen": ctx.prompt}, reason="complete")


async def count(ctx: RunContext) -> AsyncIterator[str]:
    """Says so many numbers as its prompt says."""
    for number in range(int(ctx.prompt)):
        yield f"{number} "


async def large(ctx: RunContext) -> AsyncIterator[str]:
    """Says one text of so many characters."""
    yield "x" * int(ctx.prompt)


@agent(settings=Notes)
async def unread(ctx: RunContext) -> AsyncIterator[str]:
    """Says 4,000 texts of 1 kB, and notes each."""
    for number in range(4000):
        ctx.settings.note(str(number))
        yield f"{number:04} " * 200


@agent(settings=Notes)
async def steps(ctx: RunContext) -> AsyncIterator[str]:
    """Says a word, waits until the file `go` is beside its notes, says another."""
    yield "first "
    while not Path(ctx.settings.notes).with_name("go").exists():  # noqa: ASYNC110 - the test is another process
        await asyncio.sleep(0.005)
    yield "second"


async def failing(ctx: RunContext) -> AsyncIterator[Any]:
    """Fails in the way that its prompt names, after a word."""
    yield "so far"
    match ctx.prompt:
        case "raise":
            raise RuntimeError("the secret of the failure")
        case "exit":
            sys.exit(3)
        case "recurse":
            ctx.state["deep"] = _deep(0)
        case "own word":
            raise AgentUnavailable("the model is not there")
        case "event":
            yield object()
        case "state":
            ctx.state["object"] = object()
        case "after the result":
            yield Result("done")
            yield "more"
        case "nan":
            yield Custom("x-number", float("nan"))


def _deep(depth: int) -> int:
    return _deep(depth + 1) + 1


async def crash(ctx: RunContext) -> AsyncIterator[str]:
    """Ends its process, after a word, unless its prompt is something else."""
    yield "still here"
    if ctx.prompt == "crash":
        os._exit(7)


@agent(settings=Notes)
async def held(ctx: RunContext) -> AsyncIterator[str]:
    """Says a word and waits until it is cancelled; notes when, and the end of its clean-up."""
    yield "begun"
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        ctx.settings.note("cancelled")
        await asyncio.sleep(0)
        ctx.settings.note("cleaned up")
        raise


async def deaf(ctx: RunContext) -> AsyncIterator[str]:
    """Says a word and does not hear that it is cancelled, for as many seconds as its prompt says."""
    yield "begun"
    until = time.monotonic() + float(ctx.prompt)
    while (left := until - time.monotonic()) > 0:
        try:
            await asyncio.sleep(left)
        except asyncio.CancelledError:
            continue


def blocking(ctx: RunContext) -> str:
    """A plain function: it has a thread of its own."""
    time.sleep(0.01)
    return ctx.prompt.upper()


async def asks(ctx: RunContext) -> AsyncIterator[Any]:
    """Asks two questions, and says how they were answered and what it knows from before."""
    ctx.state["runs"] = ctx.state.get("runs", 0) + 1
    if not ctx.answers:
        yield "let me ask"
        yield Interrupt("which?", options=["a", "b"], interrupt_id="q1", state={"secret": [1]})
        yield Interrupt("when?", metadata={"urgent": True}, interrupt_id="q2")
        ctx.state["asked"] = True
        return
    answers = [[one.interrupt.interrupt_id, one.response, one.interrupt.state] for one in ctx.answers]
    yield Result("answered", output={"answers": answers, "state": ctx.state, "prompt": ctx.prompt, "input": ctx.input})


async def talks_on(ctx: RunContext) -> AsyncIterator[Any]:
    """Goes on after its question."""
    yield Interrupt("which?", interrupt_id="q1")
    yield "never heard"
    ctx.state["reached"] = True


class Structured:
    """Answers what it was given."""

    title = "Structured"
    description = "Mirrors"
    input_schema = {"type": "object", "properties": {"item": {"type": "string"}}}  # noqa: RUF012 - read once
    output_schema = {"type": "object"}  # noqa: RUF012 - read once

    async def run(self, ctx: RunContext) -> Result:
        """Mirror."""
        parts = [part.to_json() for part in ctx.content or ()]
        said = [[message.role, message.text, [part.to_json() for part in message.content]] for message in ctx.messages]
        output = {
            "prompt": ctx.prompt,
            "input": ctx.input,
            "metadata": ctx.metadata,
            "content": parts,
            "messages": said,
            "thread": [ctx.thread.principal, ctx.thread.agent, ctx.thread.thread_id] if ctx.thread else None,
            "principal": [ctx.principal.id, list(ctx.principal.groups), ctx.principal.admin],
            "agent": ctx.agent,
            "run_id": ctx.run_id,
            "remaining": ctx.remaining,
        }
        return Result("mirrored", output=output)


async def calls(ctx: RunContext) -> Result:
    """Calls the agent that its input names, and answers what came of it."""
    try:
        result = await ctx.call(ctx.input["agent"], ctx.prompt, input=ctx.input.get("input"))
    except AgentPaused as paused:
        return Result("paused", output=paused.interrupt.question)
    except AgentError as failed:
        return Result("failed", output=[failed.code, failed.run_id is not None])
    return Result(result.message, output={"status": result.status, "output": result.output, "usage": result.usage})


class Lives:
    """Notes when its lifespan is entered and left, and runs in between; not well when the file `ill` is there."""

    Settings = Notes

    def __init__(self, settings: Notes) -> None:
        self._settings = settings
        self._entered = False

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Enter, leave."""
        self._entered = True
        self._settings.note("entered")
        yield
        self._settings.note("left")

    async def run(self, _ctx: RunContext) -> str:
        """Say whether it was entered."""
        return f"entered: {self._entered}"

    async def health(self) -> Health:
        """As the file says."""
        ill = Path(self._settings.notes).with_name("ill")
        return Health(ok=False, detail=ill.read_text()) if ill.exists() else Health()


class Keeper:
    """Keeps its own threads, one message each, in files."""

    Settings = Notes

    def __init__(self, settings: Notes) -> None:
        self._folder = Path(settings.notes).parent

    async def run(self, ctx: RunContext) -> str:
        """Keep the prompt."""
        if ctx.thread is not None:
            (self._folder / ctx.thread.digest).write_text(ctx.prompt)
        return "kept"

    async def get_thread(self, key: ThreadKey) -> OwnThread | None:
        """What was kept; with more than that, where it says so."""
        kept = self._folder / key.digest
        if not kept.exists():
            return None
        messages = [Message.of("user", kept.read_text(), metadata={"kept": True})]
        return {"messages": messages, "paused": True} if messages[0].text == "more" else messages

    async def delete_thread(self, key: ThreadKey) -> bool:
        """Forget it."""
        kept = self._folder / key.digest
        if not kept.exists():
            return False
        kept.unlink()
        return True
