"""What operators do to a host that serves: load, unload, reload; one at a time, and whoever asked may leave."""

from __future__ import annotations

import asyncio
import logging
import random
from pathlib import Path
from typing import Any

import pytest

from agenthost import registry
from agenthost.agents import RunRequest
from agenthost.config import Config
from agenthost.errors import AgentCrashed, AgentNotReady, AgentUnavailable, HostError, NotFound
from agenthost.operating import Operations, told
from agenthost.planning import Plan
from agenthost.reloading import ReloadFailed
from tests import operated as operated_module
from tests.agents_for_tests import ANN, BOB, Deaf, asked, hosting, idle, served, started, until, within
from tests.operated import GATES, LIVES, Operated, operated, versioned
from tests.serving import actors, key
from tests.test_registry import Losing


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
            operations.learning.append(seen.append)
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


def test_a_load_that_comes_while_an_agent_leaves_its_lifespan_waits_for_that_too(
    tmp_path: Path, monkeypatch: Any
) -> None:
    async def main() -> None:
        async with operated(tmp_path, versioned("one")) as site:
            operations, entry = site.host.operations, site.host.entries["agent"]
            monkeypatch.setattr(operated_module, "LEAVES", asyncio.Event())
            unloading = asyncio.create_task(operations.unload("agent", "ops"))
            await until(lambda: entry.ref is None)
            again = asyncio.create_task(operations.unload("agent", "somebody else"))
            loading = asyncio.create_task(operations.load("agent"))
            await asyncio.sleep(0.1)
            assert not again.done()
            assert not loading.done()
            operated_module.LEAVES.set()  # type: ignore[union-attr]  # set above
            await within(unloading)
            assert (await within(loading)).serving
            await within(again)
            assert entry.serving == (entry.ref is not None)

    asyncio.run(main())


def test_a_load_during_which_a_reload_comes_answers_once_what_that_brought_is_decided(
    tmp_path: Path, monkeypatch: Any
) -> None:
    async def main() -> None:
        async with operated(tmp_path, versioned("one")) as site:
            await within(site.host.operations.unload("agent", "ops"))
            monkeypatch.setattr(operated_module, "LOADS", asyncio.Event())
            loading = asyncio.create_task(site.host.operations.load("agent"))
            await until(lambda: site.host.entries["agent"].state == "loading")
            await site.reload(versioned("two"))
            operated_module.LOADS.set()  # type: ignore[union-attr]  # set above
            assert (await within(loading)) is site.host.entries["agent"]
            assert (await (await started(site.host)).result()).message == "two two"

    asyncio.run(main())


def test_an_unloaded_agent_that_can_no_longer_be_found_says_so_when_it_is_loaded(tmp_path: Path) -> None:
    async def main() -> None:
        async with operated(tmp_path, versioned("one")) as site:
            await within(site.host.operations.unload("agent", "ops"))
            await site.reload('[agents.agent]\nuse = "nowhere"\n')
            entry = await within(site.host.operations.load("agent"))
            assert entry.state == "failed"
            assert str(entry.reason) == "agent 'agent' is not installed: nothing that is installed is called 'nowhere'"

    asyncio.run(main())


def test_an_agent_that_is_lost_while_it_is_unloaded_stays_unloaded(monkeypatch: Any) -> None:
    monkeypatch.setattr(registry, "LOST", 0.0)

    async def main() -> None:
        placed = Losing()
        async with hosting(served(None, placement="moon"), builtins=(placed,)) as host:
            entry = host.entries["agent"]
            with entry.asked():
                unloading = asyncio.create_task(_operations(host).unload("agent", "ops"))
                await until(lambda: entry.state == "draining")
                placed.lost.set_result(AgentCrashed("it crashed"))
                await asyncio.sleep(0.05)  # in which it would be loaded again
            await within(unloading)
            assert (entry.state, placed.opened, placed.closed) == ("unloaded", ["agent"], 1)

    asyncio.run(main())


def test_however_often_a_signal_asks_meanwhile_one_more_reload_follows_the_one_that_goes_on(
    tmp_path: Path, monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "agenthost.host")

    async def main() -> None:
        async with operated(tmp_path, versioned("one")) as site:
            monkeypatch.setattr(operated_module, "LOADS", asyncio.Event())
            site.write(versioned("two"))
            site.host.operations.ask_for_reload("SIGHUP")
            await until(lambda: site.host.registry._building)
            site.write(versioned("three"))
            for _ in range(100):
                site.host.operations.ask_for_reload("SIGHUP")
            operated_module.LOADS.set()  # type: ignore[union-attr]  # set above
            await site.reload()
            assert (await (await started(site.host)).result()).message == "three three"

    asyncio.run(main())
    assert [message for message in caplog.messages if message.startswith("reloaded")] == [
        "reloaded (SIGHUP): changed agent (settings)",
        "reloaded (SIGHUP): changed agent (settings)",
        "reloaded (a test): nothing has changed",
    ]


