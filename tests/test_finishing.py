"""How runs come to their end where the store does not take it, comes back, or never does."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agenthost.agents import RunContext, RunRequest
from agenthost.ended_run import EndedRun
from agenthost.errors import AgentError, AgentPaused, Cancelled, KeyReused, NotFound, StoreError, ThreadBusy
from agenthost.events import Interrupt
from agenthost.finishing import RECORD_AGAIN, as_run_error
from agenthost.host import Host
from agenthost.run import Run
from tests.agents_for_tests import (
    ANN,
    PATIENCE,
    Deaf,
    Held,
    asked,
    events,
    hosting,
    idle,
    kinds,
    refusing,
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


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


ENDS = "UPDATE OF ended ON runs"


async def recorded(host: Host) -> None:
    """Wait until the ends that the store refused are in it."""
    await until(lambda: not host.runs._finisher.unrecorded)


@pytest.mark.parametrize("detached", [False, True], ids=["on a thread", "detached"])
def test_an_end_that_the_store_does_not_take_is_recorded_once_it_does(path: Path, detached: bool) -> None:
    async def main() -> None:
        async with hosting(speaks, store=f"sqlite:///{path}") as host:
            request = RunRequest("hello", detached=True) if detached else thread()
            with refusing(path, ENDS):
                run = await started(host, request)
                found = await events(run)
                assert kinds(found)[-1] == "error"
                assert (found[-1]["code"], found[-1]["error"]) == ("store", "The run could not be recorded")
                with pytest.raises(StoreError):
                    await run.result()
                assert run.released, "it holds nothing while it waits to be recorded"
                assert host.runs._finisher.unrecorded == {run.id: run}
                again = await host.runs.find(host.entries["agent"], ANN, run.id)
                assert again is run, "and it can be read"
                assert await events(run) == found
                stored = await host.store.get_run(run.id)
                assert stored is not None
                assert stored.ended is None
                if not detached:  # its turn is free
                    with pytest.raises(StoreError):
                        await (await started(host, thread())).result()
            await recorded(host)
            stored = await host.store.get_run(run.id)
            assert stored is not None
            assert (stored.status, stored.code) == ("failed", "store")
            again = await host.runs.find(host.entries["agent"], ANN, run.id)
            assert isinstance(again, EndedRun)
            assert await events(again) == found, "what its readers saw, and no more"
            with pytest.raises(StoreError) as failed:
                await again.result()
            assert failed.value.correlation_id == found[-1]["correlation_id"]
            assert kinds(await told(host, request))[-1] == "done", "without a restart"
            await idle(host)

    asyncio.run(main())


def test_what_the_store_did_not_take_is_never_seen(path: Path) -> None:
    async def main() -> None:
        held = Held()
        async with hosting(held, store=f"sqlite:///{path}") as host:
            run = await started(host, thread())
            reading = asyncio.create_task(events(run))
            await until(lambda: run.log.visible == 1)
            with refusing(path, "INSERT ON events"):
                held.go.set()
                found = await within(reading)
                assert kinds(found) == ["model_chunk", "error"], "the second chunk was said and not taken"
                assert [event["id"] for event in found] == [1, 2]
            await recorded(host)
            assert [entry.type for entry in await host.store.read_events(run.id, 0, 9)] == ["model_chunk", "error"]
            assert await said(host) == [("user", "hello", "failed")]

    asyncio.run(main())


def test_a_refused_append_stops_the_agent(path: Path) -> None:
    async def main() -> None:
        held = Held()
        async with hosting(held, store=f"sqlite:///{path}") as host:
            with refusing(path, "INSERT ON events"):
                run = await started(host, thread())
                await within(held.cancelled.wait())
                assert (await events(run))[-1]["code"] == "store"
            await recorded(host)
            await idle(host)

    asyncio.run(main())


def test_other_runs_go_on_while_one_waits_to_be_recorded(path: Path) -> None:
    async def main() -> None:
        async with hosting(served(speaks), served(speaks, "other"), store=f"sqlite:///{path}") as host:
            with refusing(path, "UPDATE OF ended ON runs WHEN OLD.agent = 'agent'"):
                assert (await told(host, thread()))[-1]["code"] == "store"
                for _ in range(3):
                    assert kinds(await told(host, thread(), agent="other"))[-1] == "done"
                    assert kinds(await told(host, "nothing is to be kept"))[-1] == "done"
            await recorded(host)

    asyncio.run(main())


async def asks(ctx: RunContext) -> AsyncIterator[Any]:
    if ctx.answers:
        yield "answered"
    else:
        yield "let me ask"
        yield Interrupt("really?", interrupt_id="q")


@pytest.mark.parametrize("thread_id", [None, "t"])
@pytest.mark.parametrize("refused", ["INSERT ON interrupts", "INSERT ON events", ENDS])
def test_a_question_that_the_store_does_not_take_is_not_asked(path: Path, refused: str, thread_id: str | None) -> None:
    async def main() -> None:
        async with hosting(asks, store=f"sqlite:///{path}") as host:
            with refusing(path, refused):
                run = await started(host, RunRequest("hello", thread_id=thread_id))
                found = await events(run)
                assert "interrupt" not in kinds(found)
                assert (kinds(found)[-1], found[-1]["code"]) == ("error", "store")
                with pytest.raises(StoreError):
                    await run.result()
                assert (run.thread is None) == (thread_id is None), "a thread that nobody can find is none"
            await recorded(host)
            await idle(host)
            with pytest.raises(NotFound):
                await resumed(host, "yes", thread_id=thread_id or run.id)
            await within((await started(host, thread())).result())
            assert (await within((await resumed(host, "yes")).result())).message == "answered"

    asyncio.run(main())


def test_a_pause_that_is_recorded_by_half_does_not_leave_a_run_that_goes_for_ever(path: Path) -> None:

    async def main() -> None:
        async with hosting(asks, store=f"sqlite:///{path}") as host:
            with refusing(path, "INSERT ON interrupts"):
                run = await started(host, "hello")
                found = await events(run)
            await idle(host)
            await recorded(host)
            stored = await host.store.get_run(run.id)
            assert stored is not None, "its beginning was taken"
            assert (stored.status, stored.code) == ("failed", "store")
            assert (kinds(found)[-1], found[-1]["code"]) == ("error", "store")
            assert await events(await host.runs.find(host.entries["agent"], ANN, run.id)) == []  # type: ignore[arg-type]

    asyncio.run(main())


def test_a_key_finds_a_run_that_is_not_recorded_yet(path: Path) -> None:
    async def main() -> None:
        request = RunRequest("hello", idempotency_key="k", request_digest="d")
        async with hosting(speaks, store=f"sqlite:///{path}") as host:
            with refusing(path, ENDS):
                run = await asked(host, request)
                found = await events(run)
                assert found[-1]["code"] == "store"
                again = await asked(host, request)
                assert again is run
                with pytest.raises(KeyReused):
                    await asked(host, RunRequest("other", idempotency_key="k", request_digest="e"))
            await recorded(host)
            late = await asked(host, request)
            assert late.id == run.id
            assert await events(late) == found
            await idle(host)
            assert not host.runs._keyed._firsts, "the store knows it by now"

    asyncio.run(main())


def test_a_claimed_question_is_open_again_once_the_end_of_its_run_is_recorded(path: Path) -> None:
    async def main() -> None:
        async with hosting(asks, store=f"sqlite:///{path}") as host:
            await within((await started(host, thread())).result())
            with refusing(path, "INSERT ON events"):
                run = await resumed(host, "yes")
                assert kinds(await events(run)) == ["error"]
            await recorded(host)
            again = await resumed(host, "yes")
            assert kinds(await events(again)) == ["model_chunk", "done"]

    asyncio.run(main())


def test_a_run_that_is_cancelled_or_refused_while_it_is_recorded_ends_once(path: Path) -> None:
    async def main() -> None:
        held = Held()
        async with hosting(held, store=f"sqlite:///{path}") as host:
            with refusing(path, ENDS):
                run = await started(host, thread())
                await within(held.begun.wait())
                run.cancel(Cancelled("by a test"))
                found = await events(run)
                assert (kinds(found)[-1], kinds(found).count("error"), found[-1]["code"]) == ("error", 1, "store")
                run.cancel(Cancelled("again"))
            await recorded(host)
            stored = await host.store.get_run(run.id)
            assert stored is not None
            assert stored.code == "store"
            assert kinds(await events(run)) == kinds(found)

    asyncio.run(main())


def test_a_host_that_stops_gives_up_what_the_store_refuses_and_the_next_one_ends_it(path: Path) -> None:
    async def main() -> None:
        async with hosting(speaks, store=f"sqlite:///{path}") as host:
            with refusing(path, ENDS):
                run = await started(host, thread())
                await events(run)
                async with asyncio.timeout(PATIENCE):
                    await host.stop(drain=0.0)
        async with hosting(speaks, store=f"sqlite:///{path}") as after:
            stored = await after.store.get_run(run.id)
            assert stored is not None
            assert (stored.status, stored.code) == ("failed", "host_lost")

    asyncio.run(main())


def test_attempts_come_soon_and_then_seldom() -> None:
    assert RECORD_AGAIN[0] == 0.0
    assert list(RECORD_AGAIN) == sorted(RECORD_AGAIN)
    assert RECORD_AGAIN[-1] <= 30.0


def test_what_an_agent_raises_becomes_the_error_of_its_run() -> None:
    own = StoreError("the host's own")
    assert as_run_error(own) is own
    for raised in (ValueError("x"), SystemExit(1), asyncio.CancelledError(), AgentPaused(Interrupt("q?"))):
        error = as_run_error(raised)
        assert type(error) is AgentError
        assert error.__cause__ is raised
        assert error.message == f"{type(raised).__name__} was raised"


def test_a_run_ends_once_whoever_says_so() -> None:
    async def main() -> None:
        held = Held()
        async with hosting(held) as host:
            run: Run = await started(host, thread())
            await within(held.begun.wait())
            finisher = host.runs._finisher
            run.cancel(Cancelled("by a test"))
            await finisher.end(run, None)
            found = await events(run)
            assert kinds(found).count("error") == 1
            finisher.end_without_agent(run)
            await finisher.end(run, None)
            assert await events(run) == found
            await idle(host)

    asyncio.run(main())


def test_a_host_whose_store_refuses_is_not_ready_until_it_takes_again(path: Path) -> None:
    async def problems(host: Host) -> list[str]:
        host._probed = float("-inf")  # whoever asked last asked long ago
        return await within(host.readiness())

    async def main() -> None:
        async with hosting(speaks, store=f"sqlite:///{path}") as host:
            assert await problems(host) == []
            with refusing(path, "UPDATE ON meta", ENDS, "INSERT ON events"):
                (problem,) = await problems(host)
                assert problem.startswith("the store ")
                assert kinds(await told(host, thread())) == ["error"]
                assert kinds(await told(host, "nothing is to be kept"))[-1] == "done"
            await recorded(host)
            assert await problems(host) == []
            assert kinds(await told(host, thread()))[-1] == "done"

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["cancelled before its first step", "deaf", "ordinary"])
def test_a_run_is_in_hand_until_its_end_is_written(path: Path, kind: str) -> None:
    """Else somebody who asks for it in that moment is told that it is about to begin."""
    deaf, held = Deaf(), Held()

    async def main() -> None:
        async with hosting(deaf if kind == "deaf" else held, store=f"sqlite:///{path}") as host:
            run = await started(host, RunRequest("hello", thread_id="t", detached=True))
            if kind != "cancelled before its first step":
                await until(lambda: run.log.visible)
            with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
                other.execute("BEGIN IMMEDIATE")
                run.cancel(Cancelled("by a test"))
                await until(lambda: run.closing)
                deaf.go.set()
                await until(lambda: run.task.done() or kind == "ordinary")  # type: ignore[union-attr]  # it has begun
                for _ in range(5):
                    await asyncio.sleep(0)
                assert await host.runs.find(host.entries["agent"], ANN, run.id) is run
                with pytest.raises(ThreadBusy):
                    await started(host, thread())
                other.execute("ROLLBACK")
            with pytest.raises(Cancelled):
                await within(run.result())
            await idle(host)
            assert isinstance(await host.runs.find(host.entries["agent"], ANN, run.id), EndedRun)

    asyncio.run(main())


@pytest.mark.parametrize("detached", [False, True])
def test_a_cancel_that_an_agent_left_behind_does_not_reach_its_end(detached: bool, tmp_path: Path) -> None:
    async def cancels_itself_late(ctx: RunContext) -> AsyncIterator[str]:
        yield "said"
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_soon(task.cancel)

    async def main() -> None:
        async with hosting(cancels_itself_late, store=f"sqlite:///{tmp_path}/store.db") as host:
            request = RunRequest("p", detached=True) if detached else thread()
            run = await started(host, request)
            assert kinds(await events(run)) == ["model_chunk", "done"]
            assert (await within(run.ended())).status == "completed"
            await idle(host)
            stored = await host.store.get_run(run.id)
            assert stored is not None
            assert stored.status == "completed"

    asyncio.run(main())


def test_an_end_of_a_run_that_the_store_does_not_have_is_given_up(tmp_path: Path) -> None:
    async def main() -> None:
        held = Held()
        async with hosting(held, store=f"sqlite:///{tmp_path}/store.db") as host:
            run = await started(host, thread())
            await within(held.begun.wait())
            with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as file:
                file.execute("DELETE FROM runs")
            held.go.set()
            assert kinds(await events(run))[-1] == "error"
            await until(lambda: not host.runs._finisher.unrecorded)

    asyncio.run(main())
