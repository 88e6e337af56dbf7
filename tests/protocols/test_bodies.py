"""Bodies, read whole and strictly."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import APIRouter

from agenthost.errors import BadRequest
from agenthost.http.agent_app import fastapi_app
from agenthost.protocols import Exchange, StrictRoute, Wire, read_all
from agenthost.protocols.exchange import SCOPE_KEY


def read(*messages: dict[str, Any]) -> bytes:
    """What is read of a body that comes in these messages."""
    coming = iter(messages)

    async def receive() -> dict[str, Any]:
        return next(coming)

    return asyncio.run(read_all(receive))


def piece(body: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_body_is_read_to_its_end() -> None:
    assert read(piece(b"whole")) == b"whole"
    assert read(piece(b"in ", True), piece(b"", True), piece(b"pieces")) == b"in pieces"
    assert read({"type": "http.request"}) == b""


def test_a_client_that_leaves_half_way_has_sent_no_body() -> None:
    with pytest.raises(BadRequest, match="the body is not whole"):
        read(piece(b"ha", True), {"type": "http.disconnect"})


class Measured(Wire):
    size: int


def test_the_body_of_a_strict_route_is_json_as_it_is_written_and_a_refusal_names_its_fields() -> None:
    async def main(body: bytes) -> str:
        router = APIRouter(route_class=StrictRoute)

        @router.post("/")
        async def size(body: Measured) -> int:
            return body.size

        app = fastapi_app()
        app.include_router(router)
        transport = httpx.ASGITransport(Refusing(app))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            reply = await client.post("/", content=body, headers={"content-type": "application/json"})
            return reply.text

    assert asyncio.run(main(b'{"size": 3}')) == "3"
    assert "the body is not JSON" in asyncio.run(main(b'{"size": NaN}'))
    assert "size: Input should be a valid integer" in asyncio.run(main(b'{"size": "x"}'))


class Refusing:
    """An app below the host's own layers: they make the exchange that a refusal is told through."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        scope[SCOPE_KEY] = Exchange(scope, SimpleNamespace(dialects={}), "id-1", 0.0)
        await self._app(scope, receive, send)
