"""The run engine: what an agent may do to its run, and never to the host, its callers and its neighbours."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenthost import runs as engine
from agenthost.agents import RunContext, RunRequest
from agenthost.errors import (
    AgentNotReady,
    AgentOverloaded,
    Cancelled,
    HostStopping,
    InvalidRequest,
    RunError,
    StoreError,
    ThreadBusy,
)
from agenthost.events import Done, Error, Interrupt, ModelChunk, Result, Think, ToolComplete, ToolStart, Usage
from agenthost.host import Host
from agenthost.run import CANCEL_AGAIN, TERMINAL_AFTER, Run
from agenthost.threads import ThreadKey
from tests.agents_for_tests import ANN, BOB, events, hosting, idle, kinds, served, started, told, within

SECRET = "sk-do-not-send-me"


async def speaks(ctx: RunContext) -> AsyncIterator[str]:
    yield "hello "
    yield ctx.prompt


class Held:
    """An agent that says a word, notes that it has begun, and waits until it is let go or cancelled."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.running = 0

    async def run(self, ctx: RunContext) -> AsyncIterator[str]:
        self.running += 1
        self.begun.set()
        try:
            yield "begun "
            await self.go.wait()
            yield "ended"
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        finally:
            self.running -= 1


class Deaf:
    """An agent that does not hear that it is cancelled, but for the end of the loop, and ends when it is let go."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.begun = 0
        self.cancels = 0

    async def run(self, ctx: RunContext) -> AsyncIterator[str]:
        yield "begun"
        self.begun += 1
        cancels = 0
        while not self.go.is_set() and cancels < 3:
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                cancels += 1
                self.cancels += 1
        yield "never sent"


def thread(name: str = "t", prompt: str = "hello") -> RunRequest:
    return RunRequest(prompt, thread_id=name)


async def until(condition: Any) -> None:
    """Wait until it holds; looked at at every turn of the loop."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.002)


# ── what an agent is given ────────────────────────────────────────────────────────────────────────────────────────────


def test_an_agent_is_given_what_was_asked_and_nothing_of_the_request() -> None:
    seen: list[RunContext] = []

    async def looks(ctx: RunContext) -> str:
        seen.append(ctx)
        assert 0 < ctx.remaining <= 600
        ctx.log.warning("noted")
        return "ok"

    async def main() -> None:
        async with hosting(looks) as host:
            request = RunRequest("hi", thread_id="t", input={"n": 1}, metadata={"tag": "x"})
            run = await started(host, request)
            await run.result()
            ctx = seen[0]
            assert (ctx.prompt, ctx.input, ctx.metadata, ctx.agent) == ("hi", {"n": 1}, {"tag": "x"}, "agent")
            assert (ctx.run_id, ctx.principal, ctx.thread) == (run.id, ANN, ThreadKey("ann", "agent", "t"))
            assert (ctx.answer, ctx.state) == (None, {})
            assert [(message.role, message.text) for message in ctx.messages] == [("user", "hi")]

    asyncio.run(main())


