"""What a reload would change, by comparing two configurations; nothing is loaded for it."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from agenthost.agents import AgentInfo, AgentSource, AgentSpec
from agenthost.config import Config
from agenthost.config.keys import ServerConfig, StoreConfig
from agenthost.entries import AgentEntry, AgentState
from agenthost.errors import LoadError
from agenthost.planning import ADJUSTED, FIXED, Plan, differences, plan_of

SECRET = "0123456789abcdef-secret"


def spec(name: str = "agent", *, use: str = "acme", version: str | None = None, **given: Any) -> AgentSpec:
    distribution = "acme-agents" if version else None
    return AgentSpec(name=name, source=AgentSource(use, lambda: None, distribution, version), **given)


class Ref:
    info = AgentInfo()


def entries(*specs: AgentSpec, state: AgentState = "ready") -> dict[str, AgentEntry]:
    found = {one.name: AgentEntry(one, state) for one in specs}
    if state in {"ready", "degraded", "draining"}:
        for entry in found.values():
            entry.ref = Ref()  # type: ignore[assignment]  # nothing is asked of it
    return found


def planned(had: AgentSpec | None, wanted: AgentSpec | None, state: AgentState = "ready", **configs: Config) -> Plan:
    listed = entries(had, state=state) if had else {}
    return plan_of(
        configs.get("old", Config()), configs.get("new", Config()), listed, [wanted] if wanted is not None else []
    )


def config(**sections: Any) -> Config:
    return Config.model_validate(sections)


def key(name: str, **given: Any) -> dict[str, Any]:
    return {"id": name, "principal": name, "sha256": name.encode().hex().ljust(64, "0"), "agents": ["*"], **given}


def test_agents_come_go_change_and_stay() -> None:
    plan = plan_of(
        Config(),
        Config(),
        entries(spec("gone"), spec("same"), spec("slower"), spec("other")),
        [spec("new"), spec("other", use="else"), spec("same"), spec("slower", timeout=1.0)],
    )
    assert plan.report() == {
        "added": ["new"],
        "removed": ["gone"],
        "changed": {"other": ["use"], "slower": ["timeout"]},
        "unchanged": ["same"],
        "keys": {},
        "settings": [],
        "needs_restart": [],
    }
    assert [one.name for one in plan.built] == ["new", "other"]
    assert [one.name for one in plan.adjusted] == ["slower"]


def test_what_is_the_hosts_own_affair_is_changed_without_loading_the_agent_again() -> None:
    for name in ADJUSTED:
        had = spec()
        wanted = replace(had, **{name: object()})
        assert list(planned(had, wanted).adjusted) == [wanted], name


def test_whatever_else_differs_makes_a_new_version() -> None:
    had = spec()
    for name in {field.name for field in fields(AgentSpec)} - ADJUSTED - {"name", "source", "enabled", "problem"}:
        wanted = replace(had, **{name: object()})
        assert list(planned(had, wanted).built) == [wanted], name


@pytest.mark.parametrize(
    ("state", "wanted", "step"),
    [
        ("discovered", spec(load="eager", timeout=1.0), "built"),
        ("discovered", spec(load="lazy", timeout=1.0), "listed"),
        ("disabled", spec(), "built"),
        ("disabled", spec(load="lazy"), "listed"),
        ("unloaded", spec(settings={"a": 1}), "adjusted"),
        ("draining", spec(settings={"a": 1}), "adjusted"),
        ("failed", spec(settings={"a": 1}), "listed"),
        ("failed", spec(timeout=1.0), "adjusted"),
        ("loading", spec(settings={"a": 1}), "listed"),
        ("ready", spec(settings={"a": 1}, load="lazy"), "built"),
        ("ready", spec(enabled=False), "listed"),
        ("unloaded", spec(enabled=False), "listed"),
    ],
)
def test_what_is_done_depends_on_the_state_an_agent_is_in(state: AgentState, wanted: AgentSpec, step: str) -> None:
    had = spec(enabled=state != "disabled", load="lazy" if state == "discovered" else "eager")
    plan = planned(had, wanted, state)
    assert list(getattr(plan, step)) == [wanted]
    assert sum(len(steps) for steps in (plan.built, plan.listed, plan.adjusted)) == 1


def test_a_lazy_agent_that_is_new_is_not_opened() -> None:
    assert planned(None, spec(load="lazy")).listed
    assert planned(None, spec()).built
    assert planned(None, spec(enabled=False)).listed


def test_an_agent_that_can_no_longer_be_found_has_changed() -> None:
    assert differences(spec(), spec(problem=LoadError("it is not installed"))) == ["use"]


def test_another_release_of_code_that_is_imported_waits_for_a_restart() -> None:
    had, wanted = spec(version="2.1"), spec(version="2.2", timeout=1.0)
    plan = planned(had, wanted)
    assert plan.restart == ["agent 'agent': acme-agents 2.2 is installed, and 2.1 is imported"]
    assert plan.changed == {"agent": ["timeout"]}
    assert plan.adjusted[0].source.version == "2.1"


def test_another_release_is_opened_where_a_process_of_its_own_imports_it() -> None:
    plan = planned(spec(version="2.1", placement="process"), spec(version="2.2", placement="process"))
    assert (plan.changed, len(plan.built)) == ({"agent": ["version"]}, 1)
    assert not plan.restart


def test_what_only_a_restart_changes_is_named_and_stays_as_it_is() -> None:
    old = config(server={"port": 1}, store={"url": "memory:"})
    new = config(server={"port": 2, "max_body": 5}, store={"url": "sqlite:///x.db"}, plugins={"block": ["acme"]})
    plan = planned(None, None, old=old, new=new)
    assert plan.restart == ["[server] port", "[store] url", "[plugins] block"]
    assert plan.settings == ["[server] max_body"]
    assert (plan.config.server.port, plan.config.server.max_body) == (1, 5)
    assert (plan.config.store, plan.config.plugins) == (old.store, old.plugins)


def test_every_key_of_the_store_is_fixed_and_the_rest_is_named_by_its_model() -> None:
    assert set(FIXED["store"]) == set(StoreConfig.model_fields)
    assert set(FIXED["server"]) < set(ServerConfig.model_fields)


def test_keys_are_told_by_their_ids_and_no_value_of_the_file_is_repeated() -> None:
    old = config(auth={"keys": [key("web"), key("old"), key("few")]})
    new = config(auth={"keys": [key("web"), key("few", concurrency=3), key("new")], "allow_unauthenticated": True})
    plan = planned(spec(settings={"api_key": SECRET}), spec(settings={"api_key": SECRET + "2"}), old=old, new=new)
    assert plan.keys == {"added": ["new"], "removed": ["old"], "changed": ["few"]}
    assert plan.settings == ["[auth] allow_unauthenticated"]
    assert SECRET not in str(plan.report())
