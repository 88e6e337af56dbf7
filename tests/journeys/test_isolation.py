"""One agent can't hurt another: whatever it does in its worker, the host stays, its neighbours answer, and it too."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from agenthost.placement.crew import MOST_ENDS
from tests.commands import Serving

pytestmark = pytest.mark.fault

AGENTS = """
import asyncio
import ctypes
import hashlib
import os
import subprocess
import sys
import time

async def echo(ctx):
    yield ctx.prompt

async def waits(ctx):
    yield "begun"
    await asyncio.sleep(600)

async def finite(ctx):
    for number in range(20):
        yield f"{number} "
        await asyncio.sleep(0.05)

async def misbehaves(ctx):
    yield "begun"
    match ctx.prompt:
        case "block":
            time.sleep(4)
        case "spin":
            until = time.monotonic() + 4
            while time.monotonic() < until:
                pass
        case "burn the GIL":
            hashlib.scrypt(b"x", salt=b"y", n=1 << 14, r=8, p=60, maxmem=1 << 26)
        case "recurse":
            sys.setrecursionlimit(10**9)
            nested = []
            for _ in range(10**6):
                nested = [nested]
            repr(nested)
        case "eat memory":
            kept = [bytearray(16 << 20) for _ in range(1000)]
        case "exit":
            os._exit(1)
        case "segfault":
            ctypes.string_at(0)
        case "flood":
            until = time.monotonic() + 2
            while time.monotonic() < until:
                os.write(1, b"flood\\n" * 10000)
        case "leave a child":
            subprocess.Popen(["sleep", "600"])
            os._exit(1)
"""

PATIENCE = 20.0

NEIGHBOURS = ("echo", "echo-worker")

DONE = {"block", "spin", "burn the GIL", "flood"}
"""What only takes its time."""

ITS_OWN = {"eat memory", "recurse"}
"""What the agent's own Python may stop, before it ends the process."""


def toml(folder: Path) -> None:
    (folder / "app.py").write_text(AGENTS)
    tables = {
        "echo": 'placement = "in-process"',
        "echo-worker": 'placement = "process"',
        "waits": 'placement = "process"',
        "finite": 'placement = "process"',
        "misbehaves": 'placement = "process"\nprocess = { max_memory = "600MiB" }',
    }
    (folder / "agents.toml").write_text(
        '[server]\ndrain = "10s"\n[store]\nurl = "memory:"\n'
        '[defaults]\ntimeout = "15s"\n'
        + "".join(
            f'[agents.{name}]\nuse = "app.py:{name.removesuffix("-worker")}"\n{more}\n' for name, more in tables.items()
        )
    )


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Serving]:
    toml(tmp_path)
    with Serving("dev", "--no-access-log", cwd=tmp_path) as served:
        until(lambda: all(state(served, name)["state"] == "ready" for name in ("echo", "waits", "misbehaves")))
        yield served


