"""A model of the SDK that says what a function makes of the conversation, and what the tests ask of a run."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from agents import Agent, ItemHelpers, Model, ModelResponse, Usage
from openai.types.responses import ResponseCompletedEvent, ResponseReasoningItem, ResponseReasoningSummaryTextDeltaEvent

from agenthost import Answer, Event, Interrupt, Message, ModelChunk, Principal, Result, RunContext, ThreadKey

_spec = importlib.util.spec_from_file_location(
    "openai_agents_reference", Path(__file__).with_name("reference_agent.py")
)
assert _spec is not None
assert _spec.loader is not None
reference = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(reference)

FOLDER = Path(__file__).parent
"""Of these tests."""

call = reference.call

PATIENCE = 10.0
"""Seconds for anything that a test waits for."""


class ScriptedModel(Model):
    """Says what `answer(items)` returns: texts, streamed word by word, tool calls and reasoning items, in order.

    `asked` are the conversations it was given, `told` all that came with each.
    An `answer` that is None never comes; `cancelled` then says when it was given up.
    """

    def __init__(self, answer: Callable[[list[Any]], Sequence[Any]] | None) -> None:
        self.answer = answer
        self.asked: list[list[Any]] = []
        self.told: list[Any] = []
        self.begun = asyncio.Event()
        self.cancelled = False

    def _output(self, args: Sequence[Any], more: dict[str, Any]) -> Sequence[Any]:
        given = {**dict(zip(_GIVEN, args, strict=False)), **more}
        items = ItemHelpers.input_to_new_input_list(given["input"])
        self.asked.append(json.loads(json.dumps(items)))
        self.told.append(given)
        assert self.answer is not None
        return self.answer(items)

    async def get_response(self, *args: Any, **more: Any) -> ModelResponse:
        output = [_item(one) for one in self._output(args, more)]
        return ModelResponse(output=output, usage=Usage(requests=1, input_tokens=10, output_tokens=2), response_id=None)

    async def stream_response(self, *args: Any, **more: Any) -> AsyncIterator[Any]:
        if self.answer is None:
            self.begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled = True
                raise
        output = self._output(args, more)
        for one in output:
            for event in _streamed(one):
                yield event
        response = reference.completed(_item(output[0]), read=10, written=2)
        response.output = [_item(one) for one in output]
        yield ResponseCompletedEvent(type="response.completed", sequence_number=9, response=response)


_GIVEN = ("system_instructions", "input", "model_settings", "tools", "output_schema", "handoffs", "tracing")


def _item(one: Any) -> Any:
    return reference.message(one) if isinstance(one, str) else one


def _streamed(one: Any) -> Sequence[Any]:
    if isinstance(one, str):
        return list(reference.deltas(one.replace(" ", " \0").split("\0"), iter(range(1000))))
    if isinstance(one, ResponseReasoningItem):
        return [
            ResponseReasoningSummaryTextDeltaEvent(
                type="response.reasoning_summary_text.delta",
                sequence_number=1,
                item_id=one.id,
                output_index=0,
                summary_index=0,
                delta=part.text,
            )
            for part in one.summary
        ]
    return []


def outputs_of(items: Sequence[Any]) -> dict[str, str]:
    """What the tools have answered since the last message of the user, by call id."""
    asked = max(place for place, item in enumerate(items) if item.get("role") == "user")
    return {item["call_id"]: item["output"] for item in items[asked:] if item.get("type") == "function_call_output"}


def asked_for(items: Sequence[Any]) -> str:
    """The last message of the user, as text."""
    return str(reference.text_of([item for item in items if item.get("role") == "user"][-1]))


class Thread:
    """A thread as the host keeps it for an agent, without a host: its messages, its state, its open questions."""

    def __init__(self, agent: Any, settings: Any = None) -> None:
        self.agent = agent
        self.settings = settings
        self.history: list[Message] = []
        self.state: dict[str, Any] = {}
        self.runs = 0

    def context(self, prompt: str, **more: Any) -> RunContext:
        """What the agent is given for the next run."""
        self.runs += 1
        return RunContext(
            prompt=prompt,
            run_id=f"run-{self.runs}",
            agent="app",
            principal=Principal("ada"),
            thread=ThreadKey("ada", "app", "t"),
            history=list(self.history),
            state=json.loads(json.dumps(self.state)),
            settings=self.settings,
            **more,
        )

    async def run(self, prompt: str = "", **more: Any) -> list[Event]:
        """The events of a run; the thread is as it leaves it. One that raises leaves only the user's message."""
        ctx = self.context(prompt, **more)
        if not ctx.answers:
            self.history.append(Message.of("user", prompt, run_id=ctx.run_id))
        events = [ModelChunk(said) if isinstance(said, str) else said async for said in self.agent.run(ctx)]
        self.state = json.loads(json.dumps(ctx.state))
        self.history.append(Message.of("assistant", message_of(events), run_id=ctx.run_id))
        return events

    async def answer(self, *answers: tuple[Interrupt, Any]) -> list[Event]:
        """The events of a run that brings answers: `"approve"`, `"deny"`, or a decision."""
        given = [
            Answer(Interrupt(**_stored(asked)), decision=said)
            if isinstance(said, dict)
            else Answer(Interrupt(**_stored(asked)), said)
            for asked, said in answers
        ]
        return await self.run(answers=given)


def _stored(asked: Interrupt) -> dict[str, Any]:
    """An interrupt as it comes back from the store."""
    names = ("question", "options", "metadata", "interrupt_id", "state")
    return {name: json.loads(json.dumps(getattr(asked, name))) for name in names}


def message_of(events: Sequence[Event]) -> str:
    """What a run says in the end."""
    last = events[-1] if events else None
    if isinstance(last, Result) and last.message is not None:
        return last.message
    return "".join(event.content for event in events if isinstance(event, ModelChunk))


def of(kind: type, events: Sequence[Event]) -> list[Any]:
    """The events of a kind."""
    return [event for event in events if isinstance(event, kind)]


def scripted(answer: Callable[[list[Any]], Sequence[Any]] | None, **fields: Any) -> Agent[Any]:
    """An agent whose model says what `answer` makes of the conversation."""
    return Agent(**{"name": "Scripted", "model": ScriptedModel(answer), **fields})
