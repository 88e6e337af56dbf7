"""The native dialect: `/invoke`, `/stream`, `/threads`, `/health` and the card, in Locus 3.0.1's shapes and ours.

`/runs` and `/resume` are in `protocols/runs.py`.

Every route is an ordinary FastAPI route, which is where the OpenAPI comes from; `/invoke` and `/stream` are answered by
the same functions without the router where a request allows it (`fast`), and a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson
from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from agenthost.agents import AgentRef, RunRequest
from agenthost.ended_run import EndedRun
from agenthost.entries import NOT_READY, AgentEntry
from agenthost.errors import AgentNotReady, InvalidRequest, NotFound
from agenthost.health import agent_report, public_status
from agenthost.hookspecs import Dialect, RegisterProtocol, hookimpl
from agenthost.protocols.bodies import StrictRoute, read_all
from agenthost.protocols.exchange import ClientWatch, Exchange, Receive, Send, exchange_of
from agenthost.protocols.runs import add_run_routes
from agenthost.protocols.streaming_replies import JSON, Answer, json_reply, keyed, stream_run
from agenthost.protocols.threads import read_own, wire_thread
from agenthost.protocols.wire import (
    AgentCard,
    AgentStatus,
    InvokeBody,
    InvokeReply,
    Thread,
    ThreadDeleted,
    ThreadPage,
    invoke_reply,
    problem_responses,
    read_request,
    without_none,
)
from agenthost.run import Run
from agenthost.threads import MAX_THREAD_ID, ThreadKey, thread_id_problem

NO_THREAD = "no such thread"
NO_THREAD_ALONE = "no thread {!r} here, nor in the agent's own checkpointer where it has one"
"""The same where one agent is served by itself: what Locus's server says names the id, and the checkpointer."""


async def fast_invoke(exchange: Exchange, receive: Receive, send: Send) -> None:
    """`POST /invoke` from the body to the last byte."""
    request = read_request(await read_all(receive))
    await answer_invoke(exchange, request, receive, send)


async def fast_stream(exchange: Exchange, receive: Receive, send: Send) -> None:
    """`POST /stream` from the body to the last byte."""
    request = read_request(await read_all(receive))
    await answer_stream(exchange, request, receive, send)


