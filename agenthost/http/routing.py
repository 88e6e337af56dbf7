"""Which app, or which fast handler, answers a path: one look-up in a dict, however many agents there are."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote_to_bytes

from fastapi import FastAPI

from agenthost.agents import AgentEntry
from agenthost.errors import BadRequest
from agenthost.hookspecs import Dialect
from agenthost.http.agent_app import agent_app
from agenthost.http.host_routes import host_app
from agenthost.protocols.exchange import Exchange, Receive, Send

AGENTS = "/agents/"


class Router:
    """Routes of a host of many agents: `/agents/<name>/…`, and everything else to the host's own app.

    Apps are made on first use and kept with the entry they were made for. With `fast=False` every request takes the
    ordinary FastAPI routes.
    """

    def __init__(self, host: Any, *, fast: bool = True) -> None:
        self._host = host
        self._fast = fast
        self._apps: dict[AgentEntry, FastAPI] = {}
        self._host_app: FastAPI | None = None

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
        _strictly_decoded(exchange)
        if not exchange.agent_path:
            await self.host_app(exchange.scope, receive, send)
            return
        name = exchange.agent_path[len(AGENTS) :]
        rest = exchange.path[len(exchange.agent_path) :]
        entry = self._entry(exchange, name, rest)
        exchange.entry = entry
        if self._fast:
            handler = self._fast_handler(exchange, entry, rest)
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
        if principal is None:  # public: the agent's health, for anybody
            return self._host.public_agent(name)  # type: ignore[no-any-return]  # the host is duck-typed here
        if rest in {"/health", "/", ""}:
            return self._host.known_agent(principal, name)  # type: ignore[no-any-return]  # as above
        return self._host.agent_for(principal, name)  # type: ignore[no-any-return]  # as above

    def _fast_handler(self, exchange: Exchange, entry: AgentEntry, rest: str) -> Any:
        for dialect in self.dialects_of(entry):
            if rest.startswith(dialect.prefix):
                handler = dialect.fast.get((exchange.method, rest[len(dialect.prefix) :]))
                if handler is not None:
                    return handler
        return None

    def dialects_of(self, entry: AgentEntry) -> list[Dialect]:
        """The dialects this agent speaks: those it names, or all there are."""
        return [
            dialect
            for dialect in self._host.dialects.values()
            if dialect.scope == "agent" and (entry.spec.protocols is None or dialect.name in entry.spec.protocols)
        ]

    def _app(self, entry: AgentEntry) -> FastAPI:
        app = self._apps.get(entry)
        if app is None:
            for gone in [known for known in self._apps if self._host.entries.get(known.name) is not known]:
                del self._apps[gone]
            app = agent_app(self._host, entry.name, entry.title, entry.description, self.dialects_of(entry))
            self._apps[entry] = app
        return app

    @property
    def host_app(self) -> FastAPI:
        """The app of the host's own routes."""
        if self._host_app is None:
            self._host_app = host_app(self._host)
        return self._host_app


def _strictly_decoded(exchange: Exchange) -> None:
    """Refuse a path whose bytes are not UTF-8: replaced characters would make two ids one."""
    if "\ufffd" in exchange.path:
        try:
            unquote_to_bytes(exchange.scope.get("raw_path", b"").decode("latin-1")).decode()
        except UnicodeDecodeError:
            raise BadRequest("the path is not UTF-8") from None
