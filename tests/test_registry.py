"""Name → served agent and its state: one that cannot be loaded is a state with a reason, and the others serve."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import pytest

from agenthost import registry
from agenthost.adapters import _SHAPES
from agenthost.agents import AgentInfo, AgentSource, AgentSpec, RunContext
from agenthost.encoding import encode_event
from agenthost.environments import home
from agenthost.errors import AgentCrashed, AgentNotReady, HostError, LoadError, NotFound
from agenthost.hookspecs import hookimpl
from agenthost.importing import Importer
from agenthost.placement.in_process import InProcess
from agenthost.registry import RETRIES
from tests.agents_for_tests import hosting, kinds, served, speaks, started, told, until, within
from tests.packages import SlowProject
from tests.packages import specified as specified_there


def specified(load: Callable[[], Any], name: str = "agent", **fields: Any) -> AgentSpec:
    source = AgentSource(use="acme", load=load, distribution="acme-agents", version="2.1")
    return AgentSpec(name=name, source=source, **fields)


def failing(raised: BaseException) -> Callable[[], Any]:
    def load() -> Any:
        raise raised

    return load


def reason(spec: AgentSpec, *others: Any, **options: Any) -> LoadError:
    """Why this agent has failed; another one, next to it, serves."""

    async def main() -> LoadError:
        async with hosting(spec, served(speaks, "other"), *others, **options) as host:
            entry = host.entries["agent"]
            assert entry.state == "failed"
            assert not entry.serving
            assert entry.retry_at is not None
            assert kinds(await told(host, agent="other"))[-1] == "done"
            assert isinstance(entry.reason, LoadError)
            return entry.reason

    return asyncio.run(main())


WHO = "agent 'agent' (acme-agents 2.1) "
OFF = "set enabled = false under [agents.agent]"

FAILURES: list[tuple[Any, str, str]] = [
    (
        specified(failing(ModuleNotFoundError("No module named 'torch'", name="torch"))),
        "failed to load: ModuleNotFoundError: No module named 'torch'",
        f"pip install torch, or {OFF}",
    ),
    (specified(failing(SystemExit(3))), "failed to load: SystemExit: 3", f"let it not end the process, or {OFF}"),
    (specified(failing(asyncio.CancelledError())), "failed to load: CancelledError", OFF),
    (
        specified(lambda: 42),
        "is nothing the host can run: got an object of builtins.int",
        _SHAPES,
    ),
    (
        specified(lambda: speaks, protocols=("native", "soap", "gopher")),
        "needs a protocol that is not installed: soap, gopher",
        "install its plugin, or take it out of protocols under [agents.agent]",
    ),
    (
        specified(lambda: speaks, placement="cloud"),
        "asks for placement 'cloud', which is not installed",
        "one of: in-process, process",
    ),
    (
        specified(lambda: BadSchema),
        "has an input_schema that is not a JSON Schema: ",
        f"correct it, or {OFF}",
    ),
]


class BadSchema:
    input_schema: ClassVar[dict[str, Any]] = {"type": "nonsense"}
    left = 0

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            type(self).left += 1

    async def run(self, ctx: RunContext) -> str:
        return ""


@pytest.mark.parametrize(("spec", "problem", "hint"), FAILURES, ids=[row[1][:40] for row in FAILURES])
def test_an_agent_that_cannot_be_loaded_is_failed_with_whose_it_is_and_what_to_do(
    spec: AgentSpec, problem: str, hint: str
) -> None:
    found = reason(spec)
    assert found.message.startswith(WHO + problem)
    assert found.hint == hint
    assert (found.distribution, found.version) == ("acme-agents", "2.1")


def test_an_agent_that_is_refused_after_its_lifespan_was_entered_leaves_it() -> None:
    BadSchema.left = 0
    reason(specified(lambda: BadSchema))
    assert BadSchema.left >= 1


class Lives:
    """An agent whose lifespan does what it is told."""

    def __init__(self, enter: Any = None, leave: Any = None) -> None:
        self._enter, self._leave = enter, leave
        self.entered = 0

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        self.entered += 1
        if self._enter is not None:
            await self._enter()
        yield
        if self._leave is not None:
            await self._leave()

    async def run(self, ctx: RunContext) -> str:
        return "alive"


async def refuses() -> None:
    raise OSError("no route to database")


async def exits() -> None:
    raise SystemExit(1)


async def hangs() -> None:
    await asyncio.Event().wait()


def test_a_lifespan_that_fails_is_this_agents_failure() -> None:
    assert reason(specified(lambda: Lives(refuses))).message == WHO + "failed to load: OSError: no route to database"
    assert reason(specified(lambda: Lives(exits))).message == WHO + "failed to load: RuntimeError: SystemExit(1)"


def test_a_lifespan_that_hangs_is_out_of_time() -> None:
    found = reason(specified(lambda: Lives(hangs), load_timeout=0.1))
    assert found.message == WHO + "failed to load: its lifespan took longer than its load_timeout of 0.1 s to enter"
    assert found.hint == f"correct it, or {OFF}"


def test_an_import_that_hangs_is_out_of_time_and_keeps_nobody_waiting() -> None:
    gate = threading.Event()

    def load() -> Any:
        gate.wait(20)
        return speaks

    before = time.monotonic()
    found = reason(specified(load, load_timeout=0.1))
    gate.set()
    assert found.message == WHO + "failed to load: import took over 0.1s"
    assert time.monotonic() - before < 5


def test_waiting_for_its_turn_to_be_imported_is_not_an_agents_own_time() -> None:
    def load() -> Any:
        threading.Event().wait(0.2)
        return speaks

    async def main() -> None:
        async with hosting(*(specified(load, f"agent-{n}", load_timeout=0.5) for n in range(6))) as host:
            assert {entry.state for entry in host.entries.values()} == {"ready"}

    asyncio.run(main())


def test_a_placement_that_keeps_no_time_limit_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "TURN", 0.05)

    class Endless(Placed):
        async def open(self, spec: AgentSpec) -> Any:
            await asyncio.Event().wait()

    found = reason(specified(lambda: speaks, placement="moon", load_timeout=0.1), builtins=(Endless(),))
    assert found.message == WHO + "took longer than its load_timeout of 0.1 s to load"


def test_making_an_environment_takes_no_time_from_load_timeout_and_is_told_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "TURN", 0.0)
    monkeypatch.setenv("UV_OFFLINE", "1")
    slow = SlowProject(tmp_path / "slow")

    async def main() -> None:
        placed = Placed()
        async with hosting(builtins=(placed,)) as host:
            entry = host.registry.put(specified_there(tmp_path, "./slow", placement="moon", load_timeout=0.01))
            await until(slow.builds)
            assert (entry.state, placed.opened) == ("loading", [])
            assert entry.reason is not None
            assert entry.reason.message.startswith("is making its environment slow-")
            slow.let_go()
            await until(lambda: entry.state != "loading")
            assert (entry.state, entry.reason, placed.opened) == ("ready", None, ["agent"])
            assert list(home(tmp_path, {}).glob("slow-*/made.json"))

    asyncio.run(main())


def test_an_agent_whose_environment_cannot_be_made_is_failed_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    found = reason(specified_there(tmp_path, "acme-none==1", placement="moon"), builtins=(Placed(),))
    assert found.message.startswith("agent 'agent' (acme-none==1) failed to load: its environment cannot be made: uv: ")


UNTELLABLE: list[tuple[Any, str]] = [
    (AgentInfo(output_schema={"type": {1, 2}}), "output_schema holds set"),
    (AgentInfo(input_schema={"properties": {1: "x"}}), "input_schema holds a dict with a key that is not a str"),
    (AgentInfo(title="caf\udce9"), "title holds a str with a lone surrogate"),
    (AgentInfo(description=7), "description is of type int"),  # type: ignore[arg-type]  # what a plugin may do
    (None, "AttributeError: 'NoneType' object has no attribute 'title'"),
]


@pytest.mark.parametrize(("info", "said"), UNTELLABLE, ids=[said for _, said in UNTELLABLE])
def test_an_agent_that_says_of_itself_what_is_not_json_is_failed_and_the_others_are_listed(
    info: AgentInfo, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    placed = Placed()
    placed.info = info
    found = reason(specified(lambda: None, placement="moon"), builtins=(placed,))
    assert found.message == f"{WHO}says of itself what is not JSON: {said}"
    assert found.hint == f"correct it, or {OFF}"


def test_a_reason_with_lone_surrogates_can_be_sent() -> None:
    def load() -> Any:
        raise LoadError("no file caf\udce9")

    assert reason(specified(failing(OSError("no caf\udce9")))).message == WHO + "failed to load: OSError: no caf\\udce9"
    assert reason(specified(load)).message == "no file caf\\udce9"


@pytest.mark.parametrize("leave", [refuses, exits])
def test_a_lifespan_that_fails_on_the_way_out_is_logged_and_the_others_leave(
    leave: Any, caplog: pytest.LogCaptureFixture
) -> None:
    other = Lives()

    async def main() -> None:
        async with hosting(served(Lives(leave=leave)), served(other, "other")) as host:
            assert (await told(host))[-1]["message"] == "alive"
            entries = dict(host.entries)
        assert {entry.state for entry in entries.values()} == {"unloaded"}
        assert all(entry.ref is None for entry in entries.values())

    asyncio.run(main())
    assert "agent 'agent' failed while closing: " in caplog.text


def test_a_lifespan_that_hangs_on_the_way_out_is_given_up() -> None:
    async def main() -> None:
        async with hosting(served(Lives(leave=hangs))) as host:
            before = time.monotonic()
            await within(host.registry.close(0.1))
            assert time.monotonic() - before < 2
            assert host.entries["agent"].state == "unloaded"

    asyncio.run(main())


def test_a_load_that_fails_is_tried_again_with_back_off_and_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(registry, "RETRIES", (0.02, 0.04, 0.06))
    tries: list[float] = []

    def load() -> Any:
        tries.append(time.monotonic())
        if len(tries) < 4:
            raise OSError("not yet")
        return speaks

    async def main() -> None:
        async with hosting(specified(load)) as host:
            entry = host.entries["agent"]
            await until(lambda: entry.serving)
            assert (entry.reason, entry.retry_at) == (None, None)
            assert kinds(await told(host))[-1] == "done"

    with caplog.at_level("INFO", "agenthost"):
        asyncio.run(main())
    pauses = [later - earlier for earlier, later in pairwise(tries)]
    assert [round(pause, 3) >= least for pause, least in zip(pauses, (0.02, 0.04, 0.06), strict=True)] == [True] * 3
    assert caplog.text.count("failed to load: OSError: not yet") == 1


def test_a_load_that_fails_for_good_stays_failed_until_it_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "RETRIES", (0.01,))
    well = False

    def load() -> Any:
        if well:
            return speaks
        raise OSError("no")

    async def main() -> None:
        nonlocal well
        spec = specified(load)
        async with hosting(spec) as host:
            await until(lambda: host.entries["agent"].retry_at is None)
            assert host.entries["agent"].state == "failed"
            well = True
            await asyncio.sleep(0.05)  # five times the pause between tries
            assert host.entries["agent"].state == "failed"
            host.registry.put(spec)
            await until(lambda: host.entries["agent"].serving)

    asyncio.run(main())


def test_an_agent_that_is_asked_for_again_is_not_tried_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "RETRIES", (0.02,) * 50)
    tries = 0
    well = False
    lives = Lives()

    def load() -> Any:
        nonlocal tries
        tries += 1
        if well:
            return lives
        raise OSError("no")

    async def main() -> None:
        nonlocal well
        async with hosting(specified(load)) as host:
            former = host.entries["agent"]
            well = True
            host.registry.put(former.spec)
            await until(lambda: host.entries["agent"].serving)
            await asyncio.sleep(0.1)  # five times the pause between tries
            assert (former.serving, lives.entered) == (False, 1), "the former one has been given up"

    asyncio.run(main())


def test_the_pauses_between_tries_grow_to_a_minute() -> None:
    assert RETRIES == (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)


def test_a_loading_agent_is_listed_as_loading_and_does_not_keep_the_others_from_serving() -> None:
    gate = threading.Event()

    def load() -> Any:
        gate.wait(20)
        return speaks

    async def main() -> None:
        async with hosting(served(speaks)) as host:
            entry = host.registry.put(specified(load, "slow"))
            assert entry.state == "loading"
            assert kinds(await told(host))[-1] == "done"
            gate.set()
            await until(lambda: entry.serving)

    asyncio.run(main())


def test_a_disabled_agent_is_only_listed() -> None:
    async def main() -> None:
        loads: list[int] = []
        async with hosting(specified(lambda: loads.append(1), enabled=False)) as host:
            assert (host.entries["agent"].state, loads) == ("disabled", [])

    asyncio.run(main())


def test_an_agent_that_discovery_could_not_find_is_failed_with_what_discovery_said() -> None:
    problem = LoadError("agent 'agent': nothing by that name", hint="pip install it")

    async def main() -> None:
        loads: list[int] = []
        async with hosting(specified(lambda: loads.append(1), problem=problem)) as host:
            entry = host.entries["agent"]
            assert (entry.state, entry.reason, entry.retry_at, loads) == ("failed", problem, None, [])

    asyncio.run(main())


def test_a_host_that_stops_while_agents_load_waits_for_none_of_them() -> None:
    async def main() -> None:
        before = time.monotonic()
        async with hosting(served(speaks)) as host:
            host.registry.put(specified(lambda: Lives(hangs), "slow"))
            host.registry.put(specified(failing(OSError("no")), "broken"))
            await until(lambda: host.entries["broken"].state == "failed")
        assert time.monotonic() - before < 5

    asyncio.run(main())


class Placed:
    """A plugin that brings a place whose agents do what it says."""

    def __init__(self, raised: BaseException | None = None) -> None:
        self.raised = raised
        self.opened: list[str] = []

    @hookimpl
    def register_placements(self, register: Any) -> None:
        register("moon", self)

    async def open(self, spec: AgentSpec) -> Any:
        self.opened.append(spec.name)
        if self.raised is not None:
            raise self.raised
        return self

    info = AgentInfo(title="On the moon")

    async def close(self, grace: float) -> None:
        raise OSError("stuck on the moon")


@pytest.mark.parametrize(
    ("raised", "said"),
    [(OSError("no air"), "OSError: no air"), (SystemExit(2), "SystemExit: 2"),
     (asyncio.CancelledError(), "CancelledError"), (TimeoutError("slow"), "TimeoutError: slow")],
)  # fmt: skip
def test_whatever_a_placement_raises_is_its_agents_failure(raised: BaseException, said: str) -> None:
    found = reason(specified(lambda: speaks, placement="moon"), builtins=(Placed(raised),))
    assert found.message == f"{WHO}failed to load: {said}"


def test_an_agent_is_opened_by_the_placement_it_asks_for_and_closed_with_the_host(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        placed = Placed()
        async with hosting(specified(lambda: None, placement="moon"), builtins=(placed,)) as host:
            entry = host.entries["agent"]
            assert (entry.state, entry.title, placed.opened) == ("ready", "On the moon", ["agent"])
        assert entry.state == "unloaded"

    asyncio.run(main())
    assert "agent 'agent' failed while closing: OSError: stuck on the moon" in caplog.text


class Slow:
    """An agent that is made when it is let, and counts how often."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.entered = 0

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        self.entered += 1
        await self.go.wait()
        yield

    async def run(self, ctx: RunContext) -> AsyncIterator[str]:
        yield "here"


