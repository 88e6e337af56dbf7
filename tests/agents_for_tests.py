"""A host around scripted agents, and what those see who read its runs: what the engine's tests share."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from agenthost.agents import AgentSource, AgentSpec, RunContext, RunRequest
from agenthost.auth import Principal
from agenthost.config import Config
from agenthost.ended_run import EndedRun
from agenthost.host import Host
from agenthost.protocols import native
from agenthost.resuming import Reply, ResumeRequest
from agenthost.run import Run
from agenthost.streaming import pump
from agenthost.threads import ThreadKey

T = TypeVar("T")

ANN = Principal("ann", agents=("*",))
BOB = Principal("bob", agents=("*",))

SECRET = "sk-do-not-send-me"
"""What no client may ever see."""

PATIENCE = 20.0
"""Seconds after which a test that still waits has failed."""


def served(agent: Any, name: str = "agent", **fields: Any) -> AgentSpec:
    """Ask for `agent`; `fields` are those of an `AgentSpec`."""
    return AgentSpec(name=name, source=AgentSource(use=f"tests:{name}", load=lambda: agent), **fields)


@asynccontextmanager
async def hosting(
    *agents: AgentSpec | Any, store: str = "memory:", builtins: tuple[Any, ...] = ()
) -> AsyncIterator[Host]:
    """A started host that serves these; what is no spec is served as `agent`. Leaves nothing going behind."""
    specs = [agent if isinstance(agent, AgentSpec) else served(agent) for agent in agents]
    config = Config.model_validate({"store": {"url": store}})
    host = Host(config, builtins=(native, *builtins), specs=specs)
    await host.start(settle=PATIENCE)
    try:
        yield host
    finally:
        await within(host.stop(drain=0.0))


async def within(awaited: Awaitable[T], seconds: float = PATIENCE) -> T:
    """What `awaited` gives; fails a test that would wait for ever."""
    async with asyncio.timeout(seconds):
        return await awaited


async def started(host: Host, request: RunRequest | str = "hello", *, agent: str = "agent",
                  caller: Principal = ANN, **options: Any) -> Run:  # fmt: skip
    """Start a run, as a dialect does."""
    if isinstance(request, str):
        request = RunRequest(request)
    return await within(host.runs.start(host.agent_for(caller, agent), caller, request, **options))


async def asked(host: Host, request: RunRequest | str = "hello", *, agent: str = "agent",
                caller: Principal = ANN) -> Run | EndedRun:  # fmt: skip
    """Start a run, or find the one that has its key, as `/invoke`, `/stream` and `/runs` do."""
    if isinstance(request, str):
        request = RunRequest(request)
    return await within(host.runs.ask(host.agent_for(caller, agent), caller, request))


async def resumed(host: Host, *replies: Reply | Any, thread_id: str = "t", agent: str = "agent",
                  caller: Principal = ANN, **fields: Any) -> Run | EndedRun:  # fmt: skip
    """Answer what a thread asks, as `/resume` does; what is no `Reply` is a response to the one open question."""
    given = [reply if isinstance(reply, Reply) else Reply(response=reply) for reply in replies]
    request = ResumeRequest(thread_id, given, **fields)
    return await within(host.runs.resume(host.agent_for(caller, agent), caller, request))


async def lose(host: Host) -> None:
    """Take a host's store away, as if its process had been killed: what it does from here on nobody will know."""
    await asyncio.to_thread(host.store.close)


async def events(run: Run | EndedRun, after: int = 0) -> list[dict[str, Any]]:
    """All that a reader of `run` is sent, as the bytes on the wire have it; `id` is the frame's."""
    sent = bytearray()

    async def write(data: bytes, more: bool) -> None:
        assert more or data.endswith(b"data: [DONE]\n\n")
        sent.extend(data)

    reader = run.read(after)
    try:
        await within(pump(reader, write))
    finally:
        reader.close()
    return parsed(bytes(sent))


