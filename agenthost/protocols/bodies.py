"""Bodies as they come: read whole, and as strictly on ordinary routes as on fast ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from agenthost.errors import BadRequest
from agenthost.protocols.exchange import Receive
from agenthost.protocols.wire import read_body


async def read_all(receive: Receive) -> bytes:
    """The whole body; the layers above have bounded it. Raises `BadRequest` for a client that left half-way."""
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body: bytes = message.get("body", b"")
        return body
    pieces = [message.get("body", b"")]
    while message.get("more_body"):
        message = await receive()
        pieces.append(message.get("body", b""))
    if message["type"] == "http.disconnect":
        raise BadRequest("the body is not whole")
    return b"".join(pieces)


class StrictRequest(Request):
    """A request whose JSON is read as strictly as on the fast path."""

    async def json(self) -> Any:
        """The body, read strictly; raises `BadRequest`."""
        return read_body(await self.body())


class StrictRoute(APIRoute):
    """A route whose JSON body is read by `read_body`."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        """Wrap the handler to hand it a `StrictRequest`."""
        handler = super().get_route_handler()

        async def strict(request: Request) -> Response:
            response: Response = await handler(StrictRequest(request.scope, request.receive))
            return response

        return strict