UNDOABLE = {
    "an agent that is not there": ("[agents.nowhere]\n", "agent 'nowhere' is not installed"),
    "a protocol that is not there": (versioned("one", more='protocols = ["soap"]'), "needs a protocol that is not"),
    "a placement that is not there": (versioned("new", name="new", more='placement = "cloud"'), "placement 'cloud'"),
    "no way to tell callers apart": ("", "refusing to serve without authentication"),
}


@pytest.mark.parametrize("wrong", UNDOABLE)
def test_a_plan_that_certainly_cannot_be_carried_out_is_refused_as_the_reload_would_be(
    tmp_path: Path, wrong: str
) -> None:
    text, why = UNDOABLE[wrong]

    async def main() -> None:
        async with operated(tmp_path, key("root") + versioned("one"), dev=False) as site:
            site.write(text and key("root") + text)
            for asked in (site.host.operations.plan, site.reload):
                with pytest.raises(ReloadFailed) as refused:
                    await asked()
                assert why in refused.value.message
            assert LIVES == ["one entered"]

    asyncio.run(main())


def test_what_a_refused_configuration_names_is_watched_as_well(tmp_path: Path) -> None:
    file = tmp_path / "word"
    waits = '[agents.agent]\nuse = "tests.operated:Versioned"\nsettings = { word = { file = "word" } }\n'

    async def main() -> None:
        async with operated(tmp_path, versioned("one")) as site:
            operations = site.host.operations
            with pytest.raises(ReloadFailed):
                await site.reload(waits)
            assert operations.read_from.keys() == {file}
            file.write_text("two")
            await site.reload()
            assert operations.read_from.keys() == {tmp_path / "agents.toml", file}
            await site.reload(versioned("three"))
            assert operations.read_from.keys() == {tmp_path / "agents.toml"}

    asyncio.run(main())


def test_a_reload_from_a_folder_that_is_gone_says_so(tmp_path: Path) -> None:
    def read() -> Config:
        return Config(base_dir=(tmp_path / "gone").resolve(strict=True))

    async def main() -> None:
        async with operated(tmp_path, versioned("one")) as site:
            operations = Operations(site.host, read, lambda _config, _authenticators: lambda: None)
            with pytest.raises(ReloadFailed) as refused:
                await operations.reload("a test")
            assert refused.value.message.startswith("the configuration cannot be read: [Errno 2] No such file")

    asyncio.run(main())


NAMES = ("a", "b", "c")


def anything(chance: random.Random) -> str:
    """An agents.toml of some of three agents, in which something may be wrong."""
    text = ""
    for name in NAMES:
        more = chance.choice(["", "", "enabled = false\n", 'load = "lazy"\n', "concurrency = 1\nqueue = 5\n"])
        own = {"pause": chance.choice([0.0, 0.01, 0.1])}
        own |= {"raises": True} if chance.random() < 0.05 else {}
        if chance.random() < 0.85:
            text += versioned(chance.choice(["one", "two"]), name=name, more=more, **own)
    return text


@pytest.mark.fault
@pytest.mark.parametrize("seed", range(4))
def test_whatever_operators_and_callers_do_at_once_it_ends_and_leaves_nothing_behind(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)

    async def operate(site: Operated) -> None:
        operations, name = site.host.operations, chance.choice(NAMES)
        match chance.choice(["reload", "reload", "load", "unload"]):
            case "reload":
                await site.reload(anything(chance))
            case "load":
                await within(operations.load(name))
            case _:
                await within(operations.unload(name, "ops"))

    async def call(site: Operated) -> None:
        request = RunRequest("hello", detached=chance.random() < 0.3, thread_id=chance.choice([None, "t"]))
        run = await asked(site.host, request, agent=chance.choice(NAMES), caller=chance.choice([ANN, BOB]))
        result = await within(run.ended())
        assert len(set(result.message.split())) < 2, "a run ends on the version that it began on"

    async def main() -> None:
        async with operated(tmp_path, anything(chance)) as site:
            doing = []
            for _ in range(250):
                doing.append(asyncio.create_task(chance.choice([operate, call, call, call])(site)))
                await asyncio.sleep(chance.choice([0.0, 0.01]))
            every = "".join(versioned(name=name) for name in NAMES)
            while True:  # what was promised by an agent that is unloaded begins once it is loaded
                await site.reload(every)
                served = [await within(site.host.operations.load(name)) for name in NAMES]
                if all(one.done() for one in doing):
                    break
            for problem in await asyncio.gather(*doing, return_exceptions=True):
                assert problem is None or isinstance(problem, HostError), problem
            await site.quiet()
            await idle(site.host)
            for entry in served:
                assert (entry.serving, entry.busy, entry.running, entry.queued) == (True, 0, 0, 0)
            entered = sum(life.endswith("entered") for life in LIVES)
            assert len(LIVES) == 2 * entered - len(NAMES), "each is left once, but for those that serve"
        assert len(LIVES) == 2 * entered

    asyncio.run(main())
