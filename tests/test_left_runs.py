"""A host that is lost: what the next one on its file makes of the runs it left, and what their readers see."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agenthost.agents import RunContext, RunRequest, RunStatus
from agenthost.auth import Principal
from agenthost.config import Config, load_config
from agenthost.errors import Cancelled, HostLost, TooManyRuns
from agenthost.events import Interrupt
from agenthost.host import Host
from agenthost.protocols import native
from agenthost.resuming import Reply
from agenthost.run import Run
from agenthost.runs import BEGUN_AGAIN
from agenthost.store import MAX_EPOCH, StoredRun
from agenthost.threads import ThreadKey
from tests.agents_for_tests import (
    ANN,
    Held,
    asked,
    events,
    hosting,
    idle,
    kinds,
    lose,
    resumed,
    said,
    served,
    started,
    thread,
    until,
    within,
)
from tests.serving import agents_toml, key


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/store.db"


class Resumable(Held):
    """Says what it was given, counts how often it began, and waits until it is let go."""

    resumable = True

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[RunContext] = []

    async def run(self, ctx: RunContext) -> AsyncIterator[Any]:
        self.seen.append(ctx)
        yield f"attempt {len(self.seen)}: {ctx.prompt}. "
        async for word in super().run(ctx):
            yield word


async def found(host: Host, run_id: str, caller: Principal = ANN) -> Any:
    return await within(host.runs.find(host.entries["agent"], caller, run_id))


async def settled(host: Host, run_id: str) -> Any:
    """A run, once it is going or has ended."""
    async with asyncio.timeout(20):
        while isinstance(one := await found(host, run_id), StoredRun):
            await asyncio.sleep(0.005)
    return one


async def ended(host: Host, run_id: str) -> StoredRun:
    """A run as it is stored, once it has ended."""
    async with asyncio.timeout(20):
        while (one := await host.store.get_run(run_id)) is None or one.ended is None:
            await asyncio.sleep(0.005)
    return one


async def shown(run: Run, count: int) -> None:
    """Wait until that many entries have been committed; not as a reader, whose leaving ends an attached run."""
    async with asyncio.timeout(20):
        while run.log.visible < count:
            await run.log.sleep()


@pytest.mark.parametrize("detached", [False, True], ids=["on a thread", "detached"])
def test_an_ordinary_run_is_lost_with_its_host_and_its_readers_are_told(store: str, detached: bool) -> None:
    held = Held()

    async def main() -> None:
        async with hosting(held, store=store) as host:
            run = await started(host, RunRequest("hello", detached=True) if detached else thread())
            await shown(run, 1) if detached else await until(lambda: held.begun.is_set())
            before = run.log.visible
            await lose(host)
            async with hosting(held, store=store) as after:
                again = await found(after, run.id)
                told = await events(again)
                assert kinds(told) == ["model_chunk"] * before + ["error"]
                assert (told[-1]["code"], told[-1]["error"], told[-1]["run_id"]) == (
                    "host_lost",
                    "The host was lost while this run was going",
                    run.id,
                )
                assert await events(again, before) == told[before:], "what a reader that re-joins has not seen"
                with pytest.raises(HostLost):
                    await again.result()
                if not detached:
                    assert await said(after) == [("user", "hello", "failed")]
                assert held.running == 1, "it was not run again"

    asyncio.run(main())


@pytest.mark.parametrize("thread_id", [None, "t"])
def test_a_run_that_waited_begins_in_the_next_host(store: str, thread_id: str | None) -> None:
    held = Held()

    async def main() -> None:
        async with hosting(served(held, concurrency=1, on_busy_thread="queue"), store=store) as host:
            first = await started(host, RunRequest("first", thread_id=thread_id, detached=True))
            request = RunRequest("second", thread_id=thread_id, detached=True, input=[1], metadata={"a": 1})
            second = await started(host, request)
            assert second.status == "queued"
            await lose(host)
            held.go.set()
            async with hosting(held, store=store) as after:
                assert (await ended(after, first.id)).code == "host_lost"
                run = await settled(after, second.id)
                assert (await within(run.result())).message == "begun ended"
                assert kinds(await events(run)) == ["model_chunk", "model_chunk", "done"], "for the first time"
                stored = await ended(after, second.id)
                assert (stored.epoch, stored.status, stored.detached) == (1, "completed", True)
                assert stored.input["input"] == [1]
                if thread_id:
                    assert await said(after) == [
                        ("user", "first", "failed"),
                        ("user", "second", None),
                        ("assistant", "begun ended", None),
                    ]
                await idle(after)

    asyncio.run(main())


def test_several_runs_that_waited_for_one_thread_begin_one_after_another_in_order(store: str) -> None:
    async def recalls(ctx: RunContext) -> AsyncIterator[str]:
        if ctx.prompt == "hold":
            await asyncio.Event().wait()
        yield "|".join(message.text for message in ctx.messages if message.role == "user")

    async def main() -> None:
        async with hosting(served(recalls, on_busy_thread="queue"), store=store) as host:
            await started(host, RunRequest("hold", thread_id="t", detached=True))
            runs = [await started(host, RunRequest(f"{n}", thread_id="t", detached=True)) for n in range(5)]
            assert {run.status for run in runs} == {"queued"}
            await lose(host)
            async with hosting(served(recalls, on_busy_thread="reject"), store=store) as after:
                last = await settled(after, runs[-1].id)
                assert (await within(last.result())).message == "hold|0|1|2|3|4", "they wait, whatever the policy is"

    asyncio.run(main())


@pytest.mark.parametrize("thread_id", [None, "t"])
def test_a_run_of_a_resumable_agent_begins_again_in_the_same_log(store: str, thread_id: str | None) -> None:
    agent = Resumable()

    async def main() -> None:
        async with hosting(agent, store=store) as host:
            request = RunRequest("work", thread_id=thread_id, input={"n": 1}, metadata={"a": 1}, detached=True)
            run = await started(host, request)
            await shown(run, 2)
            await lose(host)
            async with hosting(agent, store=store) as after:
                again = await settled(after, run.id)
                assert isinstance(again, Run)
                reading = asyncio.create_task(events(again))
                rejoined = asyncio.create_task(events(again, 2))
                await until(lambda: len(agent.seen) == 2)
                agent.go.set()
                told = await reading
                assert kinds(told) == ["model_chunk"] * 2 + [BEGUN_AGAIN] + ["model_chunk"] * 3 + ["done"]
                assert told[2] == {"id": 3, "type": BEGUN_AGAIN, "name": BEGUN_AGAIN, "data": {"attempt": 2}}
                assert told[-1]["message"] == "attempt 2: work. begun ended", "what was said before is no part of it"
                assert await rejoined == told[2:]
                assert [entry.seq for entry in await after.store.read_events(run.id, 0, 100)] == list(range(1, 8))
                assert (await again.result()).iterations == 7
                one, two = agent.seen
                assert (two.prompt, two.input, two.metadata, two.run_id) == ("work", {"n": 1}, {"a": 1}, run.id)
                assert [message.text for message in two.messages] == [message.text for message in one.messages]
                stored = await ended(after, run.id)
                assert (stored.epoch, stored.status) == (2, "completed")
                if thread_id:
                    assert await said(after) == [("user", "work", None), ("assistant", told[-1]["message"], None)]
                await idle(after)

    asyncio.run(main())


def test_a_run_begins_three_times_at_most(store: str) -> None:
    agent = Resumable()

    async def main() -> None:
        async with hosting(agent, store=store) as host:
            run_id = (await started(host, RunRequest("work", detached=True))).id
            await until(lambda: len(agent.seen) == 1)
            await lose(host)
        for attempt in range(2, MAX_EPOCH + 1):
            async with hosting(agent, store=store) as host:
                again = await settled(host, run_id)
                assert isinstance(again, Run)
                await until(lambda attempt=attempt: len(agent.seen) == attempt)
                await shown(again, again.log.last)
                await lose(host)
        async with hosting(agent, store=store) as host:
            stored = await ended(host, run_id)
            assert (stored.status, stored.code, stored.epoch) == ("failed", "host_lost", MAX_EPOCH)
            told = await events(await found(host, run_id))
            assert [event["data"]["attempt"] for event in told if event["type"] == BEGUN_AGAIN] == [2, 3]
            assert (kinds(told).count("error"), kinds(told)[-1]) == (1, "error")
            assert len(agent.seen) == MAX_EPOCH == 3

    asyncio.run(main())


def test_what_a_lost_host_still_writes_is_refused(store: str) -> None:
    """The first host is not dead but slow: it is the second one's run by then."""
    agent = Resumable()

    async def main() -> None:
        async with hosting(agent, store=store) as host:
            run = await started(host, RunRequest("work", detached=True))
            await until(lambda: len(agent.seen) == 1)
            await lose(host)
            async with hosting(agent, store=store) as after:
                again = await settled(after, run.id)
                await until(lambda: len(agent.seen) == 2)
                host.store = after.store
                run.recorder._store = after.store  # type: ignore[union-attr]  # as if it had the file again
                agent.go.set()
                told = await events(again)
                assert told[-1]["message"] == "attempt 2: work. begun ended"
                await until(lambda: run.outcome_known)
                assert run.error is not None
                assert run.error.code == "store"
                assert await events(await found(after, run.id)) == told

    asyncio.run(main())


