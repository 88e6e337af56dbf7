"""A reload: what it changes it changes in one step, what goes on goes on, and where a part fails nothing changes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Literal

import pytest

from agenthost.agents import Health, RunRequest
from agenthost.errors import AgentCrashed, NotFound
from agenthost.operating import Operations
from agenthost.planning import Plan
from agenthost.reloading import ReloadFailed, carried_out
from tests import operated as operated_module
from tests.agents_for_tests import ANN, asked, hosting, idle, resumed, served, speaks, started, thread, until, within
from tests.operated import GATES, LIVES, Operated, operated, versioned
from tests.serving import actors, key
from tests.test_registry import Losing, Slow

OTHER = actors("say")


async def message(site: Operated, agent: str = "agent", prompt: str = "hello") -> str:
    return (await within((await started(site.host, prompt, agent=agent)).result())).message


async def failed(site: Operated, text: str, **tables: str) -> str:
    """Why this could not be reloaded."""
    with pytest.raises(ReloadFailed) as refused:
        await site.reload(text, **tables)
    assert refused.value.status == 422
    return refused.value.message


def test_agents_come_go_and_change_and_the_reply_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with operated(tmp_path, versioned("one") + versioned("gone", name="gone") + OTHER) as site:
            same = site.host.entries["say"]
            report = await site.reload(versioned("two") + OTHER + versioned("new", name="new"))
            assert report["applied"]
            assert (report["added"], report["removed"], report["unchanged"]) == (["new"], ["gone"], ["say"])
            assert report["changed"] == {"agent": ["settings"]}
            assert await message(site) == "two two"
            assert await message(site, "new") == "new new"
            assert site.host.entries["say"] is same
            with pytest.raises(NotFound):
                site.host.agent_for(ANN, "gone")
            await site.quiet()
            assert {"one left", "gone left"} <= set(LIVES)

    asyncio.run(main())


BROKEN = {
    "no toml": ("[agents", ": not TOML: "),
    "an unknown key": ("[agents.agent]\nplacment = 1\n", "[agents.agent] unknown key 'placment'"),
    "an agent that is not there": ("[agents.nowhere]\n", "agent 'nowhere' is not installed"),
    "an agent that raises": (versioned("two", raises=True), "failed to load: RuntimeError: no backend"),
    "an agent that says it is not well": (versioned("two", unwell="no quota"), "was loaded, and is not well: no quota"),
    "settings that do not fit": (versioned("two", wrod="x"), "wrod"),
    "a protocol that is not there": (
        versioned("one", more='protocols = ["soap"]'),
        "needs a protocol that is not inst",
    ),
    "a placement that is not there": (versioned("one", more='placement = "cloud"'), "placement 'cloud', which is not"),
    "an authenticator that is not there": ('[auth]\nuse = ["api-keys", "staff"]\n', "[auth] use names 'staff'"),
    "no way to tell callers apart": (versioned("two"), "refusing to serve without authentication"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_where_anything_is_wrong_nothing_has_changed(tmp_path: Path, broken: str) -> None:
    text, why = BROKEN[broken]
    own = key("root")
    keys = "" if broken.startswith("no way") else own

    async def main() -> None:
        async with operated(tmp_path, own + versioned("one") + OTHER, dev=False) as site:
            host = site.host
            before = (dict(host.entries), host.config, host.authenticators)
            reason = await failed(site, text + keys + versioned("good", name="good") if text != "[agents" else text)
            assert why in reason
            assert (dict(host.entries), host.config, host.authenticators) == before
            assert await message(site) == "one one"
            report = (await host.report())["reload"]
            assert (report["applied"], report["problem"], report["by"]) == (False, reason, "a test")
            assert not host.registry.draining.entries
            assert [life for life in LIVES if life.startswith("good")] in ([], ["good entered", "good left"])

    asyncio.run(main())


def test_every_agent_that_fails_is_named(tmp_path: Path) -> None:
    async def main() -> None:
        async with operated(tmp_path, OTHER) as site:
            bad = versioned("a", name="a", raises=True) + versioned("b", name="b", raises=True)
            assert [line.partition(" (")[0] for line in (await failed(site, bad)).split("\n")] == [
                "agent 'a'",
                "agent 'b'",
            ]

    asyncio.run(main())


def test_what_had_begun_ends_where_it_began_and_what_waited_begins_on_the_new_version(tmp_path: Path) -> None:
    one = "concurrency = 1"

    async def main() -> None:
        async with operated(tmp_path, versioned("one", more=one)) as site:
            host = site.host
            GATES["wait"] = asyncio.Event()
            going = await started(host, "wait")
            attached = asyncio.create_task(started(host))
            promised = await asked(host, RunRequest("hello", detached=True))
            await until(lambda: host.entries["agent"].queued == 2)
            await site.reload(versioned("two", more=one))
            new = host.entries["agent"]
            assert (new.running, new.queued) == (1, 2), "limits hold for both versions together"
            GATES["wait"].set()
            assert (await within(going.result())).message == "one one"
            assert (await within((await attached).result())).message == "two two"
            assert (await within(promised.result())).message == "two two"
            await idle(host)
            await site.quiet()

    asyncio.run(main())


def test_what_waits_for_an_agent_that_is_removed_or_disabled_still_begins_there(tmp_path: Path) -> None:
    async def main(after: str) -> None:
        async with operated(tmp_path, versioned("one", more="concurrency = 1") + OTHER) as site:
            host = site.host
            GATES["wait"] = asyncio.Event()
            going = await started(host, "wait")
            waiting = asyncio.create_task(started(host))
            old = host.entries["agent"]
            await until(lambda: old.queued)
            await site.reload(after)
            with pytest.raises(NotFound):
                await host.runs.start(old, ANN, RunRequest("too late"))
            GATES["wait"].set()
            assert (await within(going.result())).message == "one one"
            assert (await within((await waiting).result())).message == "one one"
            await site.quiet()
            assert LIVES == ["one entered", "one left"]

    asyncio.run(main(OTHER))
    asyncio.run(main(OTHER + versioned("one", more="concurrency = 1\nenabled = false")))


def test_a_request_that_holds_a_version_that_was_replaced_runs_on_the_newest(tmp_path: Path) -> None:
    async def main() -> None:
        async with operated(tmp_path, versioned("one")) as site:
            old = site.host.agent_for(ANN, "agent")
            await site.reload(versioned("two"))
            await site.reload(versioned("three"))
            await site.quiet()
            run = await site.host.runs.start(old, ANN, RunRequest("hello"))
            assert (await within(run.result())).message == "three three"

    asyncio.run(main())


def test_limits_change_without_another_version_and_let_in_who_waits(tmp_path: Path) -> None:
    async def main() -> None:
        async with operated(tmp_path, versioned("one", more="concurrency = 1")) as site:
            host = site.host
            entry = host.entries["agent"]
            GATES["wait"] = asyncio.Event()
            first = await started(host, "wait")
            second = asyncio.create_task(started(host))
            await until(lambda: entry.queued)
            assert (await site.reload(versioned("one", more="concurrency = 2")))["changed"] == {
                "agent": ["concurrency"]
            }
            assert (await within((await within(second)).result())).message == "one one"
            assert host.entries["agent"] is entry
            assert LIVES == ["one entered"]
            await site.reload(versioned("one", more="concurrency = 1"))
            third = asyncio.create_task(started(host))
            await until(lambda: entry.queued)
            GATES["wait"].set()
            await within(first.result())
            await within((await within(third)).result())
            await idle(host)

    asyncio.run(main())


def test_a_run_keeps_the_timeout_it_began_with(tmp_path: Path) -> None:
    async def main() -> None:
        async with operated(tmp_path, versioned("one", more='timeout = "300ms"')) as site:
            GATES["wait"] = asyncio.Event()
            run = await started(site.host, "wait")
            await site.reload(versioned("one", more='timeout = "10m"'))
            await within(run.ended())
            assert run.error is not None
            assert run.error.message == "agent 'agent' took longer than 0.3 s"

    asyncio.run(main())


def test_a_thread_a_pause_and_a_key_outlive_the_version_they_began_with(tmp_path: Path) -> None:
    asks = actors("asks")

    async def main() -> None:
        async with operated(tmp_path, asks + versioned("one")) as site:
            host = site.host
            paused = await started(host, thread("t", "which?"), agent="asks")
            assert (await within(paused.ended())).status == "paused"
            keyed = RunRequest("hello", idempotency_key="k", request_digest="d", thread_id="u")
            first = await asked(host, keyed)
            await within(first.result())
            await site.reload(asks + "placement = 'in-process'\nsettings = { a = 1 }\n" + versioned("two"))
            again = await asked(host, keyed)
            assert again.id == first.id
            assert (await within(again.result())).message == "one one"
            assert host.entries["asks"] is not paused.entry
            answered = await resumed(host, "yes", agent="asks")
            assert (await within(answered.result())).message == "which?: q0 yes"

    asyncio.run(main())


def test_an_input_is_checked_again_by_the_version_it_is_run_on(tmp_path: Path) -> None:
    orders = '[agents.agent]\nuse = "tests.actors:Structured"\nconcurrency = 1\n'

    async def main() -> None:
        async with operated(tmp_path, versioned("one", more="concurrency = 1")) as site:
            host = site.host
            GATES["wait"] = asyncio.Event()
            going = await started(host, "wait")
            waiting = asyncio.create_task(started(host, RunRequest("hello", input={"no": "item"})))
            await until(lambda: host.entries["agent"].queued)
            await site.reload(orders)
            GATES["wait"].set()
            await within(going.result())
            with pytest.raises(Exception, match="input does not meet"):
                await within(waiting)
            await idle(host)

    asyncio.run(main())


def test_an_agent_that_failed_is_tried_again_and_keeps_nothing_else_from_being_reloaded(tmp_path: Path) -> None:
    async def main() -> None:
        async with operated(tmp_path, OTHER + versioned("one", raises=True)) as site:
            entry = site.host.entries["agent"]
            assert entry.state == "failed"
            await site.reload(OTHER + versioned("one", raises=True, more='owner = "ops"') + versioned(name="new"))
            assert site.host.entries["agent"] is entry
            await until(lambda: entry.state == "failed")
            await site.reload(OTHER + versioned("two", raises=True))
            assert site.host.entries["agent"] is not entry
            await until(lambda: site.host.entries["agent"].state == "failed")
            await site.reload(OTHER + versioned("two"))
            await until(lambda: site.host.entries["agent"].serving)

    asyncio.run(main())


def test_an_object_that_lives_once_cannot_be_two_versions(tmp_path: Path) -> None:
    shared = '[agents.agent]\nuse = "tests.operated:ONE"\n'

    async def main() -> None:
        async with operated(tmp_path, shared) as site:
            why = await failed(site, shared + 'settings = { word = "x" }\n')
            assert "it is one object with a lifespan, which is entered already" in why
            assert LIVES == ["shared entered"]
            assert await message(site) == "shared shared"
            await site.reload(shared + 'title = "One"\n')
            await site.host.operations.unload("agent", "a test")
            assert (await site.host.operations.load("agent")).serving

    asyncio.run(main())


def test_keys_limits_of_callers_and_settings_of_the_server_change_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        text = key("root") + OTHER
        async with operated(tmp_path, text, dev=False) as site:
            host = site.host
            (had,) = host.authenticators
            report = await site.reload(
                key("web", more="concurrency = 3") + OTHER, server='max_body = "1KiB"\nport = 1\n'
            )
            assert report["keys"] == {"added": ["web"], "removed": ["root"]}
            assert report["settings"] == ["[server] max_body"]
            assert report["needs_restart"] == ["[server] port"]
            assert host.authenticators != (had,)
            assert (host.config.server.max_body, host.config.server.port) == (1024, 8000)

    asyncio.run(main())


def test_a_stop_in_the_middle_of_a_reload_leaves_nothing_open(tmp_path: Path, monkeypatch: Any) -> None:
    async def main() -> None:
        async with operated(tmp_path, versioned("one")) as site:
            monkeypatch.setattr(operated_module, "LOADS", asyncio.Event())
            site.write(versioned("two") + versioned("three", name="three"))
            reload = asyncio.create_task(site.host.operations.reload("a test"))
            await until(lambda: site.host.registry._building == 2)
        with pytest.raises(Exception, match="the host is stopping"):
            await reload
        assert LIVES == ["one entered", "one left"]

    asyncio.run(main())


def test_a_host_that_was_made_without_a_file_has_nothing_to_read_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with operated(tmp_path, OTHER) as site:
            operations = Operations(site.host, None, lambda _config, _authenticators: lambda: None)
            with pytest.raises(ReloadFailed) as refused:
                await operations.reload("a test")
            assert refused.value.message == "this host was not started from a file: there is nothing to read again"

    asyncio.run(main())


@pytest.mark.parametrize("after", [OTHER, OTHER + versioned(more="enabled = false")], ids=["removed", "disabled"])
def test_what_was_promised_by_an_unloaded_agent_ends_by_a_word_where_that_is_no_longer_served(
    tmp_path: Path, after: str
) -> None:
    async def main() -> None:
        async with operated(tmp_path, versioned("one", more="concurrency = 1") + OTHER, server="") as site:
            host = site.host
            short = host.config.server.model_copy(update={"drain": 0.05})
            host.config = host.config.model_copy(update={"server": short})
            GATES["wait"] = asyncio.Event()
            await started(host, "wait")
            promised = await asked(host, RunRequest("hello", detached=True))
            await within(host.operations.unload("agent", "ops"))
            assert promised.status == "queued"
            await site.reload(after)
            assert (await within(promised.ended())).status == "failed"
            assert promised.error is not None
            assert promised.error.message == "agent 'agent' was unloaded, and is no longer served"
            await idle(host)

    asyncio.run(main())


def test_a_lazy_agent_that_nobody_has_asked_for_is_not_replaced_by_what_cannot_be_found(tmp_path: Path) -> None:
    lazy = 'load = "lazy"'

    async def main() -> None:
        async with operated(tmp_path, versioned("one", more=lazy)) as site:
            assert "is not installed" in await failed(site, '[agents.agent]\nuse = "nowhere"\nload = "lazy"\n')
            assert await message(site) == "one one"

    asyncio.run(main())


def test_an_agent_that_comes_to_serve_while_others_are_opened_is_opened_anew_like_them(
    tmp_path: Path, monkeypatch: Any
) -> None:
    lazy = 'load = "lazy"\nconcurrency = 1'

    class Gate(asyncio.Event):
        reached = False

        async def wait(self) -> Literal[True]:
            self.reached = True
            return await super().wait()

    async def main() -> None:
        async with operated(tmp_path, versioned("one", more=lazy)) as site:
            host, gate = site.host, Gate()
            monkeypatch.setattr(operated_module, "LOADS", gate)
            site.write(versioned("two", more=lazy) + versioned("new", name="new"))
            reload = asyncio.create_task(host.operations.reload("a test"))
            await until(lambda: gate.reached)
            monkeypatch.setattr(operated_module, "LOADS", None)
            GATES["wait"] = asyncio.Event()
            going = await started(host, "wait")
            waiting = asyncio.create_task(started(host))
            await until(lambda: host.entries["agent"].queued)
            gate.set()
            await within(reload)
            assert host.entries["agent"].serving
            GATES["wait"].set()
            assert (await within(going.result())).message == "one one"
            assert (await within((await within(waiting)).result())).message == "two two"

    asyncio.run(main())


def test_an_agent_that_is_lost_while_others_are_opened_is_not_put_in_the_place_of_one_that_serves() -> None:
    class Well(Losing):
        async def health(self) -> Health:
            return Health()

    async def main() -> None:
        placed, slow = Well(), Slow()
        async with hosting(speaks, builtins=(placed,)) as host:
            old = host.entries["agent"]
            plan = Plan(host.config, built=[served(None, placement="moon"), served(slow, "slow")])
            carrying = asyncio.create_task(carried_out(host, plan, lambda _config, _authenticators: lambda: None))
            await until(lambda: placed.opened and slow.entered)
            placed.lost.set_result(AgentCrashed("it crashed six times"))
            await until(lambda: placed.closed)
            slow.go.set()
            with pytest.raises(ReloadFailed) as refused:
                await within(carrying)
            assert refused.value.message == "it crashed six times"
            assert host.entries == {"agent": old}
            assert (await (await started(host)).result()).message == "hello hello"
        assert (placed.opened, placed.closed) == (["agent"], 1)

    asyncio.run(main())
