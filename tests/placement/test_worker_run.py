"""One run in a worker: its events leave as far as the host's credit goes, and a cancel finds it wherever it is."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from agenthost.agents import RunContext
from agenthost.auth import Principal
from agenthost.event_encoding import encode_event_plainly
from agenthost.events import Interrupt, Result
from agenthost.importing import Importer
from agenthost.placement.frames import END, ERROR, EVENT, PIECE, WINDOW, Wire
from agenthost.placement.in_process import InProcess
from agenthost.placement.worker_run import WorkerRun
from agenthost.threads import ThreadKey
from tests.agents_for_tests import served, until, within


class Played:
    """A run, and what the host is sent of it."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, bytes]] = []
        self.run: WorkerRun
        self.ended: tuple[int, bytes] | None = None
        self.ended_as: list[str] = []

    @property
    def events(self) -> list[str]:
        return [body.partition(b"\0")[0].decode() for kind, body in self.frames if kind == EVENT]

    def error(self) -> Any:
        assert self.ended is not None
        assert self.ended[0] == ERROR
        return json.loads(self.ended[1])


@asynccontextmanager
async def playing(agent: Any, **fields: Any) -> AsyncIterator[Played]:
    """The run of an agent, begun; at the end of `with` it has ended."""
    played, loop = Played(), asyncio.get_running_loop()
    host, worker = socket.socketpair()
    over: list[int] = []
    reading = Wire(lambda kind, _number, body: played.frames.append((kind, body)), lambda: over.append(1))
    writing = Wire(lambda *_frame: None, lambda: over.append(2))
    await loop.connect_accepted_socket(lambda: reading, host)
    await loop.connect_accepted_socket(lambda: writing, worker)
    ref = await InProcess(Importer(), list, encode_event_plainly).open(served(agent))
    played.run = WorkerRun(1, writing)
    ctx = RunContext(prompt="", run_id="r", agent="agent", principal=Principal("ann"), **fields)

    async def work() -> None:
        played.ended = await played.run.result(ref, ctx)

    played.run.start(work())
    yield played
    await until(lambda: played.ended)
    writing.close()
    await until(lambda: len(over) == 2)


def test_a_run_waits_once_its_window_is_full_and_goes_on_with_credit() -> None:
    async def says(ctx: RunContext) -> AsyncIterator[str]:
        for number in range(WINDOW + 10):
            yield str(number)

    async def main() -> None:
        async with playing(says) as played:
            await until(lambda: len(played.events) == WINDOW)
            await asyncio.sleep(0.05)
            assert len(played.events) == WINDOW
            played.run.allow(3)
            await until(lambda: len(played.events) == WINDOW + 3)
            played.run.allow(100)
        assert len(played.events) == WINDOW + 10
        assert played.ended == (END, b"")

    asyncio.run(main())


def test_large_events_fill_the_window_sooner() -> None:
    async def says(ctx: RunContext) -> AsyncIterator[str]:
        for _ in range(10):
            yield "x" * (400 << 10)

    async def main() -> None:
        async with playing(says) as played:
            each = 1 + (400 << 10 >> PIECE)
            fit = -(-WINDOW // each)
            await until(lambda: len(played.events) == fit)
            await asyncio.sleep(0.05)
            assert len(played.events) == fit
            played.run.allow(20 * each)
        assert len(played.events) == 10

    asyncio.run(main())


def test_the_first_event_leaves_at_once() -> None:
    go = asyncio.Event()

    async def says(ctx: RunContext) -> AsyncIterator[str]:
        yield "first"
        assert played_now.events == ["model_chunk"] or await within(go.wait())
        yield "second"

    played_now: Played

    async def main() -> None:
        nonlocal played_now
        async with playing(says) as played:
            played_now = played
            await until(lambda: played.events)
            go.set()

    asyncio.run(main())


def test_a_cancel_before_the_first_step_is_heard() -> None:
    async def says(ctx: RunContext) -> AsyncIterator[str]:
        yield "never"

    async def main() -> None:
        async with playing(says) as played:
            played.run.cancel(over=False)
        assert (played.error()["code"], played.events) == ("cancelled", [])

    asyncio.run(main())


def test_a_cancel_is_heard_and_what_is_said_in_the_clean_up_is_sent() -> None:
    async def says(ctx: RunContext) -> AsyncIterator[str]:
        yield "begun"
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            yield "cleaned up"
            raise

    async def main() -> None:
        async with playing(says) as played:
            await until(lambda: played.events)
            await asyncio.sleep(0.01)
            played.run.cancel(over=False)
        assert played.error()["code"] == "cancelled"
        assert len(played.events) == 2

    asyncio.run(main())


def test_a_run_that_is_over_for_the_host_is_closed_where_it_waits_for_credit() -> None:
    ended: list[str] = []

    async def says(ctx: RunContext) -> AsyncIterator[str]:
        try:
            for number in range(10 * WINDOW):
                yield str(number)
        except BaseException as raised:
            ended.append(type(raised).__name__)
            raise

    async def main() -> None:
        async with playing(says) as played:
            await until(lambda: len(played.events) == WINDOW)
            await asyncio.sleep(0.01)
            played.run.cancel(over=True)
        assert (ended, played.ended) == (["GeneratorExit"], (END, b""))

    asyncio.run(main())


def test_a_cancelled_error_of_the_agents_own_is_no_cancel() -> None:
    async def raises(ctx: RunContext) -> str:
        raise asyncio.CancelledError

    async def main() -> None:
        async with playing(raises) as played:
            pass
        assert (played.error()["code"], played.error()["message"]) == ("agent_error", "CancelledError was raised")

    asyncio.run(main())


def test_a_question_is_sent_with_its_state_and_what_follows_is_not() -> None:
    async def asks(ctx: RunContext) -> AsyncIterator[Any]:
        yield Interrupt("one?", interrupt_id="a", state={"k": 1})
        yield Interrupt("two?", interrupt_id="b")
        yield "never"

    async def main() -> None:
        async with playing(asks) as played:
            pass
        assert [body for _kind, body in played.frames] == [
            b'interrupt\0{"type":"interrupt","question":"one?","interrupt_id":"a"}\0{"k":1}',
            b'interrupt\0{"type":"interrupt","question":"two?","interrupt_id":"b"}\0null',
        ]
        assert played.ended == (END, b"{}")

    asyncio.run(main())


def test_state_that_may_be_kept_comes_with_the_end_of_a_run_on_a_thread() -> None:
    async def keeps(ctx: RunContext) -> Result:
        ctx.state["a"] = (1, 2)
        return Result("kept")

    async def spoils(ctx: RunContext) -> Result:
        ctx.state["a"] = object()
        return Result("spoilt")

    async def main() -> None:
        thread = ThreadKey("ann", "agent", "t")
        async with playing(keeps, thread=thread) as kept, playing(spoils, thread=thread) as spoilt:
            pass
        async with playing(spoils) as without:
            pass
        assert kept.ended == (END, b'{"a":[1,2]}')
        assert (spoilt.error()["code"], spoilt.error()["message"]) == ("bad_event", "ctx.state cannot be kept: object")
        assert without.ended == (END, b"")

    asyncio.run(main())


def test_what_follows_a_result_is_the_agents_fault() -> None:
    async def says(ctx: RunContext) -> AsyncIterator[Any]:
        yield Result("done")
        yield "more"

    async def main() -> None:
        async with playing(says) as played:
            pass
        assert played.error()["message"].endswith("model_chunk after the Result, which is the last event of a run")

    asyncio.run(main())
