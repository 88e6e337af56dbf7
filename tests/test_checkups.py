"""Agents are asked how they are: one that is not well is degraded, and ready again when it is."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agenthost.agents import Health, RunContext
from agenthost.checkups import check_up
from agenthost.errors import HostError
from agenthost.health import agent_report
from tests.agents_for_tests import SECRET, hosting, served, speaks, until, within


class Patient:
    """Says what it is told to say of itself."""

    says: Any = Health()
    asked = 0

    async def run(self, ctx: RunContext) -> AsyncIterator[str]:
        yield "well"

    async def health(self) -> Any:
        self.asked += 1
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
        (Health(ok=False, detail="line\udcff" + "x" * 1000), "line\\udcff" + "x" * 295),
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
            assert entry.reason.message == f"agent 'patient' (tests:patient) is not well: {reason}"
            assert host.entries["other"].state == "ready"
            patient.says = Health()
            await until(lambda: entry.state == "ready")
            assert entry.reason is None
            asking.cancel()

    asyncio.run(main())


class Busy:
    """Does not say how it is until it is let go; `deaf` where it does not hear that it is cancelled either."""

    def __init__(self, *, deaf: bool) -> None:
        self.deaf = deaf
        self.asked = 0
        self.cancelled = 0
        self.go = asyncio.Event()

    async def run(self, ctx: RunContext) -> AsyncIterator[str]:
        yield "well"

    async def health(self) -> Health:
        self.asked += 1
        while not self.go.is_set():
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                if not self.deaf:
                    raise
        return Health()


@pytest.mark.parametrize("deaf", [False, True])
def test_one_that_does_not_say_is_late_and_holds_up_nobody(deaf: bool) -> None:
    async def main() -> None:
        busy, patient = Busy(deaf=deaf), Patient()
        async with hosting(served(busy, "busy"), served(patient, "patient")) as host:
            asking = asyncio.create_task(check_up(host.entries.values, every=0.01, answer_within=0.05))
            late, other = host.entries["busy"], host.entries["patient"]
            await until(lambda: late.state == "degraded")
            assert late.reason is not None
            assert late.reason.message == "agent 'busy' (tests:busy) is not well: it did not say within 0.05 s"
            await until(lambda: busy.cancelled)
            patient.says = Health(ok=False)
            await until(lambda: other.state == "degraded")
            if deaf:
                assert busy.asked == 1, "it owes an answer, and is not asked again"
            else:
                await until(lambda: busy.asked > 1)
            busy.go.set()
            await until(lambda: late.state == "ready")
            asking.cancel()

    asyncio.run(main())


def test_a_stop_does_not_wait_for_one_that_does_not_hear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agenthost.checkups.check_up.__defaults__", (0.01, 0.05))

    async def main() -> None:
        busy = Busy(deaf=True)
        async with hosting(busy) as host:
            await until(lambda: busy.cancelled)
            await within(host.stop(drain=0.0))
            busy.go.set()

    asyncio.run(main())


def test_it_is_told_once_that_an_agent_is_not_well_and_once_that_it_is(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        patient = Patient()
        async with hosting(served(patient, "patient")) as host:
            asking = asyncio.create_task(check_up(host.entries.values, every=0.01))
            entry = host.entries["patient"]
            patient.says = Health(ok=False, detail="tired")
            await until(lambda: entry.state == "degraded")
            since, before = entry.since, patient.asked
            await until(lambda: patient.asked > before + 2)
            assert entry.since == since
            patient.says = Health()
            await until(lambda: entry.state == "ready")
            asking.cancel()

    with caplog.at_level(logging.INFO, logger="agenthost.checkups"):
        asyncio.run(main())
    assert caplog.messages == ["agent 'patient' (tests:patient) is not well: tired", "agent 'patient' is well again"]


def test_a_task_that_a_checkup_starts_does_not_end_the_host() -> None:
    class Leaves(Patient):
        async def health(self) -> Health:
            async def leaves() -> None:
                sys.exit(3)

            await asyncio.gather(leaves())
            return Health()

    async def main() -> None:
        async with hosting(served(Leaves(), "leaves")) as host:
            asking = asyncio.create_task(check_up(host.entries.values, every=0.01))
            entry = host.entries["leaves"]
            await until(lambda: entry.state == "degraded")
            assert entry.reason is not None
            assert entry.reason.message.endswith("is not well: LeftByTask: SystemExit(3)")
            asking.cancel()

    asyncio.run(main())


def test_one_that_is_well_again_may_be_degraded_by_something_else() -> None:
    async def main() -> None:
        patient = Patient()
        patient.says = Health(ok=False)
        async with hosting(served(patient, "patient")) as host:
            asking = asyncio.create_task(check_up(host.entries.values, every=0.01))
            entry = host.entries["patient"]
            await until(lambda: entry.state == "degraded")
            entry.ail("stuck", HostError("its runs do not end"))
            patient.says = Health()
            await until(lambda: len(entry.ailments) == 1)
            assert agent_report(entry)["reason"] == "its runs do not end"
            asking.cancel()

    asyncio.run(main())
