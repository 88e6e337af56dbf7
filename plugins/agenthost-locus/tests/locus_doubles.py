"""A thread of the host, as the adapter sees it: state, messages and pauses from run to run."""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import Any, TypeVar

from agenthost_locus.adapting import adapt
from locus.agent import Agent
from locus.testing import ScriptedModel, text, tool_call
from locus.tools.decorator import tool

from agenthost import Answer, Event, Interrupt, Principal, RunContext, ThreadKey

E = TypeVar("E", bound=Event)

__all__ = ["Agent", "ScriptedModel", "Thread", "adapt", "agent", "of", "text", "tool", "tool_call"]


def agent(*turns: Any, **fields: Any) -> Agent:
    """A Locus agent whose model says these."""
    return Agent(model=ScriptedModel(list(turns)), **fields)


class Thread:
    """One thread with an adapted agent."""

    def __init__(self, served: Any, thread_id: str | None = "t", *, who: str = "ann", settings: Any = None) -> None:
        self.served = served
        self.key = ThreadKey(who, "agent", thread_id) if thread_id is not None else None
        self.state: dict[str, Any] = {}
        self.paused: list[Interrupt] = []
        self._who = who
        self._settings = settings if settings is not None else served.Settings()
        self._runs = 0

    async def run(self, prompt: str = "", **fields: Any) -> list[Any]:
        """A run with this prompt; its state is kept, as JSON, where it ends."""
        return [event async for event in self.events(prompt, **fields)]

    async def events(self, prompt: str = "", **fields: Any) -> Any:
        """The same, as it comes."""
        self._runs += 1
        state = json.loads(json.dumps(self.state))
        ctx = RunContext(
            prompt=prompt,
            run_id=f"run-{self._runs}",
            agent="agent",
            principal=Principal(self._who),
            thread=self.key,
            settings=self._settings,
            state=state,
            **fields,
        )
        self.paused = []
        async with aclosing(self.served.run(ctx)) as events:
            async for event in events:
                if isinstance(event, Interrupt):
                    self.paused.append(event)
                yield event
        self.state = json.loads(json.dumps(state))

    async def resume(self, response: Any = None, **fields: Any) -> list[Any]:
        """A run that answers the pause."""
        metadata = fields.pop("metadata", {})
        answer = Answer(self.paused[0], response, **fields)
        return await self.run(answers=[answer], metadata=metadata)


def of(kind: type[E], events: list[Any]) -> list[E]:
    """The events of one kind."""
    return [event for event in events if isinstance(event, kind)]
