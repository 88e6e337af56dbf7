"""MCP servers of an agent are connected once while it is served; their tools run and are asked about like others."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from agenthost_openai_agents import serve
from agents.mcp import MCPServer, MCPServerStdio
from openai_doubles import FOLDER, PATIENCE, Thread, call, message_of, outputs_of, scripted

from agenthost.testing import serving

pytestmark = pytest.mark.framework

CLOCK = """
try:
    from mcp.server import MCPServer as Server
except ImportError:  # the releases before 2.0
    from mcp.server.fastmcp import FastMCP as Server

server = Server("clock")


@server.tool()
def read(zone: str) -> str:
    return f"noon in {zone}"


@server.tool()
def wind(zone: str) -> str:
    return f"wound for {zone}"


server.run()
"""

APP = f"""
import sys

sys.path.append({str(FOLDER)!r})

from agents.mcp import MCPServerStdio
from openai_doubles import call, outputs_of, reference, scripted

clock = MCPServerStdio(
    {{"command": sys.executable, "args": ["clock.py"]}},
    client_session_timeout_seconds=30,
    require_approval={{"wind": "always", "read": "never"}},
)


def answer(items):
    outputs = outputs_of(items)
    if not outputs:
        return [call("read", "r", zone="UTC"), call("wind", "w", zone="UTC")]
    return [f"{{len(outputs)}} done"]


agent = scripted(answer, mcp_servers=[clock])
"""


def test_their_tools_run_and_wait_like_others(tmp_path: Path) -> None:
    (tmp_path / "clock.py").write_text(CLOCK)
    (tmp_path / "app.py").write_text(APP)
    with serving("app.py:agent", folder=tmp_path) as host:
        body = {"prompt": "go", "thread_id": "t"}
        paused = httpx.post(f"{host.url}/agents/app/invoke", json=body, timeout=30).json()
        assert paused["interrupt"]["metadata"]["tool"] == "wind", paused
        assert paused["tool_calls"] == 1
        answer = {"thread_id": "t", "response": "approve"}
        reply = httpx.post(f"{host.url}/agents/app/resume", json=answer, timeout=30)
        data = [line.removeprefix("data: ") for line in reply.text.splitlines() if line.startswith("data: {")]
        events = [json.loads(one) for one in data]
        assert [event["type"] for event in events[:2]] == ["x-approval", "tool_complete"]
        assert "wound for UTC" in json.dumps(events[1]["result"])
        assert events[-1]["message"] == "2 done"
        assert host.stop() == 0


class Scoped(MCPServer):
    """A server without tools, whose connection must be closed by the task that made it, as anyio's scopes must."""

    name = "scoped"

    def __init__(self) -> None:
        super().__init__()
        self.log: list[str] = []
        self.connecting = asyncio.Event()
        self.may_connect = asyncio.Event()
        self.may_connect.set()
        self.closing = asyncio.Event()
        self.may_close = asyncio.Event()
        self.may_close.set()
        self.refuses = False
        self._task: asyncio.Task[Any] | None = None

    async def connect(self) -> None:
        self.connecting.set()
        await self.may_connect.wait()
        if self.refuses:
            raise ConnectionError("nobody there")
        self._task = asyncio.current_task()
        self.log.append("connected")

    async def cleanup(self) -> None:
        if self._task is not None:
            assert self._task is asyncio.current_task()
            self.log.append("closing")
            self.closing.set()
            await self.may_close.wait()
            self._task = None
            self.log.append("closed")

    async def list_tools(self, *_args: Any, **_more: Any) -> list[Any]:
        return []

    async def call_tool(self, *_args: Any, **_more: Any) -> Any:
        raise LookupError("no tools")

    async def list_prompts(self) -> Any:
        raise LookupError("no prompts")

    async def get_prompt(self, *_args: Any) -> Any:
        raise LookupError("no prompts")


