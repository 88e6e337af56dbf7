"""uvicorn under our own hand: one bound socket, no banner, and a stop that ends runs before it closes connections."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import resource
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from types import FrameType
from typing import Any

import uvicorn

from agenthost.errors import StartError
from agenthost.forked_children import close_in_children
from agenthost.host import Host
from agenthost.http.connections import Connection, Limits, require_uvicorn
from agenthost.http.security import CLOSE

GC_THRESHOLD = 10_000
"""Container objects that may be made before the collector looks at the youngest; CPython's default is 700."""

GC_OLDER = 10
"""Collections of one generation before the next older is looked at, as CPython has it: agents leave cycles behind."""

READ_BY = 0.3
"""Seconds that clients have to read how their runs ended, where `drain` has passed; then they are cut off."""

LOOK = 0.05
"""Seconds between looks at whether a stop can go on."""

SWEEP = 0.5
"""Seconds between looks at which connections are late: each is given up to twice as much beyond its time."""

AT_ONCE = 200
"""Connections that are looked at before others get a turn."""

RESERVED = 200
"""Descriptors that connections leave for the store, agents and their files."""

ENOUGH_FILES = 65_536
"""Descriptors that are asked for where the limit allows: some systems have none, and what is started here may go
through all it could have."""

THREADS = 64
"""Threads of the loop's default executor, where frameworks run plain functions; made as needed. asyncio's own, cores
and four, are soon taken by functions that go on though their run was cancelled; then no other of the kind runs."""

FORCED = 1
"""Exit code of a host that did not stop by itself."""


def listen(host: str, port: int) -> socket.socket:
    """Bind the address (port 0: a free one); raises `StartError` saying what is wrong with it."""
    try:
        family, kind, proto, _name, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, proto)
    except OSError as refused:
        raise StartError(f"cannot listen on {host}: {refused.strerror or refused}", hint="correct --host") from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as refused:
        listening.close()
        hint = "choose another with --port" if refused.errno == errno.EADDRINUSE else "correct --host or --port"
        raise StartError(f"cannot listen on {host}:{port}: {refused.strerror}", hint=hint) from None
    close_in_children(listening)
    return listening


def _spare_the_collector() -> None:
    """Keep what a start leaves behind (modules, models, routes) out of every later collection, and collect less often.

    Requests make few cycles; a tenth of their time went into looking for them among objects that never go away.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, GC_OLDER, GC_OLDER)


def allow_open_files() -> int:
    """Raise the number of descriptors that this process may have, as far as that may be done; returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard > ENOUGH_FILES:
        hard = ENOUGH_FILES
    if soft != resource.RLIM_INFINITY and soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        soft = hard
    return ENOUGH_FILES if soft == resource.RLIM_INFINITY else soft


class Server(uvicorn.Server):
    """Announces when it serves, looks after slow clients, and stops in order: what is going has `drain` to end.

    While it stops, it still accepts: who asks then hears `503` and `Connection: close`, where a closed port would look
    like a host that is lost, and a load balancer sees that `/health/ready` says no.

    `settings` are what `uvicorn.Config` takes; with an `http` of its own among them nobody looks after slow clients.
    Raises `StartError` for an uvicorn that this was not written for.
    """

    def __init__(
        self,
        app: Any,
        host: Host,
        *,
        on_started: Callable[[], None] | None = None,
        limits: Limits | None = None,
        **settings: Any,
    ) -> None:
        require_uvicorn()
        limits = limits or Limits()
        most = min(limits.connections, max(1, allow_open_files() - RESERVED))
        defaults: dict[str, Any] = {
            "http": partial(Connection, limits=replace(limits, connections=most)),
            "ws": "none",
            "lifespan": "on",
            "access_log": False,
            "log_config": None,
            "server_header": False,
            "proxy_headers": False,
        }
        super().__init__(uvicorn.Config(app, **{**defaults, **settings}))
        self._host = host
        self._on_started = on_started
        self._signals = 0
        self._told: float | None = None
        self._watch: asyncio.Task[None] | None = None
        self._stopped = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, "agenthost"))
        await super().startup(sockets=sockets)
        if not self.started:
            return
        if self.should_exit:  # told before it served: not every uvicorn calls `shutdown` then
            await self.shutdown(sockets=sockets)
            return
        self._watch = asyncio.create_task(self._look_after_clients(), name="slow clients")
        _spare_the_collector()
        if self._on_started is not None:
            self._on_started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop, from a signal handler; a second signal ends the drain, a third the process."""
        self._signals += 1
        if self._signals > 2:
            os._exit(FORCED)
        if self.should_exit:
            self.force_exit = True
        if self._host.started:
            self._host.runs.stopping = True  # at once, not when the loop comes to it
        self._told = self._told or time.monotonic()
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuse new runs and end those that are going; then close connections, then the lifespan."""
        if self._stopped:
            return
        self._stopped = True
        end = (self._told or time.monotonic()) + self._host.config.server.drain
        self.server_state.default_headers.append(CLOSE)
        for connection in tuple(self.server_state.connections):
            connection.shutdown()
        if self._host.started:
            await self._end_runs(end)
        await self._until_answered(end)
        for server in self.servers:
            server.close()
        for listening in sockets or ():
            listening.close()
        await self._cut_off()
        if self._watch is not None:
            self._watch.cancel()
        await self.lifespan.shutdown()

    async def _end_runs(self, end: float) -> None:
        runs = self._host.runs
        ending = asyncio.create_task(runs.stop(max(0.0, end - time.monotonic())))
        while not ending.done() and not self.force_exit:
            await asyncio.wait((ending,), timeout=LOOK)
        if not ending.done():
            await runs.stop(0.0)

    async def _until_answered(self, end: float) -> None:
        """Wait until `end` for the answers that are on their way, and then for what the end of the runs has to say."""
        while self._owing() and time.monotonic() < end and not self.force_exit:  # noqa: ASYNC110 - uvicorn tells nobody
            await asyncio.sleep(LOOK)
        latest = time.monotonic() + READ_BY
        while self._owing() and time.monotonic() < latest:  # noqa: ASYNC110 - nor when all has been sent
            await asyncio.sleep(LOOK)

    def _owing(self) -> bool:
        return any(getattr(connection, "owes", True) for connection in self.server_state.connections)

    async def _cut_off(self) -> None:
        """Drop the connections that are left, and what serves them: the agents' lifespans wait for nobody."""
        for connection in tuple(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()
        for _before_and_after_they_are_cancelled in range(2):
            left = tuple(self.server_state.tasks)
            if left:
                await asyncio.wait(left, timeout=LOOK)
            for task in tuple(self.server_state.tasks):
                task.cancel()

    async def _look_after_clients(self) -> None:
        """Look at each connection whose time has come, a few at a turn: thousands may have come together."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP)
            now = loop.time()
            due = [one for one in self.server_state.connections if isinstance(one, Connection) and one.due <= now]
            for place in range(0, len(due), AT_ONCE):
                for connection in due[place : place + AT_ONCE]:
                    connection.look(now)
                await asyncio.sleep(0)
