"""What operators do to a host that serves: load, unload, reload; one at a time, and whoever asked may leave."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from agenthost.agents import RunRequest
from agenthost.config import Config
from agenthost.errors import AgentNotReady, AgentUnavailable, NotFound
from agenthost.operating import Operations, told
from agenthost.planning import Plan
from tests import operated as operated_module
from tests.agents_for_tests import ANN, BOB, Deaf, asked, hosting, idle, served, started, until, within
from tests.operated import GATES, LIVES, operated, versioned
from tests.serving import actors


def test_an_agent_that_is_unloaded_lets_its_runs_end_takes_none_and_can_be_loaded_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with operated(tmp_path, versioned("one")) as site:
            host, operations = site.host, site.host.operations
            GATES["wait"] = asyncio.Event()
            run = await started(host, "wait")
            unloading = asyncio.create_task(operations.unload("agent", "ops"))
            entry = host.entries["agent"]
            await until(lambda: entry.state == "draining")
            with pytest.raises(AgentNotReady) as refused:
                host.agent_for(ANN, "agent")
            assert refused.value.message == "agent 'agent' is draining"
            GATES["wait"].set()
            assert (await within(run.result())).message == "one one"
            assert await within(unloading) == (entry, 0)
            assert (entry.state, str(entry.reason)) == ("unloaded", "unloaded by 'ops'")
            assert LIVES == ["one entered", "one left"]
            assert await host.readiness() == ["agent 'agent' is unloaded"]
            assert (await within(operations.load("agent"))) is entry
            assert (entry.state, entry.reason) == ("ready", None)
            assert (await (await started(host)).result()).message == "one one"

    asyncio.run(main())


def test_what_does_not_end_within_the_drain_is_cut_off_and_told_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with operated(tmp_path, versioned("one", more="concurrency = 1")) as site:
            host = site.host
            host.config = host.config.model_copy(
                update={"server": host.config.server.model_copy(update={"drain": 0.1})}
            )
            GATES["wait"] = asyncio.Event()
            run = await started(host, "wait")
            waiting = asyncio.create_task(started(host))
            promised = await asked(host, RunRequest("hello", detached=True), caller=BOB)
            await until(lambda: host.entries["agent"].queued == 2)
            entry, cut = await within(host.operations.unload("agent", "ops"))
            assert cut == 1
            for error in (run.error, (await asyncio.gather(waiting, return_exceptions=True))[0]):
                assert isinstance(error, AgentUnavailable)
                assert error.message == "agent 'agent' was unloaded before this run ended"
            assert (await within(run.ended())).status == "failed"
            assert (promised.status, entry.queued) == ("queued", 1), "what was promised waits until it is loaded again"
            await within(host.operations.load("agent"))
            assert (await within(promised.result())).message == "one one"
            await idle(host)

    asyncio.run(main())


def test_an_agent_whose_runs_do_not_hear_their_cancel_is_unloaded_all_the_same() -> None:
    async def main() -> None:
        deaf = Deaf()
        async with hosting(served(deaf)) as host:
            from_code = _operations(host)
            host.config = Config.model_validate({"server": {"drain": 0}, "store": {"url": "memory:"}})
            run = await started(host)
            await until(lambda: deaf.begun)
            entry, cut = await within(from_code.unload("agent", "ops"))
            assert (entry.state, cut) == ("unloaded", 1)
            assert (await run.ended()).status == "failed"
            deaf.go.set()
            await idle(host)

    asyncio.run(main())


def _operations(host: Any) -> Any:
    return Operations(host, None, lambda _config, _authenticators: lambda: None)


def test_an_agent_that_is_loading_or_to_be_tried_again_is_given_up_when_it_is_unloaded(tmp_path: Path) -> None:
    async def main() -> None:
        async with operated(tmp_path, versioned("one", raises=True)) as site:
            entry = site.host.entries["agent"]
            assert entry.retry_at is not None
            await within(site.host.operations.unload("agent", "ops"))
            assert (entry.state, entry.retry_at) == ("unloaded", None)
            again = await within(site.host.operations.load("agent"))
            assert (again.state, str(again.reason).partition(" (")[0]) == ("failed", "agent 'agent'")

    asyncio.run(main())


def test_loading_what_is_loaded_changes_nothing_and_what_cannot_be_found_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        off = versioned(name="off", more="enabled = false")
        async with operated(tmp_path, versioned("one") + "[agents.nowhere]\n" + off) as site:
            operations = site.host.operations
            assert (await operations.load("agent")).serving
            assert LIVES == ["one entered"]
            missing = await operations.load("nowhere")
            assert (missing.state, str(missing.reason)) == ("failed", "agent 'nowhere' is not installed")
            for name in ("off", "unknown"):
                with pytest.raises(NotFound):
                    await operations.load(name)
                with pytest.raises(NotFound):
                    await operations.unload(name, "ops")

    asyncio.run(main())


def test_a_load_that_comes_while_an_agent_is_unloaded_waits_for_that(tmp_path: Path) -> None:
    async def main() -> None:
        async with operated(tmp_path, versioned("one")) as site:
            GATES["wait"] = asyncio.Event()
            run = await started(site.host, "wait")
            unloading = asyncio.create_task(site.host.operations.unload("agent", "ops"))
            await until(lambda: site.host.entries["agent"].state == "draining")
            loading = asyncio.create_task(site.host.operations.load("agent"))
            GATES["wait"].set()
            await within(unloading)
            assert (await within(loading)).serving
            await run.ended()
            assert LIVES == ["one entered", "one left", "one entered"]

    asyncio.run(main())


def test_an_agent_that_an_operator_unloaded_stays_so_through_a_reload_and_is_loaded_as_it_then_is(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with operated(tmp_path, versioned("one")) as site:
            await within(site.host.operations.unload("agent", "ops"))
            await site.reload(versioned("two"))
            assert site.host.entries["agent"].state == "unloaded"
            await within(site.host.operations.load("agent"))
            assert (await (await started(site.host)).result()).message == "two two"

    asyncio.run(main())


def test_two_reloads_come_one_after_the_other_and_the_second_reads_the_file_again(
    tmp_path: Path, monkeypatch: Any
) -> None:
    async def main() -> None:
        async with operated(tmp_path, versioned("one")) as site:
            monkeypatch.setattr(operated_module, "LOADS", asyncio.Event())
            site.write(versioned("two"))
            first = asyncio.create_task(site.host.operations.reload("first"))
            await until(lambda: site.host.registry._building)
            second = asyncio.create_task(site.host.operations.reload("second"))
            site.write(versioned("three"))
            operated_module.LOADS.set()  # type: ignore[union-attr]  # set above
            assert (await within(first))["changed"] == {"agent": ["settings"]}
            assert (await within(second))["changed"] == {"agent": ["settings"]}
            assert (await (await started(site.host)).result()).message == "three three"
            assert (await site.host.report())["reload"]["by"] == "second"

    asyncio.run(main())


def test_a_reload_goes_on_when_whoever_asked_for_it_leaves(tmp_path: Path) -> None:
    async def main() -> None:
        async with operated(tmp_path, versioned("one")) as site:
            site.write(versioned("two"))
            asking = asyncio.create_task(site.host.operations.reload("somebody"))
            await asyncio.sleep(0)
            asking.cancel()
            await until(lambda: site.host.operations.last_reload)
            assert site.host.operations.last_reload["applied"]  # type: ignore[index]  # it is there by now

    asyncio.run(main())


def test_a_reload_that_nobody_waits_for_tells_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "agenthost.host")

    async def main() -> None:
        seen: list[Config] = []
        async with operated(tmp_path, versioned("one")) as site:
            operations = site.host.operations
            operations.told.append(seen.append)
            site.write(versioned("two"))
            operations.ask_for_reload("SIGHUP")
            await until(lambda: operations.last_reload)
            assert "reloaded (SIGHUP): changed agent (settings)" in caplog.messages
            assert seen == [site.host.config]
            (tmp_path / "agents.toml").write_text("[agents.x]\nplacment = 1\n")
            operations.ask_for_reload("its files have changed")
            await until(lambda: not operations.last_reload["applied"])  # type: ignore[index]  # it is there by now
            assert caplog.messages[-1].startswith("not reloaded (its files have changed), nothing has changed: ")
            assert len(seen) == 1

    asyncio.run(main())


def test_a_host_that_stops_begins_no_reload(tmp_path: Path) -> None:
    async def main() -> None:
        async with operated(tmp_path, versioned("one")) as site:
            await site.host.runs.stop(0.0)
            site.host.operations.ask_for_reload("SIGHUP")
            await asyncio.sleep(0.05)
            assert site.host.operations.last_reload is None

    asyncio.run(main())


def test_a_plan_is_told_in_a_line() -> None:
    assert told(Plan(Config())) == "nothing has changed"
    plan = Plan(
        Config(),
        added=["a", "b"],
        removed=["c"],
        changed={"d": ["timeout", "use"]},
        keys={"removed": ["web"]},
        settings=["[server] max_body"],
        restart=["[server] port"],
    )
    assert told(plan) == (
        "added a, b; removed c; changed d (timeout, use); keys removed: web; changed [server] max_body; "
        "only a restart changes [server] port"
    )


def test_planning_loads_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with operated(tmp_path, actors("say")) as site:
            site.write(versioned("one"))
            plan = await site.host.operations.plan()
            assert (list(plan.added), list(plan.removed)) == (["agent"], ["say"])
            assert not LIVES
            assert [*site.host.entries] == ["say"]

    asyncio.run(main())
