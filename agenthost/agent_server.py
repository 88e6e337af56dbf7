"""AgentServer: one agent at `/`, in the shape of Locus 3.0.1's server, on the host's own street.

Routes: `POST /invoke`, `POST /stream`, `POST /resume`, `GET` and `DELETE /threads/{id}`, `GET /threads`, `/runs`,
`GET /health` (public).

Security: with a key (`api_key`, else `AGENTHOST_API_KEY`, else `LOCUS_SERVER_API_KEY`) every route but `/health` needs
it as a bearer token. Without one the server answers this machine only (server, peer and Host are loopback, nothing
forwarded), and `run` refuses any other address, unless `allow_unauthenticated`. Threads are kept per principal: Locus's
digest of the key, or `anon`; a Locus agent's checkpointer has them as `principal:thread`, as Locus's server does.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import logging
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from functools import partial
from typing import Any

import orjson
from fastapi import FastAPI, Request
from uvicorn.config import LOGGING_CONFIG

from agenthost.agents import AgentSource, AgentSpec
from agenthost.api_keys import ApiKeys, digest
from agenthost.auth import Principal
from agenthost.config import Config, ServerConfig, StoreConfig
from agenthost.entries import AgentEntry
from agenthost.errors import BadRequest
from agenthost.events import Entry, one_line
from agenthost.hookspecs import Adapter
from agenthost.host import Host
from agenthost.http.agent_app import HANDLERS, mount
from agenthost.http.app import App
from agenthost.http.security import Policy, is_loopback, is_token
from agenthost.http.server import Server, listen
from agenthost.protocols import native
from agenthost.protocols.exchange import Exchange, Receive, Scope, Send, exchange_of
from agenthost.resuming import ResumeRequest
from agenthost.streaming import data_frame

MetadataResolver = Callable[[Any, str], Mapping[str, Any] | Awaitable[Mapping[str, Any]]]
"""`metadata_resolver(request, principal)`: metadata the server vouches for, laid over the client's."""

DecisionHandler = Callable[[Any, str, str, dict[str, Any]], Awaitable[None] | None]
"""`decision_handler(request, principal, thread_id, decision)`: records a decision that came with a resume."""

SHORT_KEY = 16
"""Bytes under which a key is worth a warning."""

LOADED_WITHIN = 30.0
"""Seconds that the first request waits for the agent to load."""

DRAIN = 5.0
"""Seconds that a stop leaves to runs: containers are given 10 before they are killed."""

LIKE_UVICORN: dict[str, Any] = {"log_config": LOGGING_CONFIG, "access_log": True, "proxy_headers": True}
"""Where `run` does as uvicorn does, and the host's own server does not."""

NOT_STARTED = 3
"""Exit code where the application does not start; uvicorn's."""

UNKNOWN_TO_LOCUS = frozenset({"usage"})
"""Events that its streams do not have: clients that know Locus's alone would stumble."""

AGENT = "agent"
"""The agent's name in threads, logs and metrics."""

log = logging.getLogger("agenthost.agent_server")


