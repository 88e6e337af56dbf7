"""Live, ready, and how every agent is: what load balancers ask, and what operators read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from agenthost.entries import AgentEntry

_PUBLIC = {"ready": "ok"}


def public_status(entry: AgentEntry) -> dict[str, str]:
    """What anybody may know of an agent: `ok` where it is ready, else its state."""
    return {"status": _PUBLIC.get(entry.state, entry.state)}


def agent_report(entry: AgentEntry) -> dict[str, Any]:
    """What an operator may know of an agent; what is None is left out."""
    spec, reason = entry.spec, entry.reason
    report = {
        **public_status(entry),
        "state": entry.state,
        "since": entry.since,
        "reason": reason.message if reason else None,
        "hint": reason.hint if reason else None,
        "stack": reason.traceback if reason and entry.state == "degraded" else None,
        "not_reloaded": entry.outdated.message if entry.outdated else None,
        "distribution": entry.source.distribution,
        "version": entry.source.version,
        "use": entry.source.use,
        "owner": spec.owner or None,
        "required": spec.required,
        "load": spec.load if spec.load == "lazy" else None,
        "retry_at": entry.retry_at,
        "running": entry.running,
        "queued": entry.queued,
        "stuck": entry.stuck or None,
        "pids": getattr(entry.ref, "pids", None),
    }
    return {name: value for name, value in report.items() if value is not None}


def version_report(entry: AgentEntry) -> dict[str, Any]:
    """What an operator may know of a version of an agent that is no longer listed, and still has runs."""
    return {
        "agent": entry.name,
        "version": entry.source.version,
        "use": entry.source.use,
        "since": entry.since,
        "reason": entry.reason.message if entry.reason else None,
        "runs": entry.busy,
    }


def not_ready(entries: Iterable[AgentEntry]) -> list[AgentEntry]:
    """The agents that keep `/health/ready` red: required, enabled and not serving, nor waiting for a first request."""
    return [entry for entry in entries if entry.spec.required and entry.spec.enabled and not entry.available]
