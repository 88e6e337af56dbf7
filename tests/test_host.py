"""Host: what is put together at the start, who gets to an agent, and how it is taken apart again."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agenthost.agents import RunContext
from agenthost.auth import Principal
from agenthost.config import Config
from agenthost.errors import AgentNotReady, AuthError, ConfigError, Forbidden, HostError, NotFound, StartError
from agenthost.hookspecs import Dialect, hookimpl
from agenthost.host import Host, store_url
from agenthost.plugins import own_version
from agenthost.protocols import native
from agenthost.store import StoreOpenError
from tests.agents_for_tests import (
    ANN,
    PATIENCE,
    Held,
    events,
    hosting,
    kinds,
    served,
    speaks,
    started,
    thread,
    told,
    until,
    within,
)
from tests.distributions import GATE, Site


def config(**sections: Any) -> Config:
    return Config.model_validate({"store": {"url": "memory:"}, **sections})


def test_only_who_may_use_an_agent_gets_to_it_and_learns_whether_it_is_there() -> None:
    async def main() -> None:
        some = Principal("some", agents=("echo-*", "broken"))
        async with hosting(served(speaks, "echo-1"), served(speaks, "other"), served(42, "broken")) as host:
            assert host.agent_for(some, "echo-1").name == "echo-1"
            with pytest.raises(NotFound) as unknown:
                host.agent_for(some, "echo-2")
            assert unknown.value.message == "no agent by that name"
            for name in ("other", "unknown"):
                with pytest.raises(Forbidden) as forbidden:
                    host.agent_for(some, name)
                assert forbidden.value.message == "'some' may not use this agent"
            with pytest.raises(AgentNotReady) as broken:
                host.agent_for(some, "broken")
            assert broken.value.message == "agent 'broken' is failed"
            assert broken.value.retry_after
            assert host.known_agent(some, "broken").state == "failed"
            assert [entry.name for entry in host.agents_of(some)] == ["broken", "echo-1"]

    asyncio.run(main())


def test_a_disabled_agent_is_not_there() -> None:
    async def main() -> None:
        async with hosting(served(speaks, enabled=False)) as host:
            with pytest.raises(NotFound):
                host.known_agent(ANN, "agent")
            assert host.agents_of(ANN) == []

    asyncio.run(main())


def test_readiness_names_every_required_agent_that_does_not_serve_and_a_store_that_takes_nothing() -> None:
    async def main() -> None:
        agents = [served(speaks), served(42, "broken"), served(42, "extra", required=False)]
        async with hosting(*agents, served(42, "off", enabled=False)) as host:
            assert await host.readiness() == ["agent 'broken' is failed"]
            report = await host.report()
            assert (report["status"], report["runs"]) == ("degraded", 0)
            assert {name: agent["state"] for name, agent in report["agents"].items()} == {
                "agent": "ready",
                "broken": "failed",
                "extra": "failed",
                "off": "disabled",
            }
            await asyncio.to_thread(host.store.close)
            async with asyncio.timeout(PATIENCE):  # a look at the store is good for a second
                while len(await host.readiness()) == 1:
                    await asyncio.sleep(0.05)
            assert await host.readiness() == ["agent 'broken' is failed", "the store in memory is closed"]

    asyncio.run(main())


def test_a_host_that_stops_is_not_ready() -> None:
    async def main() -> None:
        async with hosting(speaks) as host:
            assert await host.readiness() == []
            assert (await host.report())["status"] == "ok"
            await host.runs.stop(0.0)
            assert await host.readiness() == ["the host is stopping"]

    asyncio.run(main())


def test_what_is_refused_at_the_start_says_what_to_do() -> None:
    with pytest.raises(ConfigError) as unknown:
        Host(config(auth={"use": ["staff"]})).prepare()
    assert unknown.value.problems == ("[auth] use names 'staff', which no plugin registered",)
    assert unknown.value.hint == "one of: api-keys"


class BrokenLock:
    @hookimpl
    def register_authenticators(self, register: Any) -> None:
        raise OSError("no door")


def test_a_host_whose_authenticators_cannot_be_registered_does_not_start() -> None:
    with pytest.raises(AuthError, match="OSError: no door"):
        Host(config(), builtins=(BrokenLock(),)).prepare()


def test_where_nobody_asks_an_authenticator_a_broken_one_is_a_problem_and_no_refusal() -> None:
    host = Host(config(auth={"use": ["staff"]}), builtins=(BrokenLock(),), authenticating=False)
    host.load()
    assert host.authenticators == ()
    assert [problem.hook for problem in host.plugins.problems] == ["register_authenticators"]


SLOW_LOCK = """
from agenthost import hookimpl
import gate

