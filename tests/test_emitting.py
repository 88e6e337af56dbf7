"""Where a run's entries go: what an agent may say, and that it cannot get too far ahead of its readers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agenthost.agents import RunContext, RunRequest
from agenthost.emitting import emitter
from agenthost.encoding import encode_event
from agenthost.events import Done, Error, Interrupt, ModelChunk, Result, Think, ToolComplete, ToolStart, Usage
from agenthost.run import Run
from tests.agents_for_tests import (
    events,
    hosting,
    idle,
    kinds,
    served,
    speaks,
    started,
    thread,
    told,
    until,
)

CYCLE: list[Any] = []
CYCLE.append(CYCLE)


BAD = [
    object(),
    b"bytes",
    None,
    42,
    {"type": "done"},
    Done("I say so", "complete"),
    Error("I say so", "agent_error", "c", "r"),
    Think("\ud800"),
    "\ud800",
    "x" * (2 << 20),
    Think("é" * (2 << 20)),
    ModelChunk(5),  # type: ignore[arg-type]  # that is the point
    ModelChunk(None),  # type: ignore[arg-type]
    ToolStart("t", "c", {"a": object()}),
    ToolStart("t", "c", CYCLE),  # type: ignore[arg-type]
    ToolStart("t", "c", {1: 2}),  # type: ignore[dict-item]
    Usage(input_tokens="3"),  # type: ignore[arg-type]
    Usage(input_tokens=-1),
    Usage(cost_usd="1"),  # type: ignore[arg-type]
    Result(message=5),  # type: ignore[arg-type]
    Result(reason=None),  # type: ignore[arg-type]
    Result(output={"a": {1, 2}}),
    Interrupt(5),  # type: ignore[arg-type]
    Interrupt("q", interrupt_id=5),  # type: ignore[arg-type]
    Interrupt("q", state=object()),
    Interrupt("q", state="x" * (2 << 20)),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: type(bad).__name__)
@pytest.mark.parametrize("durable", [False, True], ids=["ephemeral", "durable"])
def test_what_cannot_be_sent_fails_the_run_and_only_its_type_is_named(
    bad: Any, durable: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def says(ctx: RunContext) -> AsyncIterator[Any]:
        yield "before"
        yield bad
        yield "after"

    async def main() -> None:
        async with hosting(says) as host:
            found = await told(host, thread() if durable else "hello")
            assert kinds(found)[0] == "model_chunk"
            assert kinds(found)[-1] == "error"
            assert found[-1]["code"] == "bad_event"
            assert "after" not in str(found)
            await idle(host)

    asyncio.run(main())
    assert " object at 0x" not in caplog.text
    assert "the agent yielded what cannot be sent: " in caplog.text


def test_two_interrupts_with_one_id_are_a_bad_event() -> None:
    async def asks(ctx: RunContext) -> AsyncIterator[Any]:
        yield Interrupt("one?", interrupt_id="q")
        yield Interrupt("two?", interrupt_id="q")

    async def main() -> None:
        async with hosting(asks) as host:
            assert (await told(host, thread()))[-1]["code"] == "bad_event"

    asyncio.run(main())


def test_what_can_be_sent_is_sent_as_it_is_and_nan_as_null() -> None:
    class Word(str):
        pass

    async def says(ctx: RunContext) -> AsyncIterator[Any]:
        yield ToolStart("t", "c", {"x": float("nan"), "path": Path("a").name, "n": [1, (2,)]})
        yield ToolStart(7, None, None)  # type: ignore[arg-type]  # frameworks do that
        yield ToolComplete("t", "c", result=float("inf"))
        yield Word("word")
        yield "a\r\nb\u2028c\u0085d\x00data: e"
        yield "x" * (1 << 19)

    async def main() -> None:
        async with hosting(says) as host:
            for request in (RunRequest("hi"), thread()):
                found = await told(host, request)
                assert kinds(found) == ["tool_start"] * 2 + ["tool_complete"] + ["model_chunk"] * 3 + ["done"]
                assert found[0]["arguments"] == {"x": None, "path": "a", "n": [1, [2]]}
                assert (found[1]["tool"], found[1]["tool_call_id"], found[1]["arguments"]) == (7, None, None)
                assert found[2]["result"] is None
                assert found[3]["content"] == "word"
                assert found[4]["content"] == "a\r\nb\u2028c\u0085d\x00data: e"
                assert found[-1]["message"] == "".join(event["content"] for event in found[3:6])

    asyncio.run(main())


def test_a_result_is_what_it_was_when_it_was_yielded() -> None:
    async def changes_its_mind(ctx: RunContext) -> AsyncIterator[Any]:
        output: dict[str, Any] = {"n": 1}
        yield Result(message="m", output=output)
        output["n"] = object()

    async def main() -> None:
        async with hosting(changes_its_mind) as host:
            for request in (RunRequest("hi"), thread()):
                assert (await told(host, request))[-1]["output"] == {"n": 1}

    asyncio.run(main())


def test_usage_past_64_bits_still_ends_the_run() -> None:
    async def spends(ctx: RunContext) -> AsyncIterator[Any]:
        for _ in range(3):
            yield Usage(input_tokens=1 << 62, output_tokens=1)

    async def main() -> None:
        async with hosting(spends) as host:
            usage = (await told(host, thread()))[-1]["usage"]
            assert (usage["input_tokens"], usage["output_tokens"]) == ((1 << 63) - 1, 3)

    asyncio.run(main())


def test_an_ephemeral_run_waits_for_its_reader_within_a_megabyte() -> None:
    said = 0

    async def floods(ctx: RunContext) -> AsyncIterator[str]:
        nonlocal said
        while True:
            yield "x" * 10_000
            said += 1

    async def main() -> None:
        nonlocal said
        async with hosting(floods) as host:
            run = await started(host)
            reader = run.read()
            last = -1
            while last != said:
                last = said
                await asyncio.sleep(0.05)  # it makes hundreds in that time, unless it waits
            assert 45 <= said <= 65
            taken = reader.take()
            assert taken is not None
            assert sum(len(entry.data) for entry in taken) < 200_000
            await until(lambda: said > last)
            reader.close()
            await idle(host)

    asyncio.run(main())


def test_an_agent_that_never_waits_does_not_keep_others_from_their_first_event() -> None:
    async def ready(ctx: RunContext) -> AsyncIterator[str]:
        for _ in range(10_000):
            yield "x"

    async def main() -> None:
        async with hosting(served(ready, "greedy"), served(speaks)) as host:
            greedy = await started(host, agent="greedy")
            reading = asyncio.create_task(events(greedy))
            await until(lambda: greedy.log.last)
            before = greedy.log.last
            other = await started(host)
            reader = other.read()
            turns = 0
            while not reader.take():
                await asyncio.sleep(0)
                turns += 1
            assert turns <= 10
            assert greedy.log.last - before <= 20 * 8
            await asyncio.wait_for(other.result(), 5)
            assert not reading.done(), "the other one was to be first"
            reader.close()
            assert len(await reading) == 10_001

    asyncio.run(main())


def test_a_run_says_no_more_than_one_event_and_one_row_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agenthost.emitting.MAX_TEXT", 1 << 20)

    async def agent(ctx: RunContext) -> AsyncIterator[str]:
        for _ in range(100):
            yield "x" * 20_000

    async def main() -> None:
        async with hosting(agent) as host:
            found = await told(host)
            assert (kinds(found)[-1], found[-1]["code"]) == ("error", "bad_event")
            assert len(found) < 60

    asyncio.run(main())


def test_an_agents_events_are_numbered_after_those_that_its_log_has() -> None:
    class Again:
        resumable = True

        async def run(self, ctx: RunContext) -> AsyncIterator[Any]:
            yield "one"
            yield Result("two")

    async def main() -> None:
        async with hosting(Again()) as host:
            run = await started(host, RunRequest("hello", detached=True))
            assert [event["id"] for event in await events(run)] == [1, 2]
            stored = await host.store.get_run(run.id)
            assert stored is not None
            taken = Run(run.entry, run.principal, run.request, None, host.store.read_events, lambda _run: None)
            taken.take_over(stored)
            emit = emitter(taken, {})
            for seq in (1, 2):
                room = emit(encode_event(seq, f"{seq}"))
                if room is not None:
                    await room
            assert [entry.seq for entry in taken.log.hidden] == [3, 4]

    asyncio.run(main())


@pytest.mark.parametrize("recorded", [False, True])
def test_nothing_follows_a_question_but_another(recorded: bool) -> None:
    said: list[str] = []

    async def goes_on(ctx: RunContext) -> AsyncIterator[Any]:
        yield "before"
        yield Interrupt("one?", interrupt_id="a")
        said.append("between")
        yield Interrupt("two?", interrupt_id="b")
        yield "after"
        said.append("after")

    async def main() -> None:
        async with hosting(goes_on) as host:
            found = await told(host, thread() if recorded else "hello")
            assert kinds(found) == ["model_chunk", "interrupt", "interrupt"]
            assert said == ["between"]

    asyncio.run(main())
