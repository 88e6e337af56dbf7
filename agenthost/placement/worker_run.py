"""One run in a worker: what its agent says goes out as frames, as far as the host's credit goes, and how it ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Coroutine
from contextlib import suppress
from traceback import clear_frames
from typing import Any

from agenthost.agents import AgentRef, RunContext
from agenthost.contained_tasks import inside_an_agent
from agenthost.errors import AgentError, Cancelled
from agenthost.event_encoding import encode_question_state, encode_state
from agenthost.events import Entry, Interrupt, bad_event, encode_json
from agenthost.placement.carrying import told_error
from agenthost.placement.frames import END, ERROR, EVENT, PIECE, WINDOW, Wire

TURN = 64
"""Ready events after which the loop gets a turn, in which they leave, and a cancel can arrive."""

MOMENT = 0.001
"""Seconds after which it gets one earlier: an agent may compute between two events without waiting for anything."""


class Over(Exception):
    """Raised to an agent that goes on where the host takes no more of its events."""


_UNTELLABLE = encode_json(told_error(AgentError("the agent raised what cannot be told: there is no memory left?")))


def told(failure: BaseException) -> bytes:
    """The body of the ERROR frame about `failure`, whatever happens when that is looked at."""
    try:
        return encode_json(told_error(failure))
    except BaseException:  # noqa: BLE001 - the host waits for a word, and this one needs next to no memory
        raised: BaseException | None = failure
        while raised is not None:  # what an agent's frames hold is what has filled the memory
            clear_frames(raised.__traceback__)
            raised = raised.__cause__
        return _UNTELLABLE


class WorkerRun:
    """One run: started once, cancelled from outside; `number` is its call's."""

    __slots__ = (
        "_asked",
        "_begun",
        "_cancelled",
        "_credit",
        "_last",
        "_left",
        "_over",
        "_task",
        "_turned",
        "_waiter",
        "_wire",
        "number",
    )

    def __init__(self, number: int, wire: Wire) -> None:
        self.number = number
        self._wire = wire
        self._credit = WINDOW
        self._left = 1  # the first event leaves at once
        self._turned = time.monotonic()
        self._over = False
        self._begun = False
        self._cancelled = False
        self._last = ""
        self._asked = False
        self._waiter: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` in the run's own task."""
        self._task = asyncio.get_running_loop().create_task(work)

    def allow(self, amount: int) -> None:
        """The host has taken so much."""
        self._credit += amount
        if self._credit > 0:
            self._wake()

    def cancel(self, *, over: bool) -> None:
        """End it: its task is cancelled, once for each time the host says so; `over`: nothing more is taken of it.

        An agent that waits for the host to take events is closed where it is.
        """
        self._over = self._over or over
        if over and (self._waiter is not None or self._cancelled):
            self._wake()
        else:
            self._cancelled = True
            if self._task is not None and self._begun:  # a task cancelled before its first step never takes one
                self._task.cancel()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def result(self, ref: AgentRef, ctx: RunContext) -> tuple[int, bytes]:
        """Run the agent to its end; returns the kind and the body of the frame that says how that was."""
        self._begun = True
        inside_an_agent(self)
        try:
            if self._cancelled:
                raise Cancelled
            with suppress(Over):
                await ref.run(ctx, self.emit)
            return END, self._state(ctx)
        except BaseException as raised:  # noqa: BLE001 - whatever it is, it ends this run only
            heard = self._cancelled and isinstance(raised, asyncio.CancelledError)
            return ERROR, told(Cancelled() if heard else raised)

    def emit(self, entry: Entry) -> Awaitable[None] | None:
        """Send one entry; `Emit`, as a run takes it in the host."""
        if self._over or self._last:
            self._after_the_end(entry)
        _seq, kind, data, event = entry
        body = b"%b\0%b" % (kind.encode(), data)
        if kind == "interrupt":
            assert isinstance(event, Interrupt)
            body = b"%b\0%b" % (body, encode_question_state(event, encode_json))
            self._asked = True
            self._last = kind
        elif kind == "result":
            self._last = kind
        self._wire.send(EVENT, self.number, body)
        self._credit -= 1 + (len(body) >> PIECE)
        self._left -= 1
        if self._credit > 0 and self._left and time.monotonic() - self._turned < MOMENT:
            return None
        if kind == "result":  # it leaves with the end, which is all there is to come
            return None
        return self._breathe()

    def _after_the_end(self, entry: Entry) -> None:
        """As in the host: what follows a `Result` is the agent's fault, what follows a question ends the run there."""
        if self._over:
            raise Over
        if self._last == "result":
            raise bad_event(f"{entry.type} after the Result, which is the last event of a run")
        if entry.type != "interrupt":
            raise Over

    async def _breathe(self) -> None:
        """Give the loop a turn, and wait for the host where it is behind."""
        await asyncio.sleep(0)
        while self._credit <= 0 and not self._over:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._left, self._turned = TURN, time.monotonic()
        if self._over:
            raise Over

    def _state(self, ctx: RunContext) -> bytes:
        """What `ctx.state` holds at the end, where it may be kept; raises `BadEvent` as the host would."""
        return encode_state(ctx.state, encode_json) if ctx.thread is not None or self._asked else b""