class Staff:
    def authenticate(self, credentials):
        return None

@hookimpl
def register_authenticators(register):
    gate.opened.wait(20)
    {}
"""


@pytest.mark.parametrize(
    ("registers", "refusal"),
    [
        ("register('staff', Staff())", None),
        ("pass", "names 'staff', which no plugin registered"),
        ("raise OSError('no door')", "failed in register_authenticators: OSError: no door"),
    ],
)
def test_an_authenticator_that_is_asked_for_is_waited_for(tmp_path: Path, registers: str, refusal: str | None) -> None:
    with Site(tmp_path / "site") as site:
        modules = {"slow_lock": SLOW_LOCK.format(registers), "gate": GATE}
        site.install("slow-lock", plugins={"slow": "slow_lock"}, modules=modules)
        host = Host(config(auth={"use": ["staff"]}))
        host.importer.patience = 0.1
        threading.Timer(0.5, lambda: sys.modules["gate"].opened.set()).start()
        if refusal is None:
            host.load()
            assert [type(one).__name__ for one in host.authenticators] == ["Staff"]
        else:
            with pytest.raises(StartError, match=refusal):
                host.load()


def test_two_hosts_never_share_a_store_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"

    async def main() -> None:
        async with hosting(speaks, store=url):
            with pytest.raises(StoreOpenError, match="is in use by another host"):
                Host(Config.model_validate({"store": {"url": url}})).prepare()
        async with hosting(speaks, store=url) as again:
            assert kinds(await told(again))[-1] == "done"

    asyncio.run(main())


def test_a_relative_store_is_in_the_folder_of_agents_toml(tmp_path: Path) -> None:
    def url(given: str) -> str:
        return store_url(Config.model_validate({"store": {"url": given}, "base_dir": tmp_path}))

    assert url("sqlite:///store.db") == f"sqlite:///{tmp_path}/store.db"
    assert url("sqlite:////var/store.db") == "sqlite:////var/store.db"
    assert url("memory:") == "memory:"


def test_two_hosts_live_side_by_side() -> None:
    async def main() -> None:
        async with hosting(speaks) as one, hosting(speaks) as two:
            assert kinds(await told(one)) == kinds(await told(two)) == ["model_chunk", "model_chunk", "done"]
            await within(one.stop(0.0))
            assert kinds(await told(two))[-1] == "done"

    asyncio.run(main())


def test_prepare_and_stop_may_be_called_again_and_out_of_turn() -> None:
    async def main() -> None:
        host = Host(config(), builtins=(native,), specs=())
        await host.stop()
        host.prepare()
        host.prepare()
        await host.start()
        await host.stop()
        await host.stop()

    asyncio.run(main())


class Dialects:
    """A plugin of dialects whose lifespans do what they are told."""

    def __init__(self, **lifespans: Any) -> None:
        self._lifespans = lifespans
        self.seen: list[str] = []

    @hookimpl
    def register_protocols(self, register: Any) -> None:
        for name, what in self._lifespans.items():
            register(Dialect(name, f"/{name}", lambda host, agent: None, lifespan=self._lifespan(name, what)))

    def _lifespan(self, name: str, what: Any) -> Any:
        @asynccontextmanager
        async def lifespan(host: Host) -> AsyncIterator[None]:
            assert isinstance(host, Host)
            if what == "fails":
                raise OSError("no port")
            if what == "cancels":
                raise asyncio.CancelledError
            if what == "hangs":
                await asyncio.Event().wait()
            self.seen.append(f"{name} entered")
            yield
            self.seen.append(f"{name} left")
            if what == "stumbles":
                raise OSError("on the way out")

        return lifespan


def test_a_dialects_lifespan_is_the_hosts_and_one_that_fails_is_a_dialect_that_is_absent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    dialects = Dialects(good="", bad="fails", slow="hangs", clumsy="stumbles", rude="cancels")

    async def main() -> None:
        limits = {"defaults": {"load_timeout": "100ms"}}
        needs = served(speaks, "needs", protocols=("native", "bad"))
        host = Host(config(**limits), builtins=(native, dialects), specs=(served(speaks), needs))
        await host.start(settle=5.0)
        assert sorted(host.dialects) == ["clumsy", "good", "native"]
        assert sorted(dialects.seen) == ["clumsy entered", "good entered"]
        assert host.entries["agent"].state == "ready"
        reason = host.entries["needs"].reason
        assert reason is not None
        assert reason.message == "agent 'needs' (tests:needs) needs a protocol that is not installed: bad"
        await host.stop(0.0)
        assert sorted(dialects.seen[2:]) == ["clumsy left", "good left"]

    asyncio.run(main())
    blamed = f"(agenthost {own_version()}) did not start and is not served"
    assert f"protocol 'bad' {blamed}: OSError: no port" in caplog.text
    assert f"protocol 'slow' {blamed}: TimeoutError" in caplog.text
    assert f"protocol 'rude' {blamed}: CancelledError" in caplog.text
    assert "protocol clumsy failed while closing: OSError: on the way out" in caplog.text


def test_stopping_ends_runs_then_agents_then_the_store(tmp_path: Path) -> None:
    class Lives(Held):
        left = False

        @asynccontextmanager
        async def lifespan(self) -> AsyncIterator[None]:
            yield
            assert self.running == 0, "runs end before their agent does"
            type(self).left = True

    async def main() -> None:
        held = Lives()
        async with hosting(held, store=f"sqlite:///{tmp_path}/store.db") as host:
            run = await started(host)
            reading = asyncio.create_task(events(run))
            await within(held.begun.wait())
            await within(host.stop(drain=0.0))
            assert (await reading)[-1]["code"] == "host_stopping"
            assert Lives.left
            with pytest.raises(HostError, match="is closed"):
                await host.store.probe()

    asyncio.run(main())


LATE = """
    import os, sys
    from agenthost import hookimpl
    import gate
    gate.opened.wait(20)
    class Agent:
        async def run(self, ctx):
            yield 'late but here'
    @hookimpl
    def register_agents(register):
        register('late', Agent())
