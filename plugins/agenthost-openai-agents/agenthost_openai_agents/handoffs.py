"""Which agents a served one can come to run: by handoff, after which a thread goes on with them, or as a tool."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agents import Agent, Handoff


def agent_called(name: str | None, served: Agent[Any]) -> Agent[Any]:
    """The agent of that name among `served` and those it can come to hand over to; `served` where there is none."""
    return next((agent for agent in reachable(served) if agent.name == name), served)


def reachable(served: Agent[Any], *, tools: bool = False) -> Iterator[Agent[Any]]:
    """`served`, and by handoffs, with `tools` also as tools, every other agent once, the nearest first."""
    found, seen = [served], {id(served)}
    for agent in found:
        yield agent
        targets = [_target(handoff) for handoff in agent.handoffs]
        if tools:
            targets += [_runs(tool) for tool in agent.tools]
        for target in targets:
            if target is not None and id(target) not in seen:
                seen.add(id(target))
                found.append(target)


def _target(handoff: Any) -> Agent[Any] | None:
    """The agent behind a handoff. The SDK's `handoff(agent)` holds it by a weak reference that has no public name."""
    if isinstance(handoff, Agent):
        return handoff
    reference = getattr(handoff, "_agent_ref", None) if isinstance(handoff, Handoff) else None
    target = reference() if callable(reference) else None
    return target if isinstance(target, Agent) else None


def _runs(tool: Any) -> Agent[Any] | None:
    """The agent that runs as this tool. What `agent.as_tool(…)` makes holds it by a name that is not public either."""
    agent = getattr(tool, "_agent_instance", None)
    return agent if isinstance(agent, Agent) else None
