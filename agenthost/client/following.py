"""One run followed from a place in its log to its end, over as many connections as that takes; no I/O."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from agenthost.client.asking import LAST_WORDS, Ask, cancel_run, get_events
from agenthost.client.failures import CallFailed
from agenthost.client.frames import Frame, Frames
from agenthost.client.patience import Patience
from agenthost.client.replies import Event, json_object, marks, no_host
from agenthost.client.steps import Answer, ConnectionBroke, Left, Logic, Open, Read, Send, Step

END = "[DONE]"
LAST_TYPES = frozenset({"done", "interrupt", "error"})
"""Types of the events that end a run; several interrupts may follow one another."""


class Following:
    """The events of one run, exactly as they are in its log: no gap, no repeat, however often the connection drops.

    `begin` is the request that starts the run, with its Idempotency-Key; without one, `run_id` is there already and
    leaving early does not cancel it.
    """

    def __init__(
        self, agent: str, patience: Patience, *, begin: Ask | None = None, run_id: str | None = None, after: int = 0
    ) -> None:
        self.run_id = run_id
        self.over = False
        """Whether the run's last event has been seen, whatever it was."""
        self._agent = agent
        self._patience = patience
        self._begin = begin
        self._last = after
        self._last_type = ""

    def events(self) -> Logic[Event, None]:
        """Yield every event; raises `CallFailed` for an `error` event, a refusal, and a connection that stays lost."""
        try:
            while not self.over:
                try:
                    self._patience.trying()
                    answer = yield Open(self._next_ask())
                    loss = yield from self._read(answer)
                except ConnectionBroke as broke:
                    loss = broke
                if not self.over:
                    yield self._patience.again(loss, self.run_id)
        except (Left, KeyboardInterrupt):
            if self._begin is not None and not self.over and self._last_type not in LAST_TYPES:
                yield from cancelling(self._agent, self.run_id, self._begin)
            raise

    def _next_ask(self) -> Ask:
        if self.run_id is not None:
            return get_events(self._agent, self.run_id, self._last)
        assert self._begin is not None
        return self._begin

    def _read(self, answer: Answer) -> Generator[Step | Event, Any, Answer | ConnectionBroke]:
        """Read one connection to its end; returns why there must be another, unless all is `over`."""
        if answer.status != 200:
            return answer
        self._patience.reached = True
        self.run_id = answer.headers.get("x-run-id", self.run_id)
        frames = Frames()
        try:
            while not self.over and (piece := (yield Read())):
                for frame in frames.feed(piece):
                    event = self._taken(frame, answer)
                    if event is not None:
                        yield event
        except UnicodeDecodeError:
            raise no_host(answer) from None
        except ConnectionBroke as broke:
            self.over = self._last_type == "done"
            return broke
        self.over = self.over or self._last_type == "done"
        return ConnectionBroke("the stream stopped before the run ended")

    def _taken(self, frame: Frame, answer: Answer) -> Event | None:
        """The event in a frame, if it is a new one."""
        if frame.data is None:
            self._patience.progress()
            return None
        if frame.data == END:
            if self._last_type not in LAST_TYPES:
                raise CallFailed(
                    "the stream was ended before the run was", code="connection_lost", status=200, run_id=self.run_id
                )
            self.over = True
            return None
        data = json_object(frame.data)
        if not data or frame.id is None or not frame.id.isdecimal():
            raise no_host(answer)
        event = Event(data, int(frame.id), self.run_id or "")
        return event if self._is_next(event, answer) else None

    def _is_next(self, event: Event, answer: Answer) -> bool:
        """Whether this event is new; raises `CallFailed` for one that comes too soon, or says how the run failed."""
        if event.id <= self._last:
            return False
        if event.id > self._last + 1:
            raise CallFailed(
                f"{answer.url} goes on with event {event.id} after event {self._last}: some are missing",
                code="events_missing",
                status=answer.status,
                run_id=self.run_id,
            )
        self._last, self._last_type = event.id, event.type
        self._patience.progress()
        if event.type == "error":
            self.over = True
            raise CallFailed(str(event.get("error")), status=answer.status, **{"run_id": self.run_id, **marks(event)})
        return True


def cancelling(agent: str, run_id: str | None, again: Ask) -> Logic[Any, None]:
    """The last words of a caller that leaves: cancel its run, as well as that goes.

    Where the run is not known yet, `again` (a request with the run's key) tells which it is.
    """
    with suppress(ConnectionBroke):
        if run_id is None:
            answer = yield Open(replace(again, silence=LAST_WORDS))
            run_id = answer.headers.get("x-run-id")
        if run_id is not None:
            yield Send(cancel_run(agent, run_id, silence=LAST_WORDS))
