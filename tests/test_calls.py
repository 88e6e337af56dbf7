"""One agent runs another: as a child of its run, cancelled with it, never queued, never in a circle."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from agenthost.agents import RunContext, RunRequest, RunResult
from agenthost.auth import Principal
from agenthost.errors import (
    AgentError,
    AgentPaused,
    AgentUnavailable,
    Cancelled,
    Forbidden,
    HostError,
    InvalidRequest,
    NotFound,
    RunError,
    RunTimeout,
)
from agenthost.events import Interrupt, Result
from tests.agents_for_tests import (
    SECRET,
    Deaf,
    Held,
    hosting,
    idle,
    kinds,
    raising,
    served,
    started,
    told,
    until,
    within,
)


async def calls(ctx: RunContext) -> Result:
    """Calls the agent that its prompt names, and answers what came."""
    name, _, prompt = ctx.prompt.partition(" ")
    result = await ctx.call(name, prompt)
    return Result(message=result.message, output=[result.run_id, result.status])


class Tries:
    """Makes one call and keeps what it gave or raised."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.arguments, self.named = arguments, named
        self.got: RunResult | HostError | None = None

    async def run(self, ctx: RunContext) -> str:
        try:
            self.got = await ctx.call(*self.arguments, **self.named)
        except HostError as error:
            self.got = error
        return "tried"


def what(tries: Tries, *others: Any, caller: Principal = Principal("ann", agents=("*",))) -> Any:  # noqa: B008 - frozen
    async def main() -> None:
        async with hosting(served(tries, "tries"), *others) as host:
            assert kinds(await told(host, agent="tries", caller=caller))[-1] == "done"
            await idle(host)

    asyncio.run(main())
    return tries.got


async def mirror(ctx: RunContext) -> Result:
    ctx.metadata.get("list", []).append("changed by the callee")
    return Result(
        message=f"{ctx.principal.id} {ctx.prompt}", output={"input": ctx.input, "metadata": dict(ctx.metadata)}
    )


def test_a_call_gives_the_callees_result_as_the_same_principal() -> None:
    shared = {"list": ["mine"]}
    got = what(Tries("mirror", "hi", input={"pair": (1, 2)}, metadata=shared), served(mirror, "mirror"))
    assert (got.status, got.message, got.success) == ("completed", "ann hi", True)
    assert got.output == {"input": {"pair": [1, 2]}, "metadata": {"list": ["mine", "changed by the callee"]}}
    assert shared == {"list": ["mine"]}, "agents share no objects"


def test_a_child_run_on_a_thread_is_stored_with_its_parent(tmp_path: Path) -> None:
    tries = Tries("mirror", "hi", thread_id="child")

    async def main() -> None:
        async with hosting(
            served(tries, "tries"), served(mirror, "mirror"), store=f"sqlite:///{tmp_path}/s.db"
        ) as host:
            parent = await started(host, RunRequest("go", thread_id="t"), agent="tries")
            await parent.result()
            assert isinstance(tries.got, RunResult)
            stored = await host.store.get_run(tries.got.run_id)
            assert stored is not None
            assert (stored.parent, stored.agent, stored.thread_id) == (parent.id, "mirror", "child")

    asyncio.run(main())


@pytest.mark.parametrize(
    ("callee", "kind"),
    [
        (raising("generator", ValueError(SECRET), first=False), AgentError),
        (raising("generator", SystemExit(1), first=True), AgentError),
    ],
)
def test_a_callees_failure_is_raised_in_the_caller(callee: Any, kind: type[RunError]) -> None:
    got = what(Tries("callee"), served(callee, "callee"))
    assert isinstance(got, kind)
    assert got.run_id
    assert SECRET not in got.detail


def test_a_callees_timeout_is_raised_in_the_caller() -> None:
    async def waits(ctx: RunContext) -> None:
        await asyncio.Event().wait()

    assert isinstance(what(Tries("slow"), served(waits, "slow", timeout=0.05)), RunTimeout)


def test_a_failure_that_the_caller_lets_pass_is_its_own() -> None:
    async def main() -> None:
        bad = raising("generator", ValueError(SECRET), first=True)
        async with hosting(served(calls, "caller"), served(bad, "bad")) as host:
            found = await told(host, "bad", agent="caller")
            assert (kinds(found), found[-1]["code"]) == (["error"], "agent_error")
            assert SECRET not in str(found)

    asyncio.run(main())


