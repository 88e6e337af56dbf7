"""How every agent is: what anybody may know, what operators read, and what keeps a host from being ready."""

from __future__ import annotations

from typing import Any

import pytest

from agenthost.agents import AgentSource, AgentSpec
from agenthost.entries import AgentEntry
from agenthost.errors import LoadError
from agenthost.health import agent_report, not_ready, public_status


def entry(
    state: Any = "ready", reason: LoadError | None = None, retry_at: float | None = None, **fields: Any
) -> AgentEntry:
    source = AgentSource("acme", lambda: None, "acme-agents", "2.1")
    made = AgentEntry(AgentSpec(name="billing", source=source, **fields))
    made.become(state, reason, retry_at)
    return made


@pytest.mark.parametrize(
    ("state", "status"), [("ready", "ok"), ("loading", "loading"), ("failed", "failed"), ("degraded", "degraded")]
)
def test_anybody_may_know_that_an_agent_is_well_or_else_its_state(state: Any, status: str) -> None:
    assert public_status(entry(state, LoadError("secret"))) == {"status": status}


def test_an_operator_reads_why_and_whose_and_how_busy() -> None:
    report = agent_report(
        entry("failed", LoadError("no torch", hint="pip install torch"), 99.0, owner="fin@acme.example")
    )
    since = report.pop("since")
    assert since > 0
    assert report == {
        "status": "failed",
        "state": "failed",
        "reason": "no torch",
        "hint": "pip install torch",
        "distribution": "acme-agents",
        "version": "2.1",
        "use": "acme",
        "owner": "fin@acme.example",
        "required": True,
        "retry_at": 99.0,
        "running": 0,
        "queued": 0,
    }


def test_stuck_runs_are_shown_where_there_are_any() -> None:
    busy = entry()
    assert "stuck" not in agent_report(busy)
    busy.stuck = 2
    assert agent_report(busy)["stuck"] == 2


def test_only_required_and_enabled_agents_that_do_not_serve_keep_a_host_from_being_ready() -> None:
    broken = entry("failed")
    well = [entry("ready"), entry("degraded"), entry("failed", required=False), entry("disabled", enabled=False)]
    assert not_ready([broken, *well]) == [broken]
