"""One run of the benchmarks: its processes, each started once when first needed, and how long a round lasts."""

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from .driver import KEY, LoadClient, Rounds, Target, compare
from .processes import Server, Unmeasured, choose_cores, environment, free_port
from .servers import our_host


def uvicorn_command(app: str, port: int) -> list[str]:
    """How R and F are served: one worker, uvloop and httptools, no access log."""
    options = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    return [sys.executable, "-m", "uvicorn", app, "--host", "127.0.0.1", "--port", str(port), *options]


class Bench:
    """The servers, the load and the folder of one run; a context manager that ends and removes them all.

    This process stays on the load's core meanwhile: it does nothing while something is measured.

    `rounds` and `seconds` set how often and how long each side of a comparison is measured, `starts` how often a server
    is started, `streams` how many stay open, `agents` how many are served. `strained` is set once the load needed
    nearly all of its core.
    """

    def __init__(self, *, quick: bool = False) -> None:
        """Nothing is started yet but the load process."""
        self.rounds, self.seconds = (2, 0.3) if quick else (5, 1.5)
        self.starts, self.streams, self.agents = (1, 200, 1000) if quick else (5, 1000, 1000)
        self.server_core, self.client_core = choose_cores()
        self.cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {self.client_core})
        self.folder = Path(tempfile.mkdtemp(prefix="agenthost-benchmarks-"))
        self.load = LoadClient(self.client_core)
        self.servers: dict[str, Server | Unmeasured] = {}
        self.raw_figures: dict[str, dict[str, Any]] = {}
        self.strained = False

    def __enter__(self) -> "Bench":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for server in self.servers.values():
            if isinstance(server, Server):
                server.stop()
        self.load.close()
        os.sched_setaffinity(0, self.cores)
        shutil.rmtree(self.folder, ignore_errors=True)

    def spawn(self, name: str, command: list[str], port: int) -> Server:
        """Start a server; the caller waits for it and stops it."""
        env = environment(BENCHMARK_KEY=KEY)
        return Server(name, command, port, self.folder / f"{name}.log", env, self.server_core)

    def spawn_raw(self) -> Server:
        """Start R."""
        port = free_port()
        return self.spawn("R", uvicorn_command("tests.benchmarks.servers.raw:app", port), port)

    def spawn_plain(self) -> Server:
        """Start F."""
        port = free_port()
        return self.spawn("F", uvicorn_command("tests.benchmarks.servers.plain_fastapi:app", port), port)

    def spawn_ours(self, name: str, agents: Mapping[str, str], *, access_log: bool = False) -> Server:
        """Start our host; its configuration and store are in a folder called `name`."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        port = free_port()
        config = our_host.write_config(folder, agents)
        return self.spawn(name, our_host.command(config, port, access_log=access_log), port)

    def running(self, name: str, server: Server, ready: str = "/health/live") -> Server | Unmeasured:
        """Wait for a server that was just started and keep it, or why it is not there, under its name."""
        self.servers[name] = server
        try:
            server.wait(ready)
        except Unmeasured as reason:
            server.stop()
            self.servers[name] = reason
        return self.servers[name]

    def raw(self) -> Server | Unmeasured:
        """R, running."""
        return self.servers.get("R") or self.running("R", self.spawn_raw())

    def plain(self) -> Server | Unmeasured:
        """F, running."""
        return self.servers.get("F") or self.running("F", self.spawn_plain())

    def ours(self, name: str = "ours", agents: Mapping[str, str] | None = None, **options: bool) -> Server | Unmeasured:
        """Our host, running and ready; by default it serves the four benchmark agents without an access log."""
        found = self.servers.get(name)
        return found or self.running(
            name, self.spawn_ours(name, agents or our_host.one_each(), **options), "/health/ready"
        )

    def compare(self, row: str, targets: dict[str, Target], finer: int = 1) -> dict[str, Rounds]:
        """Measure targets in turn and keep every round for the JSON file; `finer` makes the rounds more and shorter."""
        results = compare(self.load, targets, self.rounds * finer, self.seconds / finer)
        self.raw_figures[row] = {
            name: str(found) if isinstance(found, Unmeasured) else [one._asdict() for one in found]
            for name, found in results.items()
        }
        self.strained |= any(
            one.client_busy > 0.95 for found in results.values() if not isinstance(found, Unmeasured) for one in found
        )
        return results
