"""The plugin itself: what it claims, and what it does not import."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import warnings
from importlib.metadata import entry_points
from typing import Any

import agenthost_pydantic_ai
import pytest
from agenthost_pydantic_ai import serve
from pydantic_ai import Agent
from pydantic_ai.toolsets import FunctionToolset
from pydantic_ai_doubles import model, said

from agenthost import AgentServer

with warnings.catch_warnings():  # newer Starlette would rather have another HTTP client
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient

pytestmark = pytest.mark.framework


def test_importing_the_plugin_leaves_the_framework_alone() -> None:
    code = "import sys, agenthost_pydantic_ai; print([name for name in sys.modules if name.startswith('pydantic')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_installed_distribution_offers_this_plugin() -> None:
    (found,) = entry_points(group="agenthost.plugins", name="pydantic-ai")

    assert found.load() is agenthost_pydantic_ai
    with pytest.raises(AttributeError, match=r"^module 'agenthost_pydantic_ai' has no attribute 'srve'$"):
        _ = agenthost_pydantic_ai.srve


def test_it_claims_agents_and_nothing_else_of_the_framework() -> None:
    offers: list[Any] = []
    agenthost_pydantic_ai.register_adapters(lambda name, adapt, **more: offers.append((name, more)))

    ((name, more),) = offers
    assert (name, more["modules"]) == ("pydantic-ai", ["pydantic_ai"])
    assert not more["accepts"](FunctionToolset())
    assert not more["accepts"](model(lambda messages: ["x"]))


class Opened(FunctionToolset[Any]):
    """A toolset that writes down when it is opened and closed, as an MCP server is started and stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []

    async def __aenter__(self) -> Any:
        self.events.append("opened")
        return await super().__aenter__()

    async def __aexit__(self, *raised: Any) -> None:
        self.events.append("closed")
        await super().__aexit__(*raised)


def test_toolsets_are_open_from_the_load_of_the_agent_to_its_end() -> None:
    toolset = Opened()
    served = serve(Agent(model(lambda messages: ["ok"]), toolsets=[toolset]))

    async def main() -> None:
        async with served.lifespan():
            assert toolset.events == ["opened"]
            await said(served)
        assert toolset.events.count("opened") == toolset.events.count("closed")

    asyncio.run(main())


def test_it_is_served_alone_too() -> None:
    server = AgentServer(Agent(model(lambda messages: ["hello"])), allow_unauthenticated=True)
    with TestClient(server.app, base_url="http://127.0.0.1") as client:
        assert client.post("/invoke", json={"prompt": "x"}).json()["message"] == "hello"


FACTORY = """
from pydantic_ai import Agent
from pydantic_ai_doubles import model

def agent():
    return Agent(model(lambda messages: ["made"]), name="made-here")
"""


def test_a_factory_that_returns_an_agent_is_served(served: Any) -> None:
    client = served(FACTORY)

    assert client.post("/agents/app/invoke", json={"prompt": "x"}).json()["message"] == "made"
    assert client.get("/agents/app/").json()["title"] == "made-here"
