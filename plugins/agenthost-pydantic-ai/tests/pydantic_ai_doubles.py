"""Agents of Pydantic AI whose models say what a test has written down, and one conversation with such an agent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from typing import Any, TypeVar

from agenthost_pydantic_ai import serve
from agenthost_pydantic_ai.agent import PydanticAgent
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelRequest, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from agenthost import AgentError, Answer, Event, Interrupt, Message, ModelChunk, Principal, RunContext, ThreadKey

E = TypeVar("E")

Say = Callable[[list[ModelMessage]], Iterable[Any]]
"""What a model says to the messages it is given: texts, and what `FunctionModel` streams."""


def model(say: Say, seen: list[AgentInfo] | None = None) -> FunctionModel:
    """A model that says what `say` returns, and writes down how it was asked."""

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        if seen is not None:
            seen.append(info)
        for word in say(messages):
            yield word

    return FunctionModel(stream_function=stream, model_name="scripted")


def call(tool: str, call_id: str, **arguments: Any) -> dict[int, DeltaToolCall]:
    """A tool call; several of one answer are told apart by their ids."""
    return {hash(call_id): DeltaToolCall(tool, json.dumps(arguments), tool_call_id=call_id)}


def prompts(messages: Iterable[ModelMessage]) -> list[Any]:
    """What the user has said."""
    parts = [part for message in messages if isinstance(message, ModelRequest) for part in message.parts]
    return [part.content for part in parts if isinstance(part, UserPromptPart)]


def returns(messages: list[ModelMessage]) -> dict[str, Any]:
    """What the tools returned since the user last said something, by call."""
    found: dict[str, Any] = {}
    for message in messages:
        for part in message.parts if isinstance(message, ModelRequest) else ():
            if isinstance(part, UserPromptPart):
                found = {}
            elif part.part_kind in {"tool-return", "retry-prompt"}:  # the latter in older releases alone
                found[part.tool_call_id] = part.content
    return found


def context(served: PydanticAgent, prompt: str = "hello", **given: Any) -> RunContext:
    """What the host gives for a run; `settings` may be a dict."""
    settings = given.pop("settings", {})
    given = {"run_id": "run-1", "agent": "app", "principal": Principal("ann")} | given
    return RunContext(prompt=prompt, settings=served.Settings(**settings), **given)


async def said(agent: Agent[Any, Any] | PydanticAgent, prompt: str = "hello", **given: Any) -> list[Any]:
    """Every event of one run."""
    served = agent if isinstance(agent, PydanticAgent) else serve(agent)
    return [event async for event in served.run(context(served, prompt, **given))]


def told(agent: Agent[Any, Any] | PydanticAgent, prompt: str = "hello", **given: Any) -> list[Any]:
    """`said`, on a loop of its own."""
    return asyncio.run(said(agent, prompt, **given))


def of(kind: type[E], events: Iterable[Event | str]) -> list[E]:
    """The events of one kind."""
    return [event for event in events if isinstance(event, kind)]


def text_of(events: Iterable[Event | str]) -> str:
    """The chunks of text, joined."""
    return "".join(event if isinstance(event, str) else getattr(event, "content", "") for event in events)


class Thread:
    """One thread with an agent, kept as the host keeps it: `state` between runs, questions until they are answered."""

    def __init__(self, agent: Agent[Any, Any] | PydanticAgent) -> None:
        self._served = agent if isinstance(agent, PydanticAgent) else serve(agent)
        self._runs = 0
        self.state: dict[str, Any] = {}
        self.history: list[Message] = []

    async def run(self, prompt: str = "hello", answers: Iterable[tuple[Interrupt, Any]] = ()) -> list[Any]:
        """Say something, or answer questions: a response each, or a decision that is a dict with a `verdict`."""
        self._runs += 1
        run_id = f"run-{self._runs}"
        ctx = context(
            self._served,
            prompt,
            run_id=run_id,
            history=tuple(self.history),
            thread=ThreadKey("ann", "app", "t"),
            state=json.loads(json.dumps(self.state)),
            answers=[
                Answer(asked, decision=one) if isinstance(one, dict) and "verdict" in one else Answer(asked, one)
                for asked, one in answers
            ],
        )
        asked = [] if ctx.answers else [Message.of("user", prompt, run_id=run_id)]
        try:
            events = [event async for event in self._served.run(ctx)]
        except AgentError:
            self.history += [replace(message, status="failed") for message in asked]
            raise
        self.state = ctx.state
        answer = text_of([event for event in events if isinstance(event, str | ModelChunk)])
        status = "paused" if of(Interrupt, events) else None
        said = [*asked, Message.of("assistant", answer, run_id=run_id)]
        self.history += [replace(message, status=status) for message in said]
        return events

    async def answer(self, *answers: tuple[Interrupt, Any]) -> list[Any]:
        """Answer questions."""
        return await self.run(answers=answers)
