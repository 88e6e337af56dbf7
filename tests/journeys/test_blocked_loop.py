"""An agent that keeps the event loop of a host in another process is named: in the log, in health, in the metrics."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.commands import KEY, Serving
from tests.wire import Reply, Wire, ask, request

pytestmark = pytest.mark.fault

HELD = 2.0
"""Seconds that an agent here keeps the loop for."""

NAMED_WITHIN = 1.0
"""Seconds in which RELIABILITY wants an agent named that blocks the loop."""

BUSY = 0.5
"""Seconds that a loaded machine may take to do and to show it."""

STOPPED = 1.5
"""Seconds that a process is stopped for."""

BLOCKED_FOR = re.compile(r"nothing else has run for (\d+\.\d) s")

AGENTS = f"""
import asyncio
import sys
import time
from contextlib import asynccontextmanager

HELD = {HELD}


def holds_the_interpreter():
    numbers, began = 2_000_000, time.thread_time()
    sum(range(numbers))
    sum(range(int(numbers * HELD / (time.thread_time() - began))))  # one call that never lets go


async def sleeps(ctx):
    yield "before"
    await asyncio.sleep(0.1)  # in which it is sent
    time.sleep(HELD)


async def spins(ctx):
    yield "before"
    await asyncio.sleep(0.1)
    end = time.monotonic() + HELD
    while time.monotonic() < end:
        pass


async def blocks_in_a_task(ctx):
    async def tool():
        time.sleep(HELD)

    yield "before"
    await asyncio.sleep(0.1)
    await asyncio.create_task(tool())


async def blocks_in_a_callback(ctx):
    done = asyncio.Event()

    def later():
        time.sleep(HELD)
        done.set()

    yield "before"
    await asyncio.sleep(0.1)
    asyncio.get_running_loop().call_soon(later)
    await done.wait()


async def computes(ctx):
    yield "before"
    await asyncio.sleep(0.1)
    holds_the_interpreter()


async def prints(ctx):
    yield "before"
    sys.stdout.write("x" * 1_000_000)
    sys.stdout.flush()


class Opens:
    @asynccontextmanager
    async def lifespan(self):
        time.sleep(HELD)
        yield

    async def run(self, ctx):
        yield "open"


async def toils(ctx):
    for _ in range(12):
        end = time.thread_time() + 0.3
        while time.thread_time() < end:
            pass
        yield "."
        await asyncio.sleep(0.01)


async def speaks(ctx):
    yield ctx.prompt
"""

NAMES = ("sleeps", "spins", "blocks_in_a_task", "blocks_in_a_callback", "computes")

OPERATOR = {"authorization": f"Bearer {KEY}"}


def serving(folder: Path, *names: str, **options: Any) -> Serving:
    """`agenthost serve` with these agents; each is in a module of its own, as agents are."""
    tables = []
    for name in names:
        (folder / f"{name}_app.py").write_text(AGENTS)
        tables.append(f'[agents.{name.replace("_", "-").lower()}]\nuse = "{name}_app.py:{name}"\n')
    (folder / "agents.toml").write_text('[server]\ndrain = "1s"\n[store]\nurl = "memory:"\n' + "".join(tables))
    arguments = ("serve", "--no-access-log", "--log-format", "json")
    return Serving(*arguments, cwd=folder, env={"AGENTHOST_API_KEY": KEY}, **options)


def warnings(served: Serving) -> list[dict[str, Any]]:
    """What the watchdog has warned of so far."""
    lines = [json.loads(line) for line in served.err.splitlines(keepends=True) if line.endswith("\n")]
    return [line for line in lines if line["logger"] == "agenthost.watchdog" and line["level"] == "warning"]


def asked(served: Serving, path: str) -> Reply:
    return ask(served.port, "GET", path, OPERATOR)


def blocked_by(served: Serving, name: str) -> tuple[float, str]:
    """Have an agent block the loop, and end: seconds until it was named, and its run's id."""
    with Wire(served.port) as wire:
        wire.send(request("POST", f"/agents/{name}/stream", OPERATOR, {"prompt": "x"}))
        run_id = wire.head()["x-run-id"]
        chunks = wire.chunks()
        assert b"before" in next(chunks)
        begun = time.monotonic()
        served.until(lambda: [warning for warning in warnings(served) if warning.get("agent") == name])
        named = time.monotonic() - begun
        assert b"done" in b"".join(chunks)
    return named, run_id