def parsed(stream: bytes) -> list[dict[str, Any]]:
    """Take a stream of frames apart; heartbeats are left out."""
    *frames, done, rest = stream.decode().split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    found = []
    for frame in frames:
        if frame.startswith(":"):
            continue
        fields = dict(line.split(": ", 1) for line in frame.split("\n"))
        data = json.loads(fields["data"])
        assert data["type"] == fields["event"]
        found.append({"id": int(fields["id"]), **data})
    assert (
        [event["id"] for event in found] == list(range(found[0]["id"], found[0]["id"] + len(found))) if found else True
    )
    return found


async def told(host: Host, request: RunRequest | str = "hello", **options: Any) -> list[dict[str, Any]]:
    """Run, and read it to the end."""
    return await events(await started(host, request, **options))


def kinds(found: list[dict[str, Any]]) -> list[str]:
    """The events' types, in order."""
    return [event["type"] for event in found]


async def idle(host: Host) -> None:
    """Wait until no run is going; then nothing may be counted any more, of anybody or anything."""
    async with asyncio.timeout(PATIENCE):
        while host.runs.going:
            await asyncio.sleep(0.005)
    admission = host.runs.admission
    assert (dict(admission._principals), admission._turns, admission._waiting) == ({}, {}, {})
    assert all((entry.running, entry.queued, entry.stuck) == (0, 0, 0) for entry in host.entries.values())


async def speaks(ctx: RunContext) -> AsyncIterator[str]:
    yield "hello "
    yield ctx.prompt


class Held:
    """An agent that says a word, notes that it has begun, and waits until it is let go or cancelled."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.running = 0

    async def run(self, ctx: RunContext) -> AsyncIterator[str]:
        self.running += 1
        self.begun.set()
        try:
            yield "begun "
            await self.go.wait()
            yield "ended"
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        finally:
            self.running -= 1


class Deaf:
    """An agent that does not hear that it is cancelled, but for the end of the loop, and ends when it is let go."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.begun = 0
        self.cancels = 0

    async def run(self, ctx: RunContext) -> AsyncIterator[str]:
        yield "begun"
        self.begun += 1
        cancels = 0
        while not self.go.is_set() and cancels < 3:
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                cancels += 1
                self.cancels += 1
        yield "never sent"


def thread(name: str = "t", prompt: str = "hello") -> RunRequest:
    """What asks for a run on a thread."""
    return RunRequest(prompt, thread_id=name)


async def until(condition: Callable[[], Any]) -> None:
    """Wait until it holds, looking again and again."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.002)


def raising(kind: str, raised: BaseException, *, first: bool) -> Any:
    """An agent of that kind (`generator`, `function`, `sync_…`) that raises it, before or after its first event."""

    async def generator(ctx: RunContext) -> AsyncIterator[str]:
        if not first:
            yield "before"
        raise raised
        yield

    async def function(ctx: RunContext) -> str:
        raise raised

    def sync_generator(ctx: RunContext) -> Iterator[str]:
        if not first:
            yield "before"
        raise raised

    def sync_function(ctx: RunContext) -> str:
        raise raised

    return locals()[kind]


async def said(host: Host, name: str = "t", agent: str = "agent") -> list[tuple[str, str, str | None]]:
    """What Ann's thread holds: role, text and status of each message."""
    stored = await host.store.get_thread(ThreadKey("ann", agent, name))
    return [(message.role, message.text, message.status) for message in stored.messages] if stored else []


@contextmanager
def refusing(path: Path, *changes: str) -> Iterator[None]:
    """Have the file refuse these changes (`INSERT ON events`) within `with`, as a disk does that is full."""
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        for place, change in enumerate(changes):
            file.execute(f"CREATE TRIGGER refuse{place} BEFORE {change} BEGIN SELECT RAISE(ABORT, 'no room'); END")
        try:
            yield
        finally:
            for place in range(len(changes)):
                file.execute(f"DROP TRIGGER refuse{place}")
