"""An agent of the SDK as the host runs it: its input, its stream, its pauses, its end."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

from agents import Agent, AgentOutputSchema, RunConfig, Runner, RunResultStreaming, StreamEvent
from agents.agent_output import AgentOutputSchemaBase
from pydantic import TypeAdapter

from agenthost import Custom, Event, Result, RunContext
from agenthost_openai_agents import pauses
from agenthost_openai_agents.conversation import input_items, keep, plain
from agenthost_openai_agents.failures import GUARDRAILS, gave_up, host_error
from agenthost_openai_agents.handoffs import agent_called, reachable
from agenthost_openai_agents.mcp_servers import connected
from agenthost_openai_agents.settings import AgentSettings
from agenthost_openai_agents.telling import OpenCall, Teller, tokens

MakeContext = Callable[[RunContext], Any]


@dataclass(slots=True)
class Turn:
    """One run: who begins it with what, and what is said before; without anything given it is over then."""

    agent: Agent[Any]
    teller: Teller
    context: Any = None
    """Of the SDK; a state brings its own."""
    given: Any = None
    """The input items, or the state of the run that it resumes."""
    first: Iterable[Event] = ()
    used: list[int] = field(default_factory=list)
    """Tokens used before, in the runs that it resumes."""

    def forget(self, ctx: RunContext) -> None:
        """Keep the conversation as it was: a guardrail stopped what has come since."""
        if isinstance(self.given, list):
            keep(ctx, self.given[:-1])
        ctx.state["run"] = ctx.run_id


class ServedAgent:
    """Runs an `agents.Agent` through `Runner.run_streamed`; nothing is kept here between two runs."""

    Settings: ClassVar[type] = AgentSettings

    def __init__(self, agent: Agent[Any], context: MakeContext | None = None, run_config: RunConfig | None = None):
        """See `agenthost_openai_agents.serve`."""
        self._agent = agent
        self._make_context = context
        self._given = run_config
        self._settings: AgentSettings | None = None
        self._run_config = run_config or RunConfig()
        self.title = agent.name
        self.description = agent.handoff_description or ""
        self.output_schema = output_schema_of(agent)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Connect the MCP servers of the agents, and at the end close them, and what has called the models.

        A model provider that the author has made is the author's to close.
        """
        async with AsyncExitStack() as stack:
            agents = reachable(self._agent, tools=True)
            for server in {id(server): server for agent in agents for server in agent.mcp_servers}.values():
                await stack.enter_async_context(connected(server))
            yield
            provider = self._run_config.model_provider
            if self._given is None or provider is not self._given.model_provider:
                await provider.aclose()

    async def run(self, ctx: RunContext) -> AsyncIterator[Event | str]:
        """Answer the new message, or go on behind the questions that `ctx.answers` answer."""
        turn = await self._resumed(ctx) if ctx.answers else await self._begun(ctx)
        for first in turn.first:
            yield first
        if turn.given is None:
            return
        result = Runner.run_streamed(
            turn.agent,
            turn.given,
            context=turn.context,
            max_turns=self._prepared(ctx).max_turns,
            run_config=self._run_config,
        )
        turn.used = tokens(result.context_wrapper.usage)
        teller = turn.teller
        stopped: Exception | None = None
        try:
            async with stream_of(result) as events:
                async for event in events:
                    for said in teller.tell(event):
                        yield said
        except Exception as raised:  # noqa: BLE001 - a model, a tool or a guardrail may raise anything; it is raised again
            stopped = raised
        for last in self._ended(ctx, turn, result, stopped):
            yield last

    def _ended(
        self, ctx: RunContext, turn: Turn, result: RunResultStreaming, stopped: Exception | None
    ) -> Iterator[Event]:
        """The last events of a run, and first what its thread goes on with is kept; raises where it failed."""
        early = gave_up(stopped) if stopped is not None else ()
        if stopped is not None and not early:
            ours = host_error(stopped)
            if ours is None:
                raise stopped
            raise ours from None  # the provider's words may quote the prompt or the key
        if isinstance(stopped, GUARDRAILS):
            turn.forget(ctx)
        else:
            items = result.to_input_list(mode="normalized")
            keep(ctx, items, asked=list(pauses.asked_calls(items)) if result.interruptions else ())
            ctx.state["agent"] = result.last_agent.name
        yield from turn.teller.usage_beyond(turn.used, tokens(result.context_wrapper.usage))
        if early:
            yield from early
        elif result.interruptions:
            yield from pauses.questions(ctx, turn.agent, result, turn.teller.calls)
        else:
            yield _result(result.final_output)

    def _prepared(self, ctx: RunContext) -> AgentSettings:
        """The settings; the run's configuration is made of them once."""
        settings = ctx.settings if isinstance(ctx.settings, AgentSettings) else self._settings or AgentSettings()
        if settings is not self._settings:
            self._settings = settings
            self._run_config = settings.run_config(self._given, self._agent)
        return settings

    async def _context(self, ctx: RunContext) -> Any:
        made = self._make_context(ctx) if self._make_context is not None else None
        return await made if inspect.isawaitable(made) else made

    async def _begun(self, ctx: RunContext) -> Turn:
        ctx.state.pop("answers", None)
        agent = agent_called(ctx.state.get("agent"), self._agent)
        return Turn(agent, Teller(self._agent), await self._context(ctx), input_items(ctx))

    async def _resumed(self, ctx: RunContext) -> Turn:
        pause, verdicts = pauses.answered(ctx)
        agent = agent_called(pause.agent, self._agent)
        teller = Teller(self._agent)
        missing = pauses.wait_for_the_rest(ctx, pause, verdicts)
        if missing:
            waits = "1 more answer" if missing == 1 else f"{missing} more answers"
            return Turn(agent, teller, first=[Result(f"Waiting for {waits}.", reason="waiting")])
        context = await self._context(ctx)
        given = await pauses.taken_up(pause, verdicts, agent, context)
        teller.calls = {call_id: OpenCall(**call) for call_id, call in pause.open.items()}
        teller.denied = {call_id for call_id, verdict in verdicts.items() if not verdict["approved"]}
        return Turn(agent, teller, given=given, first=_taken(teller, verdicts))


