"""The host's end of one worker: its runs and questions as frames, and what becomes of them when it dies."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from agenthost.agents import AgentInfo, Emit, RunContext, RunRequest
from agenthost.encoding import encode_json
from agenthost.errors import AgentCrashed, AgentUnavailable, HostError
from agenthost.events import Entry
from agenthost.placement.carrying import error_of, info_of, interrupt_of, told_error, told_result
from agenthost.placement.frames import (
    AMOUNT,
    CALL,
    CANCEL,
    CREDIT,
    END,
    ERROR,
    EVENT,
    FILES,
    HELLO,
    LOG,
    PIECE,
    REFUND,
    Wire,
)
from agenthost.placement.output import Output
from agenthost.placement.spawning import WorkerProcess
from agenthost.placement.worker_log import log_here

CANCEL_AGAIN = 2.0
"""Seconds after which a run that was cancelled, and goes on, is cancelled once more."""

DEAF_AFTER = 2.5
"""Seconds after which a run that goes on all the same costs its worker."""

LAST_WORDS = 0.1
"""Seconds for what a process that has ended had sent, as something else may hold its end of the socket open; and for a
log without room to take what a run that was cancelled still says."""

WAY_OUT = 0.5
"""Seconds that a process has to end by itself once it has closed its socket: it then says itself how it ended."""

END_WITHIN = 1.0
"""Seconds that a worker has to end once it was told to; to leave its lifespan it has had its grace."""

BLOCKED = 0.2
"""Seconds that it has to leave its lifespan where a run in it does not end: then it may hear nothing at all."""

_new = tuple.__new__  # as in `event_encoding`: half of what a named tuple's own constructor costs


class _Call:
    """One thing asked of the worker; `ctx` is a run's."""

    __slots__ = ("back", "ctx", "deaf", "ended", "failure", "number", "ready", "reply", "timers", "waiter")

    def __init__(self, number: int, ctx: RunContext | None) -> None:
        self.number = number
        self.ctx = ctx
        self.ready: deque[bytes] = deque()
        """Events that have come and that the run has not taken."""
        self.back: set[asyncio.Task[None]] = set()
        """The `ctx.call`s of the run that are going."""
        self.timers: list[asyncio.TimerHandle] = []
        self.waiter: asyncio.Future[None] | None = None
        self.deaf = False
        self.ended = False
        self.reply = b""
        self.failure: HostError | None = None

    def news(self) -> asyncio.Future[None]:
        """Done once there is something in `ready`, or the end."""
        self.waiter = asyncio.get_running_loop().create_future()
        return self.waiter

    def wake(self) -> None:
        waiter, self.waiter = self.waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def end(self, reply: bytes = b"", failure: HostError | None = None) -> None:
        self.ended, self.reply, self.failure = True, reply, failure
        for task in self.back:
            task.cancel()
        self.wake()


