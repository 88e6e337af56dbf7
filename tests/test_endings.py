"""What a run leaves behind, by how it ended: messages and state of its thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agenthost.agents import RunContext
from agenthost.errors import (
    Cancelled,
)
from agenthost.events import Interrupt, ToolComplete, ToolStart
from agenthost.threads import ThreadKey
from tests.agents_for_tests import (
    BOB,
    SECRET,
    events,
    hosting,
    idle,
    kinds,
    said,
    served,
    started,
    thread,
    told,
    until,
)


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


CYCLE: list[Any] = []
CYCLE.append(CYCLE)

STATES: list[tuple[Any, str]] = [
    ([1], "ctx.state cannot be kept: list"),
    (None, "ctx.state cannot be kept: NoneType"),
    ({"a": object()}, "ctx.state cannot be kept: object"),
    ({1: 2}, "ctx.state cannot be kept: a dict with a key that is not a str"),
    ({"a": "x" * (1 << 20)}, "ctx.state cannot be kept: more than 1 MiB"),
    ({"a": CYCLE}, "ctx.state cannot be kept: more than 254 levels deep"),
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


class Broken(dict):  # type: ignore[type-arg]  # of anything
    def items(self) -> Any:
        raise RuntimeError(SECRET)


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