"""


def test_an_agent_whose_plugin_arrives_late_is_served_then(tmp_path: Path) -> None:
    with Site(tmp_path / "site") as site:
        site.write({"gate": "import threading\nopened = threading.Event()\n"})
        site.install("acme-late", plugins={"late": "acme_late"}, modules={"acme_late": LATE})

        async def main() -> None:
            host = Host(config(agents={"late": {}}, base_dir=site.folder), builtins=(native,))
            host.importer.patience = 0.1
            await host.start(settle=0.1)
            assert host.entries["late"].state == "failed"
            import gate  # type: ignore[import-not-found]

            assert isinstance(gate.opened, threading.Event)
            gate.opened.set()
            await until(lambda: host.entries["late"].serving)
            assert (await told(host, agent="late"))[-1]["message"] == "late but here"
            await within(host.stop(0.0))

        asyncio.run(main())


def test_a_lost_run_is_ended_at_the_next_start(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"

    async def main() -> str:
        held = Held()
        async with hosting(held, store=url) as host:
            run = await started(host, thread())
            await within(held.begun.wait())
            await asyncio.to_thread(host.store.close)  # as a crash would: nothing more is written
            return run.id

    async def again(run_id: str) -> None:
        async with hosting(speaks, store=url) as host:
            stored = await host.store.get_run(run_id)
            assert stored is not None
            assert (stored.status, stored.code) == ("failed", "host_lost")
            assert kinds(await told(host, thread()))[-1] == "done"

    asyncio.run(again(asyncio.run(main())))


def test_an_agent_is_given_to_runs_with_its_settings() -> None:
    async def settled(ctx: RunContext) -> str:
        return str(ctx.settings)

    async def main() -> None:
        one, two = served(settled, "one", settings={"n": 1}), served(settled, "two", settings={"n": 2})
        async with hosting(one, two) as host:
            assert [(await told(host, agent=name))[-1]["message"] for name in ("one", "two")] == [
                "{'n': 1}",
                "{'n': 2}",
            ]

    asyncio.run(main())
