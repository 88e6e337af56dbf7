"""One request as every dialect sees it: who asks, of which agent, and how to hear that they left."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from types import TracebackType
from typing import Any
from urllib.parse import quote

from agenthost.auth import Principal
from agenthost.ended_run import EndedRun
from agenthost.entries import AgentEntry
from agenthost.errors import Cancelled, NotFound
from agenthost.events import Entry
from agenthost.run import Run
from agenthost.streaming import frame
from agenthost.sweep import Sweep

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

SCOPE_KEY = "agenthost"
"""Where the exchange stands in the ASGI scope."""

Render = Callable[[Entry], bytes]

LISTEN_AFTER = 0.01
"""Seconds after which the host listens whether the client is still there: most requests are answered before."""


class Exchange:
    """A request on its way down the street; each layer fills in what it found out."""

    __slots__ = (
        "address",
        "agent_path",
        "decide",
        "entry",
        "headers",
        "host",
        "id",
        "method",
        "path",
        "peer",
        "prepare",
        "principal",
        "render",
        "reply_headers",
        "root",
        "run_fields",
        "run_id",
        "scope",
        "started",
        "status",
    )

    def __init__(self, scope: Scope, host: Any, request_id: str, started: float) -> None:
        self.scope = scope
        self.host = host
        self.id = request_id
        self.method: str = scope["method"]
        self.root: str = scope.get("root_path", "")
        """Where this app is mounted in another one; not part of `path`."""
        self.path: str = scope["path"].removeprefix(self.root)
        self.headers: Mapping[bytes, bytes] = {}
        self.peer: str | None = None
        self.principal: Principal | None = None
        self.entry: AgentEntry | None = None
        self.agent_path = ""
        """What the path begins with where it is one agent's: `/agents/<name>`, else empty."""
        self.address = ""
        """`/agents/<name>` of the agent that was chosen where the path names none."""
        self.run_id: str | None = None
        self.run_fields: list[tuple[bytes, bytes]] = []
        """The headers that say which run this reply is about, once there is one."""
        self.reply_headers: list[tuple[bytes, bytes]] = [(b"x-request-id", request_id.encode())]
        """What every reply to this request carries, whoever makes it."""
        self.status = 0
        self.started = started
        self.render: Render = frame
        """How a log entry looks on this server's streams."""
        self.prepare: Callable[[Exchange, Any], Awaitable[Any]] | None = None
        """What a server does to a `RunRequest` or `ResumeRequest` before it runs: adds metadata it vouches for."""
        self.decide: Callable[[Exchange, str, Mapping[str, Any]], Awaitable[None]] | None = None
        """What a server does with a decision that comes with a resume, given the thread's id."""

    @property
    def caller(self) -> Principal:
        """Who asks; only routes that are public are reached without one."""
        assert self.principal is not None
        return self.principal

    @property
    def base_url(self) -> str:
        """Where this app is, as the request spells it."""
        return f"{self.scope['scheme']}://{self.headers.get(b'host', b'').decode('latin-1')}{self.root}"

    @property
    def agent(self) -> AgentEntry:
        """The agent asked for; raises `NotFound` where the path names none."""
        if self.entry is None:
            raise NotFound("no agent by that name")
        return self.entry

    def choose(self, name: str, protocol: str) -> AgentEntry:
        """The agent that a request to the whole host names in its body, for a protocol that it speaks.

        Raises `Forbidden`, `NotFound` or `AgentNotReady`, as an address of its own would answer.
        """
        entry: AgentEntry = self.host.agent_for(self.caller, name)
        if protocol not in {one.protocol for one in self.host.spoken(entry)}:
            raise NotFound("no agent by that name")
        self.entry, self.address = entry, f"/agents/{name}"
        return entry

    def agents(self, protocol: str) -> list[AgentEntry]:
        """The agents this caller may use that speak a protocol, by name."""
        usable: list[AgentEntry] = self.host.agents_of(self.caller)
        return [entry for entry in usable if protocol in {one.protocol for one in self.host.spoken(entry)}]

    def run_headers(self, run: Run | EndedRun) -> list[tuple[bytes, bytes]]:
        """`X-Run-ID`, `X-Thread-ID` and `Content-Location`; what a header cannot carry is percent-encoded."""
        self.run_id = run.id
        run_id = run.id.encode()
        found = [
            (b"x-run-id", run_id),
            (b"content-location", (self.root + (self.agent_path or self.address)).encode() + b"/runs/" + run_id),
        ]
        if run.thread is not None:
            found.append((b"x-thread-id", header_value(run.thread.thread_id)))
        self.run_fields = found
        return found


def header_value(text: str) -> bytes:
    """Text as a header's value: visible ASCII as it is, all else percent-encoded as UTF-8."""
    if text.isascii() and text.isprintable() and "%" not in text and text == text.strip():
        return text.encode()
    return quote(text, safe="").encode()


def exchange_of(scope: Mapping[str, Any]) -> Exchange:
    """The exchange of a request that came through the host's layers."""
    exchange: Exchange = scope[SCOPE_KEY]
    return exchange


class ClientWatch:
    """While this is entered, a client that leaves cancels what is inside; the exit then swallows that cancel.

    Once inside, nobody else may call `receive`. `gone` says that the client left: there is nobody to answer.
    """

    __slots__ = ("_listener", "_receive", "_task", "gone")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._listener: asyncio.Task[None] | None = None
        self.gone = False

    def __enter__(self) -> ClientWatch:
        self._task = asyncio.current_task()
        _watches.add(self, LISTEN_AFTER)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> bool:
        _watches.discard(self)
        if self._listener is not None:
            self._listener.cancel()
        if not self.gone or self._task is None:
            return False
        others = self._task.uncancel()
        return not others and kind is not None and issubclass(kind, asyncio.CancelledError | Cancelled)

    def listen(self) -> None:
        """Begin to listen: the answer takes longer than most."""
        self._listener = asyncio.get_running_loop().create_task(self._listen())

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        if self._task is not None:
            self._task.cancel()


_watches: Sweep[ClientWatch] = Sweep(LISTEN_AFTER, ClientWatch.listen)
