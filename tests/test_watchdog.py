"""An agent that blocks the event loop is named, with its stack: in the log at once, in health, and as a metric."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agenthost.agents import RunContext
from agenthost.errors import HostError
from agenthost.watchdog import AILMENT
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
@pytest.mark.parametrize("agent", [blocks, spins, blocks_in_a_task])
def test_an_agent_that_blocks_the_loop_is_named_with_its_stack(agent: Any, caplog: pytest.LogCaptureFixture) -> None:
    warning, report, metrics = watched(agent, caplog)

    assert warning.startswith("agent 'slow' (tests:slow) blocks the event loop: nothing else has run for ")
    assert "await what waits" in warning
    assert __file__ in warning
    assert "runs.py" not in warning
    assert report["state"] == "degraded"
    assert "blocks the event loop" in report["reason"]
    assert __file__ in report["stack"]
    assert 'agenthost_loop_blockages_total{agent="slow"} 1.0' in metrics
    seconds = metrics.partition('agenthost_loop_blocked_seconds_total{agent="slow"} ')[2].partition("\n")[0]
    assert HELD * 0.5 < float(seconds) < HELD * 4


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
