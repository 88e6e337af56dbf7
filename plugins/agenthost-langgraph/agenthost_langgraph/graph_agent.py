"""A LangGraph graph as an agent: what it says of itself, and its runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from langgraph.graph import StateGraph

from agenthost import Event, Message, RunContext, ThreadKey
from agenthost_langgraph.graph_runs import GraphRuns
from agenthost_langgraph.schemas import given
from agenthost_langgraph.settings import settings_of

UNNAMED = "LangGraph"
"""What LangGraph calls a graph that nobody named."""


def compiled(found: Any) -> Any:
    """A graph that can run; one that is not compiled yet is."""
    return found.compile() if isinstance(found, StateGraph) else found


class GraphAgent:
    """Runs a graph; threads are its checkpointer's where it has one, else the host's."""

    def __init__(self, found: Any) -> None:
        graph = compiled(found)
        self._runs = GraphRuns(graph)
        self.Settings = settings_of(graph)
        name = graph.get_name()
        self.title = "" if name == UNNAMED else name
        self.description = ""
        self.input_schema = self._runs.input_schema
        self.output_schema = given(graph)
        self.needs_input = self._runs.takes == "input"

    def run(self, ctx: RunContext) -> AsyncIterator[Event | str]:
        """Run the graph once."""
        return self._runs.run(ctx)

    async def get_thread(self, key: ThreadKey) -> list[Message] | None:
        """The conversation, where the graph keeps it itself."""
        return await self._runs.get_thread(key)

    async def delete_thread(self, key: ThreadKey) -> bool:
        """Delete the conversation, where the graph keeps it itself."""
        return await self._runs.delete_thread(key)
