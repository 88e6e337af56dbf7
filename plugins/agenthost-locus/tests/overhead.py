"""The reference agent counting: as a user of Locus would stream it, and through the adapter, to be timed in turn."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from agenthost_locus.adapting import adapt
from locus.core.events import ModelChunkEvent

from agenthost import Principal, RunContext


def _reference() -> Any:
    spec = importlib.util.spec_from_file_location("locus_reference", Path(__file__).with_name("reference_agent.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.agent


AGENT = _reference()
SERVED = adapt(AGENT)


async def direct(n: int) -> int:
    """Stream "count n" with Locus alone; how many deltas came."""
    deltas = 0
    async for event in AGENT.run(f"count {n}", stream_tokens=True):
        if isinstance(event, ModelChunkEvent) and event.content:
            deltas += 1
    return deltas


async def adapted(n: int) -> int:
    """The same through the adapter."""
    ctx = RunContext(prompt=f"count {n}", run_id="run", agent="reference", principal=Principal("ann"))
    deltas = 0
    async for event in SERVED.run(ctx):
        if isinstance(event, str):
            deltas += 1
    return deltas
