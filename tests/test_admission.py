"""Who may start a run now; whatever comes and goes in whatever order, nothing stays counted."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenthost.admission import RETRY_AFTER
from agenthost.agents import RunRequest
from agenthost.auth import Principal
from agenthost.errors import AgentOverloaded, Cancelled, HostError, HostStopping, ThreadBusy, TooManyRuns
from agenthost.host import Host
from agenthost.run import Run
from tests.agents_for_tests import ANN, BOB, Deaf, Held, hosting, idle, served, speaks, started, thread, until, within


async def refused(host: Host, kind: type[HostError], request: Any = "hello", **options: Any) -> HostError:
    with pytest.raises(kind) as raised:
        await started(host, request, **options)
    return raised.value


def test_a_principal_has_as_many_runs_going_as_its_key_allows() -> None:
    async def main() -> None:
        held = Held()
        few = Principal("few", agents=("*",), concurrency=2)
        async with hosting(held) as host:
            first = await started(host, caller=few)
            second = await started(host, caller=few)
            error = await refused(host, TooManyRuns, caller=few)
            assert error.message == "'few' has 2 runs going, as many as its key allows"
            assert error.hint == "wait for one to end, or raise concurrency under [[auth.keys]]"
            assert (error.status, error.retry_after) == (429, RETRY_AFTER)
            await started(host, caller=ANN)
            first.cancel(Cancelled())
            await first.ended()
            await started(host, caller=few)
            held.go.set()
            await second.ended()
            await idle(host)

    asyncio.run(main())


def test_runs_beyond_the_slots_wait_and_runs_beyond_the_queue_are_refused() -> None:
    async def main() -> None:
        held = Held()
        async with hosting(served(held, concurrency=2, queue=1)) as host:
            entry = host.entries["agent"]
            for _ in range(2):
                await started(host)
            waiting = asyncio.create_task(started(host))
            await until(lambda: entry.queued)
            error = await refused(host, AgentOverloaded)
            assert error.message == "agent 'agent' has 2 runs going and 1 waiting"
            assert error.hint == "try again, or raise concurrency or queue under [agents.agent]"
            assert (error.status, error.retry_after) == (503, RETRY_AFTER)
            assert not waiting.done()
            held.go.set()
            assert (await (await within(waiting)).result()).message == "begun ended"
            await idle(host)

    asyncio.run(main())


def test_who_waits_longest_is_next_and_no_newcomer_overtakes() -> None:
    async def main() -> None:
        held = Held()
        begun: list[int] = []
        async with hosting(served(held, concurrency=1)) as host:

            async def one(place: int) -> None:
                run = await started(host)
                begun.append(place)
                await run.ended()

            tasks = []
            for place in range(5):
                tasks.append(asyncio.create_task(one(place)))
                await asyncio.sleep(0)
            await until(lambda: host.entries["agent"].queued == 4)
            held.go.set()
            await within(asyncio.gather(*tasks))
            assert begun == [0, 1, 2, 3, 4]

    asyncio.run(main())


def test_one_run_of_one_caller_does_not_wait_behind_all_of_anothers() -> None:
    async def main() -> None:
        held = Held()
        begun: list[str] = []
        async with hosting(served(held, concurrency=1)) as host:
            entry = host.entries["agent"]
            first = await started(host)

            async def one(caller: Principal) -> None:
                run = await started(host, caller=caller)
                begun.append(caller.id)
                await run.ended()

            many = [asyncio.create_task(one(ANN)) for _ in range(200)]
            await until(lambda: entry.queued == 200)
            few = [asyncio.create_task(one(BOB)) for _ in range(3)]
            await until(lambda: entry.queued == 203)
            held.go.set()
            await first.ended()
            await within(asyncio.gather(*many, *few))
            assert begun[:7] == ["ann", "bob", "ann", "bob", "ann", "bob", "ann"]
            await idle(host)

    asyncio.run(main())


def test_a_full_queue_still_takes_a_caller_with_less_than_its_share() -> None:
    async def main() -> None:
        held = Held()
        async with hosting(served(held, concurrency=1, queue=4)) as host:
            entry = host.entries["agent"]
            await started(host)
            waiting = [asyncio.create_task(started(host)) for _ in range(4)]
            await until(lambda: entry.queued == 4)
            await refused(host, AgentOverloaded)
            waiting += [asyncio.create_task(started(host, caller=BOB)) for _ in range(2)]
            await until(lambda: entry.queued == 6)
            await refused(host, AgentOverloaded, caller=BOB)
            third = Principal("third", agents=("*",))
            waiting.append(asyncio.create_task(started(host, caller=third)))
            await until(lambda: entry.queued == 7)
            await refused(host, AgentOverloaded, caller=third)
            held.go.set()
            for one in waiting:
                await (await within(one)).ended()
            await idle(host)

    asyncio.run(main())


def test_an_agent_without_a_queue_lets_nobody_wait() -> None:
    async def main() -> None:
        held = Held()
        async with hosting(served(held, concurrency=1, queue=0)) as host:
            await started(host)
            await refused(host, AgentOverloaded)
            await refused(host, AgentOverloaded, caller=BOB)
            held.go.set()
            await idle(host)

    asyncio.run(main())


def test_an_agent_that_is_full_keeps_nobody_from_another() -> None:
    async def main() -> None:
        held = Held()
        async with hosting(served(held, "busy", concurrency=1, queue=2), served(speaks, "other")) as host:
            await started(host, agent="busy")
            waiting = [asyncio.create_task(started(host, agent="busy")) for _ in range(2)]
            await until(lambda: host.entries["busy"].queued == 2)
            await refused(host, AgentOverloaded, agent="busy")
            for caller in (ANN, BOB):
                assert (await (await started(host, agent="other", caller=caller)).result()).message == "hello hello"
            held.go.set()
            for one in waiting:
                await (await within(one)).ended()
            await idle(host)

    asyncio.run(main())


def test_a_run_that_waits_longer_than_its_timeout_is_refused() -> None:
    async def main() -> None:
        deaf = Deaf()
        async with hosting(served(deaf, concurrency=1, timeout=0.1)) as host:
            run = await started(host)
            await until(lambda: deaf.begun)
            error = await refused(host, AgentOverloaded)
            assert error.message == "no slot of agent 'agent' came free within its timeout"
            assert error.retry_after
            await run.ended()
            deaf.go.set()
            await idle(host)

    asyncio.run(main())


def test_a_caller_that_leaves_the_queue_leaves_no_place_behind() -> None:
    async def main() -> None:
        held = Held()
        async with hosting(served(held, concurrency=1, queue=2)) as host:
            entry = host.entries["agent"]
            run = await started(host)
            for _ in range(5):
                waiting = [asyncio.create_task(started(host)) for _ in range(2)]
                await until(lambda: entry.queued == 2)
                for one in waiting:
                    one.cancel()
                await asyncio.wait(waiting)
                assert entry.queued == 0
            held.go.set()
            await run.ended()
            await idle(host)

    asyncio.run(main())


@pytest.mark.parametrize("policy", ["reject", "queue", "cancel-running"])
def test_a_slot_or_a_turn_that_comes_in_the_moment_its_caller_leaves_is_handed_on(policy: Any) -> None:
    """The run that is going ends, and the one that waits is cancelled, in one turn of the loop, in either order."""

    async def main(*, leave_first: bool) -> None:
        held = Held()
        async with hosting(served(held, concurrency=1, on_busy_thread=policy)) as host:
            request = thread() if policy == "queue" else "hello"
            run = await started(host, request)
            await within(held.begun.wait())
            first = asyncio.create_task(started(host, request))
            await asyncio.sleep(0)
            second = asyncio.create_task(started(host, request))
            await asyncio.sleep(0)
            gone = asyncio.get_running_loop().create_future()

            def leave(_task: Any = None) -> None:
                first.cancel()
                if not gone.done():
                    gone.set_result(None)

            assert run.task is not None
            if leave_first:
                held.go.set()
                leave()
            else:
                run.task.add_done_callback(leave)  # runs after the engine's own, which hands the slot over
                held.go.set()
            await within(gone)
            assert (await within(second)).status in {"running", "completed"}
            await asyncio.wait((first,))
            await (await second).ended()
            await idle(host)

    for leave_first in (True, False):
        asyncio.run(main(leave_first=leave_first))


def test_a_busy_thread_refuses_where_the_policy_is_to_reject() -> None:
    async def main() -> None:
        held = Held()
        async with hosting(held) as host:
            run = await started(host, thread())
            error = await refused(host, ThreadBusy, thread())
            assert error.message == "a run is going on this thread"
            assert error.hint == "wait for it to end, or use another thread_id"
            assert error.status == 409
            await started(host, thread("other"))
            await started(host, thread(), caller=BOB)
            held.go.set()
            await run.ended()
            await started(host, thread())
            await idle(host)

    asyncio.run(main())


def test_runs_on_a_busy_thread_wait_in_order_where_the_policy_is_to_queue() -> None:
    async def main() -> None:
        held = Held()
        async with hosting(served(held, on_busy_thread="queue", queue=2)) as host:
            run = await started(host, thread())
            waiting = []
            for prompt in ("second", "third"):
                waiting.append(asyncio.create_task(started(host, thread(prompt=prompt))))
                await asyncio.sleep(0)
            error = await refused(host, ThreadBusy, thread())
            assert error.message == "as many runs as allowed wait for this thread"
            assert error.retry_after == RETRY_AFTER
            waiting[0].cancel()
            await asyncio.wait(waiting[:1])
            waiting.append(asyncio.create_task(started(host, thread(prompt="fourth"))))
            await asyncio.sleep(0)
            held.go.set()
            await run.ended()
            for one in waiting[1:]:
                await (await within(one)).ended()
            stored = await host.store.get_thread(run.thread)  # type: ignore[arg-type]  # it has one
            assert stored is not None
            prompts = [message.text for message in stored.messages if message.role == "user"]
            assert prompts == ["hello", "third", "fourth"]
            await idle(host)

    asyncio.run(main())


def test_a_newer_run_takes_the_thread_where_the_policy_is_to_cancel() -> None:
    async def main() -> None:
        held = Held()
        async with hosting(served(held, on_busy_thread="cancel-running")) as host:
            run = await started(host, thread())
            await within(held.begun.wait())
            second = asyncio.create_task(started(host, thread(prompt="second")))
            await asyncio.sleep(0)
            third = asyncio.create_task(started(host, thread(prompt="third")))
            with pytest.raises(Cancelled) as raised:
                await within(second)
            assert raised.value.message == "a newer run on this thread took its place"
            newest = await within(third)
            assert held.running <= 1, "one thread, one run at a time"
            assert (await run.ended()).status == "cancelled"
            held.go.set()
            assert (await newest.result()).message == "begun ended"
            stored = await host.store.get_thread(run.thread)  # type: ignore[arg-type]  # it has one
            assert stored is not None
            assert [(message.text, message.status) for message in stored.messages] == [
                ("hello", "cancelled"),
                ("third", None),
                ("begun ended", None),
            ]
            await idle(host)

    asyncio.run(main())


def test_a_run_that_waits_for_a_slot_gives_way_at_once_to_a_newer_run_on_its_thread() -> None:
    async def main() -> None:
        held = Held()
        async with hosting(served(held, concurrency=1, on_busy_thread="cancel-running")) as host:
            going = await started(host, thread("another"))
            older = asyncio.create_task(started(host, thread(prompt="older")))
            await until(lambda: host.entries["agent"].queued)
            newer = asyncio.create_task(started(host, thread(prompt="newer")))
            with pytest.raises(Cancelled):
                await within(older)
            assert not newer.done(), "it waits for the slot in its place"
            held.go.set()
            await going.ended()
            await (await within(newer)).ended()
            assert len((await host.store.list_runs("agent", "ann", limit=10)).items) == 2, "nothing of a refused run"
            await idle(host)

    asyncio.run(main())


def test_a_detached_run_waits_as_long_as_it_takes() -> None:
    async def main() -> None:
        async with hosting(served(Held(), concurrency=1, timeout=0.1, on_busy_thread="queue")) as host:
            first = [await started(host, RunRequest("x", detached=True)) for _ in range(3)]
            assert [run.status for run in first] == ["running", "queued", "queued"]
            assert [(await within(run.ended())).status for run in first] == ["failed"] * 3
            assert [run.error and run.error.code for run in first] == ["timeout"] * 3, "each had its turn"
            await idle(host)
            second = [await started(host, RunRequest("x", thread_id="t", detached=True)) for _ in range(3)]
            await within(second[-1].ended())
            assert [run.error and run.error.code for run in second] == ["timeout"] * 3
            await idle(host)

    asyncio.run(main())


def test_a_host_that_stops_sends_away_who_waits() -> None:
    async def main() -> None:
        held = Held()
        async with hosting(served(held, concurrency=1, on_busy_thread="queue")) as host:
            run = await started(host, thread())
            waiting = [asyncio.create_task(started(host, request)) for request in (thread(), "hello", "hello")]
            await until(lambda: host.entries["agent"].queued == 2)
            stopping = asyncio.create_task(host.runs.stop(drain=20.0))
            for one in waiting:
                with pytest.raises(HostStopping) as raised:
                    await within(one)
                assert raised.value.retry_after == RETRY_AFTER
            held.go.set()
            await within(stopping)
            assert (await run.result()).status == "completed"
            await idle(host)

    asyncio.run(main())


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["start", "leave", "cancel", "finish", "turn", "turn"]),
        st.sampled_from([None, "t", "u"]),
        st.integers(0, 7),
    ),
    max_size=40,
)


@settings(max_examples=80, deadline=None)
@given(ACTIONS, st.sampled_from(["reject", "queue", "cancel-running"]), st.integers(1, 3), st.integers(0, 3))
def test_whatever_comes_and_goes_nothing_stays_counted(
    actions: list[tuple[str, str | None, int]], policy: Any, slots: int, queue: int
) -> None:
    class Gated:
        """Waits until somebody lets one run go."""

        def __init__(self) -> None:
            self.gates: list[asyncio.Event] = []
            self.running: dict[Any, int] = {}

        async def run(self, ctx: Any) -> str:
            gate = asyncio.Event()
            self.gates.append(gate)
            self.running[ctx.thread] = self.running.get(ctx.thread, 0) + 1
            assert ctx.thread is None or self.running[ctx.thread] == 1, "two runs on one thread"
            assert sum(self.running.values()) <= slots, "more runs than slots"
            try:
                await gate.wait()
            finally:
                self.running[ctx.thread] -= 1
            return "ok"

    async def main() -> None:
        gated = Gated()
        caller = Principal("ann", agents=("*",), concurrency=5)
        runs: list[Run] = []
        async with hosting(served(gated, concurrency=slots, queue=queue, on_busy_thread=policy)) as host:

            async def start(thread_id: str | None) -> None:
                with contextlib.suppress(TooManyRuns, AgentOverloaded, ThreadBusy, Cancelled):
                    runs.append(await started(host, RunRequest("hi", thread_id=thread_id), caller=caller))

            starting: list[asyncio.Task[None]] = []
            for action, thread_id, place in actions:
                match action:
                    case "start":
                        starting.append(asyncio.create_task(start(thread_id)))
                    case "leave" if starting:
                        starting[place % len(starting)].cancel()
                    case "cancel" if runs:
                        runs[place % len(runs)].cancel(Cancelled())
                    case "finish" if gated.gates:
                        gated.gates[place % len(gated.gates)].set()
                    case _:
                        await asyncio.sleep(0)

            async def let_all_go() -> None:
                while any(not task.done() for task in starting) or host.runs.going:
                    for gate in gated.gates:
                        gate.set()
                    await asyncio.sleep(0)

            await within(let_all_go())
            assert not [task.exception() for task in starting if not task.cancelled() and task.exception()]
            for run in runs:
                assert (await within(run.ended())).status in {"completed", "cancelled"}
            await idle(host)

    asyncio.run(main())
