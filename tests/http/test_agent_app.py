"""FastAPI apps of ours: errors are problems, documents are closed off, dialects stand under their prefixes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, HTTPException, Request

from agenthost.errors import BodyTooLarge, NotFound
from agenthost.hookspecs import Dialect
from agenthost.http.agent_app import agent_app, fastapi_app
from agenthost.protocols.exchange import SCOPE_KEY, Exchange


class Nothing:
    """All that errors ask of a host: its dialects."""

    dialects: dict[str, Dialect] = {}  # noqa: RUF012 - never written to


def call(
    app: FastAPI, path: str, receive: Callable[[], Any] | None = None, method: str = "GET"
) -> tuple[int, dict[str, str], bytes]:
    """Call the app as the layers above do; status, headers and body of the reply."""
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def nothing() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    headers = [(b"content-type", b"application/json")]
    scope: dict[str, Any] = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": headers}
    scope[SCOPE_KEY] = Exchange(scope, Nothing(), "id-1", 0.0)
    asyncio.run(app(scope, receive or nothing, send))
    start, *bodies = sent
    named = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], named, b"".join(body.get("body", b"") for body in bodies)


def test_unknown_paths_and_methods_are_problems_and_slashes_are_not_redirected() -> None:
    app = fastapi_app()

    @app.get("/here")
    async def here() -> str:
        return "here"

    assert call(app, "/here")[0] == 200
    for path, method, status in (("/there", "GET", 404), ("/here/", "GET", 404), ("/here", "PUT", 405)):
        found, headers, body = call(app, path, method=method)
        assert found == status
        assert headers["content-type"] == "application/problem+json"
        assert b'"correlation_id":"id-1"' in body
    assert call(app, "/here", method="PUT")[1]["allow"] == "GET"


def test_what_nobody_expected_goes_on_to_the_layers_above_and_nothing_is_sent() -> None:
    app = fastapi_app()

    @app.get("/boom")
    async def boom() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        call(app, "/boom")


def test_an_error_raised_while_the_body_is_read_keeps_its_status() -> None:
    """FastAPI would make a 400 of it."""
    app = fastapi_app()

    @app.post("/take")
    async def take(body: dict[str, Any]) -> None:
        pass

    async def too_much() -> Any:
        raise BodyTooLarge("too much")

    status, _headers, body = call(app, "/take", too_much, "POST")
    assert status == 413
    assert b"too much" in body


def test_a_frameworks_detail_is_not_told_and_ours_is() -> None:
    app = fastapi_app()

    @app.get("/theirs")
    async def theirs(request: Request) -> None:
        raise HTTPException(418, detail=f"you sent {request.url}")

    @app.get("/ours")
    async def ours() -> None:
        raise NotFound("no such order")

    assert (call(app, "/theirs")[0], b"you sent" in call(app, "/theirs")[2]) == (418, False)
    assert (call(app, "/ours")[0], b"no such order" in call(app, "/ours")[2]) == (404, True)


def test_dialects_stand_under_their_prefixes_as_routers_or_apps() -> None:
    def routes(host: Any, agent: str | None) -> APIRouter:
        router = APIRouter()
        router.add_api_route("/who", lambda: f"{agent} of {host}")
        return router

    async def bare(scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["root_path"].encode()})

    dialects = [
        Dialect("routed", prefix="/routed", endpoints=routes),
        Dialect("bare", prefix="/bare", endpoints=lambda _host, _agent: bare),
    ]
    app = agent_app("h", "say", "Say", "Says", dialects)
    assert call(app, "/routed/who")[2] == b'"say of h"'
    assert call(app, "/bare/anything/below")[2] == b"/bare"
    assert call(app, "/who")[0] == 404
    assert (app.title, app.description) == ("Say", "Says")
    assert app.openapi()["paths"]["/routed/who"]["get"]["tags"] == ["routed"]


def test_there_is_one_page_of_documents_and_no_oauth_page() -> None:
    app = agent_app(None, "say", "Say", "Says", [])
    assert call(app, "/docs")[0] == 200
    for path in ("/redoc", "/docs/oauth2-redirect"):
        assert call(app, path)[0] == 404
