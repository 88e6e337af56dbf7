"""A cancelled run stops what it does: the call of the model, and its tools."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from agenthost_pydantic_ai import serve
from pydantic_ai import Agent
from pydantic_ai.models.function import FunctionModel
from pydantic_ai_doubles import call, context, model

from agenthost import ToolStart

pytestmark = pytest.mark.framework

PATIENCE = 10.0


class Waits:
    """Something that never ends by itself, and knows how it was ended."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.ended_by = ""

    async def __call__(self) -> None:
        try:
            self.began.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.ended_by = "cancel"
            raise
        finally:
            self.ended_by = self.ended_by or "close"


def waiting_model(waits: Waits, *words: str) -> FunctionModel:
    async def stream(_messages: Any, _info: Any) -> AsyncIterator[str]:
        for word in words:
            yield word
        await waits()
        yield "never"

    return FunctionModel(stream_function=stream)


async def cancelled(agent: Agent[Any, Any], waits: Waits) -> list[Any]:
    """Run until it waits, cancel, and return what it had said; no task may be left."""
    served = serve(agent)
    said: list[Any] = []

    async def run() -> None:
        events = served.run(context(served))
        while True:
            said.append(await anext(events))

    before = asyncio.all_tasks()
    async with asyncio.timeout(PATIENCE):
        task = asyncio.create_task(run())
        await waits.began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert asyncio.all_tasks() == before
    return said


@pytest.mark.parametrize("words", [(), ("Hel", "lo")], ids=["before its first word", "while it speaks"])
def test_the_call_of_the_model_is_cancelled(words: tuple[str, ...]) -> None:
    async def main() -> None:
        waits = Waits()
        assert await cancelled(Agent(waiting_model(waits, *words)), waits) == list(words)
        assert waits.ended_by == "cancel"

    asyncio.run(main())


def test_a_tool_that_runs_is_cancelled() -> None:
    async def main() -> None:
        waits = Waits()
        agent = Agent(model(lambda messages: [call("wait", "c")]))

        @agent.tool_plain
        async def wait() -> str:
            await waits()
            return "never"

        said = await cancelled(agent, waits)
        assert said[-1] == ToolStart("wait", "c", {})
        assert waits.ended_by == "cancel"

    asyncio.run(main())


def test_a_run_that_is_left_between_two_words_is_closed() -> None:
    async def main() -> None:
        closed: list[str] = []

        async def stream(_messages: Any, _info: Any) -> AsyncIterator[str]:
            try:
                for _ in range(1000):
                    yield "tick "
            finally:
                closed.append("closed")

        served = serve(Agent(FunctionModel(stream_function=stream)))
        before = asyncio.all_tasks()
        events = served.run(context(served))
        assert await anext(events) == "tick "
        await events.aclose()
        assert closed == ["closed"]
        assert asyncio.all_tasks() == before

    asyncio.run(main())
