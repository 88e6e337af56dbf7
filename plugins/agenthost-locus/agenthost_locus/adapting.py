"""A Locus object becomes an agent of the host."""

from __future__ import annotations

from typing import Any

from locus.agent import Agent
from locus.multiagent.graph import StateGraph

from agenthost_locus.checkpointing import HostCheckpointer
from agenthost_locus.graphs import GraphAgent
from agenthost_locus.leash import Leash
from agenthost_locus.running import CheckpointedAgent, CheckpointedRunnable, LocusAgent, Runnable


def adapt(found: Any) -> Any:
    """Make an agent of a `StateGraph`, an `Agent`, or of what runs like one.

    An `Agent` without a checkpointer is given one that keeps its threads where the host keeps its own.
    """
    if isinstance(found, StateGraph):
        return GraphAgent(found)
    if isinstance(found, Agent):
        if not any(isinstance(hook, Leash) for hook in found._hooks):  # Locus has no other door for one more hook
            found._hooks.append(Leash())
        if found.config.checkpointer is None:
            found.config.checkpointer = HostCheckpointer()
        own = not isinstance(found.config.checkpointer, HostCheckpointer)
        return CheckpointedAgent(found) if own else LocusAgent(found)
    if getattr(getattr(found, "config", None), "checkpointer", None) is not None:
        return CheckpointedRunnable(found)
    return Runnable(found)
