"""`python -m tests.benchmarks`: measure, and print the table."""

import argparse
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from .bench import Bench
from .processes import allow_descriptors
from .rows import ROWS
from .table import Line, as_markdown, as_text

LEGEND = (
    "R: raw ASGI callable, orjson, bearer check. F: plain FastAPI, pydantic in and out, Depends bearer. "
    "Medians of interleaved rounds (lowest–highest); CPU is the server's; ratios are taken within a pair of rounds."
)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description="Measure agenthost against R and F."
    )
    parser.add_argument("--rows", metavar="NAME,…", default=",".join(ROWS), help="only these rows (all: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="short rounds: for trying the harness, not for figures")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the lines and every round to FILE")
    options = parser.parse_args(arguments)
    options.rows = [name.strip() for name in options.rows.split(",") if name.strip()]
    if unknown := [name for name in options.rows if name not in ROWS]:
        parser.error(f"no row called {', '.join(unknown)}; there are {', '.join(ROWS)}")
    return options


def processor() -> str:
    """The processor's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def conditions(bench: Bench) -> str:
    """What the figures were measured on, and what may have disturbed them."""
    same = bench.server_core == bench.client_core
    cores = "one core for servers and load: figures disturb each other" if same else "a core each for server and load"
    packages = ", ".join(f"{name} {version(name)}" for name in ("fastapi", "uvicorn", "uvloop"))
    busy = os.getloadavg()[0]
    load = f"; other work was going on (load {busy:.1f})" if busy > 0.7 else ""
    return f"{processor()}, {os.cpu_count()} cores, {cores}{load}; Python {platform.python_version()}, {packages}"


def measure(bench: Bench, names: Sequence[str]) -> list[Line]:
    """The lines of the rows that are asked for."""
    lines: list[Line] = []
    for name in names:
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        lines += ROWS[name](bench)
    return lines


def main() -> None:
    """Measure, print, and write the file if one is asked for."""
    if sys.platform != "linux":
        sys.exit("the benchmarks read Linux's /proc and CPU clocks; there is nothing to measure with here")
    options = parse()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the servers are stopped then too
    allow_descriptors(4096)
    began = time.monotonic()
    with Bench(quick=options.quick) as bench:
        where = conditions(bench)
        lines = measure(bench, options.rows)
        rounds, strained = bench.raw_figures, bench.strained
    print(f"{where}\n{LEGEND}\n\n{(as_markdown if options.markdown else as_text)(lines)}")
    if strained:
        print("\nThe load needed nearly all of its core in some round: its times (not the CPU) may be too long.")
    print(
        f"\n{time.monotonic() - began:.0f} s{' (--quick: not for figures)' if options.quick else ''}", file=sys.stderr
    )
    if options.json:
        found = {"conditions": where, "lines": [asdict(line) for line in lines], "rounds": rounds}
        options.json.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
