"""What these tests share: the reference agent, and ways to run a graph. Without LangGraph they are not there."""

import asyncio
import importlib.util
import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from agenthost import Event, Principal, RunContext, create_app

# The rest of the house is tested where no framework is installed.
collect_ignore_glob = [] if importlib.util.find_spec("langgraph") else ["test_*.py"]

with warnings.catch_warnings():  # newer Starlette would rather have another HTTP client
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient

Said = list[Event | str]


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    """The module of the reference agent."""
    path = Path(__file__).with_name("reference_agent.py")
    spec = importlib.util.spec_from_file_location("langgraph_reference", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():  # langgraph.prebuilt 1.0 says of names that nobody asked for that they have moved
        warnings.simplefilter("ignore")
        spec.loader.exec_module(module)
    return module


@pytest.fixture
def run() -> Callable[..., Said]:
    """Run a graph as the host would, and return all it says."""
    graph_agent = importlib.import_module("agenthost_langgraph.graph_agent")

    def run(graph: Any, prompt: str = "", *, settings: Mapping[str, Any] | None = None, **given: Any) -> Said:
        agent = graph if hasattr(graph, "_runs") else graph_agent.GraphAgent(graph)
        fields = {"run_id": "r", "agent": "graph", "principal": Principal("ada"), **given}
        ctx = RunContext(prompt=prompt, settings=agent.Settings(**(settings or {})), **fields)

        async def collect() -> Said:
            return [event async for event in agent.run(ctx)]

        said = asyncio.run(collect())
        for event in said:
            if isinstance(event, Event):
                json.dumps(event.payload(), allow_nan=False)
        return said

    return run


class Host:
    """A host in this process that serves one file's objects; asked over HTTP."""

    def __init__(self, client: TestClient) -> None:
        self.client = client

    def invoke(self, agent: str, prompt: str = "", **body: Any) -> dict[str, Any]:
        """Run an agent; the answer's JSON."""
        answer: dict[str, Any] = self.client.post(f"/agents/{agent}/invoke", json={"prompt": prompt, **body}).json()
        return answer

    def resume(self, agent: str, thread_id: str, **body: Any) -> list[dict[str, Any]]:
        """Answer; the events of the run that goes on."""
        answer = self.client.post(f"/agents/{agent}/resume", json={"thread_id": thread_id, **body})
        assert answer.status_code == 200, answer.text
        data = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
        assert data.pop() == "[DONE]"
        return [json.loads(one) for one in data]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Host]]:
    """Serve the objects of a file: `serve(code, "graph", …)`; a second time in one test it is the next host's turn."""
    opened: list[TestClient] = []

    def close() -> None:
        while opened:
            opened.pop().__exit__(None, None, None)

    def serve(code: str, *names: str, settings: str = "") -> Host:
        close()
        (tmp_path / "app.py").write_text(code)
        agents = [f'[agents.{name.replace("_", "-")}]\nuse = "app.py:{name}"\n{settings}\n' for name in names]
        (tmp_path / "agents.toml").write_text("".join(agents))
        client = TestClient(create_app(tmp_path / "agents.toml", dev=True), base_url="http://127.0.0.1")
        opened.append(client.__enter__())
        end = time.monotonic() + 30
        while '"loading"' in client.get("/health").text:
            assert time.monotonic() < end, "the agents did not load in time"
            time.sleep(0.01)
        return Host(client)

    yield serve
    close()
