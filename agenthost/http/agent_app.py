"""FastAPI apps: one agent's, with its own OpenAPI, and the host's own routes; errors as problem bodies in both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import Route

from agenthost.errors import (
    BadRequest,
    BodyTooLarge,
    Forbidden,
    HostError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    Unauthorized,
    UnsupportedMediaType,
)
from agenthost.hookspecs import Dialect
from agenthost.http.problems import send_problem
from agenthost.protocols.exchange import Receive, Scope, Send, exchange_of
from agenthost.protocols.wire import invalid_request


class ProblemResponse(Response):
    """An error, rendered when it is sent: it knows its request only then."""

    def __init__(self, error: HostError, status: int | None = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._error = error
        self._status = status
        self._named = [(name.lower().encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        await send_problem(exchange_of(scope), self._error, send, status=self._status, headers=self._named)


async def _host_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HostError)
    return ProblemResponse(error)


async def _invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return ProblemResponse(invalid_request(error.errors()))


async def _http_error(_request: Request, error: Exception) -> Response:
    """The framework's own refusal, under its status; what it says of the request is left out."""
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, HostError):
        return ProblemResponse(error.__cause__)  # raised while FastAPI read the body, which it takes for a 400
    kind = _BY_STATUS.get(error.status_code) or (BadRequest if error.status_code < 500 else HostError)
    return ProblemResponse(kind(), error.status_code, error.headers)


async def _unexpected(_request: Request, error: Exception) -> Response:
    raise error  # else Starlette answers in plain text before the layers above see it


_BY_STATUS: Mapping[int, type[HostError]] = {
    kind.status: kind
    for kind in (
        Unauthorized,
        Forbidden,
        NotFound,
        MethodNotAllowed,
        BodyTooLarge,
        UnsupportedMediaType,
        InvalidRequest,
    )
}

HANDLERS: Mapping[Any, Callable[[Request, Exception], Any]] = {
    HostError: _host_error,
    RequestValidationError: _invalid,
    HTTPException: _http_error,
    Exception: _unexpected,
}


def fastapi_app(**settings: Any) -> FastAPI:
    """An app that answers every error as a problem, and leaves what it did not expect to the layers above."""
    return FastAPI(
        exception_handlers=dict(HANDLERS),
        swagger_ui_oauth2_redirect_url=None,
        redirect_slashes=False,  # a redirect repeats what was sent, and a client that follows it may lose its body
        **settings,
    )


LeftOut = Callable[[Dialect, BaseException], None]
"""Told of each dialect whose endpoints could not be made, and why."""


def mount(
    app: FastAPI, dialects: Iterable[Dialect], host: Any, agent: str | None, left_out: LeftOut | None = None
) -> None:
    """Put the dialects' endpoints under their prefixes.

    A dialect that fails at that is left out and `left_out` told; without it, what was raised is raised.
    """
    for dialect in dialects:
        before = list(app.router.routes)
        try:
            _put(app, dialect, dialect.endpoints(host, agent))
        except BaseException as raised:
            if left_out is None:
                raise
            app.router.routes[:] = before
            left_out(dialect, raised)


def _put(app: FastAPI, dialect: Dialect, endpoints: Any) -> None:
    if isinstance(endpoints, APIRouter):
        app.include_router(endpoints, prefix=dialect.prefix, tags=[dialect.name])
    elif callable(endpoints):
        if dialect.prefix:
            app.router.routes.append(Route(dialect.prefix, _Whole(endpoints, dialect.prefix)))
        app.mount(dialect.prefix, endpoints)
    else:
        raise TypeError(f"endpoints returned {type(endpoints).__name__}, not an APIRouter or an ASGI app")


class _Whole:
    """A mounted app at its prefix itself, where a mount answers only what is below it."""

    def __init__(self, app: Any, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app({**scope, "root_path": scope.get("root_path", "") + self._prefix}, receive, send)


def agent_app(
    host: Any, name: str, title: str, description: str, dialects: Iterable[Dialect], left_out: LeftOut | None = None
) -> FastAPI:
    """One agent's app; its addresses are below `/agents/<name>`. `left_out` as in `mount`."""
    app = fastapi_app(title=title, description=description, version="1", redoc_url=None)
    mount(app, dialects, host, name, left_out)
    return app
