"""Runs of one graph: what goes into it, what comes out, and how one that has paused goes on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from langchain_core.messages import AnyMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.errors import GraphRecursionError
from langgraph.types import Command

from agenthost import (
    AgentError,
    Answer,
    Custom,
    Event,
    Interrupt,
    InvalidRequest,
    Message,
    Result,
    RunContext,
    ThreadKey,
)
from agenthost_langgraph.asides import keep, leave_out, with_asides
from agenthost_langgraph.conversation import (
    NotTaken,
    closing,
    from_langchain,
    open_calls,
    refuse_addresses,
    to_langchain,
)
from agenthost_langgraph.events import INTERRUPT, MODES, Call, Listener
from agenthost_langgraph.questions import as_kept, asked_by, each, undecided_calls
from agenthost_langgraph.results import messages_in, provider_errors, result_of
from agenthost_langgraph.savers import RunSaver, awaitable
from agenthost_langgraph.schemas import MESSAGES, Takes, taken
from agenthost_langgraph.settings import REQUEST, GraphSettings

WAITING = "langgraph_answers"
"""Where in `ctx.state` answers wait for those to the other questions of a pause."""


class GraphRuns:
    """Runs a compiled graph, on its own checkpointer where it has one, else on one that holds a run while it goes.

    `takes` is what a prompt becomes, `input_schema` what the graph says of structured input.
    """

    def __init__(self, graph: Any) -> None:
        self.takes: Takes
        self.takes, self.input_schema = taken(graph)
        self._own = isinstance(graph.checkpointer, BaseCheckpointSaver)
        self._saver = RunSaver()
        self._graph = graph if self._own else graph.copy({"checkpointer": self._saver})
        self._checked = not self._own
        self._tasks = frozenset() if hasattr(graph, "builder") else frozenset(graph.nodes)
        """The nodes that are a functional entrypoint: what it returns is the end, and no progress."""

    async def run(self, ctx: RunContext) -> AsyncGenerator[Event | str, None]:
        """Run the graph once, up to its end or to where it asks.

        Raises what the graph raises, `AgentUnavailable` where that says that its model's provider cannot be reached.
        """
        config = run_config(ctx)
        graph = await self._ready(config)
        settings, paused = settings_for(ctx), False
        with provider_errors():
            try:
                given, calls, missing = await self._begun(graph, ctx, config)
                if missing:
                    paused = True
                    leave_out(ctx)
                    yield Result(f"Waiting for {missing} more answer{'s' * (missing > 1)}.", reason="waiting")
                    return
                if ctx.answers:  # from the first event on the question is answered; what follows may not run twice
                    yield Custom("answered", {"interrupt_ids": [one.interrupt.interrupt_id for one in ctx.answers]})
                listener = Listener(calls, settings.speakers, self._tasks)
                async with aclosing(self._stream(graph, given, config, settings)) as stream:
                    async for part in stream:
                        namespace, mode, payload = part if settings.subgraphs else ((), *part)
                        for event in listener.hear(namespace, mode, payload):
                            yield event
                for told in listener.rest():
                    yield told
                if not listener.paused:
                    if not self._own and ctx.thread is not None:
                        keep(ctx, messages_in(listener.values))
                    yield result_of(graph, listener.values, ctx.log)
                    return
                paused = True
                for question in await self._questions(graph, ctx.run_id, config, listener):
                    yield question
            except NotTaken as refused:
                yield Result(str(refused), reason="unsupported_content")
            except GraphRecursionError as raised:
                ctx.log.warning("the graph was stopped: %s", str(raised).partition("\n")[0])
                yield Result(reason="max_iterations")
            finally:
                await self._left(graph, config, stays=paused or ctx.thread is not None)

    def _stream(self, graph: Any, given: Any, config: RunnableConfig, settings: GraphSettings) -> Any:
        return graph.astream(
            given,
            config,
            context=settings.context,
            stream_mode=list(MODES),
            subgraphs=settings.subgraphs,
            interrupt_before=settings.interrupt_before or None,
            interrupt_after=settings.interrupt_after or None,
            durability=None if self._own else "exit",
        )

    async def _begun(self, graph: Any, ctx: RunContext, config: RunnableConfig) -> tuple[Any, dict[str, Call], int]:
        """What goes into the graph, the tool calls that have begun, and how many answers are missing."""
        waiting = ctx.state.pop(WAITING, None)
        if ctx.answers:
            return await self._answered(graph, ctx, config, waiting)
        return await self._input(graph, ctx, config), {}, 0

    async def _left(self, graph: Any, config: RunnableConfig, *, stays: bool) -> None:
        """Forget what a run left behind that nobody can come back to."""
        place = config["configurable"]["thread_id"]
        if not self._own:
            self._saver.delete_thread(place)
        elif not stays:
            await graph.checkpointer.adelete_thread(place)

    async def get_thread(self, key: ThreadKey) -> list[Message] | None:
        """The conversation as the graph's own checkpointer has it; None without one, or if it has none."""
        if not self._own:
            return None
        config = thread_config(key)
        kept = await (await self._ready(config)).aget_state(config)
        said = messages_in(kept.values)
        return from_langchain(said) if said else None

    async def delete_thread(self, key: ThreadKey) -> bool:
        """Delete a conversation from the graph's own checkpointer; whether there was one."""
        if not self._own:
            return False
        config = thread_config(key)
        saver = (await self._ready(config)).checkpointer
        there = await saver.aget_tuple(config) is not None
        await saver.adelete_thread(key.digest)
        return there

    async def _ready(self, config: RunnableConfig) -> Any:
        """The graph; its checkpointer is looked at once, since some can only be called on a thread."""
        if not self._checked:
            self._checked = True
            saver = await awaitable(self._graph.checkpointer, config)
            if saver is not self._graph.checkpointer:
                self._graph = self._graph.copy({"checkpointer": saver})
        return self._graph

    async def _input(self, graph: Any, ctx: RunContext, config: RunnableConfig) -> Any:
        if self.takes == "input" or (ctx.input is not None and self.takes != "messages"):
            if ctx.input is None:
                raise InvalidRequest("this agent takes structured input alone: give `input`")
            return ctx.input
        if self.takes == "text":
            return ctx.prompt
        if ctx.input is not None and (not isinstance(ctx.input, Mapping) or MESSAGES in ctx.input):
            if not settings_for(ctx).urls and isinstance(ctx.input, Mapping):
                refuse_addresses(None, _listed(ctx.input[MESSAGES]))
            return ctx.input
        said = await self._said(graph, ctx, config)
        if self.takes == "list":
            return said
        return {**(ctx.input or {}), **({MESSAGES: said} if said else {})}

    async def _said(self, graph: Any, ctx: RunContext, config: RunnableConfig) -> list[AnyMessage]:
        """The messages to add to what the graph has: all of them where it keeps none itself."""
        urls = settings_for(ctx).urls
        if not urls:
            refuse_addresses(ctx.content)
        new = to_langchain(ctx.messages[-1:], urls=urls)
        if not self._own or ctx.thread is None:
            return [*to_langchain(with_asides(ctx), urls=urls), *new]
        kept = messages_in((await graph.aget_state(config)).values)
        if not kept and self.takes == "messages":  # another host's, or a checkpointer's that was in memory alone
            return [*to_langchain(with_asides(ctx), urls=urls), *new]
        if calls := open_calls(kept):
            found = await graph.checkpointer.aget_tuple(config)
            return [*closing(calls, undecided_calls((found and found.pending_writes) or (), calls)), *new]
        return new

    async def _answered(
        self, graph: Any, ctx: RunContext, config: RunnableConfig, waiting: Any
    ) -> tuple[Command[Any] | None, dict[str, Call], int]:
        """What goes on where it paused; and how many answers are missing: then those that came wait in `ctx.state`.

        A graph goes on only with all of them: each of its nodes that asked begins anew then. Raises `AgentError` where
        it does not ask this any more.
        """
        state = ctx.answers[0].interrupt.state
        asked = asked_by(state["asked"], state["next"], state["calls"])
        await self._paused(graph, config, state)
        given = dict(waiting["given"]) if waiting and waiting["run"] == state["run"] else {}
        given |= {answer.interrupt.interrupt_id: answer.stored() for answer in ctx.answers}
        questions = {question.interrupt_id for one in asked for question in one.questions}
        if missing := len(questions - given.keys()):
            ctx.state[WAITING] = {"run": state["run"], "given": given}
            return None, {}, missing
        resume = {
            one.graph_id: one.value([Answer(each, **given[each.interrupt_id]) for each in one.questions])
            for one in asked
            if one.graph_id is not None
        }
        return Command(resume=resume) if resume else None, dict(state["calls"]), 0

    async def _paused(self, graph: Any, config: RunnableConfig, state: Mapping[str, Any]) -> None:
        """Put the graph where it paused; raises `AgentError` where its own checkpointer does not have that any more."""
        if not self._own:
            await self._saver.unpack(config["configurable"]["thread_id"], state["graph"])
            return
        kept_there = await graph.checkpointer.aget_tuple(config)
        writes = (kept_there.pending_writes or ()) if kept_there else ()
        waits = {one.id for _task, channel, value in writes if channel == INTERRUPT for one in each(value)}
        if kept_there is None or not {one["id"] for one in state["asked"]} <= waits:
            raise AgentError(
                "the graph does not ask this any more: its checkpointer has lost the pause, or went on without it",
                hint="give it a checkpointer that outlives the process and is made once, or none",
            )

    async def _questions(self, graph: Any, run_id: str, config: RunnableConfig, heard: Listener) -> Sequence[Interrupt]:
        """What the graph asks now, each with all that is needed to go on."""
        state: dict[str, Any] = {
            "run": run_id,
            "calls": heard.calls,
            "asked": [as_kept(one) for one in heard.interrupts],
        }
        if not self._own:
            state["graph"] = await self._saver.packed(config["configurable"]["thread_id"])
        state["next"] = [] if heard.interrupts else list((await graph.aget_state(config)).next)
        asked = asked_by(state["asked"], state["next"], heard.calls)
        return [replace(question, state=state) for one in asked for question in one.questions]


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [value]


def settings_for(ctx: RunContext) -> GraphSettings:
    """The run's settings, or those of somebody who said nothing."""
    return ctx.settings if isinstance(ctx.settings, GraphSettings) else GraphSettings()


def thread_config(key: ThreadKey) -> RunnableConfig:
    """The config that names a thread, and whose it is."""
    return {"configurable": {"user_id": key.principal, "thread_id": key.digest}}


def run_config(ctx: RunContext) -> RunnableConfig:
    """The config of one run; a run without a thread has the place of the thread that it gets if it pauses."""
    settings = settings_for(ctx)
    thread = ctx.thread or ThreadKey(ctx.principal.id, ctx.agent, ctx.run_id)
    config: RunnableConfig = {
        "configurable": {**settings.configurable, "user_id": thread.principal, "thread_id": thread.digest},
        "metadata": {**settings.metadata, "user_id": thread.principal, REQUEST: dict(ctx.metadata)},
        "tags": list(settings.tags),
    }
    if settings.recursion_limit:
        config["recursion_limit"] = settings.recursion_limit
    return config