def test_a_lazy_agent_is_loaded_once_by_the_first_requests_which_wait_for_it() -> None:
    async def main() -> None:
        slow = Slow()
        async with hosting(served(slow, load="lazy")) as host:
            entry = host.entries["agent"]
            assert entry.state == "discovered"
            assert await host.readiness() == []
            first = [asyncio.create_task(started(host)) for _ in range(20)]
            await until(lambda: slow.entered)
            assert entry.state == "loading"
            assert await host.readiness() == []
            slow.go.set()
            for one in first:
                assert (await (await within(one)).result()).message == "here"
            assert (slow.entered, entry.state) == (1, "ready")

    asyncio.run(main())


def test_who_waits_longer_than_load_timeout_for_a_lazy_agent_is_told_to_come_again() -> None:
    async def main() -> None:
        async with hosting(served(Slow(), load="lazy", load_timeout=0.1)) as host:
            with pytest.raises(AgentNotReady) as refused:
                await started(host)
            assert refused.value.message in {"agent 'agent' is failed", "agent 'agent' is loading"}
            assert refused.value.retry_after
            await until(lambda: host.entries["agent"].state == "failed")
            assert await host.readiness() == ["agent 'agent' is failed"]

    asyncio.run(main())


def test_who_asks_an_agent_that_is_just_being_loaded_waits_a_moment_for_it() -> None:
    async def main() -> None:
        slow = Slow()
        async with hosting(served(speaks, "other")) as host:
            entry = host.registry.put(served(slow))
            waiting = asyncio.create_task(started(host))
            await until(lambda: slow.entered)
            assert (entry.state, waiting.done()) == ("loading", False)
            assert await host.readiness() == ["agent 'agent' is loading"]
            slow.go.set()
            assert (await (await within(waiting)).result()).message == "here"

    asyncio.run(main())


