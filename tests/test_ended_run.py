"""A run that has ended, as the store has it: the same result, the same events, from any point on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agenthost.agents import RunContext, RunRequest
from agenthost.auth import Principal
from agenthost.ended_run import EndedRun, is_past
from agenthost.errors import Cancelled, EventsExpired, NotFound, RunError
from agenthost.events import Interrupt, Result, Usage
from agenthost.host import Host
from agenthost.run import new_run_id
from agenthost.run_log import PAGE
from tests.agents_for_tests import (
    ANN,
    BOB,
    SECRET,
    events,
    hosting,
    idle,
    kinds,
    served,
    started,
    thread,
    until,
    within,
)

ADMIN = Principal("admin", agents=("*",), admin=True)


@pytest.fixture(params=["in memory", "on a file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory:" if request.param == "in memory" else f"sqlite:///{tmp_path}/store.db"


async def ended(host: Host, run_id: str, *, agent: str = "agent", caller: Principal = ANN) -> EndedRun:
    found = await within(host.runs.find(host.entries[agent], caller, run_id))
    assert isinstance(found, EndedRun)
    return found


async def does_what_it_is_told(ctx: RunContext) -> AsyncIterator[Any]:
    yield "let me see"
    yield Usage("m", input_tokens=1, cost_usd=0.25)
    match ctx.prompt:
        case "complete":
            yield Result("so be it", output={"a": [1, None]}, reason="confidence_met")
        case "give up":
            yield Result("no", reason="max_iterations")
        case "pause":
            yield Interrupt("really?", options=["yes"], interrupt_id="q")
        case "raise":
            raise ValueError(SECRET)
        case "bad":
            yield object()
        case "wait":
            await asyncio.Event().wait()


@pytest.mark.parametrize("prompt", ["complete", "give up", "pause", "raise", "bad", "wait", "time out", "nothing"])
@pytest.mark.parametrize("detached", [False, True], ids=["on a thread", "detached"])
def test_a_result_read_from_the_store_is_the_result_that_was(store: str, prompt: str, detached: bool) -> None:
    async def outcome(run: Any) -> Any:
        try:
            result = await within(run.result())
        except RunError as error:
            return type(error), error.code, error.status, error.detail, error.run_id, error.correlation_id
        return result

    async def main() -> None:
        timeout = 0.1 if prompt == "time out" else 600
        async with hosting(served(does_what_it_is_told, timeout=timeout), store=store) as host:
            asked = "wait" if prompt == "time out" else prompt
            request = RunRequest(asked, detached=True) if detached else thread(prompt=asked)
            run = await started(host, request)
            reading = asyncio.create_task(events(run))
            if prompt == "wait":
                await until(lambda: run.log.last == 2)
                run.cancel(Cancelled("by a test"))
            found, before = await reading, await outcome(run)
            await idle(host)
            again = await ended(host, run.id)
            assert await outcome(again) == before
            assert (again.id, again.thread, again.status) == (run.id, run.thread, run.status)
            assert await events(again) == found
            for after in range(len(found) + 3):
                assert await events(again, after) == found[after:]

    asyncio.run(main())


def test_a_long_log_is_read_page_by_page(store: str) -> None:
    async def talks(ctx: RunContext) -> AsyncIterator[str]:
        for number in range(3 * PAGE):
            yield str(number)

    async def main() -> None:
        async with hosting(talks, store=store) as host:
            run = await started(host, thread())
            found = await events(run)
            await idle(host)
            again = await ended(host, run.id)
            for after in (0, 1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE, 3 * PAGE + 1):
                assert await events(again, after) == found[after:]

    asyncio.run(main())


def test_readers_of_an_ended_run_neither_hold_nor_cancel_anything() -> None:
    async def main() -> None:
        async with hosting(does_what_it_is_told) as host:
            run = await started(host, thread(prompt="complete"))
            await within(run.result())
            await idle(host)
            again = await ended(host, run.id)
            again.attend()
            again.leave()
            again.read().close()
            assert (await again.result()).status == "completed"

    asyncio.run(main())


def test_an_ended_run_is_its_owners_and_an_operators() -> None:
    async def main() -> None:
        async with hosting(does_what_it_is_told, served(does_what_it_is_told, "other")) as host:
            run = await started(host, thread(prompt="complete"))
            await within(run.result())
            await idle(host)
            assert (await ended(host, run.id, caller=ADMIN)).id == run.id
            for options in ({"caller": BOB}, {"agent": "other"}, {"agent": "other", "caller": ADMIN}):
                with pytest.raises(NotFound) as missing:
                    await ended(host, run.id, **options)  # type: ignore[arg-type]  # one of each
                assert missing.value.message == "no such run"

    asyncio.run(main())


def test_of_a_run_that_was_recorded_late_what_came_before_has_expired(store: str) -> None:
    async def asks(ctx: RunContext) -> AsyncIterator[Any]:
        for _ in range(5):
            yield "x"
        yield Interrupt("really?")
        yield Interrupt("and this?")

    async def main() -> None:
        async with hosting(asks, store=store) as host:
            run = await started(host, "hello")
            found = await events(run)
            await idle(host)
            again = await ended(host, run.id)
            assert (again.stored.first_seq, again.stored.last_seq) == (6, 7)
            assert await events(again) == found[5:], "from the beginning: what there is"
            assert await events(again, 5) == found[5:]
            assert await events(again, 6) == found[6:]
            assert await events(again, 7) == []
            for after in (1, 4):
                with pytest.raises(EventsExpired) as expired:
                    again.read(after)
                assert expired.value.message == "this run's events are kept from number 6 on"
                assert (expired.value.status, expired.value.code) == (410, "events_expired")

    asyncio.run(main())


def test_an_id_says_whether_its_run_is_too_old_to_be_kept() -> None:
    fresh = new_run_id()
    old = f"{int((time.time() - 100) * 1000):012x}" + fresh[12:]
    assert not is_past(fresh, 50)
    assert is_past(old, 50)
    assert not is_past(old, 200)
    assert not is_past(old, 0), "runs are kept for ever"
    for odd in ("", "x" * 32, old[:-1], old + "0", "0" * 32, "-" + old[1:], "é" * 32):
        assert not is_past(odd, 50)


def test_the_end_of_a_run_is_found_whatever_it_is(store: str) -> None:
    async def main() -> None:
        async with hosting(does_what_it_is_told, store=store) as host:
            for prompt, last in [("complete", "done"), ("pause", "interrupt"), ("raise", "error")]:
                run = await started(host, RunRequest(prompt, detached=True))
                await within(run.ended())
                await idle(host)
                assert kinds(await events(await ended(host, run.id)))[-1] == last

    asyncio.run(main())
