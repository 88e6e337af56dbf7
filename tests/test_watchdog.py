"""An agent that blocks the event loop is named, with its stack: in the log at once, in health, and as a metric."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from agenthost import watchdog
from agenthost.agents import Health, RunContext
from agenthost.checkups import check_up
from agenthost.errors import HostError
from agenthost.hookspecs import Dialect, RegisterProtocol, hookimpl
from agenthost.host import Host
from agenthost.watchdog import AILMENT, BLOCKED_BY_NOBODY, HINT, Watchdog
from tests.agents_for_tests import hosting, served, speaks, told, until

HELD = 1.5
"""Seconds that an agent here keeps the loop for."""


async def blocks(ctx: RunContext) -> AsyncIterator[str]:
    yield "before"
    time.sleep(HELD)


async def spins(ctx: RunContext) -> AsyncIterator[str]:
    end = time.monotonic() + HELD
    while time.monotonic() < end:
        pass
    yield "after"


async def blocks_in_a_callback(ctx: RunContext) -> AsyncIterator[str]:
    done = asyncio.Event()

    def later() -> None:
        time.sleep(HELD)
        done.set()

    asyncio.get_running_loop().call_soon(later)
    await done.wait()
    yield "after"


async def blocks_in_a_task(ctx: RunContext) -> AsyncIterator[str]:
    async def tool() -> None:
        time.sleep(HELD)

    await asyncio.create_task(tool())
    yield "after"


def watched(agent: Any, caplog: pytest.LogCaptureFixture) -> tuple[str, dict[str, Any], str]:
    """Run an agent beside another one: the first warning, its operator's report, the metrics."""

    async def main() -> tuple[dict[str, Any], str]:
        async with hosting(served(agent, "slow"), served(speaks, "other")) as host:
            await told(host, agent="slow")
            await until(lambda: host.entries["slow"].state == "degraded")
            report = await host.report()
            return report["agents"]["slow"], host.metrics_page().decode()

    with caplog.at_level(logging.WARNING, logger="agenthost.watchdog"):
        report, metrics = asyncio.run(main())
    return caplog.messages[0], report, metrics


@pytest.mark.fault
@pytest.mark.parametrize("agent", [blocks, spins, blocks_in_a_task, blocks_in_a_callback])
def test_an_agent_that_blocks_the_loop_is_named_with_its_stack(agent: Any, caplog: pytest.LogCaptureFixture) -> None:
    warning, report, metrics = watched(agent, caplog)

    assert warning.startswith("agent 'slow' (tests:slow) blocks the event loop: nothing else has run for ")
    assert f"\n  → {HINT}\n" in warning
    assert __file__ in warning
    assert "runs.py" not in warning
    assert report["state"] == "degraded"
    assert report["reason"].startswith("agent 'slow' (tests:slow) blocked the event loop for ")
    assert report["hint"] == HINT
    assert __file__ in report["stack"]
    assert 'agenthost_loop_blockages_total{agent="slow"} 1.0' in metrics
    seconds = metrics.partition('agenthost_loop_blocked_seconds_total{agent="slow"} ')[2].partition("\n")[0]
    assert HELD * 0.5 < float(seconds) < HELD * 4


@pytest.mark.fault
def test_it_is_the_called_agent_that_is_named_and_not_its_caller(caplog: pytest.LogCaptureFixture) -> None:
    async def calls(ctx: RunContext) -> None:
        await ctx.call("slow", "x")

    async def main() -> None:
        async with hosting(served(calls), served(blocks, "slow")) as host:
            await told(host)

    with caplog.at_level(logging.WARNING, logger="agenthost.watchdog"):
        asyncio.run(main())
    assert caplog.messages[0].startswith("agent 'slow' (tests:slow) blocks the event loop")


@pytest.mark.fault
def test_one_that_blocks_the_loop_when_it_is_asked_how_it_is_is_named(caplog: pytest.LogCaptureFixture) -> None:
    class Ill:
        async def run(self, ctx: RunContext) -> str:
            return "ill"

        async def health(self) -> Health:
            time.sleep(HELD)
            return Health()

    async def main() -> None:
        async with hosting(served(Ill(), "ill"), served(blocks, "of-the-same-module")) as host:
            asking = asyncio.create_task(check_up(host.entries.values, every=0.01))
            await until(lambda: host.entries["ill"].state == "degraded")
            asking.cancel()

    with caplog.at_level(logging.WARNING, logger="agenthost.watchdog"):
        asyncio.run(main())
    assert caplog.messages[0].startswith("agent 'ill' (tests:ill) blocks the event loop")


