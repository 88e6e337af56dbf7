"""A run that is cancelled ends the SDK's run with it: its model call, its tools, its tasks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest
from agenthost_openai_agents import serve
from agents import function_tool
from openai_doubles import FOLDER, PATIENCE, Thread, call, outputs_of, scripted

from agenthost.testing import serving

pytestmark = pytest.mark.framework


async def started(thread: Thread, begun: asyncio.Event) -> asyncio.Task[Any]:
    """A run that has come to what never ends."""
    running = asyncio.create_task(thread.run("go"))
    async with asyncio.timeout(PATIENCE):
        await begun.wait()
    return running


def alone(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run it, and see that no task is left."""

    async def checked() -> None:
        await main()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(checked())


def test_a_cancelled_run_stops_the_model_call() -> None:
    async def main() -> None:
        agent = scripted(None)
        running = await started(Thread(serve(agent)), agent.model.begun)  # type: ignore[union-attr]
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert agent.model.cancelled  # type: ignore[union-attr]

    alone(main)


def test_a_run_that_is_closed_between_two_events_stops_the_model_call() -> None:
    async def main() -> None:
        calls = iter([["One two", call("wait", "c")], None])
        agent = scripted(lambda items: next(calls))  # type: ignore[arg-type, return-value]
        events = serve(agent).run(Thread(None).context("go"))
        assert await anext(events) == "One "
        await events.aclose()  # type: ignore[attr-defined]

    alone(main)


def test_a_cancelled_run_stops_its_tools() -> None:
    ended: list[str] = []

    async def main() -> None:
        begun = asyncio.Event()

        @function_tool
        async def wait() -> str:
            """Wait for ever."""
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("wait")
            return ""

        agent = scripted(lambda items: ["?"] if outputs_of(items) else [call("wait", "c")], tools=[wait])
        running = await started(Thread(serve(agent)), begun)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert ended == ["wait"]

    alone(main)


def test_a_run_that_ends_by_itself_leaves_no_task() -> None:
    async def main() -> None:
        await Thread(serve(scripted(lambda items: ["ok"]))).run("?")
        with pytest.raises(ZeroDivisionError):
            await Thread(serve(scripted(lambda items: [str(1 / 0)]))).run("?")

    alone(main)


def test_over_http_a_client_that_leaves_stops_the_model(tmp_path: Path) -> None:
    log = tmp_path / "log"
    (tmp_path / "app.py").write_text((FOLDER / "reference_agent.py").read_text())
    with serving("app.py:agent", folder=tmp_path, env={"REFERENCE_LOG": str(log)}) as host:
        body = {"prompt": "slow"}
        with httpx.stream("POST", f"{host.url}/agents/app/stream", json=body, timeout=30) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    break
        assert "tick" in line
        assert within_patience(lambda: log.exists() and log.read_text() == "cancelled\n")


def within_patience(there: Callable[[], bool]) -> bool:
    """Whether it comes true."""
    end = time.monotonic() + PATIENCE
    while not there():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
