"""A function that makes a graph for each run, from that run's config: `def make_graph(config: RunnableConfig)`."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.graph import StateGraph
from langgraph.pregel import Pregel

from agenthost import AgentError, Event, Message, RunContext, ThreadKey
from agenthost_langgraph.graph_agent import compiled
from agenthost_langgraph.graph_runs import GraphRuns, run_config, settings_for, thread_config
from agenthost_langgraph.settings import GraphSettings, check_settings


class FactoryAgent:
    """Makes a graph and runs it, once per run; a plain function makes it on a thread."""

    Settings = GraphSettings

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make
        self._takes_config = bool(inspect.signature(make).parameters)
        self.description = (inspect.getdoc(make) or "").partition("\n")[0]

    async def run(self, ctx: RunContext) -> AsyncGenerator[Event | str, None]:
        """Make a graph with the run's config and run it.

        Raises `AgentError` if what is made is none, or the settings do not fit it.
        """
        graph = await self._made(run_config(ctx))
        try:
            check_settings(settings_for(ctx), graph)
        except ValueError as problem:
            raise AgentError(
                f"the settings do not fit the graph that {self._make.__qualname__} made: {problem}",
                hint=f"correct [agents.{ctx.agent}.settings]",
            ) from None
        async with aclosing(GraphRuns(graph).run(ctx)) as events:
            async for event in events:
                yield event

    async def get_thread(self, key: ThreadKey) -> list[Message] | None:
        """The conversation, where the graph that is made for it keeps it itself."""
        return await GraphRuns(await self._made(thread_config(key))).get_thread(key)

    async def delete_thread(self, key: ThreadKey) -> bool:
        """Delete the conversation, where the graph that is made for it keeps it itself."""
        return await GraphRuns(await self._made(thread_config(key))).delete_thread(key)

    async def _made(self, config: RunnableConfig) -> Any:
        given = (config,) if self._takes_config else ()
        made = self._make(*given) if inspect.iscoroutinefunction(self._make) else asyncio.to_thread(self._make, *given)
        graph = await made
        if not isinstance(graph, Pregel | StateGraph):
            raise AgentError(
                f"{self._make.__qualname__} made {type(graph).__name__}, which is no graph",
                hint="return a compiled graph, or a StateGraph",
            )
        return compiled(graph)
