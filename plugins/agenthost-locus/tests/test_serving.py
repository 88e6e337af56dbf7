"""Agents with their own checkpointer and approvals on disk, over HTTP: other processes see them, and decide."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from locus.control import FileApprovals

from agenthost import Principal, ThreadKey
from agenthost.testing import HostProcess, serving

pytestmark = pytest.mark.framework

APP = '''
from pathlib import Path

from locus.agent import Agent
from locus.control import Action, ControlPolicy, FileApprovals, gate_tool
from locus.memory.backends.file import FileCheckpointer
from locus.testing import FunctionModel, text, tool_call
from locus.tools.decorator import tool

HERE = Path(__file__).parent

@tool
def send(to: str) -> str:
    """Send a mail."""
    with (HERE / "sent.txt").open("a") as file:
        file.write(f"{to}\\n")
    return "sent"

def answer(messages, tools):
    last = messages[-1]
    if last.role == "tool":
        return text(f"It is {last.content}.")
    return tool_call("send", to="Bob") if last.content == "mail" else text(f"You said {last.content}.")

held = gate_tool(
    send,
    policy=ControlPolicy(require_verification_score=0.0, require_human_for=frozenset({"outside"})),
    action=lambda name, arguments: Action(name=name, asset=arguments["to"], environment="outside"),
    approval=FileApprovals(HERE / "approvals.json"),
    on_refusal="interrupt",
)
agent = Agent(model=FunctionModel(answer), tools=[held], checkpointer=FileCheckpointer(HERE / "checkpoints"))
'''

PAUSES = """
import asyncio, sys
from app import agent

async def main():
    async for event in agent.run("mail", thread_id=sys.argv[1]):
        pass

asyncio.run(main())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "agents.toml").write_text('[agents.app]\nuse = "app.py:agent"\n')
    return tmp_path


@pytest.fixture
def host(folder: Path) -> Iterator[HostProcess]:
    with serving(folder / "agents.toml") as running:
        yield running


def ask(host: HostProcess, method: str, path: str, body: Any = None) -> httpx.Response:
    return httpx.request(method, f"{host.url}/agents/app{path}", json=body, timeout=30, trust_env=False)


def frames(reply: httpx.Response) -> list[Any]:
    assert reply.status_code == 200, reply.text
    lines = [line.removeprefix("data: ") for line in reply.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines[:-1]]


def sent(folder: Path) -> list[str]:
    return (folder / "sent.txt").read_text().split() if (folder / "sent.txt").exists() else []


def test_an_approval_on_disk_is_decided_in_another_process(host: HostProcess, folder: Path) -> None:
    asked = ask(host, "POST", "/invoke", {"prompt": "mail", "thread_id": "t"}).json()["interrupt"]
    for response in (None, "approve"):
        refused = ask(host, "POST", "/resume", {"thread_id": "t", "response": response})
        assert (refused.status_code, refused.json()["type"]) == (409, "approval_pending")
        assert refused.json()["metadata"]["approval_id"] == asked["metadata"]["approval_id"]
    assert sent(folder) == []
    FileApprovals(folder / "approvals.json").decide(asked["metadata"]["approval_id"], "approved", by="olga")
    assert frames(ask(host, "POST", "/resume", {"thread_id": "t"}))[-1]["message"] == "It is sent."
    assert sent(folder) == ["Bob"]


def test_the_thread_is_the_checkpoints_own(host: HostProcess) -> None:
    for prompt in ("one", "two"):
        ask(host, "POST", "/invoke", {"prompt": prompt, "thread_id": "t"})
    thread = ask(host, "GET", "/threads/t").json()
    assert [message["role"] for message in thread["messages"]] == ["system", *["user", "assistant"] * 2]
    assert thread["messages"][-1]["content"] == "You said two."
    assert thread["iteration"] == 1, "Locus counts a turn's, not a thread's"
    assert ask(host, "DELETE", "/threads/t").json() == {"thread_id": "t", "deleted": True}
    assert ask(host, "GET", "/threads/t").status_code == 404


def test_a_thread_that_another_process_paused_goes_on_here(host: HostProcess, folder: Path) -> None:
    name = ThreadKey(Principal("dev").id, "app", "t").digest
    subprocess.run([sys.executable, "-c", PAUSES, name], cwd=folder, check=True)
    assert ask(host, "POST", "/resume", {"thread_id": "t"}).status_code == 409
    (record,) = FileApprovals(folder / "approvals.json").pending()
    FileApprovals(folder / "approvals.json").decide(record.approval_id, "denied", by="olga")
    assert '"status": "denied"' in frames(ask(host, "POST", "/resume", {"thread_id": "t"}))[-1]["message"]
    assert sent(folder) == []
    for thread in ("t", "never"):
        assert ask(host, "POST", "/resume", {"thread_id": thread}).status_code in {404, 409}


SLOW = """
import asyncio
from pathlib import Path

from locus.agent import Agent
from locus.control import Action, ControlPolicy, InMemoryApprovals, gate_tool
from locus.testing import ScriptedModel, text, tool_call
from locus.tools.decorator import tool

HERE = Path(__file__).parent

@tool
async def send(to: str) -> str:
    'Send a mail.'
    with (HERE / "sent.txt").open("a") as file:
        file.write(f"{to}\\n")
    await asyncio.sleep(60)
    return "sent"

held = gate_tool(
    send,
    policy=ControlPolicy(require_verification_score=0.0, require_human_for=frozenset({"outside"})),
    action=lambda name, arguments: Action(name=name, asset=arguments["to"], environment="outside"),
    approval=InMemoryApprovals(),
    on_refusal="interrupt",
)
agent = Agent(model=ScriptedModel([tool_call("send", call_id="c1", to="Bob"), text("Done.")]), tools=[held])
"""


def test_an_approved_call_is_not_performed_again_when_its_client_leaves(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(SLOW)
    (tmp_path / "agents.toml").write_text('[agents.app]\nuse = "app.py:agent"\n')
    with serving(tmp_path / "agents.toml") as host:
        ask(host, "POST", "/invoke", {"prompt": "mail", "thread_id": "t"})
        url, body = f"{host.url}/agents/app/resume", {"thread_id": "t", "response": "approve"}
        with httpx.stream("POST", url, json=body, timeout=30, trust_env=False) as reply:
            lines = reply.iter_lines()
            assert "x-approval" in next(line for line in lines if line.startswith("data: "))
            for _ in range(300):
                if sent(tmp_path):
                    break
                time.sleep(0.1)
        for response in ("approve", "deny"):
            again = ask(host, "POST", "/resume", {"thread_id": "t", "response": response})
            assert (again.status_code, again.json()["code"]) == (409, "already_answered")
        assert sent(tmp_path) == ["Bob"]
