"""The same answer read straight from the SDK and through the adapter, to be timed in turn."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from agenthost_openai_agents import serve
from agents import RunConfig, Runner

from agenthost import Principal, RunContext


def _reference() -> Any:
    spec = importlib.util.spec_from_file_location(
        "openai_agents_reference", Path(__file__).with_name("reference_agent.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.agent


AGENT = _reference()
SERVED = serve(AGENT)
QUIET = RunConfig(tracing_disabled=True)


async def direct(n: int) -> int:
    """Stream `count n` as a user of the SDK would; the number of text deltas."""
    result = Runner.run_streamed(AGENT, f"count {n}", run_config=QUIET)
    deltas = 0
    async for event in result.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            deltas += bool(event.data.delta)
    return deltas


async def adapted(n: int) -> int:
    """Stream the same through the adapter; the number of text deltas."""
    ctx = RunContext(prompt=f"count {n}", run_id="r", agent="reference", principal=Principal("ada"))
    deltas = 0
    async for event in SERVED.run(ctx):
        deltas += isinstance(event, str)
    return deltas