def counted(served: Serving, agent: str) -> tuple[float, float]:
    """How often, and for how many seconds, the metrics say that an agent blocked the loop."""
    lines = dict(line.rsplit(" ", 1) for line in asked(served, "/metrics").body.decode().splitlines() if line[0] != "#")
    times, seconds = (f'agenthost_loop_{what}_total{{agent="{agent}"}}' for what in ("blockages", "blocked_seconds"))
    return float(lines[times]), float(lines[seconds])


@pytest.mark.parametrize("name", NAMES)
def test_an_agent_that_blocks_the_loop_is_named_everywhere_with_its_stack(tmp_path: Path, name: str) -> None:
    agent = name.replace("_", "-")
    with serving(tmp_path, name, "speaks") as served:
        before = time.monotonic()
        named, run_id = blocked_by(served, agent)
        took = time.monotonic() - before
        if name != "computes":  # where no thread can run, not even one that watches
            assert named <= 0.1 + NAMED_WITHIN + BUSY

        served.until(lambda: "the event loop turns again" in served.err)
        report = asked(served, f"/agents/{agent}/health").json
        assert (report["status"], report["state"]) == ("degraded", "degraded")
        whose = f"agent '{agent}' ({name}_app.py:{name})"
        assert report["reason"].startswith(f"{whose} blocked the event loop for ")
        assert f"{name}_app.py" in report["stack"]
        assert "/agenthost/" not in report["stack"]
        assert ask(served.port, "GET", f"/agents/{agent}/health").json == {"status": "degraded"}
        assert ask(served.port, "GET", "/health/ready").status == 200

        times, seconds = counted(served, agent)
        assert times == 1
        assert 0.4 * HELD < seconds < took
        (warning,) = [warning for warning in warnings(served) if warning.get("agent")]
        assert warning["agent"] == agent
        assert warning["message"].startswith(f"{whose} blocks the event loop: nothing else has run for ")
        assert f"{name}_app.py" in warning["message"]
        assert "callback" in name or warning["run_id"] == run_id

        assert ask(served.port, "POST", "/agents/speaks/invoke", OPERATOR, {"prompt": "well"}).json["message"] == "well"
        assert ask(served.port, "POST", f"/agents/{agent}/runs", OPERATOR, {"prompt": "again"}).status == 202


def test_a_lifespan_that_blocks_the_loop_is_named_too(tmp_path: Path) -> None:
    with serving(tmp_path, "Opens", "speaks") as served:
        (warning,) = served.until(lambda: warnings(served))
        assert warning["message"].startswith("agent 'opens' (Opens_app.py:Opens) blocks the event loop")
        assert "in lifespan" in warning["message"]


def test_a_print_that_nobody_reads_is_named_and_the_host_goes_on_once_somebody_does(tmp_path: Path) -> None:
    reads, writes = os.pipe()
    with serving(tmp_path, "prints", stdout=writes) as served:
        os.close(writes)
        with Wire(served.port) as wire:
            wire.send(request("POST", "/agents/prints/invoke", OPERATOR, {"prompt": "x"}))
            (warning,) = served.until(lambda: warnings(served))
            assert "in prints\n    sys.stdout." in warning["message"]
            drain = threading.Thread(target=read_all, args=(reads,))
            drain.start()
            assert wire.reply().json["status"] == "completed"
        assert served.stop() == 0
    drain.join()


def read_all(descriptor: int) -> None:
    with os.fdopen(descriptor, "rb") as pipe:
        while pipe.read1(65536):
            pass


def stop_for(seconds: float, pid: int) -> None:
    """Stop a process for so long, as a machine that is suspended does."""
    os.kill(pid, signal.SIGSTOP)
    try:
        threading.Event().wait(seconds)
    finally:
        os.kill(pid, signal.SIGCONT)


def test_nobody_is_blamed_for_the_time_that_the_process_was_stopped(tmp_path: Path) -> None:
    with serving(tmp_path, "toils", "sleeps") as served:
        with Wire(served.port) as wire:
            wire.send(request("POST", "/agents/toils/stream", OPERATOR, {"prompt": "x"}))
            assert wire.head().status == 200
            chunks = wire.chunks()
            for _ in range(4):
                next(chunks)
                threading.Event().wait(0.22)  # until it is asked whether the loop turns, while the agent keeps it
                stop_for(STOPPED, served.process.pid)
            assert b"done" in b"".join(chunks)
        for warning in warnings(served):  # a busy machine may stretch what the agent itself does
            assert float(BLOCKED_FOR.findall(warning["message"])[0]) < STOPPED
        before = len(warnings(served))
        blocked_by(served, "sleeps")  # and still sees what there is to see
        assert [warning.get("agent") for warning in warnings(served)[before:]] == ["sleeps"]
