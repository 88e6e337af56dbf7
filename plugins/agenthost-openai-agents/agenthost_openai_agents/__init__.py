"""Serves agents of the OpenAI Agents SDK with agenthost, unchanged.

The host finds this module by its entry point. It imports the SDK only with the first agent that is of it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agenthost import RunContext, hookimpl

if TYPE_CHECKING:
    from agents import Agent as SDKAgent
    from agents import RunConfig

    from agenthost import Agent

__all__ = ["register_adapters", "serve"]

_SHAPE = {"handoffs", "input_guardrails", "output_guardrails", "output_type"}
"""Fields of the SDK's class: its module's name, `agents`, is one that anybody may use."""


@hookimpl
def register_adapters(register: Any) -> None:
    """Take every `agents.Agent`."""
    register("openai-agents", serve, modules=["agents"], accepts=is_sdk_agent)


def is_sdk_agent(found: Any) -> bool:
    """Whether an object is the SDK's `Agent` or of a subclass, told by the classes it has."""
    return any(
        (kind.__module__, kind.__qualname__) == ("agents.agent", "Agent")
        and getattr(kind, "__dataclass_fields__", {}).keys() >= _SHAPE
        for kind in type(found).__mro__
    )


def serve(
    agent: SDKAgent[Any],
    *,
    context: Callable[[RunContext], Any] | None = None,
    run_config: RunConfig | None = None,
) -> Agent:
    """Make an agent of the SDK one that the host runs; needed only to say one of these two.

    `context(ctx)`, a plain or an async function, makes the SDK's `context=` of each run from the host's `RunContext`;
    without it there is none. `run_config` is what each run begins with; the agent's settings come on top, and traces
    are sent nowhere unless `tracing = true` is one of them.
    """
    served: Agent = importlib.import_module("agenthost_openai_agents.serving").ServedAgent(agent, context, run_config)
    return served
