"""The harness's side of the load process: jobs, what a round of one brings, and rounds of several in turn."""

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from .processes import ROOT, Server, Unmeasured, environment

KEY = "benchmark-key-0123456789abcdef"


@dataclass(frozen=True)
class Job:
    """Requests of one kind, each client sending its next when the last is answered.

    `threads` gives every request a thread id (ten in a row share one); `hold` opens the streams and leaves them open.
    `workers` are processes whose CPU counts as the server's.
    """

    pid: int
    port: int
    path: str
    clients: int = 16
    seconds: float = 1.0
    body: dict[str, Any] = field(default_factory=lambda: {"prompt": "What is the capital of France?"})
    stream: bool = False
    min_events: int = 0
    threads: bool = False
    hold: bool = False
    workers: tuple[int, ...] = ()
    key: str = KEY


class Round(NamedTuple):
    """What one round counted: seconds, `cpu` the server's, `client_busy` the share of its core that the load needed."""

    cpu: float
    wall: float
    client_busy: float
    requests: int
    events: int
    latency_p50: float
    latency_p99: float
    first_p50: float
    first_p99: float

    @property
    def cpu_per_request(self) -> float:
        """Server CPU per request, µs."""
        return self.cpu / self.requests * 1e6

    @property
    def cpu_per_event(self) -> float:
        """Server CPU per event, µs."""
        return self.cpu / self.events * 1e6


class LoadClient:
    """The load process, on its own core."""

    def __init__(self, core: int) -> None:
        """Start it; `close` ends it."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.load"],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        os.sched_setaffinity(self.process.pid, {core})

    def ask(self, job: dict[str, Any]) -> dict[str, Any]:
        """Have a job done. Raises `Unmeasured` with what was wrong with a reply."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # then there is no answer either
            self.process.stdin.write(json.dumps(job).encode() + b"\n")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise Unmeasured(f"the load process ended with {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if answer.get("problem"):
            raise Unmeasured(f"POST {job['path']}: {' '.join(answer['problem'].split())[:200]}")
        return answer

    def run(self, job: Job) -> Round:
        """One round of a job. Raises `Unmeasured`."""
        answer = self.ask(asdict(job))
        counted = Round(*(answer[name] for name in Round._fields))
        if not counted.requests and not counted.events:
            raise Unmeasured(f"POST {job.path}: no reply within {job.seconds:g} s")
        return counted

    def hold(self, job: Job) -> None:
        """Open a job's streams and leave them open. Raises `Unmeasured`."""
        self.ask(asdict(job))

    def release(self) -> None:
        """Close the streams that are held."""
        self.ask({"release": True})

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


class Target(NamedTuple):
    """One side of a comparison: a server that runs, or why it does not, and what is asked of it."""

    server: Server | Unmeasured
    path: str
    options: dict[str, Any]


def target(server: Server | Unmeasured, path: str, **options: Any) -> Target:
    """A target; `options` are fields of `Job`."""
    return Target(server, path, options)


Rounds = list[Round] | Unmeasured


def compare(load: LoadClient, targets: dict[str, Target], rounds: int, seconds: float) -> dict[str, Rounds]:
    """Measure the targets in turn, A B A B …; one that fails is left out of what follows, with the reason."""
    results: dict[str, Rounds] = {
        name: side.server if isinstance(side.server, Unmeasured) else [] for name, side in targets.items()
    }
    for _ in range(rounds):
        for name, side in targets.items():
            done = results[name]
            if isinstance(done, Unmeasured) or isinstance(side.server, Unmeasured):
                continue
            options = {"seconds": seconds, **side.options}
            try:
                done.append(load.run(Job(side.server.pid, side.server.port, side.path, **options)))
            except Unmeasured as reason:
                results[name] = reason
    return results
