"""Agents are asked how they are: one that is not well is degraded, and ready again when it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from agenthost.agents import Health, RunContext
from agenthost.checkups import check_up
from tests.agents_for_tests import PATIENCE, SECRET, hosting, served, speaks, until


class Patient:
    """Says what it is told to say of itself."""

    says: Any = Health()

    async def run(self, ctx: RunContext) -> AsyncIterator[str]:
        yield "well"

    async def health(self) -> Any:
        if isinstance(self.says, BaseException):
            raise self.says
        return self.says


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        (Health(ok=False, detail="no route to the model"), "no route to the model"),
        (Health(ok=False), "it does not say why"),
        (ValueError(SECRET), f"ValueError: {SECRET}"),
        (SystemExit(3), "SystemExit: 3"),
        (asyncio.CancelledError(), "CancelledError"),
        ("fine", "its health is of type str, not Health"),
    ],
)
def test_an_agent_that_is_not_well_is_degraded_until_it_is(says: Any, reason: str) -> None:
    async def main() -> None:
        patient = Patient()
        async with hosting(served(patient, "patient"), served(speaks, "other")) as host:
            asking = asyncio.create_task(check_up(host.entries.values, every=0.01))
            entry = host.entries["patient"]
            patient.says = says
            await until(lambda: entry.state == "degraded")
            assert entry.reason is not None
            assert entry.reason.message == f"agent 'patient' is not well: {reason}"
            assert host.entries["other"].state == "ready"
            patient.says = Health()
            await until(lambda: entry.state == "ready")
            asking.cancel()

    asyncio.run(main())


class DeafToo(Patient):
    """Does not say how it is, and does not hear that nobody waits any more, until it is let go."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.asked = 0

    async def health(self) -> Any:
        self.asked += 1
        while not self.go.is_set():
            with suppress(asyncio.CancelledError):
                await self.go.wait()
        return Health()


def test_one_that_never_says_holds_up_neither_the_others_nor_a_stop() -> None:
    async def main() -> None:
        deaf, patient = DeafToo(), Patient()
        async with hosting(served(deaf, "deaf"), served(patient, "patient")) as host:
            asking = asyncio.create_task(check_up(host.entries.values, every=0.01, answer_within=0.02))
            await until(lambda: host.entries["deaf"].state == "degraded")
            reason = host.entries["deaf"].reason
            assert reason is not None
            assert reason.message == "agent 'deaf' is not well: it did not say within 0.02 s"
            patient.says = Health(ok=False)
            await until(lambda: host.entries["patient"].state == "degraded")
            assert deaf.asked == 1
            deaf.go.set()
            await until(lambda: host.entries["deaf"].state == "ready")
            deaf.go.clear()
            await until(lambda: deaf.asked > 2)
            asking.cancel()
            await asyncio.wait((asking,), timeout=PATIENCE)
            assert asking.cancelled()
            deaf.go.set()

    asyncio.run(main())
