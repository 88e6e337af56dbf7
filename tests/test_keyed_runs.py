"""One run for each idempotency key: while it starts, goes and has ended, in this host and in the next on its file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agenthost.agents import RunContext, RunRequest
from agenthost.auth import Principal
from agenthost.ended_run import EndedRun
from agenthost.errors import (
    AgentError,
    AgentNotReady,
    AgentOverloaded,
    Cancelled,
    HostLost,
    KeyReused,
    RequestError,
    ThreadBusy,
    TooManyRuns,
)
from agenthost.events import Result, Usage
from agenthost.run import Run
from tests.agents_for_tests import (
    ANN,
    BOB,
    SECRET,
    Held,
    asked,
    events,
    hosting,
    idle,
    lose,
    said,
    served,
    started,
    thread,
    until,
    within,
)


@pytest.fixture(params=["in memory", "on a file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory:" if request.param == "in memory" else f"sqlite:///{tmp_path}/store.db"


def keyed(prompt: str = "hello", key: str = "k", **fields: Any) -> RunRequest:
    """A request with a key; its digest is its prompt."""
    return RunRequest(prompt, idempotency_key=key, request_digest=prompt, **fields)


class Counts:
    """Counts its runs, and says the number."""

    def __init__(self) -> None:
        self.runs = 0

    async def run(self, ctx: RunContext) -> AsyncIterator[Any]:
        self.runs += 1
        yield f"run {self.runs}"
        yield Usage("m", input_tokens=2, cost_usd=0.5)
        yield Result(output={"n": self.runs})


@pytest.mark.parametrize("detached", [False, True], ids=["attached", "detached"])
@pytest.mark.parametrize("thread_id", [None, "t"])
def test_the_same_key_is_the_same_run_going_or_ended(store: str, detached: bool, thread_id: str | None) -> None:
    counts = Counts()

    async def main() -> None:
        async with hosting(counts, store=store) as host:
            request = keyed(detached=detached, thread_id=thread_id)
            first = await asked(host, request)
            second = await asked(host, replace(request))
            assert second is first
            before = await within(first.result())
            found = await events(first)
            late = await asked(host, replace(request))
            assert isinstance(late, EndedRun)
            assert (await late.result()) == before
            assert await events(late) == found
            assert (late.id, late.thread) == (first.id, first.thread)
            assert counts.runs == 1
            await idle(host)

    asyncio.run(main())


def test_the_key_of_a_run_is_known_to_the_next_host_on_its_file(tmp_path: Path) -> None:
    counts = Counts()
    store = f"sqlite:///{tmp_path}/store.db"

    async def main() -> None:
        async with hosting(counts, store=store) as host:
            first = await asked(host, keyed())
            before, found = await within(first.result()), await events(first)
        async with hosting(counts, store=store) as host:
            late = await asked(host, keyed())
            assert await late.result() == before
            assert await events(late) == found
            assert counts.runs == 1
            assert (await (await asked(host, keyed(key="l"))).result()).output == {"n": 2}

    asyncio.run(main())


def test_a_run_that_failed_fails_again_the_same_way(tmp_path: Path) -> None:
    async def raises(ctx: RunContext) -> AsyncIterator[Any]:
        yield "before"
        raise ValueError(SECRET)

    store = f"sqlite:///{tmp_path}/store.db"
    told: list[Any] = []

    async def failure(host: Any) -> None:
        run = await asked(host, keyed())
        with pytest.raises(AgentError) as failed:
            await within(run.result())
        error = failed.value
        told.append((type(error), error.code, error.status, error.detail, error.run_id, error.correlation_id))
        told.append(await events(run))

    async def main() -> None:
        for _ in range(2):
            async with hosting(raises, store=store) as host:
                await failure(host)
                await failure(host)
        assert told[0][2:4] == (500, "The agent failed")
        assert all(one == told[0] for one in told[::2])
        assert all(one == told[1] for one in told[1::2])

    asyncio.run(main())


def test_a_run_that_was_cancelled_stays_so() -> None:
    held = Held()

    async def main() -> None:
        async with hosting(held) as host:
            run = await asked(host, keyed())
            assert isinstance(run, Run)
            await within(held.begun.wait())
            run.cancel(Cancelled("by a test"))
            for _ in range(2):
                with pytest.raises(Cancelled) as cancelled:
                    await within((await asked(host, keyed())).result())
                assert cancelled.value.detail == "The run was cancelled"
                await idle(host)

    asyncio.run(main())


def test_a_key_of_a_lost_host_answers_with_what_became_of_its_run(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/store.db"
    held = Held()

    async def main() -> None:
        async with hosting(held, store=store) as host:
            first = await asked(host, keyed())
            await within(held.begun.wait())
            await lose(host)
            async with hosting(held, store=store) as next_host:
                late = await asked(next_host, keyed())
                assert late.id == first.id
                with pytest.raises(HostLost) as lost:
                    await late.result()
                assert (lost.value.status, lost.value.run_id) == (500, first.id)
                assert held.running == 1, "it was not run again"

    asyncio.run(main())


@pytest.mark.parametrize("when", ["starting", "going", "ended"])
def test_another_body_with_a_key_is_refused(when: str) -> None:
    held = Held()

    async def main() -> None:
        async with hosting(held) as host:
            first = asyncio.create_task(asked(host, keyed()))
            if when == "starting":
                await asyncio.sleep(0)
            else:
                await until(lambda: host.runs.going)
            if when == "ended":
                held.go.set()
                await within((await first).result())
                await idle(host)
            with pytest.raises(KeyReused) as reused:
                await asked(host, keyed("another"))
            assert reused.value.message == "this Idempotency-Key came with another request before"
            assert reused.value.hint == "use a new key for each request, the same to retry"
            assert (reused.value.status, reused.value.code) == (422, "idempotency_key_reused")
            held.go.set()
            assert (await within((await first).result())).message == "begun ended"
            await idle(host)

    asyncio.run(main())


def test_a_key_belongs_to_one_principal_and_one_agent(store: str) -> None:
    counts = Counts()

    async def main() -> None:
        async with hosting(served(counts), served(counts, "other"), store=store) as host:
            runs = [await asked(host, keyed(text), **options) for text, options in USES]
            assert len({run.id for run in runs}) == len(runs)
            for run in runs:
                await within(run.result())
            again = [await asked(host, keyed(text), **options) for text, options in USES]
            assert [run.id for run in again] == [run.id for run in runs]
            assert counts.runs == len(runs)

    asyncio.run(main())


USES: list[tuple[str, dict[str, Any]]] = [
    ("hello", {}),
    ("other words", {"caller": BOB}),
    ("hello", {"agent": "other"}),
    ("hello", {"agent": "other", "caller": BOB}),
]


@pytest.mark.parametrize("detached", [False, True], ids=["attached", "detached"])
@pytest.mark.parametrize("thread_id", [None, "t"])
def test_fifty_racing_requests_with_one_key_are_one_run(store: str, detached: bool, thread_id: str | None) -> None:
    counts = Counts()

    async def main() -> None:
        async with hosting(counts, store=store) as host:
            requests = [keyed(detached=detached, thread_id=thread_id) for _ in range(50)]
            runs = await asyncio.gather(*(asked(host, request) for request in requests))
            assert len({run.id for run in runs}) == 1
            assert {(await within(run.result())).message for run in runs} == {"run 1"}
            assert counts.runs == 1
            await idle(host)
            if thread_id:
                assert len(await said(host)) == 2
            assert not host.runs._keyed._firsts, "the store knows it"

    asyncio.run(main())


def test_racing_requests_with_one_key_and_two_bodies_are_one_run(store: str) -> None:
    counts = Counts()

    async def main() -> None:
        async with hosting(counts, store=store) as host:
            requests = [keyed("even" if place % 2 == 0 else "odd") for place in range(50)]
            runs = await asyncio.gather(*(asked(host, request) for request in requests), return_exceptions=True)
            assert [type(run) for run in runs[1::2]] == [KeyReused] * 25
            assert len({run.id for run in runs[::2] if not isinstance(run, BaseException)}) == 1
            assert counts.runs == 1

    asyncio.run(main())


@pytest.mark.parametrize("detached", [False, True], ids=["attached", "detached"])
@pytest.mark.parametrize(
    ("why", "refusal"),
    [("busy thread", ThreadBusy), ("limit", TooManyRuns), ("full", AgentOverloaded), ("draining", AgentNotReady)],
)
def test_a_start_that_was_refused_leaves_the_key_free(
    store: str, why: str, refusal: type[RequestError], detached: bool
) -> None:
    held = Held()
    caller = Principal("ann", agents=("*",), concurrency=1) if why == "limit" else ANN

    async def main() -> None:
        async with hosting(served(held, concurrency=1, queue=0), store=store) as host:
            entry = host.entries["agent"]
            first = await started(host, thread(), caller=BOB if why == "full" else caller)
            if why == "draining":
                entry.become("draining")
            request = keyed(thread_id="t" if why == "busy thread" else None, detached=detached)
            for _ in range(2):
                with pytest.raises(refusal):
                    await within(host.runs.ask(entry, caller, replace(request)))
            page = await host.store.list_runs("agent", "ann", limit=10)
            assert all(run.run_id == first.id for run in page.items), "refused runs leave no row"
            entry.become("ready")
            held.go.set()
            await within(first.result())
            await idle(host)
            run = await within(host.runs.ask(entry, caller, replace(request)))
            assert (await within(run.result())).message == "begun ended"

    asyncio.run(main())


def test_a_client_that_leaves_does_not_cancel_the_start_of_a_run_with_a_key(store: str) -> None:
    counts = Counts()

    async def main() -> None:
        async with hosting(counts, store=store) as host:
            for turns in range(6):
                leaving = asyncio.create_task(asked(host, keyed(key=f"k{turns}")))
                for _ in range(turns):
                    await asyncio.sleep(0)
                leaving.cancel()
                await asyncio.wait((leaving,))
                run = await asked(host, keyed(key=f"k{turns}"))
                assert (await within(run.result())).message == f"run {turns + 1}"
                await idle(host)

    asyncio.run(main())


def test_a_client_that_leaves_while_its_run_waits_does_not_take_it_out_of_the_queue() -> None:
    held = Held()

    async def main() -> None:
        async with hosting(served(held, concurrency=1)) as host:
            first = await started(host)
            leaving = asyncio.create_task(asked(host, keyed()))
            await until(lambda: host.entries["agent"].queued)
            leaving.cancel()
            await asyncio.wait((leaving,))
            assert host.entries["agent"].queued == 1
            held.go.set()
            await within(first.result())
            assert (await within((await asked(host, keyed())).result())).message == "begun ended"
            await idle(host)

    asyncio.run(main())


def test_a_run_with_a_key_goes_on_without_readers() -> None:
    held = Held()

    async def main() -> None:
        async with hosting(held) as host:
            run = await asked(host, keyed())
            run.read().close()
            run.attend()
            run.leave()
            await within(held.begun.wait())
            held.go.set()
            assert (await within(run.result())).status == "completed"

    asyncio.run(main())


def test_a_key_is_not_held_in_memory_once_its_run_has_ended(store: str) -> None:
    counts = Counts()

    async def main() -> None:
        async with hosting(counts, store=store) as host:
            for place in range(20):
                run = await asked(host, keyed(key=str(place)))
                await within(run.result())
                assert isinstance(await asked(host, keyed(key=str(place))), EndedRun)
            await idle(host)
            assert not host.runs._keyed._firsts

    asyncio.run(main())
