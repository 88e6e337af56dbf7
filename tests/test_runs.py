"""The run engine: what an agent may do to its run, and never to the host, its callers and its neighbours."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenthost import runs as engine
from agenthost.agents import RunContext, RunRequest
from agenthost.auth import Principal
from agenthost.errors import (
    AgentNotReady,
    AgentOverloaded,
    Cancelled,
    HostStopping,
    InvalidRequest,
    NotFound,
    RunError,
    ThreadBusy,
)
from agenthost.events import Interrupt, Result, Think, ToolComplete, ToolStart
from agenthost.host import Host
from agenthost.run import CANCEL_AGAIN, TERMINAL_AFTER, Run
from agenthost.threads import Message, ThreadKey
from tests.agents_for_tests import (
    ANN,
    BOB,
    PATIENCE,
    SECRET,
    Deaf,
    Held,
    asked,
    events,
    hosting,
    idle,
    kinds,
    raising,
    resumed,
    said,
    served,
    speaks,
    started,
    thread,
    told,
    until,
    within,
)

BROUGHT = (Message.of("system", "be brief"), Message.of("user", "a"), Message.of("assistant", "b"))


@pytest.mark.parametrize("detached", [False, True])
def test_what_a_dialect_brings_stands_behind_the_thread_and_only_system_messages_are_not_kept(detached: bool) -> None:
    seen: list[str] = []

    async def looks(ctx: RunContext) -> str:
        seen.append(" ".join(message.text for message in ctx.messages))
        await asyncio.sleep(0)
        return "ok"

    async def main() -> None:
        async with hosting(served(looks, concurrency=1)) as host:
            runs = [await asked(host, RunRequest("first", thread_id="t"))]
            await within(runs[0].result())
            blocking = await asked(host, RunRequest("other", thread_id="u", detached=detached))
            run = await asked(host, RunRequest("c", thread_id="t", history=BROUGHT, detached=detached))
            await within(blocking.result())
            await within(run.result())
            assert seen[0::2] == ["first", "be brief first ok a b c"]
            assert [text for _role, text, _status in await said(host)] == ["first", "ok", "a", "b", "c", "ok"]

    asyncio.run(main())


def test_a_conversation_without_a_thread_that_pauses_is_kept_whole() -> None:
    async def asks(ctx: RunContext) -> AsyncIterator[Any]:
        if ctx.answer is None:
            yield Interrupt("which?")
        else:
            yield " ".join([*(message.text for message in ctx.messages), str(ctx.answer.response)])

    async def main() -> None:
        async with hosting(asks) as host:
            run = await asked(host, RunRequest("c", history=BROUGHT))
            assert (await within(run.result())).status == "paused"
            assert run.thread is not None
            name = run.thread.thread_id
            assert [text for _role, text, _status in await said(host, name)] == ["a", "b", "c"]
            again = await resumed(host, "this", thread_id=name)
            assert (await within(again.result())).message == "be brief a b c this"
            assert [text for _role, text, _status in await said(host, name)][:3] == ["a", "b", "c"]

    asyncio.run(main())


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


def test_a_prompt_alone_is_refused_where_only_structured_input_is_taken() -> None:
    class Orders:
        needs_input = True

        async def run(self, ctx: RunContext) -> dict[str, Any]:
            return {"ordered": ctx.input}

    async def main() -> None:
        async with hosting(Orders) as host:
            with pytest.raises(InvalidRequest) as refused:
                await started(host, RunRequest("three apples"))
            assert refused.value.message == "this agent takes structured input only: give it as `input`"
            run = await started(host, RunRequest("", input={"count": 3}))
            assert (await run.result()).output == {"ordered": {"count": 3}}

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


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(STEPS, st.sampled_from([None, "t", "u"]), st.integers(0, 12), st.sampled_from(["cancel", "leave"])),
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
        assert ("interrupt" in kinds(found)) is (result.status == "paused"), "nobody is asked what nobody can answer"
        assert SECRET not in str(found)

    async def main() -> None:
        specs = [
            served(Scripted, timeout=0.3, concurrency=2, queue=2, on_busy_thread=policy),
            served(Callee, "callee", concurrency=1),
        ]
        async with hosting(*specs) as host:
            await asyncio.gather(*(one(host, *script) for script in scripts))
            await idle(host)
            await within(host.runs._finisher.settled(PATIENCE))

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
            assert len(after[0]) - len(before[0]) <= 2, "descriptors"
            assert len(after[1] - before[1]) <= 2, "threads"
            assert not after[2] - before[2], "tasks"

    logging.disable(logging.ERROR)
    try:
        asyncio.run(main())
    finally:
        logging.disable(logging.NOTSET)


def resources() -> tuple[set[str], set[threading.Thread], set[asyncio.Task[Any]]]:
    """Open descriptors, threads, tasks; some may be an earlier test's, and end at any time."""
    return set(os.listdir("/proc/self/fd")), set(threading.enumerate()), asyncio.all_tasks()


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