def until(condition: Any, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not come true"
        time.sleep(0.01)


def state(served: Serving, agent: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{served.url}/health").json()["agents"][agent]
    return found


def streamed(served: Serving, agent: str, prompt: str = "x") -> list[dict[str, Any]]:
    with httpx.stream(
        "POST", f"{served.url}/agents/{agent}/stream", json={"prompt": prompt}, timeout=PATIENCE
    ) as reply:
        lines = reply.read().decode().splitlines()
    return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]


class Asking(threading.Thread):
    """Asks the neighbours, again and again, and notes what goes wrong and how long each takes."""

    def __init__(self, served: Serving) -> None:
        super().__init__(daemon=True)
        self.served = served
        self.over = threading.Event()
        self.taken: list[float] = []
        self.wrong: list[str] = []

    def run(self) -> None:
        with httpx.Client(base_url=self.served.url, timeout=30) as client:
            while not self.over.is_set():
                for name in NEIGHBOURS:
                    began = time.monotonic()
                    try:
                        reply = client.post(f"/agents/{name}/invoke", json={"prompt": "hello"})
                        if (reply.status_code, reply.json()["message"]) != (200, "hello"):
                            self.wrong.append(reply.text)
                    except Exception as raised:
                        self.wrong.append(repr(raised))
                    self.taken.append(time.monotonic() - began)
                began = time.monotonic()
                if client.get("/health/live").status_code != 200:
                    self.wrong.append("not live")
                self.taken.append(time.monotonic() - began)


@contextmanager
def undisturbed(served: Serving) -> Iterator[Asking]:
    """The neighbours are asked all the while, and every one of their answers is right and prompt."""
    asking = Asking(served)
    asking.start()
    try:
        yield asking
    finally:
        asking.over.set()
        asking.join(PATIENCE)
    assert asking.wrong == []
    assert len(asking.taken) > 10
    assert max(asking.taken) < 2, "a neighbour waited for an agent that is not its own"
    assert served.process.poll() is None


@pytest.mark.parametrize(
    "prompt",
    ["block", "spin", "burn the GIL", "recurse", "eat memory", "exit", "segfault", "flood", "leave a child"],
)
def test_an_agent_that_misbehaves_in_its_worker_disturbs_nobody_and_serves_again(host: Serving, prompt: str) -> None:
    with undisturbed(host):
        events = streamed(host, "misbehaves", prompt)
        if prompt in DONE:
            assert events[-1]["type"] == "done"
        else:
            may_be = {"agent_crashed", "agent_error"} if prompt in ITS_OWN else {"agent_crashed"}
            assert events[-1]["type"] == "error"
            assert events[-1]["code"] in may_be
        until(lambda: streamed(host, "misbehaves", "nothing")[-1]["type"] == "done")
    if prompt == "flood":
        assert host.err.count("agenthost.agent.misbehaves: flood ") < 1000
        assert "lines left out: over 50 a second" in host.err


def test_a_worker_that_is_killed_again_and_again_is_given_up_and_nobody_else_notices(host: Serving) -> None:
    with undisturbed(host):
        for number in range(MOST_ENDS + 1):
            until(lambda: state(host, "waits").get("pids"))
            [pid] = state(host, "waits")["pids"]
            ended: list[Any] = []
            reading = threading.Thread(target=lambda ended=ended: ended.append(streamed(host, "waits")), daemon=True)
            reading.start()
            until(lambda: state(host, "waits")["running"])
            killed = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            reading.join(PATIENCE)
            assert ended[0][-1]["code"] == "agent_crashed"
            assert time.monotonic() - killed < 2
            if number < MOST_ENDS:
                until(lambda pid=pid: state(host, "waits").get("pids", [pid]) not in ([], [pid]))
                assert time.monotonic() - killed < 10
        until(lambda: state(host, "waits")["state"] == "failed")
        found = state(host, "waits")
        assert "its workers ended 6 times within 60 s; the last one was ended by SIGKILL" in found["reason"]
        assert found["retry_at"] > time.time()
        assert httpx.post(f"{host.url}/agents/waits/invoke", json={"prompt": "x"}).status_code == 503


def test_no_worker_outlives_a_host_that_is_killed(host: Serving) -> None:
    pids = [pid for name in ("waits", "misbehaves", "finite", "echo-worker") for pid in state(host, name)["pids"]]
    assert len(pids) == 4
    spinning = threading.Thread(target=lambda: _quietly(lambda: streamed(host, "misbehaves", "spin")), daemon=True)
    spinning.start()
    until(lambda: state(host, "misbehaves")["running"])
    host.process.kill()
    host.process.wait()
    until(lambda: not any(map(_alive, pids)), 5)


def test_a_stop_lets_runs_in_workers_end_though_the_signal_reaches_the_workers_too(host: Serving) -> None:
    pids = [pid for name in ("waits", "misbehaves", "finite") for pid in state(host, name)["pids"]]
    got: list[Any] = []
    reading = threading.Thread(target=lambda: got.append(streamed(host, "finite")), daemon=True)
    reading.start()
    until(lambda: state(host, "finite")["running"])
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    assert host.stop() == 0
    reading.join(PATIENCE)
    assert [event["type"] for event in got[0]] == ["model_chunk"] * 20 + ["done"]
    assert not any(map(_alive, pids))


def _quietly(work: Any) -> None:
    with suppress(httpx.HTTPError):  # the host is killed
        work()


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
