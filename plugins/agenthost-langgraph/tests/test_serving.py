"""An existing LangGraph project is served unchanged, by a real host: one file, or a langgraph.json."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from agenthost.testing import HostProcess, serving

pytestmark = pytest.mark.framework

APP = """
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt


def answer(state: MessagesState):
    asked = state["messages"][-1].text
    if asked == "ask":
        return {"messages": [AIMessage(f"You said {interrupt('Shall I?')}.")]}
    return {"messages": [AIMessage(f"{len(state['messages'])}: {asked}")]}


builder = StateGraph(MessagesState)
builder.add_node("answer", answer)
builder.add_edge(START, "answer")
graph = builder.compile()
"""


def post(host: HostProcess, path: str, **body: Any) -> httpx.Response:
    return httpx.post(f"{host.url}/agents/{path}", json=body, timeout=30, trust_env=False)


def test_the_plugin_is_there_without_langgraph_being_imported() -> None:
    code = (
        "import sys, agenthost_langgraph; print(sorted({'langgraph', 'langchain_core', 'pydantic'} & {*sys.modules}))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed == "[]\n"


def test_one_command_serves_an_existing_file_from_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "app.py").write_text(APP)
    (tmp_path / "empty").mkdir()
    with serving("../project/app.py:graph", folder=tmp_path / "empty") as host:
        assert post(host, "graph/invoke", prompt="hello").json()["message"] == "1: hello"
        post(host, "graph/invoke", prompt="hello", thread_id="t")
        assert post(host, "graph/invoke", prompt="again", thread_id="t").json()["message"] == "3: again"
        assert post(host, "graph/invoke", prompt="ask", thread_id="t").json()["interrupt"]["question"] == "Shall I?"
        assert '"message":"You said yes."' in post(host, "graph/resume", thread_id="t", response="yes").text
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_langgraph_json_is_served_as_it_is(tmp_path: Path) -> None:
    package = tmp_path / "project" / "src" / "shop"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "names.py").write_text("import os\nNAME = os.environ['SHOP_NAME']\n")
    (package / "app.py").write_text(APP.replace('f"{len', 'f"{NAME} {len') + "\nfrom shop.names import NAME\n")
    (package / "made.py").write_text(
        "from langchain_core.runnables import RunnableConfig\nfrom shop.app import builder\n\n\n"
        "async def make(config: RunnableConfig):\n    return builder.compile(name='Made')\n"
    )
    (tmp_path / "project" / "settings.env").write_text("SHOP_NAME=corner\n")
    graphs = {"Shop_Agent": "./src/shop/app.py:graph", "made": {"path": "shop.made:make", "description": "Made anew"}}
    (tmp_path / "project" / "langgraph.json").write_text(
        json.dumps({"dependencies": ["."], "graphs": graphs, "env": "settings.env"})
    )
    (tmp_path / "empty").mkdir()
    with serving("--from=../project/langgraph.json", folder=tmp_path / "empty") as host:
        assert post(host, "shop-agent/invoke", prompt="hello").json()["message"] == "corner 1: hello"
        assert post(host, "made/invoke", prompt="hello").json()["message"] == "corner 1: hello"
        assert httpx.get(f"{host.url}/agents/made", trust_env=False).json()["description"] == "Made anew"
        assert "langgraph.json (Shop_Agent is shop-agent); no agents.toml" in host.log()
        assert "settings.env: SHOP_NAME" in host.log()
    assert list((tmp_path / "empty").iterdir()) == []