class Asks(Held):
    """Asks, and once answered says with what it was, and waits."""

    resumable = True

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[tuple[Any, ...]] = []

    async def run(self, ctx: RunContext) -> AsyncIterator[Any]:
        if not ctx.answers:
            yield Interrupt("a?", interrupt_id="a", state={"kept": 1})
            yield Interrupt("b?", interrupt_id="b")
            return
        self.answers.append(
            tuple((one.interrupt.interrupt_id, one.response, one.decision, one.interrupt.state) for one in ctx.answers)
        )
        if ctx.metadata.get("speaks"):
            yield "so"
        self.begun.set()
        await self.go.wait()
        yield "done"


@pytest.mark.parametrize("speaks", [False, True], ids=["before its first event", "after it"])
def test_a_resume_that_begins_again_is_given_its_answers_again(store: str, speaks: bool) -> None:
    agent = Asks()

    async def main() -> None:
        async with hosting(agent, store=store) as host:
            first = await started(host, thread())
            await within(first.result())
            replies = Reply("a", {"x": 1}, {"ok": True}), Reply("b", 2)
            run = await resumed(host, *replies, metadata={"speaks": speaks})
            await within(agent.begun.wait())
            await lose(host)
            agent.begun.clear()
            async with hosting(agent, store=store) as after:
                again = await settled(after, run.id)
                agent.go.set()
                told = await events(again)
                assert told[-1]["message"] == ("sodone" if speaks else "done")
                assert agent.answers[0] == agent.answers[1]
                assert agent.answers[1] == (("a", {"x": 1}, {"ok": True}, {"kept": 1}), ("b", 2, None, None))
                assert (await ended(after, run.id)).resumes == first.id
                statuses = await after.store.interrupts(ThreadKey("ann", "agent", "t"))
                assert {one.status for one in statuses} == {"answered"}

    asyncio.run(main())


