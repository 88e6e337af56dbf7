"""What serving the reference agent through the adapter costs, against running it with Pydantic AI alone.

`python overhead.py` prints both, in microseconds a delta: the best of several rounds, taken in turn.
"""

from __future__ import annotations

import asyncio
import time

from agenthost_pydantic_ai import serve
from pydantic_ai import Agent
from pydantic_ai.messages import PartDeltaEvent, PartStartEvent, TextPart, TextPartDelta
from reference_agent import agent

from agenthost import ModelChunk, Principal, RunContext

served = serve(agent)
settings = served.Settings()


async def direct(n: int) -> int:
    """Run "count n" node by node, the cheapest way there is to its deltas, and return how many came."""
    deltas = 0
    async with agent.iter(f"count {n}") as run:
        async for node in run:
            if Agent.is_model_request_node(node):
                async with node.stream(run.ctx) as events:
                    async for event in events:
                        if isinstance(event, PartStartEvent):
                            deltas += isinstance(event.part, TextPart) and bool(event.part.content)
                        elif isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
                            deltas += bool(event.delta.content_delta)
    return deltas


async def adapted(n: int) -> int:
    """Run "count n" through the adapter and return how many deltas came."""
    ctx = RunContext(
        prompt=f"count {n}", run_id="overhead", agent="reference", principal=Principal("nobody"), settings=settings
    )
    return sum([isinstance(event, str | ModelChunk) async for event in served.run(ctx)])


async def main(n: int = 500, rounds: int = 15) -> None:
    """Measure in turn and print."""
    best = {direct: float("inf"), adapted: float("inf")}
    for _ in range(rounds):
        for way, so_far in best.items():
            start = time.process_time()
            assert await way(n) == n
            best[way] = min(so_far, (time.process_time() - start) / n * 1e6)
    for way, cost in best.items():
        print(f"{way.__name__:8} {cost:6.1f} µs a delta, {cost / best[direct]:.2f} × direct")


if __name__ == "__main__":
    asyncio.run(main())
