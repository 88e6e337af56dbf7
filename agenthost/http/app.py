"""The host as one ASGI app: its layers, top to bottom, and its lifespan.

request id, access log, errors → problem bodies     `App`
Host, and whether anything forwarded the request    `security.addressed`
leave for listed web pages to read the reply        `cors`
cross-site, credentials, size, type                 `security.guard`
body limit                                          `Limited`
name → agent → fast handler or FastAPI app          `routing.Router`
"""

from __future__ import annotations

import ipaddress
import itertools
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from agenthost.agents import AgentSpec
from agenthost.auth import Authenticator, Principal
from agenthost.config import Config, load_config
from agenthost.entries import AgentEntry
from agenthost.errors import AuthError, BodyTooLarge, HostError, NotFound
from agenthost.host import Host
from agenthost.http import cors
from agenthost.http.access_log import AccessLog
from agenthost.http.problems import log_problem, send_problem, unexpected
from agenthost.http.routing import Router, strictly_decoded
from agenthost.http.security import Policy, addressed, guard, is_loopback, read_headers
from agenthost.operating import Operations
from agenthost.protocols import native, openai
from agenthost.protocols.exchange import SCOPE_KEY, Exchange, Message, Receive, Scope, Send, exchange_of

DEVELOPER = Principal("dev", agents=("*",), admin=True)
"""Who every request to `agenthost dev` is."""

NOBODY = Principal("anon", agents=("*",))
"""Who a request without credentials is under `allow_unauthenticated`: everybody's agents, nothing to operate."""


class WebHost(Host):
    """A host that also knows its addresses: what cards and lists show."""

    def __init__(
        self, config: Config, *, specs: Sequence[AgentSpec] | None = None, authenticating: bool = True
    ) -> None:
        super().__init__(config, builtins=(native, openai), specs=specs, authenticating=authenticating)
        self.router: Router | None = None
        self.operations: Operations

    def card(self, entry: AgentEntry, scope: Scope, *, limits: bool = False) -> dict[str, Any]:
        """What callers may know of an agent, with its absolute address."""
        assert self.router is not None
        base = self.base_url(scope)
        addresses = {protocol: base + place for protocol, place in self.router.addresses_of(entry).items()}
        max_body = self.config.server.max_body if limits else None
        return native.card(entry, f"{base}/agents/{entry.name}", addresses, max_body=max_body)

    async def report(self) -> dict[str, Any]:
        """What `GET /health` shows operators."""
        last = self.operations.last_reload
        return {**await super().report(), **({"reload": last} if last else {})}

    def base_url(self, scope: Scope) -> str:
        """`public_url`, else what the request says of itself."""
        if self.config.server.public_url:
            return self.config.server.public_url.rstrip("/")
        return exchange_of(scope).base_url

    def public_agent(self, name: str) -> AgentEntry:
        """An agent for the one route of it that is public; raises `NotFound`."""
        entry = self.entries.get(name)
        if entry is None or entry.state == "disabled":
            raise NotFound("no agent by that name")
        return entry