def test_who_asks_an_agent_that_is_long_in_loading_is_told_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "PATIENCE", 0.05)

    async def main() -> None:
        async with hosting(served(speaks, "other")) as host:
            host.registry.put(served(Slow()))
            with pytest.raises(AgentNotReady, match="agent 'agent' is loading") as refused:
                await started(host)
            assert refused.value.retry_after

    asyncio.run(main())


def test_an_agent_that_calls_a_lazy_one_waits_for_it() -> None:
    async def calls(ctx: RunContext) -> str:
        return (await ctx.call("lazy", "hello")).message

    async def main() -> None:
        async with hosting(served(calls), served(speaks, "lazy", load="lazy")) as host:
            assert (await (await started(host)).result()).message == "hello hello"

    asyncio.run(main())


def test_a_version_takes_the_place_of_another_once_it_is_open_and_well() -> None:
    async def main() -> None:
        async with hosting(specified(lambda: speaks)) as host:
            old = host.entries["agent"]
            with pytest.raises(LoadError):
                await host.registry.swap(specified(failing(ImportError("no torch"))))
            assert host.entries["agent"] is old
            new = await host.registry.swap(specified(lambda: speaks))
            assert host.entries["agent"] is new
            assert (old.successor, old.newest) == (new, new)
            await until(lambda: old.state == "unloaded")
            assert str(old.reason) == "a newer version has taken its place"

    asyncio.run(main())


