"""An agent of Pydantic AI as one of the host: each run is one of the framework's, driven node by node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pydantic_ai.agent import AbstractAgent
from pydantic_ai.capabilities import ReinjectSystemPrompt
from pydantic_ai.exceptions import UsageLimitExceeded
from pydantic_ai.messages import ModelMessage, ModelRequest, PartDeltaEvent, SystemPromptPart
from pydantic_ai.run import AgentRun
from pydantic_ai.tools import DeferredToolRequests, DeferredToolResults
from pydantic_ai.usage import UsageLimits

from agenthost import Event, Result, RunContext, ToolStart
from agenthost_pydantic_ai.content import NotTaken, UserPrompt, prompt_of
from agenthost_pydantic_ai.deps import provided
from agenthost_pydantic_ai.failures import failure
from agenthost_pydantic_ai.history import PLACE, conversation, keep
from agenthost_pydantic_ai.outputs import Outputs
from agenthost_pydantic_ai.pauses import ask, resumed
from agenthost_pydantic_ai.settings import MakeDeps, Settings, settings_for
from agenthost_pydantic_ai.telling import Spent, Story, chunk


def serve(agent: AbstractAgent[Any, Any], *, deps: MakeDeps | None = None) -> PydanticAgent:
    """Make an agent of Pydantic AI one that agenthost serves, with `deps(ctx)` as its dependencies in each run.

    `deps` takes the run's `RunContext` (its `settings`, `principal`, `metadata`, …) and may be a function, an async
    one, or one marked `@asynccontextmanager`, which is left when the run ends. An agent without dependencies needs no
    `serve`.
    """
    return PydanticAgent(agent, deps)


@dataclass(slots=True)
class Turn:
    """What one run of the framework is given; `own` are the messages of the paused runs that it goes on with."""

    first_run: str
    prompt: UserPrompt | None
    earlier: list[ModelMessage]
    own: list[ModelMessage] = field(default_factory=list)
    results: DeferredToolResults | None = None
    starts: Sequence[ToolStart] = ()


class PydanticAgent:
    """Serves one agent of Pydantic AI, which stays as it is."""

    resumable = False

    def __init__(self, agent: AbstractAgent[Any, Any], deps: MakeDeps | None = None) -> None:
        self._agent = agent
        self._deps = deps
        self._outputs = Outputs(agent)
        self.title = agent.name or ""
        said = getattr(agent, "description", None)
        self.description = said if isinstance(said, str) else ""
        self.output_schema: Mapping[str, Any] | None = self._outputs.schema
        self.Settings = settings_for(getattr(agent, "deps_type", None), deps)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Enter the agent, which starts the MCP servers and other toolsets that it has."""
        async with self._agent:
            yield

    async def run(self, ctx: RunContext) -> AsyncIterator[Event | str]:
        """Run the agent on the new message, or on with the calls that were answered.

        Raises `AgentUnavailable` where its model cannot be reached or is overloaded, `AgentError` for what else the
        framework refuses; what the agent's own code raises goes through.
        """
        turn = _turn(ctx)
        if isinstance(turn, Result):
            yield turn
            return
        for start in turn.starts:  # before a tool runs: from the first event on, its question counts as answered
            yield start
        spent, limit = Spent(), False
        async with self._opened(ctx, turn) as run:
            story = Story(partial(_kind_of, run), [start.tool_call_id for start in turn.starts])
            node: Any = run.next_node
            try:
                while run.result is None:
                    if hasattr(node, "stream"):
                        async with node.stream(run.ctx) as events:
                            async for event in events:
                                if type(event) is PartDeltaEvent:
                                    if said := chunk(event.delta):
                                        yield said
                                else:
                                    for other in story.tell(event):
                                        yield other
                    node = await run.next(node)
                    for usage in spent.more(run.usage, _model_of(node)):
                        yield usage
            except UsageLimitExceeded:
                limit = True
        for last in (*spent.more(run.usage, None), *self._last(ctx, turn, run, limit=limit)):
            yield last

    @asynccontextmanager
    async def _opened(self, ctx: RunContext, turn: Turn) -> AsyncIterator[AgentRun[Any, Any]]:
        """Begin a run of the framework; what it or the body raises comes out as the host's error."""
        make_deps = ctx.settings.deps or self._deps
        given, left = self._given(ctx, turn), False
        try:
            async with (
                provided(make_deps, getattr(self._agent, "deps_type", None), ctx) as deps,
                self._agent.iter(turn.prompt, deps=deps, infer_name=False, **given) as run,
            ):
                try:
                    yield run
                except GeneratorExit:  # the host leaves the run, and not all releases bear that as it is
                    left = True
                    raise asyncio.CancelledError from None
        except asyncio.CancelledError:
            if left:
                raise GeneratorExit from None
            raise
        except Exception as raised:
            known = failure(raised)
            if known is None:
                raise
            raise known from raised

    def _given(self, ctx: RunContext, turn: Turn) -> dict[str, Any]:
        """What a run of the framework takes."""
        settings: Settings = ctx.settings
        before = [*turn.earlier, *turn.own]
        rebuilt = before and not any(_has_system_prompt(message) for message in before)
        return {
            "output_type": self._outputs.spec,
            "message_history": before or None,
            "deferred_tool_results": turn.results,
            "conversation_id": ctx.thread.digest if ctx.thread else None,
            "model": settings.model,
            "instructions": settings.instructions,
            "model_settings": settings.model_settings,
            "usage_limits": settings.usage_limits,
            "capabilities": [ReinjectSystemPrompt()] if rebuilt else None,
        }

    def _last(self, ctx: RunContext, turn: Turn, run: AgentRun[Any, Any], *, limit: bool) -> Iterator[Event]:
        """What is said when the framework's run is over; its messages are kept."""
        new = run.new_messages()
        whole = [*turn.earlier, *turn.own, *new] if ctx.thread is None else [*turn.own, *new]
        output = None if limit or run.result is None else run.result.output
        if isinstance(output, DeferredToolRequests):
            keep(ctx, whole if ctx.thread is None else new)
            yield from ask(ctx, output, turn.first_run, whole)
            return
        if ctx.thread is not None:
            keep(ctx, new)
        if limit:
            yield Result(reason=_limit_reason(run, ctx.settings.usage_limits or UsageLimits()))
            return
        result = self._outputs.result(output, new)
        if result is not None:
            yield result