async def answer_invoke(exchange: Exchange, request: RunRequest, receive: Receive, send: Send) -> None:
    """Run, fold, answer; a client that leaves cancels the run, unless it has a key, and gets no answer."""
    with ClientWatch(receive) as watch:
        run = await _asked(exchange, request, fold_only=True)
        run.attend()
        try:
            headers = exchange.run_headers(run)
            result = await run.result()
            if result.status == "paused":  # which may have given the run its thread
                headers = exchange.run_headers(run)
        finally:
            run.leave()
    if watch.gone:
        return
    body = orjson.dumps(invoke_reply(result))
    headers = [*headers, JSON, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def answer_stream(exchange: Exchange, request: RunRequest, receive: Receive, send: Send) -> None:
    """Run, and send the log as it grows."""
    await stream_run(exchange, lambda: _asked(exchange, request), receive, send)


async def _asked(exchange: Exchange, request: RunRequest, *, fold_only: bool = False) -> Run | EndedRun:
    """The run that a request asks for, which may be one that its key had before."""
    keyed(exchange, request)
    if exchange.prepare is not None:
        request = await exchange.prepare(exchange, request)
    run: Run | EndedRun = await exchange.host.runs.ask(exchange.agent, exchange.caller, request, fold_only=fold_only)
    return run


_REFUSALS = problem_responses(400, 401, 403, 404, 409, 413, 415, 422, 429, 500, 503, 504)


def card(entry: AgentEntry, url: str, addresses: Mapping[str, str], *, max_body: int | None = None) -> dict[str, Any]:
    """What its callers may know of an agent, with its limits where `max_body` is given; what is None is left out.

    `addresses` are absolute, by protocol.
    """
    spec = entry.spec
    return without_none(
        {
            "name": entry.name,
            "title": entry.title,
            "description": entry.description,
            "state": entry.state,
            "protocols": list(addresses),
            "url": url,
            "addresses": dict(addresses),
            "input_schema": entry.info.input_schema,
            "output_schema": entry.info.output_schema,
            "limits": {
                "timeout_seconds": spec.timeout,
                "concurrency": spec.concurrency,
                "queue": spec.queue,
                "on_busy_thread": spec.on_busy_thread,
                "max_body_bytes": max_body,
            }
            if max_body is not None
            else None,
        }
    )


def endpoints(_host: Any, _agent: str | None) -> APIRouter:
    """The routes below `/agents/<name>`."""
    router = APIRouter(route_class=StrictRoute)
    router.add_api_route("/", _card, methods=["GET"], response_model=AgentCard, summary="This agent's card",
                         response_model_exclude_none=True, responses=problem_responses(401, 403, 404, 503))  # fmt: skip
    router.add_api_route("/health", _health, methods=["GET"], response_model=AgentStatus,
                         summary="Whether this agent serves", responses={503: {"model": AgentStatus}})  # fmt: skip
    router.add_api_route("/invoke", _invoke, methods=["POST"], response_model=InvokeReply,
                         summary="Run and wait for the result", responses=_REFUSALS)  # fmt: skip
    router.add_api_route("/stream", _stream, methods=["POST"], response_class=Response,
                         summary="Run and stream its events",
                         responses={200: {"content": {"text/event-stream": {}}}, **_REFUSALS})  # fmt: skip
    router.add_api_route("/threads", _threads, methods=["GET"], response_model=ThreadPage,
                         response_model_exclude_none=True, summary="The caller's threads, newest first",
                         responses=problem_responses(400, 401, 403, 404, 422, 503))  # fmt: skip
    router.add_api_route("/threads/{thread_id:path}", _thread, methods=["GET"], response_model=Thread,
                         summary="A thread, whole",
                         responses=problem_responses(400, 401, 403, 404, 422, 503))  # fmt: skip
    router.add_api_route("/threads/{thread_id:path}", _delete_thread, methods=["DELETE"],
                         response_model=ThreadDeleted, summary="Delete a thread and all that belongs to it",
                         responses=problem_responses(400, 401, 403, 404, 409, 422, 503))  # fmt: skip
    add_run_routes(router)
    return router


async def _invoke(body: InvokeBody, request: Request) -> Response:
    return Answer(answer_invoke, exchange_of(request.scope), body.request())


async def _stream(body: InvokeBody, request: Request) -> Response:
    return Answer(answer_stream, exchange_of(request.scope), body.request())


async def _card(request: Request) -> Response:
    exchange = exchange_of(request.scope)
    return json_reply(exchange.host.card(exchange.agent, exchange.scope, limits=True))


async def _health(request: Request) -> Response:
    exchange = exchange_of(request.scope)
    entry = exchange.agent
    caller = exchange.principal
    operator = caller is not None and caller.admin and caller.may_use(entry.name)
    return json_reply(agent_report(entry) if operator else public_status(entry), 200 if entry.available else 503)


async def _threads(
    request: Request,
    limit: int = Query(50, ge=1, le=200),
    cursor: str | None = Query(None, max_length=500),
) -> Response:
    exchange = exchange_of(request.scope)
    page = await exchange.host.store.list_threads(exchange.caller.id, exchange.agent.name, cursor=cursor, limit=limit)
    listed = [{"thread_id": one.thread_id, "created": one.created, "updated": one.updated} for one in page.items]
    return json_reply(without_none({"threads": listed, "next_cursor": page.cursor}))


def _key(exchange: Exchange, thread_id: str) -> ThreadKey:
    problem = thread_id_problem(thread_id)
    if problem:
        raise InvalidRequest(f"thread_id: {problem}")
    return ThreadKey(exchange.caller.id, exchange.agent.name, thread_id)


_THREAD_ID = Path(min_length=1, max_length=MAX_THREAD_ID, description="The thread's id, percent-encoded.")


async def _thread(request: Request, thread_id: str = _THREAD_ID) -> Response:
    exchange = exchange_of(request.scope)
    key = _key(exchange, thread_id)
    entry = exchange.agent
    if entry.expected and not entry.serving:
        entry = await entry.awake()  # only once it is loaded it is known whether it keeps threads itself
    stored = await exchange.host.store.get_thread(key)
    with entry.newest.asked() as ref:
        kept, own = read_own(await _there(ref, entry).get_thread(key) if entry.info.keeps_threads else None)
    messages = kept or (stored.messages if stored else kept)
    if messages is None:
        raise NotFound(NO_THREAD if exchange.agent_path else NO_THREAD_ALONE.format(thread_id))
    return json_reply(wire_thread(key, messages, stored, own))


async def _delete_thread(request: Request, thread_id: str = _THREAD_ID) -> Response:
    exchange = exchange_of(request.scope)
    key = _key(exchange, thread_id)
    entry = exchange.agent
    exchange.host.runs.refuse_if_busy(key)
    deleted = await exchange.host.store.delete_thread(key)
    if entry.info.keeps_threads:
        with entry.newest.asked() as ref:
            deleted = await _there(ref, entry).delete_thread(key) or deleted
    return json_reply({"thread_id": thread_id, "deleted": deleted})


def _there(ref: AgentRef | None, entry: AgentEntry) -> AgentRef:
    if ref is None:
        raise AgentNotReady(f"agent '{entry.name}' is {entry.newest.state}", retry_after=NOT_READY)
    return ref


FAST: Mapping[tuple[str, str], Callable[[Exchange, Receive, Send], Any]] = {
    ("POST", "/invoke"): fast_invoke,
    ("POST", "/stream"): fast_stream,
}

NATIVE = Dialect("native", prefix="", endpoints=endpoints, fast=FAST)


@hookimpl
def register_protocols(register: RegisterProtocol) -> None:
    """Register the native dialect, through the door every dialect uses."""
    register(NATIVE)