def test_a_version_whose_health_cannot_be_had_does_not_take_anothers_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "ANSWER_WITHIN", 0.05)

    class Silent:
        async def health(self) -> None:
            await asyncio.Event().wait()

        async def run(self, ctx: RunContext) -> str:
            return "never asked"

    async def main() -> None:
        async with hosting(specified(lambda: speaks)) as host:
            with pytest.raises(LoadError) as refused:
                await host.registry.swap(specified(Silent))
            assert refused.value.message == f"{WHO}was loaded, and is not well: it did not say within 0.05 s"

    asyncio.run(main())


class Losing(Placed):
    """A placement whose first agent is lost once `lost` is done."""

    def __init__(self) -> None:
        super().__init__(None)
        self.lost: asyncio.Future[HostError] = asyncio.get_running_loop().create_future()
        self.closed = 0

    async def open(self, spec: AgentSpec) -> Any:
        await super().open(spec)
        if len(self.opened) == 1:
            return self
        return await InProcess(Importer(), list, encode_event).open(served(speaks))

    async def close(self, grace: float) -> None:
        self.closed += 1


def test_an_agent_that_is_lost_is_failed_with_the_reason_closed_and_loaded_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(registry, "LOST", 0.05)

    async def main() -> None:
        placed = Losing()
        async with hosting(specified(lambda: None, placement="moon"), builtins=(placed,)) as host:
            entry = host.entries["agent"]
            placed.lost.set_result(AgentCrashed("it crashed six times", hint="mend it"))
            await until(lambda: entry.state == "failed")
            assert entry.reason is not None
            assert (entry.reason.message, entry.reason.hint) == ("it crashed six times", "mend it")
            assert entry.retry_at is not None
            assert (entry.ref, entry.serving) == (None, False)
            await until(lambda: entry.state == "ready")
            assert (placed.closed, len(placed.opened)) == (1, 2)
            assert (await (await started(host)).result()).message == "hello hello"

    asyncio.run(main())
    assert "it crashed six times" in caplog.text