def test_a_callees_question_is_raised_in_the_caller() -> None:
    async def asks(ctx: RunContext) -> AsyncIterator[Any]:
        yield Interrupt("really?", interrupt_id="q")

    got = what(Tries("asks"), served(asks, "asks"))
    assert isinstance(got, AgentPaused)
    assert (got.interrupt.question, got.interrupt.interrupt_id) == ("really?", "q")


def test_an_agent_that_lets_a_callees_question_pass_has_failed() -> None:
    async def asks(ctx: RunContext) -> AsyncIterator[Any]:
        yield Interrupt("really?")

    async def main() -> None:
        async with hosting(served(calls, "caller"), served(asks, "asks")) as host:
            assert (await told(host, "asks", agent="caller"))[-1]["code"] == "agent_error"

    asyncio.run(main())


class Picky:
    input_schema: ClassVar[dict[str, Any]] = {"type": "object"}

    async def run(self, ctx: RunContext) -> str:
        return "ok"


REFUSALS: list[tuple[Tries, type[HostError], str]] = [
    (Tries("nobody"), NotFound, "no agent by that name"),
    (Tries("picky", input=3), InvalidRequest, "input does not meet 'type' ('object')"),
    (Tries("picky", thread_id=""), InvalidRequest, "a thread id has at least one character"),
    (Tries("picky", 5), InvalidRequest, "ctx.call: prompt is a str, not int"),
    (Tries("picky", "\ud800"), InvalidRequest, "ctx.call: prompt holds a str with a lone surrogate"),
    (Tries("picky", input=object()), InvalidRequest, "ctx.call: input holds object"),
    (Tries("picky", metadata={"a": b""}), InvalidRequest, "ctx.call: metadata holds bytes"),
    (Tries("tries"), AgentUnavailable, "an agent cannot be called while it waits for the answer: tries → tries"),
    (Tries("broken"), AgentUnavailable, "agent 'broken' cannot take a call now: agent 'broken' is failed"),
]


@pytest.mark.parametrize(("tries", "kind", "message"), REFUSALS, ids=[row[2] for row in REFUSALS])
def test_a_call_that_cannot_be_made_says_why(tries: Tries, kind: type[HostError], message: str) -> None:
    got = what(tries, served(Picky, "picky"), served(42, "broken"))
    assert (type(got), got.message) == (kind, message)


def test_a_call_to_an_agent_the_principal_may_not_use_is_forbidden() -> None:
    got = what(Tries("mirror"), served(mirror, "mirror"), caller=Principal("cal", agents=("tries",)))
    assert (type(got), got.message) == (Forbidden, "'cal' may not use this agent")


def test_calls_go_eight_deep_and_no_deeper() -> None:
    deepest: list[HostError] = []

    def link(place: int) -> Any:
        async def run(ctx: RunContext) -> str:
            try:
                return f"{place} " + (await ctx.call(f"a{place + 1}")).message
            except AgentUnavailable as error:
                deepest.append(error)
                return str(place)

        return run

    async def main() -> None:
        async with hosting(*(served(link(place), f"a{place}") for place in range(12))) as host:
            assert (await told(host, agent="a0"))[-1]["message"] == "0 1 2 3 4 5 6 7 8"
            await idle(host)

    asyncio.run(main())
    assert [error.message for error in deepest] == [
        "calls between agents go at most 8 deep: a0 → a1 → a2 → a3 → a4 → a5 → a6 → a7 → a8 → a9"
    ]


def test_a_longer_circle_is_a_circle_too() -> None:
    def link(following: str) -> Any:
        async def run(ctx: RunContext) -> str:
            try:
                return (await ctx.call(following)).message
            except AgentUnavailable as error:
                return error.message

        return run

    async def main() -> None:
        async with hosting(served(link("b"), "a"), served(link("c"), "b"), served(link("a"), "c")) as host:
            message = (await told(host, agent="a"))[-1]["message"]
            assert message == "an agent cannot be called while it waits for the answer: a → b → c → a"

    asyncio.run(main())


def test_a_call_never_waits_for_a_slot_or_a_turn() -> None:
    async def main() -> None:
        held = Held()
        slot, turn = Tries("held"), Tries("held", thread_id="t")
        async with hosting(
            served(held, "held", concurrency=2, on_busy_thread="queue"), served(slot, "slot"), served(turn, "turn")
        ) as host:
            await started(host, RunRequest("x", thread_id="t"), agent="held")
            await told(host, agent="turn")
            await started(host, agent="held")
            await told(host, agent="slot")
            held.go.set()
            await idle(host)
        for tries, why in (
            (turn, "a run is going on this thread"),
            (slot, "agent 'held' has 2 runs going and 0 waiting"),
        ):
            assert isinstance(tries.got, AgentUnavailable)
            assert tries.got.message == f"agent 'held' cannot take a call now: {why}"

    asyncio.run(main())