class AgentServer:
    """Wrap one agent, of any kind the host takes, as a FastAPI application.

    It starts on first use if no lifespan ran, so it can be mounted, and tested with any client; once a lifespan has
    ended it can start again, with what a store on disk has kept. An agent's own lifespan ends with the loop it was
    entered on. An agent that cannot be loaded is answered with 503, and the log says why. Raises `ValueError` for a key
    that no bearer header can carry.
    """

    def __init__(
        self,
        agent: Any,
        title: str = "Agent server",
        description: str = "HTTP API for one agent",
        api_key: str | None = None,
        allow_unauthenticated: bool = False,
        *,
        stream_tokens: bool = True,
        metadata_resolver: MetadataResolver | None = None,
        decision_handler: DecisionHandler | None = None,
        store: str = "memory:",
    ) -> None:
        """See the class.

        `stream_tokens` says whether streams have the text in pieces; `metadata_resolver` is called for every run,
        `decision_handler` for every decision that comes with a resume, which without one is refused; `store` is a URL
        as in `[store] url`.
        """
        self.agent = agent
        self.stream_tokens = stream_tokens
        self.decision_handler = decision_handler
        self._api_key = api_key or os.environ.get("AGENTHOST_API_KEY") or os.environ.get("LOCUS_SERVER_API_KEY") or None
        self._allow_unauthenticated = allow_unauthenticated
        if self._api_key is not None and not is_token(self._api_key.encode()):
            raise ValueError("the API key has characters that no bearer header can carry, or over 4096 bytes")
        if self._api_key is not None and len(self._api_key.encode()) < SHORT_KEY:
            log.warning("AgentServer: the API key has fewer than %d bytes; anybody may guess it", SHORT_KEY)
        if self._api_key is None and not allow_unauthenticated:
            log.warning("AgentServer: no API key; answering this machine only")
        spec = AgentSpec(
            name=AGENT, source=AgentSource(use=_use(agent), load=lambda: agent), title=title, description=description
        )
        config = Config(server=ServerConfig(drain=DRAIN), store=StoreConfig(url=store))
        make_host = partial(_LoneHost, config, spec, stream_tokens)
        self._application = _Application(
            make_host, self._policy(), metadata_resolver, decision_handler, title, description, stream_tokens
        )
        self.app: FastAPI = self._application

    def _policy(self) -> Policy:
        public = frozenset({"/health"})
        if self._api_key is None:
            anonymous = Principal(principal_of(None), agents=("*",))
            return Policy(anonymous=anonymous, local_only=not self._allow_unauthenticated, public=public)
        principal = Principal(principal_of(self._api_key), agents=("*",))
        return Policy(authenticators=(ApiKeys([(digest(self._api_key), principal)]),), public=public)

    def run(self, host: str = "127.0.0.1", port: int = 8000, **settings: Any) -> None:
        """Serve with uvicorn until stopped; a stop ends what runs first. `settings` are what `uvicorn.Config` takes.

        Raises `RuntimeError` for an open address, `StartError` for one that cannot be listened on.
        """
        if self._api_key is None and not self._allow_unauthenticated and not is_loopback(host):
            raise RuntimeError(
                f"Refusing to bind AgentServer to {host!r} without an API key: set AGENTHOST_API_KEY, pass api_key=, "
                "or pass allow_unauthenticated=True where something in front of it authenticates"
            )
        server = Server(self.app, self._application.lone_host, **{**LIKE_UVICORN, **settings})
        bound_by_uvicorn = server.config.uds is not None or server.config.fd is not None
        with ExitStack() as held, suppress(KeyboardInterrupt):  # how Ctrl+C is passed on, once all has ended
            server.run(sockets=None if bound_by_uvicorn else [held.enter_context(closing(listen(host, port)))])
        if not server.started:
            sys.exit(NOT_STARTED)


def principal_of(api_key: str | None) -> str:
    """Whose threads a key's are: Locus's digest of it, or `anon` without one."""
    return hashlib.sha256(api_key.encode()).hexdigest()[:12] if api_key else "anon"


def _use(agent: Any) -> str:
    kind = agent if inspect.isclass(agent) or inspect.isroutine(agent) else type(agent)
    return f"{kind.__module__}:{kind.__qualname__}"


class _LoneHost(Host):
    """A host whose one agent is at `/`."""

    def __init__(self, config: Config, spec: AgentSpec, stream_tokens: bool) -> None:
        super().__init__(config, builtins=(native,), specs=(spec,), hooks=("register_adapters",), authenticating=False)
        self._stream_tokens = stream_tokens

    def _adapters(self) -> list[Adapter]:
        return [replace(one, adapt=partial(self._adapted_alone, one.adapt)) for one in super()._adapters()]

    def _adapted_alone(self, adapt: Callable[[Any], Any], found: Any) -> Any:
        """An adapted agent that has been told how it is served, where that is anything to it."""
        adapted = adapt(found)
        if hasattr(type(adapted), "serve_alone"):
            adapted.serve_alone(stream_tokens=self._stream_tokens)
        return adapted

    def card(self, entry: AgentEntry, scope: Scope, *, limits: bool = False) -> dict[str, Any]:
        """What callers may know of the agent."""
        max_body = self.config.server.max_body if limits else None
        url = f"{exchange_of(scope).base_url}/"
        return native.card(entry, url, {native.NATIVE.name: url}, max_body=max_body)