class App:
    """The outermost layer, and the ASGI app to serve."""

    def __init__(self, host: Host, router: Any, policy: Policy, access_log: AccessLog | None = None) -> None:
        self.host = host
        self.router = router
        self.policy = policy
        self.access_log = access_log
        self._prefix = secrets.token_hex(5)
        self._numbers = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection: the lifespan, or a request."""
        if scope["type"] == "http":
            await self.request(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def request(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; whatever goes wrong is a problem body, as long as nothing has been sent."""
        exchange = Exchange(scope, self.host, f"{self._prefix}{next(self._numbers):06x}", time.perf_counter())
        scope[SCOPE_KEY] = exchange

        def sending(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                message["headers"] = [*message.get("headers", ()), *exchange.reply_headers]
            return send(message)

        try:
            await self._street(exchange, receive, sending)
        except HostError as error:
            await self._refuse(exchange, error, sending)
        except Exception as raised:  # noqa: BLE001 - the last net: a plugin's route, or the host's own fault
            await self._refuse(exchange, unexpected(raised), sending)
        finally:
            if self.access_log is not None:
                self.access_log.add(exchange, time.perf_counter())

    async def _street(self, exchange: Exchange, receive: Receive, send: Send) -> None:
        policy = self.policy
        read_headers(exchange, exchange.scope["headers"])
        addressed(exchange, policy)
        if policy.cors_origins:
            exchange.reply_headers += cors.reply_headers(exchange, policy.cors_origins)
            if cors.is_preflight(exchange):
                await cors.answer_preflight(exchange, policy.cors_origins, send)
                return
        route = self.router.locate(exchange)
        public = exchange.method == "GET" and route in policy.public
        guard(exchange, policy, public=public)
        strictly_decoded(exchange)
        if b"content-length" not in exchange.headers or b"transfer-encoding" in exchange.headers:
            # else its length is declared and checked, and the server holds the client to that
            receive = Limited(receive, policy.max_body)
        await self.router.answer(exchange, receive, send)

    async def _refuse(self, exchange: Exchange, error: HostError, send: Send) -> None:
        if not exchange.status:
            await send_problem(exchange, error, send)
        else:
            log_problem(exchange, error)  # and no more: half an answer is out, and the server cuts what is not whole

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            if not self.host.started:
                await self.host.start()
        except HostError as problem:
            await send({"type": "lifespan.startup.failed", "message": problem.describe()})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.host.stop()
        if self.access_log is not None:
            self.access_log.flush()
        await send({"type": "lifespan.shutdown.complete"})


class Limited:
    """`receive` that counts: past `max_body` bytes it raises `BodyTooLarge`, whatever the headers declared."""

    __slots__ = ("_left", "_receive")

    def __init__(self, receive: Receive, max_body: int) -> None:
        self._receive = receive
        self._left = max_body

    async def __call__(self) -> Message:
        """The next message."""
        message = await self._receive()
        body = message.get("body")
        if body:
            self._left -= len(body)
            if self._left < 0:
                raise BodyTooLarge("the body is larger than this server takes")
        return message


def create_app(
    config: Config | str | Path | None = None,
    *,
    dev: bool = False,
    access_log: AccessLog | None = None,
    specs: Sequence[AgentSpec] | None = None,
    fast: bool = True,
    read: Callable[[], Config] | None = None,
) -> App:
    """The host of an agents.toml as an ASGI app, for any server: `uvicorn --factory agenthost:create_app`.

    `config` is a path, a loaded configuration, or None for `AGENTHOST_CONFIG` or ./agents.toml. Raises `ConfigError`
    for a bad configuration, `AuthError` where nothing would tell callers apart and `allow_unauthenticated` is not set,
    `StartError` where the store cannot be opened. `dev` needs no key and answers this machine only. `read` is how a
    loaded configuration is read again.
    """
    if not isinstance(config, Config):
        config = load_config(Path(config) if config is not None else None, os.environ)
        read = partial(load_config, config.path, os.environ)
    host = WebHost(config, specs=specs, authenticating=not dev)
    host.load()
    policy = policy_of(config, host.authenticators, dev=dev)  # before the store: a refused start leaves nothing behind
    host.prepare()
    app = App(host, Router(host, fast=fast), policy, access_log)
    host.router = app.router

    def admit(config: Config, authenticators: tuple[Authenticator, ...]) -> Callable[[], None]:
        return partial(setattr, app, "policy", policy_of(config, authenticators, dev=dev))

    host.operations = Operations(host, read if specs is None else None, admit)
    return app


def policy_of(config: Config, authenticators: tuple[Authenticator, ...], *, dev: bool) -> Policy:
    """Who may ask, by the configuration; raises `AuthError` where that would be anybody."""
    server, auth = config.server, config.auth
    if not dev and not authenticators and not auth.allow_unauthenticated:
        raise AuthError(
            "refusing to serve without authentication",
            hint="set AGENTHOST_API_KEY, add [[auth.keys]], run `agenthost dev` on this machine, "
            "or [auth] allow_unauthenticated = true",
        )
    hosts = set(server.allowed_hosts)
    if hosts or is_loopback(server.host):
        hosts |= {server.host, "localhost", "127.0.0.1", "::1"} if is_loopback(server.host) else {server.host}
        hosts |= {urlsplit(server.public_url).netloc.lower()} if server.public_url else set()
    anonymous = DEVELOPER if dev else NOBODY if auth.allow_unauthenticated else None
    own = "{0.scheme}://{0.netloc}".format(urlsplit(server.public_url)).lower() if server.public_url else ""
    return Policy(
        authenticators=authenticators,
        anonymous=anonymous,
        local_only=dev,
        hosts=frozenset(name.lower() for name in hosts),
        origins=frozenset({*server.cors_origins, own} - {""}),
        cors_origins=frozenset(server.cors_origins),
        trusted_proxies=tuple(ipaddress.ip_network(proxy, strict=False) for proxy in server.trusted_proxies),
        max_body=server.max_body,
    )
