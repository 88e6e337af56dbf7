"""Agents whose runs are cut off by the death of their host, and clients that remember every event they were sent."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from agenthost import Event, Interrupt, RunContext, Think
from tests.wire import Broken, Reply, Wire, ask, request

PIECES = 40
"""What `steadfast` says, one piece each."""


async def chatter(ctx: RunContext) -> AsyncIterator[str]:
    """Says many small things, for ever."""
    number = 0
    while True:
        for _ in range(10):
            yield f"{number} "
            number += 1
        await asyncio.sleep(0.004)


async def bulky(ctx: RunContext) -> AsyncIterator[Event]:
    """Thinks at length, for ever."""
    number = 0
    while True:
        yield Think(f"{number} " + "x" * 100_000)
        number += 1
        await asyncio.sleep(0.05)


async def slow(ctx: RunContext) -> AsyncIterator[str]:
    """Says something now and then, for ever."""
    number = 0
    while True:
        yield f"{number} "
        number += 1
        await asyncio.sleep(0.03)


async def brief(ctx: RunContext) -> AsyncIterator[str]:
    """Says ten things and ends."""
    for number in range(10):
        yield f"{number} "
        await asyncio.sleep(0.005)


async def narrow(ctx: RunContext) -> AsyncIterator[str]:
    """Ends at once, unless its prompt is `long`; to be served with one slot."""
    yield "begun "
    if ctx.prompt == "long":
        await asyncio.Event().wait()
    yield "ended"


class Steadfast:
    """Begins again where its host was lost."""

    resumable = True

    async def run(self, ctx: RunContext) -> AsyncIterator[str]:
        """Says its pieces."""
        for number in range(PIECES):
            yield f"{number} "
            await asyncio.sleep(0.015)


async def finite(ctx: RunContext) -> AsyncIterator[str]:
    """Says 29 things, so that there are 30 events."""
    for number in range(29):
        yield f"{number} "
        await asyncio.sleep(0.005)


async def thinks(ctx: RunContext) -> AsyncIterator[Event]:
    """Thinks as many times as its input says, 10 kB each."""
    for number in range(ctx.input):
        yield Think(f"{number} " + "x" * 10_000)


async def counted(ctx: RunContext) -> AsyncIterator[str]:
    """Adds a line to the file that its input names, says a word, ends a little later."""
    note(ctx.input)
    yield "counted "
    await asyncio.sleep(0.05)
    yield "done"


async def asks(ctx: RunContext) -> AsyncIterator[Event | str]:
    """Asks; its answered run adds a line to the file that its input names."""
    if not ctx.answers:
        yield Interrupt("Really?", options=["yes", "no"])
        return
    note(ctx.input)
    yield str(ctx.answers[0].response)
    await asyncio.sleep(0.05)


async def mortal(ctx: RunContext) -> AsyncIterator[Event | str]:
    """Asks; once answered it kills its host before its first event the first time, or speaks and holds on."""
    if not ctx.answers:
        yield Interrupt("Really?")
        return
    if ctx.prompt == "speaks":
        yield "answered "
        await asyncio.Event().wait()
    if note(ctx.input) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    yield "survived"


def note(path: str) -> int:
    """Add a line to a file; how many there are now."""
    with open(path, "a", encoding="ascii") as file:
        file.write("ran\n")
    return lines(Path(path))


def lines(path: Path) -> int:
    """How many lines were noted."""
    return path.read_text().count("\n") if path.exists() else 0


def whole_frames(body: bytes) -> list[bytes]:
    """The events of a stream that arrived whole, as they were sent; comments are none."""
    return [frame for frame in body.split(b"\n\n")[:-1] if not frame.startswith(b":")]


def told(frame: bytes) -> Any:
    """The JSON of an event."""
    return json.loads(frame.split(b"data: ", 1)[1])


def number_of(frame: bytes) -> int:
    """The id of an event."""
    name, _, value = frame.split(b"\n", 1)[0].partition(b": ")
    assert name == b"id", frame[:80]
    return int(value)


END = b"data: [DONE]"


def unchunked(raw: bytes) -> bytes:
    """The body of a reply in chunks, as far as it came, wherever it was cut off."""
    body, place = bytearray(), 0
    while (end := raw.find(b"\r\n", place)) >= 0:
        size = int(raw[place:end], 16)
        body += raw[end + 2 : end + 2 + size]
        place = end + 2 + size + 2
        if place > len(raw):
            break
    return bytes(body)


def arrived(wire: Wire) -> bytes:
    """All that comes on a connection until it or the reply ends, however it does."""
    raw = bytearray(wire._read)
    try:
        while data := wire.socket.recv(1 << 16):
            raw += data
            if raw.endswith(b"0\r\n\r\n"):
                break
    except ConnectionError:
        pass
    return bytes(raw)


class Follower:
    """One run and its client: `how` is `stream`, `runs` or `resume`. `frames` are the events it has seen, in order."""

    def __init__(self, agent: str, how: str, *, key: str = "", body: dict[str, Any] | None = None) -> None:
        self.agent, self.how, self.key = agent, how, key
        self.body = body or {"prompt": "go"}
        self.run_id = ""
        self.frames: list[bytes] = []
        self.ended = False
        self.losses = 0
        """How often its host was lost while it was not known to have ended."""
        self.broken: BaseException | None = None
        self._thread: threading.Thread | None = None

    @property
    def path(self) -> str:
        """Where its run is."""
        return f"/agents/{self.agent}/runs/{self.run_id}"

    def follow(self, port: int) -> None:
        """Start the run, or join it again, and read on until the connection ends."""
        self._thread = threading.Thread(target=self._follow, args=(port,), daemon=True)
        self._thread.start()

    def leave(self) -> None:
        """Wait until the reading has ended; raises what was wrong with it."""
        assert self._thread is not None
        self._thread.join(30)
        assert not self._thread.is_alive(), "a connection of a host that is dead stays open"
        if self.broken is not None:
            raise self.broken

    def _follow(self, port: int) -> None:
        try:
            self._read(port)
        except (ConnectionError, Broken):
            pass  # the host is dead
        except BaseException as raised:
            self.broken = raised

    def start(self, port: int) -> Reply:
        """Ask for the run (again)."""
        return ask(port, "POST", f"/agents/{self.agent}/{self.how}", self._headers(), self.body)

    def _headers(self) -> dict[str, str]:
        return {"idempotency-key": self.key} if self.key else {}

    def _read(self, port: int) -> None:
        if self.how == "runs" and not self.run_id:
            begun = self.start(port)
            assert begun.status == 202, begun.body
            self.run_id = begun["x-run-id"]
        with Wire(port) as wire:
            if self.run_id:
                wire.send(request("GET", f"{self.path}/events", {"last-event-id": str(len(self.frames))}))
            else:
                wire.send(request("POST", f"/agents/{self.agent}/{self.how}", self._headers(), self.body))
            head = wire.head()
            assert head.status == 200, head
            assert self.run_id in {"", head["x-run-id"]}
            self.run_id = head["x-run-id"]
            frames = whole_frames(unchunked(arrived(wire)))
        if frames and frames[-1] == END:
            self.ended = True
            frames.pop()
        self.frames += frames


def patiently(port: int, *arguments: Any, seconds: float = 20.0, **named: Any) -> Reply:
    """Ask; ask again for as long as the host says that what is asked for comes later."""
    deadline = time.monotonic() + seconds
    while True:
        reply = ask(port, *arguments, **named)
        if reply.status != 503 or time.monotonic() > deadline:
            return reply
        threading.Event().wait(0.02)