def test_a_version_that_is_lost_on_its_way_out_is_closed_and_not_loaded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "LOST", 0.0)

    async def main() -> None:
        placed = Losing()
        async with hosting(specified(lambda: None, placement="moon"), builtins=(placed,)) as host:
            old = host.entries["agent"]
            with old.asked():
                await host.registry.swap(specified(lambda: speaks))
                placed.lost.set_result(AgentCrashed("it crashed"))
                await asyncio.sleep(0)
                assert (old.state, placed.closed) == ("draining", 0)
            await until(lambda: old.state == "unloaded")
            assert (placed.closed, len(placed.opened)) == (1, 1)
            assert (await (await started(host)).result()).message == "hello hello"

    asyncio.run(main())


def test_a_host_that_stops_loads_no_lost_agent_again() -> None:
    async def main() -> None:
        placed = Losing()
        async with hosting(specified(lambda: None, placement="moon"), builtins=(placed,)) as host:
            placed.lost.set_result(AgentCrashed("it crashed"))
            await until(lambda: placed.closed)
            assert host.entries["agent"].state == "failed"
        assert len(placed.opened) == 1

    asyncio.run(main())


def test_a_version_that_drains_and_is_lost_is_closed_and_not_loaded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "LOST", 0.0)

    class Going(Losing):
        go = asyncio.Event()

        async def run(self, ctx: RunContext, emit: Any) -> None:
            await self.go.wait()

    async def main() -> None:
        placed = Going()
        async with hosting(specified(lambda: None, placement="moon"), builtins=(placed,)) as host:
            old, run = host.entries["agent"], await started(host)
            await host.registry.swap(specified(lambda: speaks))
            placed.lost.set_result(AgentCrashed("it crashed"))
            await asyncio.sleep(0.05)  # in which it would be loaded again
            assert (old.state, placed.closed) == ("draining", 0)
            placed.go.set()
            await within(run.ended())
            await until(lambda: placed.closed)
            await until(lambda: not host.registry.draining.entries)
        assert (placed.opened, placed.closed) == (["agent"], 1)

    asyncio.run(main())


