"""One run: cancelled, timed out, read, left by its readers; its terminal event comes, whatever the agent does."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import threading
import time
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agenthost.agents import RunContext, RunRequest
from agenthost.errors import (
    AgentOverloaded,
    Cancelled,
    HostError,
    HostStopping,
    ThreadBusy,
)
from agenthost.host import Host
from agenthost.run import CANCEL_AGAIN, TERMINAL_AFTER
from tests.agents_for_tests import (
    Deaf,
    Held,
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
    within,
)


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


@pytest.mark.fault
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


class Prompt(str):
    """A prompt that can be looked for after its run: a plain str takes no weak reference."""

    __slots__ = ("__weakref__",)


@pytest.mark.parametrize("raised", [None, ValueError, asyncio.CancelledError])
def test_a_run_that_ended_is_let_go_without_the_collector(
    raised: type[BaseException] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("agenthost.runs"), "disabled", True)  # a captured record keeps its frames

    async def agent(ctx: RunContext) -> AsyncIterator[str]:
        yield "hello"
        if raised is not None:
            raise raised

    async def one(host: Host) -> weakref.ref[Prompt]:
        prompt = Prompt("p" * 100)
        run = await started(host, RunRequest(prompt))
        with contextlib.suppress(HostError):
            await run.result()
        return weakref.ref(prompt)

    async def main() -> None:
        async with hosting(agent) as host:
            gc.collect()
            gc.disable()
            try:
                gone = await one(host)
                await idle(host)
                await until(lambda: gone() is None)
            finally:
                gc.enable()

    asyncio.run(main())