class WorkerLink:
    """One worker of agent `agent`, from its start to its end; `gone` is done with the words for how it ended.

    `on_out` is called once when it goes out of use: it is gone, or a run in it does not hear that it is cancelled
    (`retired`): then it takes no new runs, and is killed once its other runs have ended.
    """

    def __init__(self, agent: str, on_out: Callable[[WorkerLink], None]) -> None:
        self.agent = agent
        self.retired = False
        self.gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.info = AgentInfo()
        self.found: tuple[str | None, str | None] = (None, None)
        """The distribution, and its version, that the worker found the agent in."""
        self.files: Mapping[str, float] = {}
        """The author's own files that it has read, or that may mend what kept it from loading; and when it began."""
        self.begun = time.time()
        self._on_out = on_out
        self._out = False
        self._calls: dict[int, _Call] = {}
        self._back: dict[int, asyncio.Task[None]] = {}
        self._numbers = itertools.count()
        self._output = Output(agent)
        self._process = WorkerProcess(agent, self._died, self._output.hear)
        self._wire: Wire | None = None
        self._words = ""

    @property
    def busy(self) -> int:
        """How much is asked of it at the moment."""
        return len(self._calls)

    @property
    def pid(self) -> int:
        """Its process's id."""
        return self._process.pid

    @property
    def last_line(self) -> str:
        """The last line of its output."""
        return self._output.last

    async def start(self, python: Path, env: Mapping[str, str], opening: bytes) -> None:
        """Start the process and have it load the agent.

        Raises `LoadError` as the worker does, `AgentCrashed` where it ends before that, `OSError` where it cannot be
        started. Killed if that is cancelled.
        """
        try:
            connection = await self._process.start(python, env)
            self._wire = Wire(self._received, self._disconnected)
            wire = self._wire
            await asyncio.get_running_loop().connect_accepted_socket(lambda: wire, connection)
            hello = orjson.loads(await self._reply(self._ask(opening)))
        except BaseException:
            await self.end()
            raise
        self.info = info_of(hello["info"])
        self.found = hello["distribution"], hello["version"]

    def kill(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()

    async def end(self) -> None:
        """End the process, and wait until it has."""
        self.kill()
        if self._wire is not None:
            self._wire.close()
        if self.pid and not self.gone.done():
            await asyncio.wait((self.gone,), timeout=END_WITHIN)

    async def ask(self, op: str, **asked: Any) -> Any:
        """Ask the worker something that is no run; raises what the agent raised as `AgentError`, or `AgentCrashed`."""
        return orjson.loads(await self._reply(self._ask(encode_json({"op": op, **asked}))))

    def _ask(self, body: bytes, ctx: RunContext | None = None) -> _Call:
        call = _Call(next(self._numbers), ctx)
        self._calls[call.number] = call
        if self._wire is None or self.gone.done():
            call.end(failure=self._crash())
        else:
            self._wire.send(CALL, call.number, body)
        return call

    async def _reply(self, call: _Call) -> bytes:
        try:
            while not call.ended:
                await call.news()
        except asyncio.CancelledError:
            self._send(CANCEL, call.number)
            raise
        finally:
            self._forget(call)
        if call.failure is not None:
            raise call.failure
        return call.reply

    async def run(self, told: bytes, ctx: RunContext, emit: Emit) -> None:
        """Run `told`, which is `ctx`; as `AgentRef.run`."""
        call = self._ask(told, ctx)
        try:
            stopped = await self._follow(call, emit)
        finally:
            for timer in call.timers:
                timer.cancel()
            self._forget(call)
        if stopped is not None:
            raise stopped
        if call.failure is not None:
            raise call.failure
        if call.reply:
            ctx.state = orjson.loads(call.reply)

    async def _follow(self, call: _Call, emit: Emit) -> BaseException | None:
        """Emit what comes until the worker says that it is over; returns what ended it before, if anything did."""
        stopped: BaseException | None = None
        seq = taken = 0
        ready, over = call.ready, False
        while True:
            try:
                while ready:
                    body = ready.popleft()
                    if over:
                        continue
                    seq += 1
                    taken += 1 + (len(body) >> PIECE)
                    room = emit(_entry(seq, body))
                    if room is not None:
                        await (room if stopped is None else _for_a_moment(room))
                    if taken >= REFUND:
                        self._send(CREDIT, call.number, AMOUNT.pack(taken))
                        taken = 0
                if call.ended:
                    return stopped
                await call.news()
            except asyncio.CancelledError as cancelled:
                stopped = stopped or cancelled
                self._cancel(call)
            except BaseException as raised:  # noqa: BLE001 - what `emit` raises goes through once the agent is closed
                stopped = stopped or raised
                over = True
                self._cancel(call, b"\1")

    def _cancel(self, call: _Call, over: bytes = b"") -> None:
        """Tell the worker to end a run, once more after a while, and then give the worker up."""
        if over or not call.timers:
            self._send(CANCEL, call.number, over)
        if not call.timers:
            loop = asyncio.get_running_loop()
            call.timers.append(loop.call_later(CANCEL_AGAIN, self._send, CANCEL, call.number))
            call.timers.append(loop.call_later(DEAF_AFTER, self._give_up, call))

    def _give_up(self, call: _Call) -> None:
        """A run does not end: what runs beside it may, and then the worker goes."""
        call.deaf = True
        if not self.retired:
            self.retired = True
            self._go_out()
        self._kill_if_idle()

    def _go_out(self) -> None:
        if not self._out:
            self._out = True
            self._on_out(self)

    def _kill_if_idle(self) -> None:
        if self.retired and all(call.deaf for call in self._calls.values()):
            self.kill()

    def _forget(self, call: _Call) -> None:
        self._calls.pop(call.number, None)
        self._kill_if_idle()

    def _send(self, kind: int, number: int, body: bytes = b"") -> None:
        if self._wire is not None:
            self._wire.send(kind, number, body)

    def _received(self, kind: int, number: int, body: bytes) -> None:
        call = self._calls.get(number)
        if kind == EVENT:
            if call is not None:
                call.ready.append(body)
                if call.waiter is not None:
                    call.wake()
        elif kind in {END, HELLO}:
            if call is not None:
                call.end(body)
        elif kind == ERROR:
            if call is not None:
                call.end(failure=error_of(orjson.loads(body)))
        elif kind == CALL:
            task = asyncio.get_running_loop().create_task(self._call_back(number, orjson.loads(body)))
            self._back[number] = task
            task.add_done_callback(lambda _task: self._back.pop(number, None))
        elif kind == CANCEL:
            if number in self._back:
                self._back[number].cancel()
        else:
            self._told(kind, orjson.loads(body))

    def _told(self, kind: int, news: Any) -> None:
        """What is about none of its calls."""
        if kind == FILES:
            self.files = dict.fromkeys(news, self.begun)
        elif kind == LOG:
            log_here(self.agent, news)

    async def _call_back(self, number: int, told: Mapping[str, Any]) -> None:
        """`ctx.call` of an agent in the worker."""
        name, call = told["name"], self._calls.get(told["run"])
        task = asyncio.current_task()
        assert task is not None
        try:
            if call is None or call.ctx is None or call.ctx.call_agent is None:
                raise AgentUnavailable(f"agent '{name}' cannot be called: the run that calls is over")
            call.back.add(task)
            result = await call.ctx.call_agent(name, RunRequest(**told["request"]))
            kind, body = END, encode_json(told_result(result))
        except BaseException as raised:  # noqa: BLE001 - whatever it is, it is the caller's to hear
            kind, body = ERROR, encode_json(told_error(raised))
        finally:
            if call is not None:
                call.back.discard(task)
        self._send(kind, number, body)

    def _disconnected(self) -> None:
        """It says nothing more; if it lives, it is of no use."""
        self._wire = None
        if self._words:
            self._lost(self._words)
        else:
            self._go_out()
            asyncio.get_running_loop().call_later(WAY_OUT, self._cut_off)

    def _cut_off(self) -> None:
        if not self._words:
            self._words = "closed its connection"
            self.kill()
            asyncio.get_running_loop().call_later(END_WITHIN, self._lost, self._words)

    def _died(self, words: str) -> None:
        words = self._words = self._words or words
        if self._wire is None:
            self._lost(words)
        else:
            asyncio.get_running_loop().call_later(LAST_WORDS, self._lost, words)

    def _lost(self, words: str) -> None:
        """Nothing will be heard of it any more: what it was asked has failed."""
        if self.gone.done():
            return
        self.gone.set_result(words)
        self._go_out()
        for call in tuple(self._calls.values()):
            if not call.ended:
                call.end(failure=self._crash())
        if self._wire is not None:
            self._wire.close()

    def _crash(self) -> AgentCrashed:
        return AgentCrashed(f"the worker of agent '{self.agent}' {self._words or 'has ended'}")

    async def close(self, grace: float) -> None:
        """Have the agent leave its lifespan, and end the process; raises what leaving raised."""
        try:
            async with asyncio.timeout(BLOCKED if self._calls else grace + END_WITHIN):
                await self.ask("close", grace=grace)
        except TimeoutError:
            self.kill()
            raise
        finally:
            if self._wire is not None:
                self._wire.close()
            await asyncio.wait((self.gone,), timeout=END_WITHIN)
            await self.end()


async def _for_a_moment(room: Awaitable[None]) -> None:
    """Wait for room in the log of a run that was cancelled: where its readers have left, there will be none."""
    async with asyncio.timeout(LAST_WORDS):
        await room


def _entry(seq: int, body: bytes) -> Entry:
    """The entry of an EVENT frame; of a question the event is made as well, since its state is not in its JSON."""
    kind, _, data = body.partition(b"\0")
    if kind != b"interrupt":
        return _new(Entry, (seq, kind.decode(), data, None))
    data, _, state = data.partition(b"\0")
    return Entry(seq, "interrupt", data, interrupt_of(orjson.loads(data), orjson.loads(state)))