def test_what_was_lost_is_closed_though_it_is_loaded_again_meanwhile() -> None:
    class Lingering(Losing):
        go = asyncio.Event()

        async def close(self, grace: float) -> None:
            await self.go.wait()
            await super().close(grace)

    async def main() -> None:
        placed = Lingering()
        async with hosting(specified(lambda: None, placement="moon"), builtins=(placed,)) as host:
            entry = host.entries["agent"]
            placed.lost.set_result(AgentCrashed("it crashed"))
            await until(lambda: host.registry.draining.entries)
            host.registry.load(entry)
            await until(lambda: entry.serving)
            placed.go.set()
            await until(lambda: placed.closed)
            assert (await (await started(host)).result()).message == "hello hello"

    asyncio.run(main())


def test_a_load_that_was_given_up_and_ends_late_does_not_touch_the_one_that_came_after_it() -> None:
    class Deafening(Losing):
        """Does not hear that its first load is given up."""

        go = asyncio.Event()

        async def open(self, spec: AgentSpec) -> Any:
            opened = await super().open(spec)
            while opened is self and not self.go.is_set():
                with suppress(asyncio.CancelledError):
                    await self.go.wait()
            return opened

    async def main() -> None:
        placed = Deafening()
        spec = served(None, placement="moon", load="lazy")
        async with hosting(spec, builtins=(placed,)) as host:
            entry = host.entries["agent"]
            host.registry.load(entry)
            await until(lambda: placed.opened)
            host.registry.load(entry)
            await until(lambda: entry.serving)
            placed.go.set()
            await until(lambda: placed.closed)
            assert entry.serving
            assert (await (await started(host)).result()).message == "hello hello"

    asyncio.run(main())


def test_who_waits_for_a_lazy_agent_that_is_removed_is_told_that_it_is_not_there() -> None:
    async def main() -> None:
        slow = Slow()
        async with hosting(served(slow, load="lazy")) as host:
            waiting = asyncio.create_task(started(host))
            await until(lambda: slow.entered)
            host.registry.remove("agent")
            with pytest.raises(NotFound):
                await within(waiting)

    asyncio.run(main())
