"""`python -m tests.benchmarks.overhead FILE TOKENS ROUNDS`: an adapter beside its framework, in one process, in turn.

FILE is a plugin's `overhead.py`: `async direct(tokens)` streams its reference agent with the framework alone,
`async adapted(tokens)` through the adapter; each returns how many tokens came.
"""

import asyncio
import importlib.util
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

Side = Callable[[int], Awaitable[int]]


async def alternate(sides: dict[str, Side], tokens: int, rounds: int) -> dict[str, list[float]]:
    """Microseconds of CPU per token of each side, round by round; one round goes before, to warm up."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for again in range(rounds + 1):
        for name, side in sides.items():
            began = time.process_time()
            came = await side(tokens)
            spent = time.process_time() - began
            if came < tokens:
                raise SystemExit(f"{name}: {came} tokens of {tokens} came")
            if again:
                taken[name].append(spent / came * 1e6)
    return taken


def main() -> None:
    """Print the figures as JSON."""
    file, tokens, rounds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    sys.path.insert(0, str(file.parent))
    spec = importlib.util.spec_from_file_location("measured_overhead", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sides: dict[str, Side] = {"direct": module.direct, "adapted": module.adapted}
    print(json.dumps(asyncio.run(alternate(sides, tokens, rounds))))


if __name__ == "__main__":
    main()
