"""uvicorn under our own hand: one bound socket, no banner, and a stop that ends runs before it closes connections."""

from __future__ import annotations

import asyncio
import errno
import gc
import socket
from collections.abc import Callable
from typing import Any

import uvicorn

from agenthost.errors import StartError
from agenthost.forked_children import close_in_children
from agenthost.host import Host

GC_THRESHOLD = 10_000
"""Container objects that may be made before the collector looks at the youngest; CPython's default is 700."""

GC_OLDER = 10
"""Collections of one generation before the next older is looked at, as CPython has it: agents leave cycles behind."""

READ_BY = 0.3
"""Seconds that clients have to read what is left for them once every run has ended; then they are cut off."""

AFTER_DRAIN = 0.5
"""Seconds until requests that go on are cancelled, connection or none; the agents' lifespans need time as well."""


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


class Server(uvicorn.Server):
    """Announces when it serves; when told to stop, lets runs end (within `drain`) before connections are closed."""

    def __init__(self, app: Any, host: Host, *, on_started: Callable[[], None] | None = None, **settings: Any) -> None:
        defaults: dict[str, Any] = {
            "http": "httptools",
            "ws": "none",
            "lifespan": "on",
            "access_log": False,
            "log_config": None,
            "server_header": False,
            "proxy_headers": False,
            "timeout_graceful_shutdown": AFTER_DRAIN,
        }
        super().__init__(uvicorn.Config(app, **{**defaults, **settings}))
        self._host = host
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets=sockets)
        if self.started:
            _spare_the_collector()
            if self._on_started is not None:
                self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuse new runs and end those that are going; then close connections, then the lifespan."""
        if self._host.started:
            drain = asyncio.create_task(self._host.runs.stop(self._host.config.server.drain))
            while not drain.done() and not self.force_exit:
                await asyncio.wait((drain,), timeout=0.1)
            if not drain.done():
                await self._host.runs.stop(0.0)
        cut = asyncio.get_running_loop().call_later(READ_BY, self._cut_off)
        try:
            await super().shutdown(sockets=sockets)
        finally:
            cut.cancel()

    def _cut_off(self) -> None:
        """Drop the connections that are left: a client that reads nothing would hold up the agents' lifespans."""
        for connection in tuple(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()