class Served:
    """An agent in its lifespan, which a task of its own enters and leaves, as the host's do."""

    def __init__(self, agent: Any) -> None:
        self.agent: Any = serve(agent)
        self._leave = asyncio.Event()
        self._entered = asyncio.Event()
        self.task = asyncio.create_task(self._live())

    async def entered(self) -> None:
        """Wait until it has entered it, or could not: what was raised is raised here."""
        entered = asyncio.create_task(self._entered.wait())
        await asyncio.wait({entered, self.task}, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        entered.cancel()
        if self.task.done():
            await self.task
        assert self._entered.is_set()

    async def left(self) -> None:
        """Leave it."""
        self._leave.set()
        async with asyncio.timeout(PATIENCE):
            await self.task

    async def _live(self) -> None:
        async with self.agent.lifespan():
            self._entered.set()
            await self._leave.wait()


def reads_the_clock(items: list[Any]) -> list[Any]:
    outputs = outputs_of(items)
    return [str(outputs["r"])] if outputs else [call("read", "r", zone="UTC")]


def clock_of(folder: Path) -> MCPServerStdio:
    (folder / "clock.py").write_text(CLOCK)
    where = {"command": sys.executable, "args": [str(folder / "clock.py")]}
    return MCPServerStdio(where, client_session_timeout_seconds=30)  # type: ignore[arg-type]  # a dict is one


def test_a_server_of_two_served_agents_is_there_until_the_last_has_left(tmp_path: Path) -> None:
    """So it is at a reload too, which opens the new agent before the old one is drained."""

    async def main() -> None:
        agent = scripted(reads_the_clock, mcp_servers=[clock_of(tmp_path)])
        old, new = Served(agent), Served(agent)
        await old.entered()
        await new.entered()
        await old.left()
        assert "noon in UTC" in message_of(await Thread(new.agent).run("?"))
        await new.left()
        again = Served(agent)
        await again.entered()
        assert "noon in UTC" in message_of(await Thread(again.agent).run("?"))
        await again.left()

    asyncio.run(main())


def test_a_server_of_an_agent_that_runs_as_a_tool_is_connected(tmp_path: Path) -> None:
    def boss(items: list[Any]) -> list[Any]:
        outputs = outputs_of(items)
        return [f"It is {outputs['o']}"] if outputs else [call("clerk", "o", input="?")]

    async def main() -> None:
        clerk = scripted(reads_the_clock, name="Clerk", mcp_servers=[clock_of(tmp_path)])
        served = Served(scripted(boss, tools=[clerk.as_tool("clerk", "Knows the time.")]))
        await served.entered()
        assert "noon in UTC" in message_of(await Thread(served.agent).run("?"))
        await served.left()

    asyncio.run(main())


def test_a_server_is_connected_once_and_closed_once_by_the_task_that_connected_it() -> None:
    async def main() -> None:
        server = Scoped()
        first, second = [Served(scripted(None, mcp_servers=[server])) for _ in range(2)]
        await first.entered()
        await second.entered()
        await first.left()
        assert server.log == ["connected"]
        await second.left()
        assert server.log == ["connected", "closing", "closed"]

    asyncio.run(main())


def test_who_comes_while_a_server_is_closed_waits_and_connects_it_again() -> None:
    async def main() -> None:
        server = Scoped()
        server.may_close.clear()
        first = Served(scripted(None, mcp_servers=[server]))
        await first.entered()
        leaving = asyncio.create_task(first.left())
        await server.closing.wait()
        second = Served(scripted(None, mcp_servers=[server]))
        await asyncio.sleep(0)
        server.may_close.set()
        await second.entered()
        assert server.log == ["connected", "closing", "closed", "connected"]
        await leaving
        await second.left()

    asyncio.run(main())


def test_a_server_that_cannot_be_connected_fails_all_who_wait_and_is_tried_again_by_the_next() -> None:
    async def main() -> None:
        server = Scoped()
        server.may_connect.clear()
        server.refuses = True
        waiting = [Served(scripted(None, mcp_servers=[server])) for _ in range(2)]
        await server.connecting.wait()
        server.may_connect.set()
        for one in waiting:
            with pytest.raises(ConnectionError, match="nobody there"):
                await one.entered()
        server.refuses = False
        third = Served(scripted(None, mcp_servers=[server]))
        await third.entered()
        await third.left()
        assert server.log == ["connected", "closing", "closed"]

    asyncio.run(main())


def test_connecting_is_given_up_when_the_last_who_waits_is_cancelled_and_not_before() -> None:
    async def main() -> None:
        server = Scoped()
        server.may_connect.clear()
        first, second = [Served(scripted(None, mcp_servers=[server])) for _ in range(2)]
        await server.connecting.wait()
        await cancelled(first.task)
        server.may_connect.set()
        await second.entered()
        await second.left()
        server.may_connect.clear()
        server.connecting.clear()
        third = Served(scripted(None, mcp_servers=[server]))
        await server.connecting.wait()
        await cancelled(third.task)
        assert {task for task in asyncio.all_tasks() if task.get_name() == "MCP server scoped"} == set()
        assert server.log == ["connected", "closing", "closed"]

    asyncio.run(main())


async def cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