@pytest.mark.parametrize("speaks", [False, True], ids=["before its first event", "after it"])
def test_a_resume_that_is_lost_leaves_the_question_answerable_unless_it_had_spoken(store: str, speaks: bool) -> None:
    ordinary = type("Ordinary", (Asks,), {"resumable": False})()

    async def main() -> None:
        async with hosting(ordinary, store=store) as host:
            await within((await started(host, thread())).result())
            run = await resumed(host, Reply("a", 1), metadata={"speaks": speaks})
            await within(ordinary.begun.wait())
            if speaks:
                await shown(run, 1)  # type: ignore[arg-type]  # it is going
            await lose(host)
            async with hosting(ordinary, store=store) as after:
                assert (await ended(after, run.id)).code == "host_lost"
                found = await after.store.interrupts(ThreadKey("ann", "agent", "t"))
                assert {one.interrupt_id: one.status for one in found} == {
                    "a": "answered" if speaks else "open",
                    "b": "open",
                }
                ordinary.go.set()
                again = await resumed(after, Reply("b" if speaks else "a", 2))
                assert (await within(again.result())).status == "completed"

    asyncio.run(main())


@pytest.mark.parametrize("status", ["queued", "running"])
@pytest.mark.parametrize("why", ["gone", "disabled", "not resumable any more", "not allowed any more"])
def test_a_run_that_cannot_go_on_is_lost(store: str, why: str, status: RunStatus) -> None:
    agent = Resumable()

    async def main() -> None:
        async with hosting(served(agent, concurrency=1), store=store) as host:
            first = await started(host, RunRequest("one", detached=True))
            waiting = await started(host, RunRequest("two", detached=True))
            await until(lambda: len(agent.seen) == 1)
            await lose(host)
        left = waiting if status == "queued" else first
        if why == "not resumable any more" and status == "queued":
            return  # it had not begun, so it begins
        specs = {
            "gone": served(agent, "another"),
            "disabled": served(agent, enabled=False),
            "not resumable any more": served(Held()),
            "not allowed any more": served(agent),
        }
        if why == "not allowed any more":
            forget_rights(store)
        async with hosting(specs[why], store=store) as after:
            stored = await ended(after, left.id)
            assert (stored.status, stored.code, stored.stop_reason) == ("failed", "host_lost", "host_lost")
            (last,) = (await after.store.read_events(left.id, stored.last_seq - 1, 9))[-1:]
            assert last.type == "error"

    asyncio.run(main())


