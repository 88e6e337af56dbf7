"""Locus's graphs: nodes as events, interrupts as pauses, the final state as the result."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from locus.core.command import Command
from locus.multiagent.graph import GraphResult, StateGraph, StreamMode

from agenthost import Custom, Event, Interrupt, Result, RunContext, ThreadKey
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
        async with aclosing(stream(asked, self._inputs(ctx, settings), config=config)) as events:
            async for event in events:
                if event.node_id is not None or event.mode is StreamMode.CUSTOM:
                    yield _progress(event)
        yield self._outcome(asked.result, settings, config.thread_id)

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
            kept = None if self._graph.config.checkpointer is not None else _plain(result.final_state, strict=True)
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

    async def execute(self, *inputs: Any, **options: Any) -> GraphResult:
        self.result = await self._graph.execute(*inputs, **options)
        return self.result


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


def _plain(value: Any, *, strict: bool = False) -> Any:
    """A value of a graph's state as JSON. What is none is its type's name, or with `strict` raises `TypeError`."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(key): _plain(item, strict=strict) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item, strict=strict) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if strict:
        raise TypeError(f"a graph without a checkpointer cannot wait: its state holds {type(value).__name__}")
    return f"<{type(value).__name__}>"