def test_run_ids_sort_by_start_and_are_32_hex_digits() -> None:
    async def main() -> None:
        async with hosting(speaks) as host:
            ids = []
            for _ in range(3):
                run = await started(host)
                await run.result()
                ids.append(run.id)
                started_at = int(run.id[:12], 16)
                await until(lambda started_at=started_at: time.time_ns() // 1_000_000 > started_at)
            assert ids == sorted(set(ids))
            assert all(len(one) == 32 and int(one, 16) for one in ids)

    asyncio.run(main())


# ── what an agent says ────────────────────────────────────────────────────────────────────────────────────────────────

CYCLE: list[Any] = []
CYCLE.append(CYCLE)


class Broken(dict):  # type: ignore[type-arg]  # of anything
    def items(self) -> Any:
        raise RuntimeError(SECRET)


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


# ── how an agent fails ────────────────────────────────────────────────────────────────────────────────────────────────


def forever(depth: int) -> int:
    return forever(depth + 1) + 1


RAISED: list[Any] = [
    ValueError(SECRET),
    SystemExit(3),
    KeyboardInterrupt(),
    GeneratorExit(),
    asyncio.CancelledError(),
    StopIteration(SECRET),
    StopAsyncIteration(SECRET),
    BaseException(SECRET),
    ExceptionGroup(SECRET, [ValueError(SECRET)]),
    MemoryError(),
    Cancelled("the agent's own"),
    HostStopping(SECRET),
    ThreadBusy(SECRET),
]


def raising(kind: str, raised: BaseException, *, first: bool) -> Any:
    async def generator(ctx: RunContext) -> AsyncIterator[str]:
        if not first:
            yield "before"
        raise raised
        yield

    async def function(ctx: RunContext) -> str:
        raise raised

    def sync_generator(ctx: RunContext) -> Iterator[str]:
        if not first:
            yield "before"
        raise raised

    def sync_function(ctx: RunContext) -> str:
        raise raised

    return locals()[kind]


@pytest.mark.parametrize("raised", RAISED, ids=lambda raised: type(raised).__name__)
@pytest.mark.parametrize("kind", ["generator", "function", "sync_generator", "sync_function"])
def test_whatever_an_agent_raises_fails_its_run_alone_and_no_word_of_it_reaches_the_wire(
    raised: BaseException, kind: str
) -> None:
    async def main() -> None:
        broken = [raising(kind, raised, first=first) for first in (True, False)]
        async with hosting(served(broken[0], "first"), served(broken[1], "later"), served(speaks)) as host:
            for name in ("first", "later"):
                for request in (RunRequest("hi"), thread()):
                    run = await started(host, request, agent=name)
                    found = await events(run)
                    assert kinds(found).count("error") == 1
                    assert (found[-1]["code"], run.status) == ("agent_error", "failed")
                    assert SECRET not in str(found)
                    with pytest.raises(RunError) as error:
                        await run.result()
                    assert SECRET not in error.value.detail
            assert kinds(await told(host)) == ["model_chunk", "model_chunk", "done"]
            await idle(host)

    asyncio.run(main())


def test_endless_recursion_fails_the_run_alone() -> None:
    async def recurses(ctx: RunContext) -> AsyncIterator[str]:
        yield str(forever(0))

    def recurses_in_a_thread(ctx: RunContext) -> str:
        return str(forever(0))

    async def main() -> None:
        async with hosting(served(recurses, "one"), served(recurses_in_a_thread, "two")) as host:
            for name in ("one", "two"):
                assert (await told(host, agent=name))[-1]["code"] == "agent_error"

    asyncio.run(main())


def test_a_failure_is_logged_once_with_agent_run_correlation_id_and_the_agents_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        async with hosting(raising("generator", ValueError(SECRET), first=False)) as host:
            run = await started(host)
            end = (await events(run))[-1]
            (record,) = [record for record in caplog.records if record.name == "agenthost.runs"]
            assert record.getMessage() == (
                f"run failed: agent 'agent' (tests:agent): agent_error: ValueError: {SECRET}"
            )
            assert (record.agent, record.run_id, record.correlation_id) == ("agent", run.id, end["correlation_id"])  # type: ignore[attr-defined]  # extras
            assert record.exc_info is not None
            assert isinstance(record.exc_info[1], ValueError)

    asyncio.run(main())


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError(SECRET)


def test_an_exception_that_cannot_be_shown_still_ends_the_run() -> None:
    async def main() -> None:
        async with hosting(raising("generator", Unspeakable(), first=True)) as host:
            assert (await told(host))[-1]["code"] == "agent_error"

    asyncio.run(main())


@pytest.mark.parametrize("word", ["Result", "Interrupt", "text"])
def test_an_agent_that_raises_while_it_is_closed_has_failed(word: str) -> None:
    last = {"Result": Result(message="m"), "Interrupt": Interrupt("q?"), "text": "text"}[word]

    async def stumbles(ctx: RunContext) -> AsyncIterator[Any]:
        try:
            yield last
            yield "more"
        finally:
            raise ValueError(SECRET)

    async def main() -> None:
        async with hosting(stumbles) as host:
            found = await told(host, thread())
            assert kinds(found)[-1] == "error"
            assert SECRET not in str(found)
            await idle(host)

    asyncio.run(main())


def test_an_agent_that_goes_on_after_it_is_closed_has_failed() -> None:
    async def stays(ctx: RunContext) -> AsyncIterator[Any]:
        try:
            yield Interrupt("q?")
            yield "more"
        finally:
            yield "and more"

    async def main() -> None:
        async with hosting(stays) as host:
            assert (await told(host, thread()))[-1]["code"] == "agent_error"
            await idle(host)

    asyncio.run(main())


def test_an_agent_whose_closing_never_ends_is_timed_out() -> None:
    async def hangs(ctx: RunContext) -> AsyncIterator[Any]:
        try:
            yield Interrupt("q?")
            yield "more"
        finally:
            await asyncio.Event().wait()

    async def main() -> None:
        async with hosting(served(hangs, timeout=0.2)) as host:
            assert (await told(host, thread()))[-1]["code"] == "timeout"
            await idle(host)

    asyncio.run(main())


# ── cancel and timeout ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("durable", [False, True], ids=["ephemeral", "durable"])
def test_a_cancel_reaches_the_agent_at_once(durable: bool) -> None:
    async def main() -> None:
        held = Held()
        async with hosting(held) as host:
            run = await started(host, thread() if durable else "hello")
            await within(held.begun.wait())
            run.cancel(Cancelled("by a test"))
            before = time.monotonic()
            found = await events(run)
            assert time.monotonic() - before < 0.25
            assert kinds(found) == ["model_chunk", "error"]
            assert held.cancelled.is_set()
            await idle(host)

    asyncio.run(main())


def test_a_run_that_is_cancelled_before_its_first_step_ends_too() -> None:
    async def main() -> None:
        held = Held()
        async with hosting(held) as host:
            run = await started(host)
            assert not held.begun.is_set()
            run.cancel(Cancelled("by a test"))
            assert kinds(await events(run)) == ["error"]
            with pytest.raises(Cancelled):
                await within(run.result())
            assert not held.begun.is_set()
            await idle(host)

    asyncio.run(main())


def test_a_run_that_ended_cannot_be_cancelled_any_more() -> None:
    async def main() -> None:
        async with hosting(speaks) as host:
            run = await started(host, fold_only=True)
            await run.result()
            run.cancel(Cancelled("too late"))
            assert (run.status, run.error) == ("completed", None)

    asyncio.run(main())


def test_only_the_first_of_several_cancels_counts() -> None:
    async def main() -> None:
        held = Held()
        async with hosting(held) as host:
            run = await started(host)
            await within(held.begun.wait())
            run.cancel(Cancelled("first"))
            run.cancel(HostStopping("second"))
            assert (await events(run))[-1]["code"] == "cancelled"

    asyncio.run(main())


def test_an_agent_may_say_goodbye_when_it_is_cancelled() -> None:
    async def says_goodbye(ctx: RunContext) -> AsyncIterator[str]:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            yield "goodbye"
        yield "never said"

    async def main() -> None:
        global begun
        begun = asyncio.Event()
        async with hosting(says_goodbye) as host:
            run = await started(host, thread())
            await within(begun.wait())
            run.cancel(Cancelled("by a test"))
            found = await events(run)
            assert kinds(found) == ["model_chunk", "error"]
            assert (found[0]["content"], found[1]["code"]) == ("goodbye", "cancelled")
            await idle(host)

    asyncio.run(main())


begun: asyncio.Event


@pytest.mark.parametrize("why", ["cancel", "timeout"])
@pytest.mark.parametrize("durable", [False, True], ids=["ephemeral", "durable"])
def test_an_agent_that_does_not_hear_gets_its_terminal_event_all_the_same(
    why: str, durable: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        deaf = Deaf()
        async with hosting(served(deaf, timeout=0.1 if why == "timeout" else 600, concurrency=1, queue=0)) as host:
            entry = host.entries["agent"]
            run = await started(host, thread() if durable else "hello")
            due = time.monotonic() + 0.1
            await until(lambda: deaf.begun)
            if why == "cancel":
                run.cancel(Cancelled("by a test"))
                due = time.monotonic()
            found = await events(run)
            assert time.monotonic() - due < TERMINAL_AFTER + 0.25
            assert kinds(found) in (["model_chunk", "error"], ["error"])
            assert found[-1]["code"] == {"cancel": "cancelled", "timeout": "timeout"}[why]
            assert (entry.running, entry.stuck) == (1, 1), "it keeps its slot"
            with pytest.raises(AgentOverloaded):
                await started(host)
            await until(lambda: "goes on after its run was cancelled twice" in caplog.text)
            assert CANCEL_AGAIN - 0.1 < time.monotonic() - due < CANCEL_AGAIN + 1
            await until(lambda: deaf.cancels == 2)
            (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
            assert record.getMessage() == (
                "agent 'agent' goes on after its run was cancelled twice; it keeps its slot until it ends"
            )
            assert (record.agent, record.run_id) == ("agent", run.id)  # type: ignore[attr-defined]  # extras
            assert not run.task.done()  # type: ignore[union-attr]  # it has begun
            deaf.go.set()
            await idle(host)
            assert kinds(await events(run)) == (kinds(found) if durable else [])

    asyncio.run(main())


def test_a_deaf_agent_costs_no_time_while_it_is_waited_for() -> None:
    async def main() -> None:
        deaf = Deaf()
        async with hosting(deaf) as host:
            run = await started(host)
            await until(lambda: deaf.begun)
            run.cancel(Cancelled("by a test"))
            await events(run)
            spent = time.process_time()
            await asyncio.sleep(1.0)  # what is measured is that nothing happens in it
            assert time.process_time() - spent < 0.1
            deaf.go.set()
            await idle(host)

    asyncio.run(main())


def test_a_deaf_agent_keeps_its_threads_turn() -> None:
    async def main() -> None:
        deaf = Deaf()
        async with hosting(deaf) as host:
            run = await started(host, thread())
            await until(lambda: deaf.begun)
            run.cancel(Cancelled("by a test"))
            await events(run)
            with pytest.raises(ThreadBusy):
                await started(host, thread())
            deaf.go.set()
            await idle(host)
            assert kinds(await told(host, thread()))[-1] == "done"

    asyncio.run(main())


def test_an_agent_that_has_lost_half_its_slots_to_deaf_runs_is_degraded_until_they_end() -> None:
    async def main() -> None:
        deaf = Deaf()
        async with hosting(served(deaf, concurrency=3)) as host:
            entry = host.entries["agent"]
            states = []
            for count in (1, 2):
                run = await started(host)
                await until(lambda count=count: deaf.begun == count)
                run.cancel(Cancelled("by a test"))
                await events(run)
                states.append(entry.state)
            assert states == ["ready", "degraded"]
            assert entry.serving
            assert entry.reason is not None
            assert entry.reason.message == "agent 'agent' does not end when it is cancelled: 2 slots are taken so"
            assert entry.reason.hint == "let CancelledError pass, and await what blocks"
            deaf.go.set()
            await idle(host)
            assert (entry.state, entry.reason) == ("ready", None)

    asyncio.run(main())


def test_a_blocking_agent_is_abandoned_by_name_and_its_thread_keeps_its_slot() -> None:
    gate = threading.Event()

    def blocks(ctx: RunContext) -> str:
        gate.wait(20)
        return "late"

    async def main() -> None:
        async with hosting(served(blocks, timeout=0.1), served(speaks, "other")) as host:
            run = await started(host, thread())
            assert (await events(run))[-1]["code"] == "timeout"
            assert host.entries["agent"].stuck == 1
            assert kinds(await told(host, agent="other"))[-1] == "done"
            gate.set()
            await idle(host)

    asyncio.run(main())


def test_an_agent_that_ends_in_the_moment_when_it_is_given_up_has_one_terminal_event() -> None:
    async def main() -> None:
        deaf = Deaf()
        async with hosting(deaf) as host:
            loop = asyncio.get_running_loop()
            for early in (-0.02, -0.001, 0.0, 0.0, 0.001, 0.02):
                deaf.go.clear()
                run = await started(host, thread())
                reading = asyncio.create_task(events(run))
                await until(lambda run=run: run.log.visible)
                run.cancel(Cancelled("by a test"))
                loop.call_later(TERMINAL_AFTER + early, deaf.go.set)
                found = await reading
                assert kinds(found).count("error") == 1
                assert kinds(found)[-1] == "error"
                await idle(host)

    asyncio.run(main())


# ── readers ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("durable", [False, True], ids=["ephemeral", "durable"])
def test_the_last_reader_that_leaves_cancels_an_attached_run(durable: bool) -> None:
    async def main() -> None:
        held = Held()
        async with hosting(held) as host:
            run = await started(host, thread() if durable else "hello")
            one, two = run.read(), run.read()
            await within(held.begun.wait())
            one.close()
            one.close()
            await asyncio.sleep(0)
            assert run.error is None
            two.close()
            await within(held.cancelled.wait(), 0.25)
            await idle(host)
            assert run.status == "cancelled"

    asyncio.run(main())


@pytest.mark.parametrize("options", [{"detached": True}, {"idempotency_key": "k"}], ids=str)
def test_a_detached_run_goes_on_without_readers(options: dict[str, Any]) -> None:
    async def main() -> None:
        held = Held()
        async with hosting(held) as host:
            run = await started(host, RunRequest("hello", **options))
            run.read().close()
            await within(held.begun.wait())
            held.go.set()
            assert (await within(run.result())).message == "begun ended"
            assert kinds(await events(run)) == ["model_chunk", "model_chunk", "done"]

    asyncio.run(main())


@pytest.mark.parametrize("durable", [False, True], ids=["ephemeral", "durable"])
def test_a_reader_that_comes_after_the_end_finds_what_is_left_and_an_end(durable: bool) -> None:
    async def main() -> None:
        async with hosting(speaks) as host:
            run = await started(host, thread() if durable else "hello")
            await within(run.result())
            assert kinds(await events(run)) == ["model_chunk", "model_chunk", "done"]
            again = await events(run)
            assert kinds(again) == (["model_chunk", "model_chunk", "done"] if durable else [])
            assert await events(run, after=2) == again[2:]

    asyncio.run(main())


def test_two_readers_of_a_durable_run_see_the_same() -> None:
    async def main() -> None:
        held = Held()
        async with hosting(held) as host:
            run = await started(host, thread())
            reading = [asyncio.create_task(events(run)) for _ in range(2)]
            await within(held.begun.wait())
            late = asyncio.create_task(events(run, after=1))
            held.go.set()
            one, two = await asyncio.gather(*reading)
            assert one == two
            assert await late == one[1:]

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
            assert 90 <= said <= 120
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


# ── what is kept ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def said(host: Host, name: str = "t", agent: str = "agent") -> list[tuple[str, str, str | None]]:
    stored = await host.store.get_thread(ThreadKey("ann", agent, name))
    return [(message.role, message.text, message.status) for message in stored.messages] if stored else []


def test_a_thread_keeps_what_was_said_and_gives_it_to_the_next_run() -> None:
    async def recalls(ctx: RunContext) -> str:
        return "|".join(message.text for message in ctx.messages)

    async def main() -> None:
        async with hosting(recalls) as host:
            for prompt in ("one", "two"):
                await told(host, thread(prompt=prompt))
            assert (await told(host, thread(prompt="three")))[-1]["message"] == "one|one|two|one|one|two|three"
            assert (await told(host, thread("other", "x")))[-1]["message"] == "x"
            assert (await told(host, thread(prompt="x"), caller=BOB))[-1]["message"] == "x"

    asyncio.run(main())


def test_tool_calls_and_their_answers_are_messages_of_the_thread() -> None:
    async def works(ctx: RunContext) -> AsyncIterator[Any]:
        yield "let me see. "
        yield ToolStart("add", "c1", {"a": 1})
        yield ToolStart("sub", "c2", {"b": 2})
        yield ToolComplete("add", "c1", result={"sum": 3})
        yield ToolComplete("sub", "c2", error="no")
        yield "done."

    async def main() -> None:
        async with hosting(works) as host:
            found = await told(host, thread())
            assert found[-1]["message"] == "let me see. done."
            stored = await host.store.get_thread(ThreadKey("ann", "agent", "t"))
            assert stored is not None
            user, asks, one, two, last = stored.messages
            assert (user.role, asks.role, asks.text) == ("user", "assistant", "let me see. ")
            assert asks.tool_calls == (
                {"id": "c1", "name": "add", "arguments": {"a": 1}},
                {"id": "c2", "name": "sub", "arguments": {"b": 2}},
            )
            assert (one.role, one.name, one.tool_call_id, one.text) == ("tool", "add", "c1", '{"sum":3}')
            assert (two.name, two.text, two.metadata) == ("sub", "no", {"error": "no"})
            assert (last.role, last.text) == ("assistant", "done.")

    asyncio.run(main())


@pytest.mark.parametrize(
    ("ending", "status", "kept"),
    [
        ("return", "completed", True),
        ("pause", "paused", True),
        ("raise", "failed", False),
        ("bad", "failed", False),
        ("timeout", "failed", False),
        ("cancel", "cancelled", False),
    ],
)
def test_messages_and_state_are_kept_where_a_run_completed_or_paused_and_the_user_message_always(
    ending: str, status: str, kept: bool
) -> None:
    async def ends(ctx: RunContext) -> AsyncIterator[Any]:
        ctx.state["count"] = ctx.state.get("count", 0) + 1
        yield f"run {ctx.state['count']}"
        match ctx.prompt:
            case "pause":
                yield Interrupt("q?")
            case "raise":
                raise ValueError(SECRET)
            case "bad":
                yield object()
            case "timeout" | "cancel":
                await asyncio.Event().wait()

    async def main() -> None:
        async with hosting(served(ends, timeout=0.2)) as host:
            run = await started(host, thread(prompt=ending))
            reading = asyncio.create_task(events(run))
            if ending == "cancel":
                await until(lambda: run.log.last)
                run.cancel(Cancelled("by a test"))
            await reading
            mark = None if status == "completed" else status
            answer = [("assistant", "run 1", mark)] if kept else []
            assert await said(host) == [("user", ending, mark), *answer]
            await told(host, thread(prompt="return"))
            assert (await said(host))[-1] == ("assistant", "run 2" if kept else "run 1", None)

    asyncio.run(main())


STATES: list[tuple[Any, str]] = [
    ([1], "ctx.state cannot be kept: list"),
    (None, "ctx.state cannot be kept: NoneType"),
    ({"a": object()}, "ctx.state cannot be kept: object"),
    ({1: 2}, "ctx.state cannot be kept: a dict with a key that is not a str"),
    ({"a": "x" * (1 << 20)}, "ctx.state cannot be kept: more than 1 MiB"),
    ({"a": CYCLE}, "ctx.state cannot be kept: more than 250 levels deep"),
]


@pytest.mark.parametrize(("state", "problem"), STATES, ids=[row[1] for row in STATES])
def test_a_state_that_cannot_be_kept_fails_the_run(state: Any, problem: str, caplog: pytest.LogCaptureFixture) -> None:
    async def forgets(ctx: RunContext) -> str:
        if ctx.prompt == "bad":
            ctx.state = state
        return str(ctx.state)

    async def main() -> None:
        async with hosting(forgets) as host:
            found = await told(host, thread(prompt="bad"))
            assert (kinds(found)[-1], found[-1]["code"]) == ("error", "bad_event")
            assert problem in caplog.text
            assert (await told(host, thread()))[-1]["message"] == "{}"
            assert kinds(await told(host, "bad"))[-1] == "done", "without a thread, nothing is to be kept"

    asyncio.run(main())


def test_a_state_that_cannot_even_be_looked_at_fails_the_run() -> None:
    async def hides(ctx: RunContext) -> str:
        ctx.state = Broken(a=1)
        return "ok"

    async def main() -> None:
        async with hosting(hides) as host:
            assert (await told(host, thread()))[-1]["code"] == "agent_error"
            await idle(host)

    asyncio.run(main())


def test_a_state_of_plain_values_comes_back_as_json() -> None:
    async def counts(ctx: RunContext) -> str:
        before = str(ctx.state)
        ctx.state = {"pair": (1, 2), "nan": float("nan")} if ctx.prompt == "set" else {}
        return before

    async def main() -> None:
        async with hosting(counts) as host:
            await told(host, thread(prompt="set"))
            assert (await told(host, thread()))[-1]["message"] == "{'pair': [1, 2], 'nan': None}"
            assert (await told(host, thread()))[-1]["message"] == "{}", "an emptied state is kept as empty"

    asyncio.run(main())


# ── the store ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def locked(path: Path) -> sqlite3.Connection:
    """Take the write lock of a store away from its host."""
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    return other


def test_nothing_is_seen_before_it_is_committed(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def main() -> None:
        held = Held()
        async with hosting(held, store=f"sqlite:///{path}") as host:
            run = await started(host, thread())
            reader = run.read()
            with closing(locked(path)) as lock:
                await within(held.begun.wait())
                waiting = reader.news()
                await asyncio.sleep(0.6)  # the entry is there, the disk has been asked for it, nobody may see it
                assert run.log.last == 1
                assert (waiting.done(), reader.take()) == (False, [])
                lock.execute("ROLLBACK")
            await within(waiting)
            assert [entry.type for entry in reader.take() or ()] == ["model_chunk"]
            held.go.set()
            found = await events(run)
            assert kinds(found) == ["model_chunk", "model_chunk", "done"]
            assert [entry.data for entry in await host.store.read_events(run.id, 0, 10)]
            reader.close()

    asyncio.run(main())


def test_the_end_too_is_committed_before_it_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def main() -> None:
        held = Held()
        async with hosting(held, store=f"sqlite:///{path}") as host:
            run = await started(host, thread())
            reading = asyncio.create_task(events(run))
            await until(lambda: run.log.visible == 1)
            with closing(locked(path)) as lock:
                held.go.set()
                await asyncio.sleep(0.3)  # long enough for it to be wrong
                assert run.outcome_known is None
                assert run.log.visible == 1
                lock.execute("ROLLBACK")
            assert kinds(await reading) == ["model_chunk", "model_chunk", "done"]

    asyncio.run(main())


@pytest.mark.parametrize("size", [1, 3000, 100_000])
def test_a_durable_run_is_ahead_of_the_disk_by_little(tmp_path: Path, size: int) -> None:
    path = tmp_path / "store.db"
    produced = 0

    async def floods(ctx: RunContext) -> AsyncIterator[str]:
        nonlocal produced
        while True:
            yield "x" * size
            produced += 1

    async def main() -> None:
        async with hosting(floods, store=f"sqlite:///{path}") as host:
            run = await started(host, thread())
            reader = run.read()
            await until(lambda: produced > 100)
            with closing(locked(path)):
                last = -1
                while last != run.log.last:
                    last = run.log.last
                    await asyncio.sleep(0.1)  # it makes thousands in that time, unless it waits
                ahead = run.log.last - run.log.visible
                assert 0 < ahead <= 64
                assert (ahead - 1) * size <= 64 << 10
            reader.close()
            await idle(host)

    asyncio.run(main())


def test_an_entry_that_a_reader_waits_for_does_not_wait_for_the_next_one(tmp_path: Path) -> None:
    """Two entries in one moment, then silence: the second comes with the commit after the first's."""

    async def says_two(ctx: RunContext) -> AsyncIterator[str]:
        for _ in range(5):
            yield "one"
            yield "two"
            await go.wait()
            go.clear()

    go = asyncio.Event()

    async def main() -> None:
        nonlocal go
        go = asyncio.Event()
        async with hosting(says_two, store=f"sqlite:///{tmp_path}/store.db") as host:
            run = await started(host, thread())
            reader = run.read()
            slowest = 0.0
            for turn in range(1, 6):
                before = time.monotonic()
                while reader.seq < 2 * turn:
                    if not reader.take():
                        await within(reader.news())
                slowest = max(slowest, time.monotonic() - before)
                go.set()
            assert slowest < 0.2
            reader.close()

    asyncio.run(main())


def test_a_store_that_refuses_fails_the_run_and_what_it_did_not_take_is_never_seen(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "store.db"

    async def main() -> None:
        held = Held()
        async with hosting(held, store=f"sqlite:///{path}") as host:
            run = await started(host, thread())
            with closing(locked(path)) as lock:
                reading = asyncio.create_task(events(run))
                found = await within(reading)
                assert kinds(found) == ["error"], "the chunk was said and not taken"
                assert (found[0]["id"], found[0]["code"], found[0]["error"]) == (
                    1,
                    "store",
                    "The run could not be recorded",
                )
                assert held.cancelled.is_set(), "an agent nobody can hear is stopped"
                with pytest.raises(StoreError) as raised:
                    await run.result()
                assert (raised.value.code, raised.value.status) == ("store", 500)
                lock.execute("ROLLBACK")
            await until(lambda: run.task.done())  # type: ignore[union-attr]  # it has begun
            stored = await host.store.get_run(run.id)
            assert stored is not None
            assert (stored.status, stored.code) == ("failed", "store"), "recorded once the store was well again"
            assert [entry.type for entry in await host.store.read_events(run.id, 0, 10)] == ["error"]
            held.go.set()
            assert kinds(await told(host, thread()))[-1] == "done"
            assert await said(host) == [
                ("user", "hello", "failed"),
                ("user", "hello", None),
                ("assistant", "begun ended", None),
            ]
            await idle(host)

    asyncio.run(main())
    assert "another process keeps it locked" in caplog.text


def test_a_store_that_refuses_the_start_leaves_nothing_of_the_run(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def main() -> None:
        held = Held()
        async with hosting(held, store=f"sqlite:///{path}") as host:
            with closing(locked(path)) as lock:
                with pytest.raises(StoreError):
                    await started(host, thread())
                assert not held.begun.is_set()
                await idle(host)
                lock.execute("ROLLBACK")
            held.go.set()
            assert kinds(await told(host, thread()))[-1] == "done"
            assert len(await said(host)) == 2

    asyncio.run(main())


def test_a_store_that_fails_for_good_still_lets_the_run_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        held = Held()
        async with hosting(held, store=f"sqlite:///{tmp_path}/store.db") as host:
            run = await started(host, thread())
            reading = asyncio.create_task(events(run))
            await until(lambda: run.log.visible == 1)
            await asyncio.to_thread(host.store.close)
            held.go.set()
            found = await reading
            assert kinds(found) == ["model_chunk", "error"]
            assert found[-1]["code"] == "store"
            await idle(host)

    asyncio.run(main())
    assert "is not recorded: the store" in caplog.text


def test_a_caller_that_leaves_while_the_start_is_written_leaves_a_cancelled_run(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def main() -> None:
        held = Held()
        async with hosting(held, store=f"sqlite:///{path}") as host:
            with closing(locked(path)) as lock:
                starting = asyncio.create_task(started(host, thread()))
                await asyncio.sleep(0.1)  # the writer is asked, and waits for the lock
                starting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await starting
                lock.execute("ROLLBACK")
            held.go.set()
            assert kinds(await told(host, thread()))[-1] == "done"
            page = await host.store.list_runs("agent", "ann", limit=10)
            assert [run.status for run in page.items] == ["completed", "cancelled"]
            assert (await said(host))[0] == ("user", "hello", "cancelled")
            await idle(host)

    asyncio.run(main())


# ── refusals ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_input_that_does_not_meet_the_schema_is_refused_without_being_repeated() -> None:
    class Orders:
        input_schema = {"type": "object", "properties": {"count": {"type": "integer"}}, "required": ["count"]}  # noqa: RUF012

        async def run(self, ctx: RunContext) -> str:
            raise AssertionError("must not start")

    async def main() -> None:
        async with hosting(Orders) as host:
            with pytest.raises(InvalidRequest) as refused:
                await started(host, RunRequest("", thread_id="t", input={"count": SECRET}))
            assert refused.value.message == "input.count does not meet 'type' ('integer')"
            assert await said(host) == []
            await idle(host)

    asyncio.run(main())


def test_a_bad_thread_id_is_refused() -> None:
    async def main() -> None:
        async with hosting(speaks) as host:
            for name in ("", "x" * 201, "a\x00b", "\u202e"):
                with pytest.raises(InvalidRequest):
                    await started(host, thread(name))
            await idle(host)

    asyncio.run(main())


def test_an_agent_that_does_not_serve_is_not_run() -> None:
    async def main() -> None:
        async with hosting(speaks) as host:
            entry = host.entries["agent"]
            entry.become("draining")
            with pytest.raises(AgentNotReady) as refused:
                await host.runs.start(entry, ANN, RunRequest("hello"))
            assert refused.value.message == "agent 'agent' is draining"
            assert refused.value.retry_after

    asyncio.run(main())


def test_a_host_that_stops_takes_no_new_runs_and_lets_those_that_can_end() -> None:
    async def main() -> None:
        held = Held()
        async with hosting(served(held, concurrency=1)) as host:
            run = await started(host)
            waiting = asyncio.create_task(started(host))
            await until(lambda: host.entries["agent"].queued)
            stopping = asyncio.create_task(host.runs.stop(drain=20))
            with pytest.raises(HostStopping) as sent_away:
                await within(waiting)
            assert sent_away.value.retry_after
            with pytest.raises(AgentNotReady) as refused:
                await started(host)
            assert refused.value.message == "the host is stopping"
            held.go.set()
            await within(stopping)
            assert (await run.result()).status == "completed"
            await idle(host)

    asyncio.run(main())


def test_a_host_that_stops_does_not_wait_for_a_deaf_agent() -> None:
    async def main() -> None:
        deaf = Deaf()
        async with hosting(deaf) as host:
            run = await started(host, thread())
            reading = asyncio.create_task(events(run))
            await until(lambda: deaf.begun)
            before = time.monotonic()
            await within(host.runs.stop(drain=0.0))
            assert time.monotonic() - before < 2.0
            assert (await reading)[-1]["code"] == "host_stopping"
            deaf.go.set()
            await idle(host)

    asyncio.run(main())


# ── always ────────────────────────────────────────────────────────────────────────────────────────────────────────────

STEPS = st.lists(
    st.sampled_from(["text", "think", "tool", "wait", "turn", "bad", "raise", "exit", "result", "ask", "deaf", "call"]),
    max_size=6,
)


class Scripted:
    """Does what its prompt says, step by step; `wait` waits for ever, `deaf` does not hear the next cancel."""

    async def run(self, ctx: RunContext) -> AsyncIterator[Any]:
        for step in ctx.prompt.split():
            match step:
                case "text":
                    yield "text"
                case "think":
                    yield Think("hm")
                case "tool":
                    yield ToolStart("t", "c", {})
                    yield ToolComplete("t", "c", result=1)
                case "turn":
                    await asyncio.sleep(0)
                case "wait":
                    await asyncio.Event().wait()
                case "bad":
                    yield object()
                case "raise":
                    raise ValueError(SECRET)
                case "exit":
                    raise SystemExit(1)
                case "result":
                    yield Result(message="m")
                case "ask":
                    yield Interrupt("q?")
                case "deaf":
                    try:
                        await asyncio.sleep(0.02)
                    except asyncio.CancelledError:
                        yield "what?"
                case "call":
                    await ctx.call("callee", "text turn text")


class Callee(Scripted):
    pass


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            STEPS, st.sampled_from([None, "t", "u"]), st.integers(0, 12), st.sampled_from(["cancel", "leave"])
        ),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from(["reject", "queue", "cancel-running"]),
)
def test_every_run_has_exactly_one_terminal_event_and_leaves_nothing_counted(
    scripts: list[tuple[list[str], str | None, int, str]], policy: Any
) -> None:
    async def one(host: Host, steps: list[str], thread_id: str | None, turns: int, how: str) -> None:
        try:
            run = await started(host, RunRequest(" ".join(steps), thread_id=thread_id))
        except (ThreadBusy, Cancelled, AgentOverloaded):
            return
        reading = asyncio.create_task(events(run))
        for _ in range(turns):
            await asyncio.sleep(0)
        if how == "leave":
            reading.cancel()
            await asyncio.wait((reading,))
            found = []
        else:
            run.cancel(Cancelled("by a test"))
            found = await reading
        result = await within(run.ended())
        if how == "leave" and thread_id is None:
            return  # what its one reader has taken is gone
        found = found or await events(run)
        expected = {"completed": ["done"], "paused": []}.get(result.status, ["error"])
        assert [kind for kind in kinds(found) if kind in {"done", "error"}] == expected
        assert kinds(found)[-1:] == (expected or ["interrupt"])
        assert SECRET not in str(found)

    async def main() -> None:
        specs = [
            served(Scripted, timeout=0.3, concurrency=2, queue=2, on_busy_thread=policy),
            served(Callee, "callee", concurrency=1),
        ]
        async with hosting(*specs) as host:
            await asyncio.gather(*(one(host, *script) for script in scripts))
            await idle(host)
            assert not host.runs._endings

    asyncio.run(main())


def test_a_thousand_runs_leave_nothing_behind(tmp_path: Path) -> None:
    """Descriptors, threads, tasks; memory is looked at in a process of its own, in `journeys/`."""

    def blocking(ctx: RunContext) -> str:
        return "ok"

    async def main() -> None:
        names = {"async": speaks, "sync": blocking, "bad": raising("generator", ValueError("x"), first=False)}
        specs = [served(agent, name) for name, agent in names.items()]
        async with hosting(*specs, store=f"sqlite:///{tmp_path}/store.db") as host:

            async def batch(count: int) -> None:
                for place in range(count):
                    for name in names:
                        request = RunRequest("hi", thread_id="t" if place % 4 == 0 else None)
                        await told(host, request, agent=name)

            await batch(8)
            await idle(host)
            before = resources()
            await batch(340)
            await idle(host)
            after = resources()
            assert abs(after[0] - before[0]) <= 2, "descriptors"
            assert abs(after[1] - before[1]) <= 2, "threads"
            assert after[2] == before[2], "tasks"

    logging.disable(logging.ERROR)
    try:
        asyncio.run(main())
    finally:
        logging.disable(logging.NOTSET)


def resources() -> tuple[int, int, int]:
    """Open descriptors, threads, tasks."""
    return len(list(Path("/proc/self/fd").iterdir())), threading.active_count(), len(asyncio.all_tasks())


def test_what_a_run_costs_is_counted() -> None:
    async def main() -> None:
        async with hosting(speaks) as host:
            await told(host)
            await told(host, thread())
            page = host.metrics_page().decode()
            assert 'agenthost_runs_started_total{agent="agent"} 2.0' in page
            assert 'agenthost_runs_ended_total{agent="agent",status="completed"} 2.0' in page
            assert 'agenthost_runs_running{agent="agent"} 0.0' in page

    asyncio.run(main())


def test_the_numbers_of_this_module_are_those_of_the_design() -> None:
    assert engine.DEADLINES < TERMINAL_AFTER == 0.5
    assert CANCEL_AGAIN == 2.0
    assert isinstance(Run.__slots__, tuple)