def forget_rights(store: str) -> None:
    """Change what the file says of its runs' callers, as if their key allowed another agent only."""
    with closing(sqlite3.connect(store.removeprefix("sqlite:///"))) as file, file:
        (count,) = file.execute("SELECT count(*) FROM runs WHERE ended IS NULL").fetchone()
        changed = file.execute("""UPDATE runs SET input = CAST(replace(CAST(input AS TEXT), '"*"', '"x"') AS BLOB)""")
        assert changed.rowcount >= count > 0


def test_a_run_waits_for_its_agent_to_load(store: str) -> None:
    agent = Resumable()

    class Late(Resumable):
        @contextlib.asynccontextmanager
        async def lifespan(self) -> AsyncIterator[None]:
            await loads.wait()
            yield

    async def main() -> None:
        nonlocal loads
        loads = asyncio.Event()
        async with hosting(agent, store=store) as host:
            run = await started(host, RunRequest("work", detached=True))
            await until(lambda: len(agent.seen) == 1)
            await lose(host)
        late = Late()
        host = Host(Config.model_validate({"store": {"url": store}}), builtins=(native,), specs=[served(late)])
        await host.start(settle=0.0)
        try:
            left = await found(host, run.id)
            assert isinstance(left, StoredRun)
            assert (left.status, host.entries["agent"].state) == ("running", "loading")
            loads.set()
            await until(lambda: late.seen)
            late.go.set()
            assert (await ended(host, run.id)).status == "completed"
        finally:
            await within(host.stop(drain=0.0))

    loads: asyncio.Event
    asyncio.run(main())


def test_a_lazy_agent_is_loaded_for_a_run_that_was_left(store: str) -> None:
    held = Held()

    async def main() -> None:
        async with hosting(served(held, concurrency=1), store=store) as host:
            await started(host, RunRequest("first", detached=True))
            waiting = await asked(host, RunRequest("second", detached=True))
            await lose(host)
            held.go.set()
            async with hosting(served(held, load="lazy"), store=store) as after:
                stored = await ended(after, waiting.id)
                assert (stored.status, after.entries["agent"].state) == ("completed", "ready")

    asyncio.run(main())


def test_a_run_that_begins_again_can_be_cancelled_while_it_waits(store: str) -> None:
    agent = Resumable()

    async def main() -> None:
        async with hosting(served(agent, concurrency=2), store=store) as host:
            runs = [await started(host, RunRequest(f"{n}", detached=True)) for n in range(2)]
            await until(lambda: len(agent.seen) == 2)
            await lose(host)
        async with hosting(served(agent, concurrency=1), store=store) as after:
            await until(lambda: len(agent.seen) == 3)
            going = [await settled(after, run.id) for run in runs]
            (waits,) = [run for run in going if run.task is None]
            waits.cancel(Cancelled("by a test"))
            assert (await ended(after, waits.id)).status == "cancelled"
            assert kinds(await events(await found(after, waits.id)))[-1] == "error"
            agent.go.set()
            (other,) = [run for run in going if run is not waits]
            assert (await ended(after, other.id)).status == "completed"
            await idle(after)

    asyncio.run(main())


def test_more_runs_are_left_than_the_agent_takes_now_and_none_is_lost(store: str) -> None:
    agent = Resumable()

    async def main() -> None:
        async with hosting(served(agent, concurrency=6), store=store) as host:
            runs = [await started(host, RunRequest(f"{n}", detached=True)) for n in range(6)]
            await until(lambda: len(agent.seen) == 6)
            await lose(host)
        agent.go.set()
        async with hosting(served(agent, concurrency=1, queue=1), store=store) as after:
            ends = [await ended(after, run.id) for run in runs]
            assert [one.status for one in ends] == ["completed"] * 6
            await idle(after)

    asyncio.run(main())