def _turn(ctx: RunContext) -> Turn | Result:
    """What the run begins with; a `Result` where it ends before the agent is asked."""
    urls = ctx.settings.urls
    if not ctx.answers:
        ctx.state.get(PLACE, {}).pop("answers", None)
        try:
            return Turn(ctx.run_id, prompt_of(ctx, urls=urls), conversation(ctx, ctx.history, urls=urls))
        except NotTaken as refused:
            if ctx.thread is not None:
                keep(ctx, [])  # what was refused would be refused again with every later message
            return Result(str(refused), reason="unsupported_content")
    going_on = resumed(ctx, urls=urls)
    if isinstance(going_on, list):
        keep(ctx, [])
        more = "1 more answer" if len(going_on) == 1 else f"{len(going_on)} more answers"
        return Result(f"Waiting for {more}.", reason="waiting")
    return Turn(going_on.turn, None, going_on.earlier, going_on.own, going_on.results, going_on.starts)


def _has_system_prompt(message: ModelMessage) -> bool:
    return isinstance(message, ModelRequest) and any(isinstance(part, SystemPromptPart) for part in message.parts)


def _kind_of(run: AgentRun[Any, Any], tool: str) -> str | None:
    definition = run.ctx.deps.tool_manager.get_tool_def(tool)
    return None if definition is None else definition.kind


def _model_of(node: Any) -> str | None:
    response = getattr(node, "model_response", None)
    return None if response is None else response.model_name


def _limit_reason(run: AgentRun[Any, Any], limits: UsageLimits) -> str:
    """Which of the framework's limits ended a run: of its steps, or of its tokens."""
    usage = run.usage
    steps = limits.request_limit is not None and usage.requests >= limits.request_limit
    tools = limits.tool_calls_limit is not None and usage.tool_calls >= limits.tool_calls_limit
    return "max_iterations" if steps or tools else "usage_limit"
