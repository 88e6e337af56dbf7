"""A host in a process of its own among clients that want to wear it out, on both ends of what is allowed of uvicorn."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.commands import KEY, ROOT, Serving, environment
from tests.releases import ENDS, site_of
from tests.wire import Wire, ask, request

pytestmark = pytest.mark.fault

SILENT = 2_000
"""10,000 were tried by hand."""

SLOW = 50

AGENTS = """
from agenthost import Think

async def says(ctx):
    yield ctx.prompt

SAID = Think("x" * 10_000)  # one for all, and nothing that a run keeps for its result: what is left is the reader's

async def floods(ctx):
    while True:
        yield SAID
"""


@pytest.fixture(params=ENDS)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    return site_of(request.param, tmp_path_factory)


def host(folder: Path, site: Path | None, *command: str) -> Serving:
    (folder / "app.py").write_text(AGENTS)
    (folder / "agents.toml").write_text(
        '[store]\nurl = "memory:"\n[server]\nmax_body = "1GiB"\ndrain = "1s"\n[defaults]\nplacement = "in-process"\n'
        '[agents.says]\nuse = "app.py:says"\n[agents.floods]\nuse = "app.py:floods"\n'
    )
    return Serving(*command, "--no-access-log", cwd=folder, site=site, env={"AGENTHOST_API_KEY": KEY})


def memory(process: subprocess.Popen[str], name: str = "VmRSS") -> int:
    """Bytes that a process has, or with `VmHWM` the most it had."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition(f"{name}:")[2].split()[0]) * 1024


def forget_peak(process: subprocess.Popen[str]) -> None:
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def test_thousands_of_silent_and_slow_clients_are_closed_in_time_and_nobody_else_waits(
    tmp_path: Path, site: Path | None
) -> None:
    silent = min(SILENT, resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 500)
    with host(tmp_path, site, "dev") as served, Wire(served.port) as wire:
        assert wire.ask("GET", "/health/live").status == 200
        before, most = memory(served.process), 0
        command = [sys.executable, "-m", "tests.flood", str(served.port), str(silent), str(SLOW)]
        flood = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True)
        seconds = []
        while flood.poll() is None:
            began = time.perf_counter()
            assert wire.ask("GET", "/health/live").status == 200
            seconds.append(time.perf_counter() - began)
            most = max(most, memory(served.process)) if len(seconds) % 50 == 0 else most
            time.sleep(0.002)
        assert flood.stdout is not None
        first, report = flood.stdout.read().splitlines()
        flood.stdout.close()
        found = json.loads(report)
        seconds.sort()
        p99, worst = 1000 * seconds[len(seconds) * 99 // 100], 1000 * seconds[-1]
        print(f"{silent} silent: {found}; live p99 {p99:.1f} ms, worst {worst:.0f} ms of {len(seconds)}")
        print(f"memory: {(most - before) / silent / 1024:.1f} kB each")
        assert (first, found["left"], found["told"]) == ("open", 0, ["HTTP/1.1 408 Request Timeout"])
        for name in ("silent", "slow"):
            assert 9.9 < found[name][0] <= found[name][-1] < 10 + 5
        assert p99 <= 50


def test_limits_and_stops_are_the_same_on_the_lowest_uvicorn(tmp_path_factory: pytest.TempPathFactory) -> None:
    files = ["tests/http/test_connections.py", "tests/http/test_server.py", "tests/http/test_app.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "fault or not fault", *files]
    own = environment(site_of("lowest", tmp_path_factory))
    ended = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stdout[-5000:]


BLOCK = b"x" * 65536
BLOCKS = 4096  # 256 MiB


def offer(port: int, headers: dict[str, str], blocks: Iterable[bytes]) -> int:
    """Send a body whatever the server says, until it closes; returns the status of what it said."""
    with Wire(port, timeout=60.0) as wire:
        wire.send(request("POST", "/agents/says/invoke", {"content-type": "application/json", **headers}))
        for block in blocks:
            try:
                wire.send(block)
            except (BrokenPipeError, ConnectionResetError):
                break
        return wire.reply().status


def test_256_megabytes_without_a_key_cost_less_than_two(tmp_path: Path, site: Path | None) -> None:
    declared = {"content-length": str(len(BLOCK) * BLOCKS)}
    chunks = {"transfer-encoding": "chunked"}
    waiting = {**declared, "expect": "100-continue"}
    piece = b"10000\r\n" + BLOCK + b"\r\n"
    with host(tmp_path, site, "serve") as served:
        for headers, block in ((declared, BLOCK), (chunks, piece), (waiting, BLOCK)):
            assert offer(served.port, headers, [block] * 100) == 401  # so that what a first request costs is paid
        forget_peak(served.process)
        before = memory(served.process)
        for headers, block in ((declared, BLOCK), (chunks, piece), (waiting, BLOCK)):
            assert offer(served.port, headers, (block for _ in range(BLOCKS))) == 401
        grown = memory(served.process, "VmHWM") - before
        print(f"256 MiB without a key: {grown >> 10} kB")
        assert grown <= 2 << 20


def test_who_reads_nothing_costs_less_than_a_megabyte(tmp_path: Path, site: Path | None) -> None:
    many = 20
    with host(tmp_path, site, "dev") as served:
        with Wire(served.port) as warm:
            warm.send(request("POST", "/agents/floods/stream", body={"prompt": ""}))
            assert warm.head().status == 200
            next(warm.chunks())
        before = memory(served.process)
        silent = [Wire(served.port) for _ in range(many)]
        try:
            for wire in silent:
                wire.send(request("POST", "/agents/floods/stream", body={"prompt": ""}))
            deadline = time.monotonic() + 3
            while time.monotonic() < deadline:
                assert ask(served.port, "GET", "/health/live").status == 200
            grown = memory(served.process) - before
            print(f"a slow reader: {grown / many / 1024:.0f} kB")
            assert grown / many <= 1.25 * (1 << 20), "a megabyte, and a quarter for the allocator"
        finally:
            for wire in silent:
                wire.socket.close()
