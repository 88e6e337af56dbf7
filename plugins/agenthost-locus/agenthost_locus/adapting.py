"""A Locus object becomes an agent of the host."""

from __future__ import annotations

from typing import Any

from locus.agent import Agent
from locus.multiagent.graph import StateGraph

from agenthost_locus.checkpointing import HostCheckpointer
from agenthost_locus.graphs import CheckpointedGraph, GraphAgent
from agenthost_locus.leash import Leash
from agenthost_locus.running import CheckpointedAgent, CheckpointedRunnable, LocusAgent, Runnable


def adapt(found: Any) -> Any:
    """Make an agent of a `StateGraph`, an `Agent`, or of what runs like one.

    An `Agent` without a checkpointer is served with one that keeps its threads where the host keeps its own.
    """
    if isinstance(found, StateGraph):
        return GraphAgent(found) if found.config.checkpointer is None else CheckpointedGraph(found)
    if isinstance(found, Agent):
        if not any(isinstance(hook, Leash) for hook in found._hooks):  # Locus has no other door for one more hook
            found._hooks.append(Leash())
        return CheckpointedAgent(found) if found.config.checkpointer is not None else LocusAgent(_kept_here(found))
    if getattr(getattr(found, "config", None), "checkpointer", None) is not None:
        return CheckpointedRunnable(found)
    return Runnable(found)


def _kept_here(agent: Agent) -> Agent:
    """The same agent, with the same model, tools and hooks; only its configuration is not the author's own."""
    served = agent.model_copy()
    served.config = agent.config.model_copy(update={"checkpointer": HostCheckpointer()})
    return served
