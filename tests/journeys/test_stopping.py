"""SIGTERM, on both ends of what pyproject.toml allows of uvicorn: what can end ends whole, and nothing hangs."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agenthost.cli.process import PAST_DRAIN
from tests.commands import Serving
from tests.releases import ENDS, site_of
from tests.wire import Broken, Frame, Wire, ask, parse_events, request

pytestmark = pytest.mark.fault

ROUNDS = 10
"""Stops of a host with streams open, on each end; 50 were tried by hand."""

BUSY = 0.5
"""Seconds that a loaded machine may take to let a process be seen to have ended."""

AGENTS = """
import asyncio
import threading
import time

async def finite(ctx):
    for number in range(30):
        yield f"{number} "
        await asyncio.sleep(0.02)

async def endless(ctx):
    while True:
        yield "more "
        await asyncio.sleep(0.005)

async def deaf(ctx):
    yield "begun"
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            pass

async def floods(ctx):
    while True:
        yield "x" * 10_000

def blocks(ctx):
    yield "blocking"
    time.sleep(600)

def leaves_a_thread(ctx):
    threading.Thread(target=threading.Event().wait).start()
    yield "left"
"""
NAMES = ("finite", "endless", "deaf", "floods", "blocks", "leaves_a_thread")
WHOLE = "".join(f"{number} " for number in range(30))


@pytest.fixture(params=ENDS)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    return site_of(request.param, tmp_path_factory)


def host(folder: Path, site: Path | None, *, drain: str) -> Serving:
    (folder / "agents.toml").write_text(
        f'[server]\ndrain = "{drain}"\n[store]\nurl = "sqlite:///{folder}/runs.db"\n'
        '[defaults]\nplacement = "in-process"\n'
        + "".join(f'[agents.{name.replace("_", "-")}]\nuse = "app.py:{name}"\n' for name in NAMES)
    )
    (folder / "app.py").write_text(AGENTS)
    return Serving("dev", "--no-access-log", cwd=folder, site=site)


class Stream:
    """A stream that is open; `frames` reads the rest of it."""

    def __init__(self, port: int, agent: str) -> None:
        self.wire = Wire(port)
        self.wire.send(request("POST", f"/agents/{agent}/stream", body={"prompt": "go"}))
        head = self.wire.head()
        assert head.status == 200
        self.run_id = head["x-run-id"]
        self._chunks: Iterator[bytes] = self.wire.chunks()
        self._read = next(self._chunks)

    def more(self) -> None:
        """Wait for another piece."""
        self._read += next(self._chunks)

    def frames(self) -> list[Frame]:
        """Read to the end, which must be one."""
        frames = parse_events(self._read + b"".join(self._chunks))
        assert frames[-1].data == "[DONE]"
        return frames[:-1]

    def told(self) -> tuple[str, str]:
        """Code and run id of the error it ended with."""
        last = self.frames()[-1]
        assert last.event == "error"
        return last.json["code"], last.json["run_id"]


def text(frames: list[Frame]) -> str:
    return "".join(frame.json["content"] for frame in frames if frame.event == "model_chunk")


def test_each_stop_leaves_the_finite_streams_whole_and_tells_the_others(tmp_path: Path, site: Path | None) -> None:
    chance = random.Random(6)
    longest = 0.0
    for _round in range(ROUNDS):
        with contextlib.ExitStack() as opened, host(tmp_path, site, drain="1s") as served:
            finite = [Stream(served.port, "finite") for _ in range(4)]
            endless = [Stream(served.port, "endless") for _ in range(4)]
            for stream in (*finite, *endless):
                opened.enter_context(stream.wire)
            for _ in range(chance.randrange(12)):
                chance.choice(endless).more()
            began = time.monotonic()
            served.process.send_signal(signal.SIGTERM)
            for stream in finite:
                frames = stream.frames()
                assert (frames[-1].event, text(frames)) == ("done", WHOLE)
            for stream in endless:
                assert stream.told() == ("host_stopping", stream.run_id)
            assert served.process.wait(30) == 0
            longest = max(longest, time.monotonic() - began)
            assert "by force" not in served.err
    print(f"longest stop: {longest:.2f} s after the signal, with a drain of 1 s")
    assert longest <= 1 + PAST_DRAIN + BUSY


def test_while_it_stops_it_is_not_ready_takes_no_work_and_closes_what_is_idle(
    tmp_path: Path, site: Path | None
) -> None:
    with host(tmp_path, site, drain="2s") as served, Wire(served.port) as idle:
        assert idle.ask("GET", "/health/ready").status == 200
        stream = Stream(served.port, "endless")
        served.process.send_signal(signal.SIGTERM)
        assert idle.closed()
        ready = ask(served.port, "GET", "/health/ready")
        assert (ready.status, ready["connection"]) == (503, "close")
        refused = ask(served.port, "POST", "/agents/finite/invoke", body={"prompt": "too late"})
        assert (refused.status, refused.json["code"], refused["connection"]) == (503, "agent_not_ready", "close")
        assert int(refused["retry-after"]) >= 1
        live = ask(served.port, "GET", "/health/live")
        assert (live.status, live["connection"]) == (200, "close")
        assert stream.told() == ("host_stopping", stream.run_id)
        assert served.process.wait(30) == 0
        stream.wire.socket.close()


def test_nothing_that_hangs_puts_the_end_off(tmp_path: Path, site: Path | None) -> None:
    with host(tmp_path, site, drain="1s") as served, contextlib.ExitStack() as opened:
        assert ask(served.port, "POST", "/agents/leaves-a-thread/invoke", body={"prompt": "x"}).status == 200
        deaf, blocked, stalled = (Stream(served.port, name) for name in ("deaf", "blocks", "floods"))
        half = Wire(served.port)
        half.send(b"POST /agents/finite/invoke HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n")
        half.send(b"content-length: 100\r\n\r\n{")
        for wire in (deaf.wire, blocked.wire, stalled.wire, half):
            opened.enter_context(wire)
        began = time.monotonic()
        served.process.send_signal(signal.SIGTERM)
        assert deaf.told() == ("host_stopping", deaf.run_id)
        assert blocked.told() == ("host_stopping", blocked.run_id)
        served.process.wait(30)
        assert time.monotonic() - began <= 1 + PAST_DRAIN + BUSY


def test_a_second_signal_ends_the_drain_and_still_tells(tmp_path: Path, site: Path | None) -> None:
    with host(tmp_path, site, drain="60s") as served:
        endless, deaf = Stream(served.port, "endless"), Stream(served.port, "deaf")
        served.process.send_signal(signal.SIGTERM)
        refused = threading.Event()
        while not refused.is_set():
            if ask(served.port, "GET", "/health/ready").status == 503:
                refused.set()
        began = time.monotonic()
        served.process.send_signal(signal.SIGTERM)
        assert endless.told() == ("host_stopping", endless.run_id)
        assert deaf.told() == ("host_stopping", deaf.run_id)
        served.process.wait(30)
        assert time.monotonic() - began <= PAST_DRAIN + BUSY
        for stream in (endless, deaf):
            stream.wire.socket.close()


def test_a_third_signal_ends_the_process_as_it_is(tmp_path: Path, site: Path | None) -> None:
    with host(tmp_path, site, drain="60s") as served:
        deaf = Stream(served.port, "deaf")
        began = time.monotonic()
        while served.process.poll() is None:  # signals that come together are one: until it has heard of three
            served.process.send_signal(signal.SIGINT)
        assert served.process.wait(30) == 1
        assert time.monotonic() - began <= PAST_DRAIN
        with pytest.raises((Broken, ConnectionError)):
            deaf.frames()
        deaf.wire.socket.close()


def test_an_answer_that_is_on_its_way_is_sent_whole(tmp_path: Path, site: Path | None) -> None:
    said = "x" * (8 << 20)  # more than sockets hold
    with host(tmp_path, site, drain="10s") as served, Wire(served.port) as wire:
        body = {"prompt": said, "thread_id": "long"}
        assert ask(served.port, "POST", "/agents/finite/invoke", body=body).status == 200
        wire.send(request("GET", "/agents/finite/threads/long"))
        head = wire.head()
        served.process.send_signal(signal.SIGTERM)
        while ask(served.port, "GET", "/health/ready").status == 200:
            pass
        answer = json.loads(wire._exactly(int(head["content-length"])))
        assert answer["messages"][0]["content"] == said
        assert served.process.wait(30) == 0