@pytest.mark.fault
def test_it_is_told_while_the_loop_still_stands() -> None:
    told_at: list[float] = []

    class Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told_at.append(time.monotonic())

    async def main() -> float:
        async with hosting(blocks) as host:
            began = time.monotonic()
            await told(host)
            return began

    notes = Notes()
    logging.getLogger("agenthost.watchdog").addHandler(notes)
    try:
        began = asyncio.run(main())
    finally:
        logging.getLogger("agenthost.watchdog").removeHandler(notes)
    assert told_at[0] - began < HELD


@pytest.mark.fault
def test_it_is_well_again_when_it_has_not_done_that_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "WELL_AGAIN", 0.2)

    async def main() -> None:
        async with hosting(blocks) as host:
            entry = host.entries["agent"]
            await told(host)
            await until(lambda: entry.state == "degraded")
            await until(lambda: entry.state == "ready")
            assert not entry.ailments

    asyncio.run(main())


def after(seconds: float, caplog: pytest.LogCaptureFixture) -> tuple[list[str], str]:
    """What is logged, and what the metrics say, of a host whose loop somebody keeps who is no agent."""

    async def main() -> str:
        async with hosting(speaks) as host:
            time.sleep(seconds)
            await told(host)
            page = host.metrics_page().decode()
            assert host.entries["agent"].state == "ready"
            return page

    with caplog.at_level(logging.INFO, logger="agenthost.watchdog"):
        page = asyncio.run(main())
    return caplog.messages, page


@pytest.mark.fault
def test_what_is_no_agents_doing_is_laid_at_the_hosts_door(caplog: pytest.LogCaptureFixture) -> None:
    (warning, end), metrics = after(BLOCKED_BY_NOBODY + 0.6, caplog)
    assert warning.startswith("the host, or a plugin, blocks the event loop: nothing else has run for 1.")
    assert "time.sleep(seconds)" in warning
    assert end.startswith("the event loop turns again after 1.")
    assert 'agenthost_loop_blockages_total{agent=""} 1.0' in metrics


@pytest.mark.fault
def test_less_than_a_second_of_it_is_not_worth_a_word(caplog: pytest.LogCaptureFixture) -> None:
    logged, metrics = after(BLOCKED_BY_NOBODY - 0.3, caplog)
    assert logged == []
    assert "agenthost_loop_blockages_total{" not in metrics


@pytest.mark.fault
def test_a_protocol_that_blocks_the_loop_while_it_starts_is_named(caplog: pytest.LogCaptureFixture) -> None:
    class Plugin:
        @hookimpl
        def register_protocols(self, register: RegisterProtocol) -> None:
            register(Dialect("slow", "/slow", lambda host, agent: None, lifespan=self.lifespan))

        @asynccontextmanager
        async def lifespan(self, host: Host) -> AsyncIterator[None]:
            time.sleep(BLOCKED_BY_NOBODY + 0.6)
            yield

    async def main() -> None:
        async with hosting(speaks, builtins=(Plugin(),)):
            pass

    with caplog.at_level(logging.WARNING, logger="agenthost.watchdog"):
        asyncio.run(main())
    assert caplog.messages[0].startswith("protocol slow blocks the event loop: nothing else has run for 1.")


@pytest.mark.fault
def test_one_look_that_fails_is_told_and_the_next_one_sees_again(caplog: pytest.LogCaptureFixture) -> None:
    looks = 0

    def run_of(_task: object) -> None:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise KeyError

    async def main() -> None:
        watching = Watchdog(run_of, {})
        for _ in range(2):
            time.sleep(BLOCKED_BY_NOBODY + 0.6)
            await asyncio.sleep(0.5)  # in which the loop is asked anew
        watching.stop()

    with caplog.at_level(logging.WARNING, logger="agenthost.watchdog"):
        asyncio.run(main())
    failed, seen = caplog.messages
    assert failed == "the watchdog could not look"
    assert seen.startswith("the host, or a plugin, blocks the event loop")


def test_what_ails_an_agent_goes_one_by_one() -> None:
    async def main() -> None:
        async with hosting(speaks) as host:
            entry = host.entries["agent"]
            one, other = HostError("one"), HostError("other")
            entry.ail(AILMENT, one)
            entry.ail("stuck", other)
            assert (entry.state, entry.reason) == ("degraded", other)
            entry.heal("stuck")
            assert (entry.state, entry.reason) == ("degraded", one)
            entry.heal("stuck")
            entry.heal(AILMENT)
            assert (entry.state, entry.reason) == ("ready", None)

    asyncio.run(main())


def test_the_thread_ends_with_the_host() -> None:
    others = set(threading.enumerate())

    def watching() -> bool:
        return any(one.name == "agenthost-watchdog" for one in set(threading.enumerate()) - others)

    async def main() -> None:
        async with hosting(speaks):
            assert watching()
        await until(lambda: not watching())

    asyncio.run(main())