@asynccontextmanager
async def stream_of(result: RunResultStreaming) -> AsyncIterator[AsyncIterator[StreamEvent]]:
    """The stream of a run whose task has ended when this is left, cancelled where it had not."""
    events = result.stream_events()
    try:
        yield events
    finally:
        task = result.run_loop_task
        if task is not None and not task.done():
            result.cancel()
            await asyncio.wait({task})
        await cast("AsyncGenerator[StreamEvent]", events).aclose()


def _taken(teller: Teller, verdicts: Mapping[str, pauses.Verdict]) -> Iterator[Event]:
    """What a run says before it goes on: from its first event on, the questions count as answered."""
    for call_id, verdict in verdicts.items():
        call = teller.calls.get(call_id)
        if call is not None and not call.told:
            yield from teller.begin(call_id)
        else:  # told before the question, or of an agent that runs as a tool
            yield Custom("x-approval", {"tool_call_id": call_id, "approved": verdict["approved"]})


def _result(output: Any) -> Result:
    if output is None or isinstance(output, str):
        return Result(message=output)
    found = plain(output)
    return Result(message=json.dumps(found, ensure_ascii=False), output=found)


def output_schema_of(agent: Agent[Any]) -> dict[str, Any] | None:
    """The JSON Schema of an agent's `output_type`; None for text, and where another agent may have the last word."""
    kind = agent.output_type
    if kind is None or kind is str or agent.handoffs:
        return None
    if isinstance(kind, AgentOutputSchemaBase) and not isinstance(kind, AgentOutputSchema):
        return None if kind.is_plain_text() else kind.json_schema()
    schema: dict[str, Any] = TypeAdapter(
        kind.output_type if isinstance(kind, AgentOutputSchema) else kind
    ).json_schema()
    return schema
