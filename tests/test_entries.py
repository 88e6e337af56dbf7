"""One version of an agent that is served: what may be asked of it in which state, and what takes its place."""

from __future__ import annotations

import asyncio

import pytest

from agenthost.agents import AgentInfo, AgentSource, AgentSpec
from agenthost.entries import NOT_READY, AgentEntry, AgentState
from agenthost.errors import AgentNotReady, HostError


def entry(state: AgentState = "ready", **fields: object) -> AgentEntry:
    spec = AgentSpec(name="agent", source=AgentSource(use="acme", load=lambda: None), **fields)  # type: ignore[arg-type]
    return AgentEntry(spec, state)


def test_an_agent_that_waits_for_its_first_request_may_be_asked_and_one_that_failed_may_not() -> None:
    for state in ("discovered", "loading"):
        assert entry(state, load="lazy").available
        assert not entry(state).available
    assert entry("ready").available
    assert entry("degraded").available
    for state in ("failed", "unloaded", "draining", "disabled"):
        assert not entry(state, load="lazy").available


def test_the_newest_is_the_last_that_took_a_place() -> None:
    first, second, third = entry(), entry(), entry()
    first.successor, second.successor = second, third
    assert first.newest is second.newest is third.newest is third


def test_what_goes_on_is_counted_for_all_versions_together() -> None:
    old, new = entry(), entry()
    new.traffic = old.traffic
    old.traffic.running += 1
    new.traffic.queued += 2
    assert (new.running, old.queued) == (1, 2)


def test_an_agent_has_as_many_slots_as_it_can_use() -> None:
    one = entry(concurrency=10)
    assert one.slots == 10
    one.info = AgentInfo(max_runs=3)
    assert one.slots == 3


def test_who_asks_for_an_agent_that_does_not_serve_is_told_its_state() -> None:
    with pytest.raises(AgentNotReady) as refused:
        asyncio.run(entry("failed").awake())
    assert refused.value.message == "agent 'agent' is failed"
    assert refused.value.retry_after == NOT_READY


def test_who_holds_a_version_that_was_replaced_gets_the_newest() -> None:
    old, new = entry("draining"), entry()
    old.successor = new
    assert asyncio.run(old.awake()) is new


def test_a_version_that_is_asked_something_is_busy_meanwhile() -> None:
    one = entry()
    with one.asked() as ref:
        assert (ref, one.busy) == (None, 1)
    assert one.busy == 0


def test_an_agent_is_as_well_as_its_last_ailment_allows() -> None:
    one = entry()
    one.ail("stuck", HostError("stuck"))
    one.ail("blocks", HostError("blocks"))
    assert (one.state, str(one.reason)) == ("degraded", "blocks")
    one.heal("blocks")
    assert (one.state, str(one.reason)) == ("degraded", "stuck")
    one.heal("stuck")
    assert (one.state, one.reason) == ("ready", None)
