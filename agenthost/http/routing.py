"""Which app, or which fast handler, answers a path: one look-up in a dict, however many agents there are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

from fastapi import FastAPI

from agenthost.entries import AgentEntry
from agenthost.errors import BadRequest, InvalidRequest
from agenthost.hookspecs import Dialect
from agenthost.http.agent_app import agent_app
from agenthost.http.host_routes import host_app
from agenthost.protocols.exchange import Exchange, Receive, Send

AGENTS = "/agents/"

FastHandlers = Mapping[tuple[str, str], Callable[[Exchange, Receive, Send], Awaitable[None]]]


class Router:
    """Routes of a host of many agents: `/agents/<name>/…`, and everything else to the host's own app.

    Apps are made on first use and kept with the entry they were made for. With `fast=False` every request takes the
    ordinary FastAPI routes.
    """

    def __init__(self, host: Any, *, fast: bool = True) -> None:
        self._host = host
        self._fast = fast
        self._apps: dict[AgentEntry, tuple[Any, Any, Any, FastAPI]] = {}
        self._handlers: dict[AgentEntry, tuple[Any, Any, FastHandlers]] = {}
        self._left_out: dict[AgentEntry, set[str]] = {}
        self._host_app: tuple[Any, FastAPI | None] = (None, None)
        self._left_out_of_host: set[str] = set()

    def locate(self, exchange: Exchange) -> str:
        """Split the path: sets `agent_path`, returns what the public table calls this route."""
        path = exchange.path
        if not path.startswith(AGENTS):
            return path
        name, slash, rest = path[len(AGENTS) :].partition("/")
        exchange.agent_path = AGENTS + name
        return "/agents/{name}" + slash + rest

    async def answer(self, exchange: Exchange, receive: Receive, send: Send) -> None:
        """Answer; errors come out as exceptions."""
        if not exchange.agent_path:
            await self.host_app(exchange.scope, receive, send)
            return
        name = exchange.agent_path[len(AGENTS) :]
        rest = exchange.path[len(exchange.agent_path) :]
        entry = self._entry(exchange, name, rest)
        if not entry.serving and not _needs_no_agent(exchange.method, rest):
            entry = await entry.awake()
        exchange.entry = entry
        if self._fast:
            handler = self._fast_handlers(entry).get((exchange.method, rest))
            if handler is not None:
                await handler(exchange, receive, send)
                return
        scope = exchange.scope
        scope["root_path"] = exchange.root + exchange.agent_path
        if not rest:
            scope["path"] += "/"
        await self._app(entry)(scope, receive, send)

    def _entry(self, exchange: Exchange, name: str, rest: str) -> AgentEntry:
        principal = exchange.principal
        public = exchange.method == "GET" and rest == "/health"
        entry: AgentEntry
        if principal is None or (public and not principal.may_use(name)):  # the agent's health is for anybody
            entry = self._host.public_agent(name)
        elif _needs_no_agent(exchange.method, rest):
            entry = self._host.known_agent(principal, name)
        else:
            entry = self._host.agent_for(principal, name)
        return entry

    def _fast_handlers(self, entry: AgentEntry) -> FastHandlers:
        """What answers this agent's (method, path below it) without the router; worked out once per agent."""
        dialects, spec, handlers = self._handlers.get(entry, (None, None, {}))
        if dialects is not self._host.dialects or spec is not entry.spec:
            handlers = {
                (method, dialect.prefix + path): handler
                for dialect in self.dialects_of(entry)
                for (method, path), handler in dialect.fast.items()
            }
            self._forget_the_gone()
            self._handlers[entry] = (self._host.dialects, entry.spec, handlers)
        return handlers

    def dialects_of(self, entry: AgentEntry) -> list[Dialect]:
        """The dialects that answer below this agent's address; not those that could not be mounted there."""
        left_out = self._left_out.get(entry, ())
        return [one for one in self._host.spoken(entry) if one.scope == "agent" and one.name not in left_out]

    def addresses_of(self, entry: AgentEntry) -> dict[str, str]:
        """Each protocol an agent speaks, and where: below its own address, where it has one there, else the host's."""
        found: dict[str, str] = {}
        own = {one.name for one in self.dialects_of(entry)}
        for dialect in self._host.spoken(entry):
            if dialect.scope == "agent" and dialect.name in own:
                place = f"{AGENTS}{entry.name}{dialect.prefix}"
            elif dialect.scope == "host" and dialect.name not in self._left_out_of_host:
                place = dialect.prefix
            else:
                continue
            if dialect.protocol not in found or not dialect.part_of:
                found[dialect.protocol] = place
        return found

    def _app(self, entry: AgentEntry) -> FastAPI:
        *made_for, app = self._apps.get(entry, (None, None, None, None))
        now = (self._host.dialects, entry.ref, entry.spec)
        if app is None or any(one is not other for one, other in zip(made_for, now, strict=True)):
            self._forget_the_gone()
            self._left_out.pop(entry, None)

            def left_out(dialect: Dialect, raised: BaseException) -> None:
                self._host.protocol_failed(dialect, raised, f"is not served for agent '{entry.name}'")
                self._left_out.setdefault(entry, set()).add(dialect.name)

            spoken = self.dialects_of(entry)
            app = agent_app(self._host, entry.name, entry.title, entry.description, spoken, left_out)
            self._handlers.pop(entry, None)  # a dialect that is left out has no fast handlers either
            self._apps[entry] = (*now, app)
        return app

    def _forget_the_gone(self) -> None:
        for known in (self._apps, self._handlers, self._left_out):
            for gone in [entry for entry in known if self._host.entries.get(entry.name) is not entry]:
                del known[gone]

    @property
    def host_app(self) -> FastAPI:
        """The app of the host's own routes; made again when a dialect has come."""
        dialects, app = self._host_app
        if app is None or dialects is not self._host.dialects:
            self._left_out_of_host.clear()

            def left_out(dialect: Dialect, raised: BaseException) -> None:
                self._host.protocol_failed(dialect, raised, "has no routes")
                self._left_out_of_host.add(dialect.name)

            app = host_app(self._host, left_out)
            self._host_app = (self._host.dialects, app)
        return app


def _needs_no_agent(method: str, path: str) -> bool:
    """Whether a request is answered whatever state its agent is in, and loads none."""
    return path in {"/health", "/", ""} or _is_about_the_past(method, path)


def _is_about_the_past(method: str, path: str) -> bool:
    """Whether a request can be answered, whatever state its agent is in: what was kept, and the end of what goes on."""
    if method == "GET":
        return path.startswith(("/runs", "/threads"))
    return path.startswith("/runs/") and path.endswith("/cancel")


def strictly_decoded(exchange: Exchange) -> None:
    """Refuse a path in which two ids would become one: not UTF-8, or with a line break, where patterns stop.

    Raises `BadRequest` or `InvalidRequest`.
    """
    if "\n" in exchange.path:
        raise InvalidRequest("the path holds a line break")
    if "\ufffd" in exchange.path:
        try:
            unquote_to_bytes(exchange.scope.get("raw_path", b"").decode("latin-1")).decode()
        except UnicodeDecodeError:
            raise BadRequest("the path is not UTF-8") from None