def test_a_call_counts_against_no_limit_of_the_principal() -> None:
    got = what(Tries("mirror"), served(mirror, "mirror"), caller=Principal("one", agents=("*",), concurrency=1))
    assert isinstance(got, RunResult)


@pytest.mark.parametrize("depth", [1, 3])
def test_a_cancel_goes_down_to_the_last_callee(depth: int) -> None:
    async def main() -> None:
        held = Held()
        specs = [served(calls, f"c{place}") for place in range(depth)]
        prompt = " ".join([*(f"c{place}" for place in range(1, depth)), "held"])
        async with hosting(*specs, served(held, "held")) as host:
            run = await started(host, prompt, agent="c0")
            await within(held.begun.wait())
            run.cancel(Cancelled())
            await within(held.cancelled.wait(), 0.25)
            assert (await run.ended()).status == "cancelled"
            await idle(host)

    asyncio.run(main())


def test_a_child_whose_caller_does_not_hear_its_cancel_is_cancelled_when_the_caller_ends() -> None:
    async def shields(ctx: RunContext) -> str:
        child = asyncio.ensure_future(ctx.call("held"))
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(child)
        children.append(child)
        return "ended without it"

    children: list[asyncio.Future[RunResult]] = []

    async def main() -> None:
        held = Held()
        async with hosting(served(shields, "shields"), served(held, "held")) as host:
            run = await started(host, agent="shields")
            await within(held.begun.wait())
            run.cancel(Cancelled())
            await within(held.cancelled.wait(), 0.25)
            with pytest.raises(Cancelled):
                await within(children[0])
            await idle(host)

    asyncio.run(main())


def test_a_caller_that_stops_waiting_cancels_the_call_and_goes_on() -> None:
    async def gives_up(ctx: RunContext) -> str:
        try:
            async with asyncio.timeout(0.05):
                await ctx.call("held")
        except TimeoutError:
            return "without it"
        return "with it"

    async def main() -> None:
        held = Held()
        async with hosting(served(gives_up, "gives-up"), served(held, "held")) as host:
            assert (await told(host, agent="gives-up"))[-1]["message"] == "without it"
            assert held.cancelled.is_set()
            await idle(host)

    asyncio.run(main())


def test_a_run_that_is_over_calls_nobody() -> None:
    kept: list[RunContext] = []

    async def keeps(ctx: RunContext) -> str:
        kept.append(ctx)
        return "ok"

    async def main() -> None:
        async with hosting(served(keeps, "keeps"), served(mirror, "mirror")) as host:
            await told(host, agent="keeps")
            with pytest.raises(AgentUnavailable) as raised:
                await kept[0].call("mirror")
            assert raised.value.message == "agent 'mirror' cannot be called: the run that calls is over"

    asyncio.run(main())


def test_a_context_without_a_host_says_so() -> None:
    async def main() -> None:
        ctx = RunContext(prompt="", run_id="r", agent="a", principal=Principal("ann"))
        with pytest.raises(RuntimeError, match=r"^ctx\.call works only while the host runs this agent$"):
            await ctx.call("b")

    asyncio.run(main())


def test_while_the_host_drains_a_run_that_goes_on_may_still_call() -> None:
    async def calls_late(ctx: RunContext) -> str:
        begun.set()
        await go.wait()
        return (await ctx.call("mirror", "hi")).message

    begun, go = asyncio.Event(), asyncio.Event()

    async def main() -> None:
        async with hosting(served(calls_late, "late"), served(mirror, "mirror")) as host:
            run = await started(host, agent="late")
            await within(begun.wait())
            stopping = asyncio.create_task(host.runs.stop(drain=20))
            await until(lambda: host.runs.stopping)
            go.set()
            await within(stopping)
            assert (await run.result()).message == "ann hi"

    asyncio.run(main())


def test_a_deaf_callee_does_not_keep_its_caller_from_ending() -> None:
    async def main() -> None:
        deaf = Deaf()
        async with hosting(served(calls, "caller"), served(deaf, "deaf")) as host:
            run = await started(host, "deaf", agent="caller")
            await until(lambda: deaf.begun)
            run.cancel(Cancelled())
            await within(run.ended(), 0.25)
            deaf.go.set()
            await idle(host)

    asyncio.run(main())
