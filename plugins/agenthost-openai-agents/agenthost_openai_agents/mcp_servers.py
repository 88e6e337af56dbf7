"""MCP servers, each connected once for all who use it: agents served under several names, and a reload's old and new.

A server is connected and closed by one task of its own, as anyio's scopes require, whoever was its first user.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from agents.mcp import MCPServer

_connections: dict[int, Connection] = {}
"""By the server's `id()`: what an author makes of a server may have an equality of its own."""


@asynccontextmanager
async def connected(server: MCPServer) -> AsyncIterator[None]:
    """Have a server connected: by its first user, until its last has left.

    Raises what connecting raised, or what closing did. Who comes while it is closed waits, and connects it again.
    """
    connection = _connections.get(id(server))
    if connection is None or connection.closing:
        connection = _connections[id(server)] = Connection(server, connection)
    connection.users += 1
    try:
        await asyncio.shield(connection.ready)
        yield
    finally:
        connection.users -= 1
        if not connection.users:
            await connection.close()


class Connection:
    """One connection of a server; `ready` when it is there, or could not be made."""

    def __init__(self, server: MCPServer, former: Connection | None) -> None:
        """Begin to connect, once `former`, which is closing, is closed."""
        self.users = 0
        self.closing = False
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._server = server
        self._unused = asyncio.Event()
        self._task = asyncio.create_task(self._live(former), name=f"MCP server {server.name}")

    async def close(self) -> None:
        """Close it, and raise what that raised; one that is not there yet is given up."""
        self.closing = True
        self._unused.set()
        if not self.ready.done():
            self._task.cancel()
        try:
            await asyncio.wait({self._task})
        except asyncio.CancelledError:
            self._task.cancel()
            raise
        if not self._task.cancelled() and (failure := self._task.exception()) is not None:
            raise failure

    async def _live(self, former: Connection | None) -> None:
        try:
            if former is not None:
                await asyncio.wait({former._task})
            await self._connect_and_close()
        except asyncio.CancelledError:
            self.ready.cancel()
            raise
        except BaseException as raised:
            if self.ready.done():
                raise
            self.ready.set_exception(raised)
            self.ready.exception()  # its users may all have left
        finally:
            if _connections.get(id(self._server)) is self:
                del _connections[id(self._server)]

    async def _connect_and_close(self) -> None:
        server = cast("Any", self._server)  # the SDK gives these two no types
        try:
            await server.connect()
            self.ready.set_result(None)
            await self._unused.wait()
        finally:
            await server.cleanup()
