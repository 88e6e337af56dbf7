"""Locus's graphs: nodes as events, interrupts as pauses, the final state as the result."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from typing import Any

from locus.core.command import Command
from locus.multiagent.graph import GraphResult, StateGraph, StreamMode

from agenthost import AgentError, Custom, Event, Interrupt, Result, RunContext, ThreadKey
from agenthost_locus.checkpointing import forget
from agenthost_locus.settings import GraphSettings

OWN = "_node_"
"""How the keys begin under which Locus keeps each node's raw output beside the state."""


class GraphAgent:
    """A `StateGraph`: the prompt goes into its state, or `input` is its state."""

    Settings = GraphSettings

    def __init__(self, graph: StateGraph) -> None:
        self._graph = graph
        self.title = graph.name
        self.description = graph.description

    async def run(self, ctx: RunContext) -> AsyncIterator[Event]:
        """Run the graph; each event of its stream is one of type `graph_<mode>`. Raises where a node failed."""
        settings = ctx.settings if isinstance(ctx.settings, GraphSettings) else GraphSettings()
        config = self._graph.config
        if config.checkpointer is not None:
            config = config.model_copy(update={"thread_id": _thread_of(ctx)})
        asked = _Watched(self._graph)
        stream: Any = StateGraph.stream  # of any object with `config` and `execute`
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._leave, ctx, config.thread_id, asked)
            stack.push_async_callback(asked.stopped)
            events = await stack.enter_async_context(
                aclosing(stream(asked, self._inputs(ctx, settings), config=config))
            )
            async for event in events:
                if event.node_id is not None or event.mode is StreamMode.CUSTOM:
                    yield _progress(event)
        yield self._outcome(asked.result, settings, config.thread_id)

    async def _leave(self, ctx: RunContext, thread: str | None, asked: _Watched) -> None:
        """The run is over."""

    def _inputs(self, ctx: RunContext, settings: GraphSettings) -> Any:
        if ctx.answer is not None:
            kept = ctx.answer.interrupt.state or {}
            response = "" if ctx.answer.response is None else ctx.answer.response  # None would be no resume
            return Command(resume=response, update=kept.get("graph") or {})
        return dict(ctx.input) if isinstance(ctx.input, Mapping) else {settings.input_key: ctx.prompt}

    def _outcome(self, result: GraphResult | None, settings: GraphSettings, thread: str | None) -> Event:
        if result is None:
            return Result()
        if result.interrupt is not None:
            kept = None if self._graph.config.checkpointer is not None else _kept(result.final_state)
            return replace(_question(result.interrupt.interrupt), state={"graph": kept, "thread": thread})
        failed = [node for node in result.node_results.values() if node.error]
        if failed:
            raise RuntimeError(f"node '{failed[0].node_id}' failed: {failed[0].error}")
        state = _plain({key: value for key, value in result.final_state.items() if not key.startswith(OWN)})
        said = state.get(settings.output_key) if settings.output_key else state
        return Result(said if isinstance(said, str) else json.dumps(said, ensure_ascii=False), state)


class _Watched:
    """A graph whose result can be looked at: its stream tells the state alone, and not why it paused."""

    def __init__(self, graph: StateGraph) -> None:
        self._graph = graph
        self.config = graph.config
        self.result: GraphResult | None = None
        self._driver: asyncio.Task[Any] | None = None

    async def execute(self, *inputs: Any, **options: Any) -> GraphResult:
        self._driver = asyncio.current_task()
        self.result = await self._graph.execute(*inputs, **options)
        return self.result

    async def stopped(self) -> None:
        """Cancel what still goes, and wait until it has ended: the stream does not wait for its nodes."""
        if self._driver is not None and not self._driver.done():
            self._driver.cancel()
            await asyncio.wait([self._driver])


class CheckpointedGraph(GraphAgent):
    """A `StateGraph` with a checkpointer of its own: what it keeps of a thread goes with the thread."""

    async def get_thread(self, key: ThreadKey) -> Mapping[str, Any] | None:
        """Whether it keeps something and waits; the messages are the host's. None where it keeps nothing."""
        state = await self._checkpointer.load(key.digest)
        return None if state is None else {"messages": [], "paused": bool(state.metadata.get("interrupted_node"))}

    async def delete_thread(self, key: ThreadKey) -> bool:
        """Delete all its checkpoints; whether there were some."""
        return bool(await self._checkpointer.delete(key.digest))

    async def _leave(self, ctx: RunContext, thread: str | None, asked: _Watched) -> None:
        if thread is not None and ctx.thread is None and (asked.result is None or asked.result.interrupt is None):
            await forget(self._checkpointer, thread, ctx)

    @property
    def _checkpointer(self) -> Any:
        return self._graph.config.checkpointer


def _thread_of(ctx: RunContext) -> str:
    kept = ctx.answer.interrupt.state if ctx.answer is not None else None
    if isinstance(kept, Mapping) and kept.get("thread"):
        return str(kept["thread"])
    return (ctx.thread or ThreadKey(ctx.principal.id, ctx.agent, ctx.run_id)).digest


def _progress(event: Any) -> Event:
    name = f"graph_{event.mode.value}"
    return Custom(name, {"node_id": event.node_id, "data": _plain(event.data)}, type=name)


def _question(asked: Any) -> Interrupt:
    """An interrupt of a node: its payload is the question, or says it under that key."""
    payload = _plain(asked.payload)
    said = payload if isinstance(payload, Mapping) else {}
    question = said.get("question", payload)
    return Interrupt(
        question if isinstance(question, str) else json.dumps(question, ensure_ascii=False),
        said.get("options"),
        metadata={"node": asked.node_id, "payload": payload},
        interrupt_id=asked.interrupt_id,
    )


def _plain(value: Any) -> Any:
    """A value of a graph's state as JSON, to be shown; what has no such form is its type's name."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return f"<{type(value).__name__}>"


def _kept(state: Mapping[str, Any]) -> dict[str, Any]:
    """A paused graph's state, which comes back from JSON as it is. Raises `AgentError` where it would not.

    Of the nodes' raw outputs, which Locus keeps beside it, those that would not are left out.
    """
    odd = {key: _odd(value) for key, value in state.items()}
    for key, kind in odd.items():
        if kind is not None and not key.startswith(OWN):
            raise AgentError(
                f"a graph without a checkpointer cannot wait with {kind} in its state, under '{key}'",
                hint="give it one with compile(checkpointer=...), or keep plain JSON values in the state",
            )
    return {key: value for key, value in state.items() if odd[key] is None}


def _odd(value: Any) -> str | None:
    """The type of what is not the same once it has been JSON; None where all is."""
    if type(value) is dict:
        keys = next((type(key).__name__ for key in value if type(key) is not str), None)
        return f"a key of type {keys}" if keys else next(filter(None, map(_odd, value.values())), None)
    if type(value) is list:
        return next(filter(None, map(_odd, value)), None)
    return None if value is None or type(value) in {str, int, float, bool} else f"a {type(value).__name__}"
