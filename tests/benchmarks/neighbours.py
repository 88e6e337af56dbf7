"""What the neighbours of an agent that misbehaves in its worker notice: `python -m tests.benchmarks.neighbours`.

The host and those who ask have one core, the worker that misbehaves has another. Quiet and disturbed stretches
alternate; a quantile of the disturbed ones is told beside that of the quiet ones.
"""

import http.client
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.commands import Serving
from tests.journeys.test_isolation import state, streamed, toml, until

from .load import percentile
from .workers import children

SECONDS = 4.0
"""How long a stretch is."""

ROUNDS = 3

PAUSE = 0.005
"""Seconds that one who asks waits between two requests."""

ASKED = {"in-process": "/agents/echo/invoke", "worker": "/agents/echo-worker/invoke", "live": "/health/live"}

KILLS = "kill -9"

MISBEHAVIOURS = ("block", "spin", "burn the GIL", "recurse", "eat memory", "exit", "segfault", KILLS)


class Asking(threading.Thread):
    """Asks one address over one connection until it is told to stop; notes how long each reply took, in seconds."""

    def __init__(self, port: int, path: str) -> None:
        """Begin with nothing noted."""
        super().__init__(daemon=True)
        self.port, self.path = port, path
        self.over = threading.Event()
        self.taken: list[float] = []
        self.failed = 0

    def run(self) -> None:
        """Ask, again and again."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        while not self.over.wait(PAUSE):
            began = time.perf_counter()
            if self.path.endswith("invoke"):
                client.request("POST", self.path, b'{"prompt":"hello"}', {"content-type": "application/json"})
            else:
                client.request("GET", self.path)
            reply = client.getresponse()
            reply.read()
            self.taken.append(time.perf_counter() - began)
            self.failed += reply.status != 200
        client.close()


def stretch(served: Serving, disturb: Callable[[], None]) -> dict[str, Asking]:
    """Ask all addresses for a stretch, while somebody disturbs."""
    asking = {name: Asking(served.port, path) for name, path in ASKED.items()}
    for one in asking.values():
        one.start()
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        disturb()
    for one in asking.values():
        one.over.set()
        one.join()
    return asking


class Herding(threading.Thread):
    """Puts the workers of a host on one core, also those that are started again, but for those of the neighbours."""

    def __init__(self, served: Serving, core: int) -> None:
        """Leave the neighbours' workers, as they are now, where they are."""
        super().__init__(daemon=True)
        self.host, self.core = served.process.pid, core
        self.seen = set(state(served, "echo-worker")["pids"])
        self.over = threading.Event()

    def run(self) -> None:
        """Look, again and again."""
        while not self.over.wait(0.002):
            for pid in set(children(self.host)) - self.seen:
                self.seen.add(pid)
                with suppress(ProcessLookupError):
                    os.sched_setaffinity(pid, {self.core})


class Disturbance:
    """Has an agent misbehave in its worker, and notes how soon its run ends and it serves again, in seconds."""

    def __init__(self, served: Serving, kind: str) -> None:
        """Begin with nothing noted."""
        self.served, self.kind = served, kind
        self.ended: list[float] = []
        self.back: list[float] = []
        self.codes: set[str] = set()

    def __call__(self) -> None:
        """Misbehave once, and wait until the agent serves again."""
        agent = "waits" if self.kind == KILLS else "misbehaves"
        until(lambda: state(self.served, agent).get("pids"))
        [pid] = state(self.served, agent)["pids"]
        said: list[dict[str, Any]] = []
        run = threading.Thread(target=lambda: said.extend(streamed(self.served, agent, self.kind)), daemon=True)
        run.start()
        began = time.monotonic()
        if self.kind == KILLS:
            until(lambda: state(self.served, agent)["running"])
            began = time.monotonic()
            os.kill(pid, signal.SIGKILL)
        run.join()
        took = time.monotonic() - began
        code = said[-1].get("code", "done")
        self.codes.add(code)
        if code == "agent_crashed":
            self.ended.append(took)
            until(lambda: state(self.served, agent).get("pids", [pid]) not in ([], [pid]))
            self.back.append(time.monotonic() - began)
            time.sleep(2)  # six ends in a minute are too many


def asked_after(served: Serving) -> None:
    """Ask how an agent is as often as `Disturbance` does, of one that is well."""
    end = time.monotonic() + 0.8
    while time.monotonic() < end:
        state(served, "echo")
        time.sleep(0.01)
    time.sleep(2)


def told(kind: str, served: Serving) -> str:
    """One line of the table."""
    disturbance = Disturbance(served, kind)
    quiet: dict[str, list[float]] = {name: [] for name in ASKED}
    loud: dict[str, list[float]] = {name: [] for name in ASKED}
    failed = 0
    for _ in range(ROUNDS if kind in {"block", "spin", "burn the GIL"} else 2):
        for into, disturb in ((quiet, lambda: asked_after(served)), (loud, disturbance)):
            for name, asking in stretch(served, disturb).items():
                into[name] += asking.taken
                failed += asking.failed
    cells = [kind, "/".join(sorted(disturbance.codes))]
    for name in ASKED:
        before, during = (percentile(of[name], 0.99) * 1000 for of in (quiet, loud))
        cells.append(f"{during:.1f} ms ({during / before:.2f} ×, of {len(loud[name])})")
    cells += [f"{max(of):.2f} s" if of else "" for of in (disturbance.ended, disturbance.back)]
    return "| " + " | ".join([*cells, str(failed)]) + " |"


def main() -> None:
    """Print a line for each way to misbehave."""
    own, core, *_ = sorted(os.sched_getaffinity(0))
    print("| misbehaves | its run | in-process p99 | worker p99 | live p99 | run ended | worker back | failed |")
    print("|---|---|---|---|---|---|---|---|")
    for kind in sys.argv[1:] or MISBEHAVIOURS:
        with tempfile.TemporaryDirectory() as folder:
            toml(Path(folder))
            os.sched_setaffinity(0, {own})
            with Serving("dev", "--no-access-log", cwd=Path(folder)) as served:
                until(lambda: all(agent["state"] == "ready" for agent in health(served).values()))
                herding = Herding(served, core)
                herding.start()
                print(told(kind, served), flush=True)
                herding.over.set()
                herding.join()
                assert served.process.poll() is None, "the host is gone"


def health(served: Serving) -> dict[str, Any]:
    """How the agents are."""
    client = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
    client.request("GET", "/health")
    agents: dict[str, Any] = json.loads(client.getresponse().read())["agents"]
    client.close()
    return agents


if __name__ == "__main__":
    main()
