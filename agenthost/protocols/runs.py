"""`/runs` and `/resume`: runs in the background, their events from any point on, and answers to what they asked."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from agenthost.agents import RunStatus
from agenthost.ended_run import EndedRun, is_past
from agenthost.errors import AgentNotReady, Cancelled, EventsExpired, InvalidRequest, NotFound, NotRecorded
from agenthost.protocols.exchange import Exchange, exchange_of
from agenthost.protocols.run_wire import (
    ResumeBody,
    RunPage,
    RunView,
    listed_run,
    run_view,
)
from agenthost.protocols.streaming_replies import Answer, json_reply, keyed, keyed_resume, stream_run
from agenthost.protocols.wire import InvokeBody, problem_responses, without_none
from agenthost.resuming import undecided
from agenthost.run import Run
from agenthost.run_log import Reader
from agenthost.store import StoredRun

FIRST_WORD = 1.0
"""Seconds that the answer to a resume waits for the first word of an agent that keeps its pauses itself."""

LATER = 1.0
"""Seconds after which to ask again for the events of a run that is about to begin again."""

_STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}
_STARTS = problem_responses(400, 401, 403, 404, 409, 413, 415, 422, 429, 503)
_READS = problem_responses(401, 403, 404, 410, 422, 503)


def add_run_routes(router: APIRouter) -> None:
    """Add the routes to an agent's."""
    router.add_api_route("/resume", _resume, methods=["POST"], response_class=Response,
                         summary="Answer what a paused thread asks, and stream the run that goes on",
                         responses={**_STREAM, **_STARTS})  # fmt: skip
    router.add_api_route("/runs", _start, methods=["POST"], status_code=202, response_model=RunView,
                         response_model_exclude_none=True, summary="Run in the background",
                         responses=_STARTS)  # fmt: skip
    router.add_api_route("/runs", _list, methods=["GET"], response_model=RunPage, response_model_exclude_none=True,
                         summary="The caller's runs, newest first",
                         responses=problem_responses(401, 403, 404, 422, 503))  # fmt: skip
    router.add_api_route("/runs/{run_id}", _get, methods=["GET"], response_model=RunView,
                         response_model_exclude_none=True, summary="A run, and what came of it",
                         responses=_READS)  # fmt: skip
    router.add_api_route("/runs/{run_id}/events", _events, methods=["GET"], response_class=Response,
                         summary="A run's events, from any point on, as long as it goes",
                         responses={**_STREAM, **_READS})  # fmt: skip
    router.add_api_route("/runs/{run_id}/cancel", _cancel, methods=["POST"], status_code=202, response_model=RunView,
                         response_model_exclude_none=True, summary="Cancel a run", responses=_READS)  # fmt: skip


async def _resume(body: ResumeBody, request: Request) -> Response:
    exchange = exchange_of(request.scope)
    asked, thread_id = keyed_resume(exchange, body.request()), body.thread_id

    async def begin() -> Run | EndedRun:
        ready = asked
        if exchange.decide is not None:
            ready = replace(ready, decide=partial(exchange.decide, exchange, thread_id))
        if exchange.prepare is not None:
            ready = await exchange.prepare(exchange, ready)
        run: Run | EndedRun = await exchange.host.runs.resume(exchange.agent, exchange.caller, ready)
        return run

    return Answer(stream_run, exchange, begin, 0, first_word if exchange.agent.info.keeps_pauses else None)


async def first_word(run: Run | EndedRun, reader: Reader) -> None:
    """Wait a moment for what a resumed run begins with.

    Raises `StillUndecided` where that is the question again, and the run's error where it ended with nothing said.
    """
    if isinstance(run, EndedRun):
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(FIRST_WORD):
            while not run.log.visible and run.outcome_known is None:
                await reader.news()
    if run.error is not None and run.log.last <= 1:
        raise run.error.again()
    error = undecided(run)
    if error is not None:
        raise error


async def _start(body: InvokeBody, request: Request) -> Response:
    exchange = exchange_of(request.scope)
    asked = keyed(exchange, body.request())
    asked.detached = True
    if exchange.prepare is not None:
        asked = await exchange.prepare(exchange, asked)
    run = await exchange.host.runs.ask(exchange.agent, exchange.caller, asked)
    fields = exchange.run_headers(run)
    return json_reply(run_view(run), 202, [(b"location", dict(fields)[b"content-location"]), *fields])


_STATUS = Query(None, description="Only these; `paused` are those that wait for an answer.")


async def _list(
    request: Request,
    thread_id: str | None = Query(None, max_length=200, description="Only those of this thread."),
    status: RunStatus | None = _STATUS,
    limit: int = Query(50, ge=1, le=200),
    cursor: str | None = Query(None, max_length=500),
) -> Response:
    exchange = exchange_of(request.scope)
    page = await exchange.host.store.list_runs(
        exchange.agent.name, exchange.caller.id, thread_id=thread_id, status=status, cursor=cursor, limit=limit
    )
    return json_reply(without_none({"runs": [listed_run(run) for run in page.items], "next_cursor": page.cursor}))


_RUN_ID = Path(min_length=1, max_length=200, description="The run's id.")


async def _found(exchange: Exchange, run_id: str) -> Run | EndedRun | StoredRun:
    """The run; raises `NotFound`, or `EventsExpired` where it may be one that was too old to be kept."""
    found: Run | EndedRun | StoredRun
    try:
        found = await exchange.host.runs.find(exchange.agent, exchange.caller, run_id)
    except NotFound:
        if is_past(run_id, exchange.host.config.store.run_retention):
            raise EventsExpired("this run, if there was one, is no longer kept") from None
        raise
    return found


async def _get(request: Request, run_id: str = _RUN_ID) -> Response:
    return json_reply(run_view(await _found(exchange_of(request.scope), run_id)))


async def _events(
    request: Request,
    run_id: str = _RUN_ID,
    after: int = Query(0, ge=0, le=(1 << 31) - 1, description="The id of the last event that is not wanted again."),
) -> Response:
    exchange = exchange_of(request.scope)
    seen = exchange.headers.get(b"last-event-id")
    start = after if seen is None else _last_event_id(seen)

    async def begin() -> Run | EndedRun:
        found = await _found(exchange, run_id)
        if isinstance(found, StoredRun):
            raise AgentNotReady("this run is about to begin again", retry_after=LATER)
        if isinstance(found, Run) and not found.recorded:
            raise NotRecorded("this run is not recorded: its one reader has its events")
        return found

    return Answer(stream_run, exchange, begin, start)


def _last_event_id(raw: bytes) -> int:
    text = raw.decode("latin-1").strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise InvalidRequest("Last-Event-ID: the id of an event of this run, a whole number")
    return int(text)


async def _cancel(request: Request, run_id: str = _RUN_ID) -> Response:
    exchange = exchange_of(request.scope)
    run = await _found(exchange, run_id)
    if isinstance(run, Run):
        run.cancel(Cancelled("it was cancelled by request"))
    elif isinstance(run, StoredRun):
        raise AgentNotReady("this run is about to begin again, or to end", retry_after=LATER)
    return json_reply(run_view(run), 202)
