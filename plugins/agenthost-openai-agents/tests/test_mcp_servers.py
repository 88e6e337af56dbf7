"""MCP servers of an agent are connected while it is served, and their tools run and are asked about like others."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from openai_doubles import FOLDER

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
