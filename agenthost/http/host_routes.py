"""The host's own routes: its agents, its health, its plugins, its metrics; and what operators may do to it."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, Response

from agenthost.errors import Forbidden
from agenthost.health import agent_report
from agenthost.http.agent_app import LeftOut, fastapi_app, mount
from agenthost.protocols.exchange import Exchange, exchange_of
from agenthost.protocols.wire import AgentList, problem_responses


def host_app(host: Any, left_out: LeftOut | None = None) -> FastAPI:
    """The app for every path that is not an agent's; `left_out` as in `mount`."""
    app = fastapi_app(title="agenthost", version="1", redoc_url=None)
    operators = problem_responses(401, 403)
    app.add_api_route("/agents", _agents, response_model=AgentList, summary="The agents this caller may use",
                      responses=problem_responses(401))  # fmt: skip
    app.add_api_route("/health", _health, summary="Every agent's state and why (operators)", responses=operators)
    app.add_api_route("/health/live", live, summary="The process answers")
    app.add_api_route("/health/ready", ready, summary="Every required agent serves and the store writes",
                      responses={503: {"description": "Not ready"}})  # fmt: skip
    app.add_api_route("/plugins", _plugins, summary="What each distribution registered (operators)",
                      responses=operators)  # fmt: skip
    app.add_api_route("/metrics", _metrics, summary="Prometheus (operators)", response_class=PlainTextResponse,
                      responses=operators)  # fmt: skip
    changing = problem_responses(401, 403, 404, 422, 503)
    app.add_api_route("/admin/plan", _plan, summary="What a reload would change (operators)", responses=changing)
    app.add_api_route("/admin/reload", _reload, methods=["POST"], summary="Read agents.toml again (operators)",
                      responses=changing)  # fmt: skip
    app.add_api_route("/admin/agents/{name}/load", _load, methods=["POST"], summary="Load an agent (operators)",
                      responses=changing)  # fmt: skip
    app.add_api_route("/admin/agents/{name}/unload", _unload, methods=["POST"], summary="Unload an agent (operators)",
                      responses=changing)  # fmt: skip
    dialects = [dialect for dialect in host.dialects.values() if dialect.scope == "host"]
    mount(app, dialects, host, None, left_out)
    return app


def _operator(request: Request) -> Exchange:
    exchange = exchange_of(request.scope)
    if not exchange.caller.admin:
        raise Forbidden(f"'{exchange.caller.id}' may not operate this host")
    return exchange


def _json(content: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json", headers={"cache-control": "no-store"})


async def live(_request: Request) -> Response:
    """The process answers; says nothing else."""
    return _json({"status": "ok"})


async def ready(request: Request) -> Response:
    """Whether load should come here; says nothing else."""
    problems = await exchange_of(request.scope).host.readiness()
    return _json({"status": "unavailable" if problems else "ok"}, 503 if problems else 200)


async def _agents(request: Request) -> Response:
    exchange = exchange_of(request.scope)
    host = exchange.host
    return _json({"agents": [host.card(entry, exchange.scope) for entry in host.agents_of(exchange.caller)]})


async def _health(request: Request) -> Response:
    return _json(await _operator(request).host.report())


async def _plugins(request: Request) -> Response:
    return _json({"plugins": _operator(request).host.plugins.describe()})


async def _metrics(request: Request) -> Response:
    page = _operator(request).host.metrics_page()
    return Response(page, media_type="text/plain; version=0.0.4")


async def _plan(request: Request) -> Response:
    plan = await _operator(request).host.operations.plan()
    return _json(plan.report())


async def _reload(request: Request) -> Response:
    exchange = _operator(request)
    return _json(await exchange.host.operations.reload(f"'{exchange.caller.id}'"))


async def _load(request: Request, name: str) -> Response:
    entry = await _operator(request).host.operations.load(name)
    return _json(agent_report(entry), 200 if entry.serving else 503)


async def _unload(request: Request, name: str) -> Response:
    exchange = _operator(request)
    entry, cut = await exchange.host.operations.unload(name, exchange.caller.id)
    return _json({**agent_report(entry), "cut_off": cut})
