"""The client's logic without a network: a host's side of the talk played by a function, every step noted."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from agenthost.client.asking import Ask
from agenthost.client.patience import Patience
from agenthost.client.steps import Answer, ConnectionBroke, Left, Logic, Open, Pause, Send, Step

URL = "http://host"


def log(*events: dict[str, Any], first: int = 1) -> list[bytes]:
    """The frames of a run's log, `[DONE]` last."""
    frames = [
        f"id: {number}\nevent: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
        for number, event in enumerate(events, first)
    ]
    return [*frames, b"data: [DONE]\n\n"]


def chunks(count: int) -> list[dict[str, Any]]:
    """A run that says so many words and is done."""
    said = [{"type": "model_chunk", "content": f"{number} "} for number in range(count)]
    return [*said, {"type": "done", "message": "".join(one["content"] for one in said), "reason": "complete"}]


def head(status: int = 200, body: Any = b"", **headers: str) -> Answer:
    """An answer; a good one has the run's id."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, {"x-run-id": "r1", **headers} if status < 300 else headers, raw, URL)


@dataclass
class Clock:
    """Time that passes in pauses only."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


Outcome = Answer | bytes | Exception


@dataclass
class Played:
    """Plays what comes of each step: `script` are the outcomes of `Send`, `Open` and `Read`, in order."""

    script: Sequence[Outcome] = ()
    answers: Callable[[Step], Outcome] | None = None
    clock: Clock = field(default_factory=Clock)
    steps: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._left = list(self.script)

    def patience(self, seconds: float = 60.0) -> Patience:
        """Patience by this clock, without chance."""
        return Patience(URL, seconds, clock=self.clock, chance=lambda: 1.0)

    @property
    def asked(self) -> list[Ask]:
        """The requests that were made, in order."""
        return [step.ask for step in self.steps if isinstance(step, Send | Open)]

    @property
    def waits(self) -> list[float]:
        """The pauses, in seconds."""
        return [round(step.seconds, 3) for step in self.steps if isinstance(step, Pause)]

    def _next(self, logic: Logic[Any, Any], step: Step) -> Any:
        self.steps.append(step)
        if isinstance(step, Pause):
            self.clock.now += step.seconds
            return logic.send(None)
        outcome = self.answers(step) if self.answers else self._left.pop(0)
        return logic.throw(outcome) if isinstance(outcome, Exception) else logic.send(outcome)

    def run(self, logic: Logic[Any, Any], items: list[Any] | None = None, *, leave_after: int | None = None) -> Any:
        """Perform the logic to its end; with `leave_after`, until so many items have come, then leave."""
        items = items if items is not None else []
        try:
            step = next(logic)
            while True:
                if isinstance(step, Step):
                    step = self._next(logic, step)
                    continue
                items.append(step)
                step = logic.throw(Left()) if len(items) == leave_after else next(logic)
        except StopIteration as end:
            return end.value


def leaving(logic: Logic[Any, Any]) -> Logic[Any, Any]:
    """The rest of a logic whose caller leaves while its step is being performed."""
    step = logic.throw(Left())
    while True:
        try:
            outcome = yield step
        except ConnectionBroke as broke:
            step = logic.throw(broke)
        else:
            step = logic.send(outcome)
