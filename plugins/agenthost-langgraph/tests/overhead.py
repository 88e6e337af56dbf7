"""What the adapter costs: the reference agent on "count n" through LangGraph's own streaming, and the adapter's."""

import asyncio
import importlib.util
import sys
import time
from pathlib import Path
from typing import Any

from agenthost_langgraph.graph_agent import GraphAgent

from agenthost import Principal, RunContext


def _reference() -> Any:
    """The graph in the file beside this one."""
    spec = importlib.util.spec_from_file_location("langgraph_reference", Path(__file__).with_name("reference_agent.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.agent


GRAPH = _reference()
ADAPTED = GraphAgent(GRAPH)


async def direct(n: int) -> int:
    """Count to `n` as somebody would who wants the tokens of a graph; returns how many there were."""
    deltas = 0
    async for message, _about in GRAPH.astream(
        {"messages": [{"role": "user", "content": f"count {n}"}]}, stream_mode="messages"
    ):
        if message.content:
            deltas += 1
    return deltas


async def adapted(n: int) -> int:
    """The same as a run of the host."""
    ctx = RunContext(prompt=f"count {n}", run_id="0" * 32, agent="reference", principal=Principal("ada"))
    deltas = 0
    async for event in ADAPTED.run(ctx):
        if type(event) is str:
            deltas += 1
    return deltas


def main(n: int = 500, rounds: int = 10) -> None:
    """Print both, the least CPU time of several rounds in turn, in µs a token, and their ratio."""
    best = dict.fromkeys((direct, adapted), float("inf"))
    for _ in range(rounds):
        for way in best:
            began = time.process_time()
            assert asyncio.run(way(n)) == n
            best[way] = min(best[way], time.process_time() - began)
    print(*(f"{way.__name__} {seconds / n * 1e6:.1f} µs a token" for way, seconds in best.items()), sep="\n")
    print(f"adapted / direct {best[adapted] / best[direct]:.3f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
