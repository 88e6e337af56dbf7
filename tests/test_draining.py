"""Versions on their way out: nothing of theirs is cut, and they are closed as soon as nothing is left."""

from __future__ import annotations

import asyncio
from pathlib import Path

from agenthost.draining import is_quiet
from agenthost.entries import AgentEntry
from tests.agents_for_tests import Deaf, hosting, served, started, until, within
from tests.operated import GATES, LIVES, operated, versioned


def test_an_old_version_is_closed_once_its_last_run_has_ended_and_not_before(tmp_path: Path) -> None:
    async def main() -> None:
        async with operated(tmp_path, versioned("one")) as site:
            host = site.host
            GATES["wait"] = asyncio.Event()
            run = await started(host, "wait")
            await site.reload(versioned("two"))
            (old,) = host.registry.draining.entries
            assert (old.state, old.busy) == ("draining", 1)
            (shown,) = (await host.report())["draining"]
            assert shown.pop("since") > 0
            assert shown == {
                "agent": "agent",
                "version": None,
                "use": "tests.operated:Versioned",
                "reason": "a newer version has taken its place",
                "runs": 1,
            }
            assert LIVES == ["one entered", "two entered"]
            assert (await (await started(host)).result()).message == "two two"
            GATES["wait"].set()
            assert (await within(run.result())).message == "one one"
            await site.quiet()
            assert LIVES == ["one entered", "two entered", "one left"]
            assert (old.state, old.ref) == ("unloaded", None)

    asyncio.run(main())


def test_a_run_that_does_not_hear_its_cancel_keeps_no_version_open() -> None:
    async def main() -> None:
        deaf = Deaf()
        spec = served(deaf, timeout=0.05)
        async with hosting(spec) as host:
            old = host.entries["agent"]
            run = await started(host)
            await within(run.ended())
            assert old.stuck == 1
            assert is_quiet(old)
            await host.registry.swap(spec)
            await until(lambda: old.state == "unloaded")
            assert host.entries["agent"].running == 1, "it keeps its slot: a reload doubles no limit"
            deaf.go.set()
            await until(lambda: host.entries["agent"].running == 0)

    asyncio.run(main())


def test_of_a_version_without_a_successor_what_waits_is_waited_for() -> None:
    entry = AgentEntry(served(None))
    assert is_quiet(entry)
    entry.traffic.queued = 1
    assert not is_quiet(entry)
    entry.successor = AgentEntry(served(None))
    assert is_quiet(entry)
    entry.busy = 1
    assert not is_quiet(entry)


def test_the_end_of_the_host_closes_what_still_drains(tmp_path: Path) -> None:
    async def main() -> None:
        async with operated(tmp_path, versioned("one")) as site:
            GATES["wait"] = asyncio.Event()
            await started(site.host, "wait")
            await site.reload(versioned("two"))
        assert sorted(LIVES) == ["one entered", "one left", "two entered", "two left"]

    asyncio.run(main())