class _Application(FastAPI):
    """A FastAPI application whose requests pass the host's layers first."""

    def __init__(
        self,
        make_host: Callable[[], Host],
        policy: Policy,
        resolver: MetadataResolver | None,
        decision_handler: DecisionHandler | None,
        title: str,
        description: str,
        stream_tokens: bool,
    ) -> None:
        super().__init__(
            title=title,
            description=description,
            exception_handlers=dict(HANDLERS),
            docs_url=None,
            redoc_url=None,
            openapi_url=None,
            redirect_slashes=False,
        )
        self._make_host = make_host
        self._resolver = resolver
        self._decision_handler = decision_handler
        self._left_out = UNKNOWN_TO_LOCUS if stream_tokens else UNKNOWN_TO_LOCUS | {"model_chunk"}
        self._starting = threading.Lock()
        self._layers = App(make_host(), self, policy)
        mount(self, (native.NATIVE,), self._layers.host, AGENT)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve: through the layers, which come back to `answer`."""
        await self._layers(scope, receive, send)
        if scope["type"] == "lifespan":
            self._layers.host = self._make_host()  # a host that was stopped cannot start again

    async def _started(self, host: Host) -> Host:
        """Start the host if nobody has; the lock is a thread's, since a test client may use a loop per request."""
        while not host.started:
            if self._starting.acquire(blocking=False):
                try:
                    if not host.started:
                        await host.start(settle=LOADED_WITHIN)
                finally:
                    self._starting.release()
            else:
                await asyncio.sleep(0.01)
        return host

    @property
    def lone_host(self) -> Host:
        """The host that serves, or will."""
        return self._layers.host

    def locate(self, exchange: Exchange) -> str:
        """What the public table calls this route."""
        return exchange.path

    async def answer(self, exchange: Exchange, receive: Receive, send: Send) -> None:
        """Answer from the fast path, else from the FastAPI routes."""
        host = await self._started(self._layers.host)
        entry: AgentEntry = host.entries[AGENT]
        exchange.host, exchange.entry = host, entry
        exchange.render = self._frame
        exchange.prepare = self._prepared
        exchange.decide = self._recorded
        handler = native.FAST.get((exchange.method, exchange.path))
        if handler is not None and entry.serving:
            await handler(exchange, receive, send)
        else:
            await super().__call__(exchange.scope, receive, send)

    def _frame(self, entry: Entry) -> bytes:
        return b"" if entry.type in self._left_out else _locus_frame(entry)

    async def _recorded(self, exchange: Exchange, thread_id: str, decision: Mapping[str, Any]) -> None:
        """Hand a decision to the handler."""
        assert self._decision_handler is not None  # without one the request has been refused
        recorded = self._decision_handler(Request(exchange.scope), exchange.caller.id, thread_id, dict(decision))
        if inspect.isawaitable(recorded):
            await recorded

    async def _prepared(self, exchange: Exchange, request: Any) -> Any:
        """The request with the server's metadata; a server without a handler takes no decisions (as Locus 3.0.1)."""
        replies = request.replies if isinstance(request, ResumeRequest) else ()
        if self._decision_handler is None and any(reply.decision is not None for reply in replies):
            raise BadRequest("this server does not accept decisions on /resume")
        if self._resolver is None:
            return request
        trusted = self._resolver(Request(exchange.scope), exchange.caller.id)
        if inspect.isawaitable(trusted):
            trusted = await trusted
        return replace(request, metadata={**request.metadata, **dict(trusted or {})})


def _locus_frame(entry: Entry) -> bytes:
    """Locus's frames: the data line alone, under Locus's own keys."""
    own = _LOCUS_SHAPES.get(entry.type)
    if own is None:
        return data_frame(entry)
    return data_frame(Entry(entry.seq, entry.type, one_line(orjson.dumps(own(orjson.loads(entry.data))))))


def _done(payload: dict[str, Any]) -> dict[str, Any]:
    return {name: payload[name] for name in ("type", "message", "reason")}


def _interrupt(payload: dict[str, Any]) -> dict[str, Any]:
    """With every key that Locus sends; `fields` are its list where the agent's were one."""
    fields = payload.get("fields")
    listed = fields.get("x-fields", fields) if isinstance(fields, Mapping) else fields
    return {"type": "interrupt", "agent_name": None, "options": None, "metadata": {}, **payload, "fields": listed}


def _tool_progress(payload: dict[str, Any]) -> dict[str, Any]:
    data = payload.pop("data")
    return {**data, **payload} if isinstance(data, Mapping) else {**payload, "data": data}


_LOCUS_SHAPES: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "done": _done,
    "interrupt": _interrupt,
    "tool_progress": _tool_progress,
}