# ── in the background ────────────────────────────────────────────────────────────────────────────────────────────────


def background(prompt: str = "hello", thread_id: str | None = None) -> RunRequest:
    """What asks for a detached run."""
    return RunRequest(prompt, thread_id=thread_id, detached=True)


@pytest.fixture(params=["in memory", "on a file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory:" if request.param == "in memory" else f"sqlite:///{tmp_path}/store.db"


async def found(host: Host, run_id: str, *, agent: str = "agent", caller: Principal = ANN) -> Any:
    return await within(host.runs.find(host.entries[agent], caller, run_id))


def test_a_detached_run_goes_on_where_its_caller_gives_up(store: str) -> None:
    async def main() -> None:
        async with hosting(speaks, store=store) as host:
            for turns in range(8):
                leaving = asyncio.create_task(asked(host, background(f"prompt {turns}")))
                for _ in range(turns):
                    await asyncio.sleep(0)
                leaving.cancel()
                await asyncio.wait((leaving,))
            async with asyncio.timeout(PATIENCE):
                while True:
                    page = await host.store.list_runs("agent", "ann", status="completed", limit=20)
                    if len(page.items) >= 7:
                        break
                    await asyncio.sleep(0.01)
            await idle(host)

    asyncio.run(main())


@pytest.mark.parametrize("full", ["slots", "thread"])
def test_a_detached_run_that_has_to_wait_is_queued_and_begins_in_its_turn(store: str, full: str) -> None:
    held = Held()

    async def recalls(ctx: RunContext) -> AsyncIterator[str]:
        if ctx.prompt == "first":
            async for word in held.run(ctx):
                yield word
        else:
            yield "|".join(message.text for message in ctx.messages)

    async def main() -> None:
        spec = served(recalls, concurrency=1 if full == "slots" else 9, on_busy_thread="queue")
        async with hosting(spec, store=store) as host:
            first = await started(host, background("first", "t"))
            second = await started(host, background("second", "t" if full == "thread" else "u"))
            third = await started(host, background("third", "t" if full == "thread" else "u"))
            assert [run.status for run in (first, second, third)] == ["running", "queued", "queued"]
            for run in (second, third):
                assert await found(host, run.id) is run
                kept = await host.store.get_run(run.id)
                assert kept is not None
                assert (kept.status, kept.ended) == ("queued", None)
            reading = asyncio.create_task(events(third))
            held.go.set()
            earlier = "first|begun ended|" if full == "thread" else ""
            assert (await within(second.result())).message == f"{earlier}second"
            assert (await reading)[-1]["message"] == f"{earlier}second|{earlier}second|third"
            assert [second.status, third.status] == ["completed", "completed"]
            await idle(host)

    asyncio.run(main())


def test_a_detached_run_on_a_busy_thread_is_refused_where_the_agent_says_so(store: str) -> None:
    held = Held()

    async def main() -> None:
        async with hosting(served(held, on_busy_thread="reject"), store=store) as host:
            first = await started(host, background("first", "t"))
            with pytest.raises(ThreadBusy):
                await asked(host, background("second", "t"))
            page = await host.store.list_runs("agent", "ann", limit=10)
            assert [run.run_id for run in page.items] == [first.id]
            held.go.set()
            await within(first.result())
            await idle(host)

    asyncio.run(main())


def test_a_newer_run_sends_away_those_that_wait_for_its_thread(store: str) -> None:
    held = Held()

    async def main() -> None:
        async with hosting(served(held, on_busy_thread="cancel-running"), store=store) as host:
            runs = [await started(host, background(f"{n}", "t")) for n in range(3)]
            held.go.set()
            await within(runs[-1].result())
            await idle(host)
            ends = [await found(host, run.id) for run in runs]
            assert [end.status for end in ends] == ["cancelled", "cancelled", "completed"]
            assert [kinds(await events(end))[-1] for end in ends] == ["error", "error", "done"]

    asyncio.run(main())


def test_a_queued_run_that_is_cancelled_ends_and_never_begins(store: str) -> None:
    held = Held()

    async def main() -> None:
        async with hosting(served(held, concurrency=1), store=store) as host:
            first = await started(host, background("first"))
            second = await started(host, background("second", "t"))
            reading = asyncio.create_task(events(second))
            second.cancel(Cancelled("by a test"))
            assert [event["code"] for event in await reading] == ["cancelled"]
            with pytest.raises(Cancelled):
                await within(second.result())
            assert (await found(host, second.id)).status == "cancelled"
            held.go.set()
            await within(first.result())
            assert await said(host) == [], "it never came to speak"
            await idle(host)

    asyncio.run(main())


def test_a_turn_that_comes_in_the_moment_of_a_stop_is_left_to_the_next_host(tmp_path: Path) -> None:
    held = Held()

    async def main() -> None:
        async with hosting(served(held, concurrency=1), store=f"sqlite:///{tmp_path}/store.db") as host:
            first, *others = [await started(host, background(f"{number}")) for number in range(5)]
            host.runs.stopping = True  # as the signal's handler does, a moment before the stop itself
            held.go.set()
            await within(first.ended())
            for run in others:
                await within(run.ended())
            assert (await found(host, first.id)).status == "completed"
            assert [(await host.store.get_run(run.id)).status for run in others] == ["queued"] * 4  # type: ignore[union-attr]  # they are there
            await idle(host)

    asyncio.run(main())


def test_a_host_that_stops_leaves_the_runs_that_wait_to_the_next_one(tmp_path: Path) -> None:
    held = Held()

    async def main() -> None:
        async with hosting(served(held, concurrency=1), store=f"sqlite:///{tmp_path}/store.db") as host:
            first = await started(host, background("first"))
            second = await started(host, background("second"))
            third = await started(host, RunRequest("third", idempotency_key="k", request_digest="d", detached=True))
            reader = second.read()
            news = reader.news()
            stopping = asyncio.create_task(host.runs.stop(drain=20))
            await within(news)
            assert (reader.take(), reader.at_end, reader.abandoned) == ([], True, True), "it has not ended"
            reader.close()
            held.go.set()
            await within(stopping)
            assert (await first.result()).status == "completed"
            await idle(host)
        async with hosting(speaks, store=f"sqlite:///{tmp_path}/store.db") as after:
            async with asyncio.timeout(PATIENCE):
                for run in (second, third):
                    while (await after.store.get_run(run.id)).ended is None:  # type: ignore[union-attr]
                        await asyncio.sleep(0.01)
            assert [(await (await found(after, run.id)).result()).message for run in (second, third)] == [
                "hello second",
                "hello third",
            ]
            late = await asked(after, RunRequest("third", idempotency_key="k", request_digest="d"))
            assert late.id == third.id
            await idle(after)

    asyncio.run(main())


def test_a_run_that_waits_for_longer_than_its_agents_timeout_still_begins() -> None:
    async def agent(ctx: RunContext) -> AsyncIterator[str]:
        if ctx.prompt == "first":
            try:
                await asyncio.sleep(0.7)
            except asyncio.CancelledError:
                await asyncio.sleep(0.3)  # it does not hear at once
        yield "done"

    async def main() -> None:
        async with hosting(served(agent, concurrency=1, timeout=0.3)) as host:
            await started(host, background("first"))
            second = await started(host, background("second"))
            assert second.status == "queued"
            assert (await within(second.result())).message == "done"
            await idle(host)

    asyncio.run(main())


def test_a_run_is_found_by_its_owner_and_by_operators_while_it_goes_and_after(store: str) -> None:
    held = Held()
    admin = Principal("root", agents=("*",), admin=True)

    async def main() -> None:
        async with hosting(served(held), served(speaks, "other"), store=store) as host:
            run = await started(host, background())
            for _ in range(2):
                for caller in (ANN, admin):
                    assert (await found(host, run.id, caller=caller)).id == run.id
                for options in ({"caller": BOB}, {"agent": "other"}, {"agent": "other", "caller": admin}):
                    with pytest.raises(NotFound) as missing:
                        await found(host, run.id, **options)  # type: ignore[arg-type]  # one of each
                    assert missing.value.message == "no such run"
                held.go.set()
                await within(run.result())
                await idle(host)
            with pytest.raises(NotFound):
                await found(host, "0" * 32)

    asyncio.run(main())


@pytest.mark.parametrize("size", [10, 100_000], ids=["all in memory", "most in the store"])
def test_a_stream_that_is_cut_after_each_event_and_joined_is_the_whole_live_and_after_the_end(
    store: str, size: int
) -> None:
    """30 events; with 100 kB each, a log keeps the newest few in memory."""
    held = Held()

    async def agent(ctx: RunContext) -> AsyncIterator[str]:
        for number in range(27):
            yield f"{number}" + "x" * size
        async for word in held.run(ctx):
            yield word

    async def first(run: Any, after: int, count: int) -> list[dict[str, Any]]:
        """The next `count` events, as a reader that then leaves."""
        reader, taken = run.read(after), []
        try:
            async with asyncio.timeout(PATIENCE):
                while len(taken) < count:
                    entries = reader.take()
                    if entries is None:
                        entries = await reader.take_stored()
                    taken += entries
                    if not entries:
                        await reader.news()
        finally:
            reader.close()
        return [{"id": entry.seq, **json.loads(entry.data)} for entry in taken[:count]]

    async def main() -> None:
        async with hosting(agent, store=store) as host:
            run = await started(host, background())
            await within(held.begun.wait())
            live = [await first(run, 0, seen) for seen in range(29)]
            assert (run.log._base > 0) is (size > 10)
            rest = [asyncio.create_task(events(run, seen)) for seen in range(29)]
            await asyncio.sleep(0)
            held.go.set()
            joined = [before + await after for before, after in zip(live, rest, strict=True)]
            await idle(host)
            ended = await found(host, run.id)
            whole = await events(ended)
            assert [event["id"] for event in whole] == list(range(1, 31))
            assert all(one == whole for one in joined)
            for seen in range(31):
                assert await first(ended, 0, seen) + await events(ended, seen) == whole

    asyncio.run(main())


def test_many_readers_of_one_run_see_the_same_whenever_they_come(store: str) -> None:
    async def agent(ctx: RunContext) -> AsyncIterator[str]:
        for number in range(200):
            yield f"{number} "
            if number % 10 == 0:
                await asyncio.sleep(0.001)

    async def main() -> None:
        async with hosting(agent, store=store) as host:
            run = await started(host, background())
            reading = []
            for _ in range(30):
                reading.append(asyncio.create_task(events(run)))
                await asyncio.sleep(0.001)
            bodies = await asyncio.gather(*reading)
            assert len(bodies[0]) == 201
            assert all(body == bodies[0] for body in bodies)

    asyncio.run(main())


def test_a_reader_past_the_end_of_a_run_that_goes_waits_for_its_end(store: str) -> None:
    held = Held()

    async def main() -> None:
        async with hosting(held, store=store) as host:
            run = await started(host, background())
            past = asyncio.create_task(events(run, 99))
            at_end = asyncio.create_task(events(run, 1))
            await until(lambda: run.log.visible == 1)
            held.go.set()
            assert kinds(await at_end) == ["model_chunk", "done"]
            assert await past == []

    asyncio.run(main())


def test_a_start_that_the_host_stopped_is_ended_in_the_store(tmp_path: Path) -> None:
    """The stop comes while the start is being written."""
    path = tmp_path / "store.db"

    async def main() -> None:
        async with hosting(speaks, store=f"sqlite:///{path}") as host:
            with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
                other.execute("BEGIN IMMEDIATE")
                starting = [
                    asyncio.create_task(asked(host, request))
                    for request in (
                        thread(),
                        background(),
                        RunRequest("x", idempotency_key="k", request_digest="d"),
                    )
                ]
                await asyncio.sleep(0.1)  # the writer is asked, and waits for the lock
                stopping = asyncio.create_task(host.stop(drain=0.0))
                await asyncio.sleep(0.05)
                other.execute("ROLLBACK")
            await within(stopping)
            ends = await asyncio.gather(*starting, return_exceptions=True)
            assert all(isinstance(end, Run | HostStopping | AgentNotReady) for end in ends), ends
        with closing(sqlite3.connect(path)) as file:
            assert file.execute("SELECT count(*) FROM runs WHERE ended IS NULL").fetchall() == [(0,)]

    asyncio.run(main())