def test_a_caller_at_the_limit_of_its_key_loses_no_run_that_was_left(tmp_path: Path) -> None:
    """Two runs were left, and the file of today allows one at once, which a new one has already."""
    held = Held()

    async def main() -> None:
        async with hosting(served(held, concurrency=1), store=f"sqlite:///{tmp_path}/store.db") as host:
            runs = [await started(host, RunRequest(f"{n}", detached=True)) for n in range(3)]
            await lose(host)
        held.begun.clear()
        text = key("today", principal="ann", more="concurrency = 1")
        config = load_config(agents_toml(tmp_path, text, store=f"sqlite:///{tmp_path}/store.db"), {})
        after = Host(config, builtins=(native,), specs=[served(held)])
        await after.start()
        try:
            await within(held.begun.wait())
            with pytest.raises(TooManyRuns):
                await started(after, caller=Principal("ann", agents=("*",), concurrency=1))
            held.go.set()
            ends = [await ended(after, run.id) for run in runs]
            assert [one.code for one in ends] == ["host_lost", None, None]
            await idle(after)
        finally:
            await within(after.stop(drain=0.0))

    asyncio.run(main())


ITS_KEYS = key("one", principal="ann", agents='["another"]') + key("two", principal="ann", agents='["agent"]')


@pytest.mark.parametrize(("keys", "status"), [(ITS_KEYS, "completed"), (key("bob"), "failed")], ids=["kept", "gone"])
def test_the_caller_of_a_run_may_do_now_what_its_keys_allow_now(tmp_path: Path, keys: str, status: str) -> None:
    held = Held()

    async def main() -> None:
        async with hosting(served(held, concurrency=1), store=f"sqlite:///{tmp_path}/store.db") as host:
            runs = [await started(host, RunRequest(f"{n}", detached=True)) for n in range(2)]
            await lose(host)
        held.go.set()
        config = load_config(agents_toml(tmp_path, keys, store=f"sqlite:///{tmp_path}/store.db"), {})
        after = Host(config, builtins=(native,), specs=[served(held)])
        await after.start()
        try:
            left = await ended(after, runs[1].id)
            assert (left.status, left.code) == (status, None if status == "completed" else "host_lost")
        finally:
            await within(after.stop(drain=0.0))

    asyncio.run(main())


def test_the_key_of_a_run_that_begins_again_is_still_its_key(store: str) -> None:
    agent = Resumable()

    async def main() -> None:
        request = RunRequest("work", idempotency_key="k", request_digest="d", detached=True)
        async with hosting(agent, store=store) as host:
            run = await asked(host, request)
            await until(lambda: len(agent.seen) == 1)
            await lose(host)
        async with hosting(agent, store=store) as after:
            await settled(after, run.id)
            again = await asked(after, request)
            assert again.id == run.id
            agent.go.set()
            assert (await within(again.result())).message == "attempt 2: work. begun ended"
            await idle(after)
            assert (await asked(after, request)).id == run.id
            assert len(agent.seen) == 2

    asyncio.run(main())


def test_a_host_that_stops_ends_the_runs_that_it_has_taken_up(store: str) -> None:
    agent = Resumable()

    async def main() -> None:
        async with hosting(agent, store=store) as host:
            run = await started(host, RunRequest("work", detached=True))
            await until(lambda: len(agent.seen) == 1)
            await lose(host)
        async with hosting(agent, store=store):
            await until(lambda: len(agent.seen) == 2)  # before that, it is left for the next host once more
        async with hosting(agent, store=store) as third:
            stored = await ended(third, run.id)
            assert (stored.status, stored.code) == ("failed", "host_stopping")

    asyncio.run(main())


def test_a_run_that_another_one_called_is_lost_with_its_host_and_its_caller_calls_again(store: str) -> None:
    """Else it would be run twice: by itself, and for the caller that begins again."""
    callee = Resumable()

    class Caller:
        resumable = True

        async def run(self, ctx: RunContext) -> AsyncIterator[Any]:
            yield "calling"
            yield (await ctx.call("callee", ctx.prompt, thread_id="of-the-caller")).message

    async def main() -> None:
        specs = [served(Caller()), served(callee, "callee")]
        async with hosting(*specs, store=store) as host:
            run = await started(host, RunRequest("work", detached=True))
            await until(lambda: len(callee.seen) == 1)
            await lose(host)
        async with hosting(*specs, store=store) as after:
            await until(lambda: len(callee.seen) == 2)
            callee.go.set()
            assert (await ended(after, run.id)).status == "completed"
            page = await after.store.list_runs("callee", "ann", limit=10)
            assert [(one.status, one.code) for one in page.items] == [("completed", None), ("failed", "host_lost")]
            assert {one.parent for one in page.items} == {run.id}
            assert len(callee.seen) == 2
            await idle(after)

    asyncio.run(main())
