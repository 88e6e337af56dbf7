"""A run that ends early takes its model call, its tools and its tasks with it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from locus.core.events import ModelChunkEvent
from locus.core.messages import Message
from locus.memory.backends.memory import MemoryCheckpointer
from locus.models.base import ModelResponse
from locus_doubles import Thread, adapt, agent, tool, tool_call

pytestmark = pytest.mark.framework


class Endless:
    """A model that has begun to answer, and says when it was cancelled."""

    def __init__(self) -> None:
        self.calling = asyncio.Event()
        self.cancelled = 0

    async def _wait(self) -> None:
        self.calling.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def complete(self, messages: Any, tools: Any = None, **options: Any) -> ModelResponse:
        await self._wait()
        return ModelResponse(message=Message.assistant("late"))

    async def stream(self, messages: Any, tools: Any = None, **options: Any) -> Any:
        yield ModelChunkEvent(content="so ")
        await self._wait()


def others() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]  # there is one here


@pytest.mark.parametrize("stream_tokens", [True, False])
def test_a_cancelled_run_stops_the_model_call(stream_tokens: bool) -> None:
    async def main() -> None:
        model, locus_agent = Endless(), agent()
        locus_agent._model = model
        served = adapt(locus_agent)
        served.serve_alone(stream_tokens=stream_tokens)
        run = asyncio.create_task(Thread(served).run("x"))
        await asyncio.wait_for(model.calling.wait(), 10)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(run, 10)
        assert model.cancelled == 1
        assert others() == set()

    asyncio.run(main())


def test_a_run_that_is_closed_stops_the_model_call_and_no_other_runs() -> None:
    async def main() -> None:
        model, locus_agent = Endless(), agent()
        locus_agent._model = model
        served = adapt(locus_agent)
        going = asyncio.create_task(Thread(served, "other").run("x"))
        await asyncio.wait_for(model.calling.wait(), 10)
        model.calling.clear()
        events = Thread(served).events("x")
        assert await anext(events) == "so "
        await asyncio.wait_for(model.calling.wait(), 10)
        await events.aclose()
        assert model.cancelled == 1
        assert not going.done()
        going.cancel()
        await asyncio.wait([going], timeout=10)
        assert model.cancelled == 2
        assert others() == set()

    asyncio.run(main())


def test_a_cancelled_run_stops_its_tool() -> None:
    async def main() -> None:
        begun, ended = asyncio.Event(), asyncio.Event()

        @tool
        async def wait() -> str:
            """Wait."""
            begun.set()
            try:
                await asyncio.sleep(60)
            finally:
                ended.set()
            return "late"

        run = asyncio.create_task(Thread(adapt(agent(tool_call("wait"), tools=[wait]))).run("x"))
        await asyncio.wait_for(begun.wait(), 10)
        run.cancel()
        await asyncio.wait([run], timeout=10)
        assert ended.is_set()
        assert others() == set()

    asyncio.run(main())


def test_what_fails_while_a_run_is_left_keeps_nothing_else_from_being_left() -> None:
    async def main() -> None:
        model, locus_agent, checkpointer = Endless(), agent(checkpointer=MemoryCheckpointer()), []

        class Stuck:
            """A run whose generator cannot be closed."""

            config, tools = locus_agent.config, ()

            async def run(self, prompt: str, *, thread_id: Any = None, metadata: Any = None) -> Any:
                try:
                    async for event in locus_agent.run(prompt, thread_id=thread_id, stream_tokens=True):
                        yield event
                finally:
                    raise LookupError

            async def resume(self, response: str, **options: Any) -> Any:
                yield

        async def deleted(thread: str, checkpoint_id: str | None = None) -> bool:
            checkpointer.append(thread)
            return True

        locus_agent._model = model
        locus_agent.config.checkpointer.delete = deleted
        adapt(locus_agent)  # for its hook
        run = asyncio.create_task(Thread(adapt(Stuck()), None).run("x"))
        await asyncio.wait_for(model.calling.wait(), 10)
        run.cancel()
        await asyncio.wait([run], timeout=10)
        assert isinstance(run.exception(), LookupError)
        assert model.cancelled == 1
        assert others() == set()
        assert len(checkpointer) == 1

    asyncio.run(main())
